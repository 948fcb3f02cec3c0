"""A DICOM audit message holds what PS3.15 A.5.3 asks for of its event, whatever stands in the line.

The schema itself is jing's to judge (tests/integration/test_audit_receivers.py).
"""

from __future__ import annotations

import base64
import re
from xml.etree.ElementTree import Element, fromstring

import pytest
from audit_cases import NASTY, REPORTER, bare, event, every_kind, line

from medai.router.audit.dicom_message import BOM, message, syslog_line
from medai.router.audit.events import AuditedEvent
from medai.router.ledger.audit_lines import Subject

PATIENT, STUDY, LOG, ALERTED, QUERIED = ("1", "1"), ("2", "3"), ("2", "13"), ("2", "13"), ("2", "3")
DEMANDS: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "110100": ("E", 1, 2, ("110150",)),
    "110101": ("R", 1, 2, ()),
    "110103": ("CRUD", 1, 2, ()),
    "110104": ("CRU", 2, 9, ("110153", "110152")),
    "110109": ("CRUD", 1, 2, ()),
    "110110": ("CRUD", 1, 2, ()),
    "110111": ("CRUD", 1, 2, ()),
    "110112": ("E", 2, 9, ("110153", "110152")),
    "110113": ("E", 1, 9, ()),
    "110114": ("E", 1, 2, ()),
}
"""EventID -> actions, least and most participants, roles among them (A.5.3.1 to A.5.3.15)."""
ABOUT = {"110101": LOG, "110103": PATIENT, "110104": PATIENT, "110109": PATIENT, "110110": PATIENT, "110111": PATIENT,
         "110112": QUERIED, "110113": ALERTED}  # fmt: skip
TYPES = {"110100": {"110120", "110121"}, "110113": {"110132", "110137"}, "110114": {"110122", "110123"}}


def parsed(audited: AuditedEvent) -> Element:
    return fromstring(message(audited, REPORTER).decode("utf-8"))  # noqa: S314 - our own


def code(element: Element | None) -> str:
    assert element is not None
    return element.get("csd-code", "")


@pytest.mark.parametrize("audited", every_kind(), ids=lambda each: f"{each.line.action}-{each.line.id}")
def test_each_event_has_the_participants_and_objects_that_the_standard_asks_for(audited: AuditedEvent) -> None:
    root = parsed(audited)
    event_id = code(root.find("EventIdentification/EventID"))
    actions, least, most, roles = DEMANDS[event_id]
    assert root.find("EventIdentification").get("EventActionCode") in actions  # type: ignore[union-attr]
    people = root.findall("ActiveParticipant")
    assert least <= len(people) <= most
    assert sum(each.get("UserIsRequestor") == "true" for each in people) <= 1, "A.5.2: one requestor at most"
    assert {code(each) for each in root.findall("ActiveParticipant/RoleIDCode")} >= set(roles)
    things = [
        (each.get("ParticipantObjectTypeCode"), each.get("ParticipantObjectTypeCodeRole"))
        for each in root.findall("ParticipantObjectIdentification")
    ]
    assert event_id not in ABOUT or ABOUT[event_id] in things
    assert things.count(PATIENT) <= 1
    if event_id in TYPES:
        assert {code(each) for each in root.findall("EventIdentification/EventTypeCode")} <= TYPES[event_id]
    if audited.line.study_uid:
        assert STUDY in things


def details(audited: AuditedEvent) -> dict[str, str]:
    found = parsed(audited).iter("ParticipantObjectDetail")
    return {each.get("type", ""): base64.b64decode(each.get("value", "")).decode("utf-8", "replace") for each in found}


def test_what_the_line_says_comes_back_letter_by_letter_and_breaks_out_of_nothing() -> None:
    odd = event(line("cancel", detail=NASTY, account=NASTY), Subject(identifier=NASTY, name=NASTY))
    text = message(odd, REPORTER)
    assert b"\x00" not in text
    assert b"\x1b" not in text
    assert b"<!--" not in text
    assert details(odd)["detail"] == NASTY.replace("\ud800", "?")
    assert len(list(parsed(odd).iter("b"))) == 0


def test_a_patient_whom_nobody_knows_is_said_to_be_none() -> None:
    found = parsed(event(line("study"), Subject())).findall("ParticipantObjectIdentification")
    assert [each.get("ParticipantObjectID") for each in found] == ["1.2.840.7", "<none>"]


def test_syslog_has_facility_severity_number_and_the_mark_of_utf_8() -> None:
    good = syslog_line(event(line("study", number=42)), REPORTER)
    head, _, body = good.partition(BOM)
    words = (
        rb"<85>1 2027-01-15T08:00:42\.250Z ai\.hospital\.example MEDAI \d+ DICOM\+RFC3881 \[meta sequenceId=\"42\"\] "
    )
    assert re.fullmatch(words, head)
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?><AuditMessage>')
    assert syslog_line(event(bare("login failed")), REPORTER).startswith(b"<84>1 "), "a warning"
