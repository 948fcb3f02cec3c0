"""An event as a DICOM audit message (XML, PS3.15 A.5), and as one line of syslog (RFC 5424). Pure.

Participants and objects are those that A.5.3 asks for of each event. What our line says besides is in
ParticipantObjectDetail, base64, where no text can break out. Next: syslog.py (how it is sent).
"""

from __future__ import annotations

import base64
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from medai.router.audit import events
from medai.router.audit.events import Agent, AuditedEvent, Code
from medai.router.version import program_version

SOURCE, DESTINATION = Code("110153", "Source Role ID"), Code("110152", "Destination Role ID")
PROGRAM, LAUNCHER = Code("110150", "Application"), Code("110151", "Application Launcher")
STUDY_UID, SOP_CLASS = Code("110180", "Study Instance UID"), Code("110181", "SOP Class UID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
URI = Code("12", "URI", "RFC-3881")
NOBODY = "<none>"
"""ParticipantObjectID of a patient whom nobody knows: it may not be left out."""
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
EXPLICIT_VR = "1.2.840.10008.1.2.1"
STUDY_LEVEL = b"\x08\x00\x52\x00CS\x06\x00STUDY "
"""Query/Retrieve Level (0008,0052), which is all that a list of studies asks for; what was typed is not kept."""
AUTHPRIV = 10
SEVERITIES = {events.SUCCESS: 5, events.MINOR_FAILURE: 4}
"""Notice, warning."""
BOM = b"\xef\xbb\xbf"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Who tells of events: the system's name to the receivers, the hospital's, and this machine's."""

    source: str
    site: str = ""
    host: str = ""

    @property
    def machine(self) -> str:
        """This machine's name, as syslog may carry it."""
        return re.sub(r"[^!-~]", "", self.host or socket.getfqdn())[:255] or "-"


def message(event: AuditedEvent, reporter: Reporter) -> bytes:
    """The XML document, without a declaration's pretty printing: one line of text."""
    root = Element("AuditMessage")
    kind = event.kind
    identification = SubElement(
        root, "EventIdentification", EventActionCode=kind.action, EventDateTime=moment(event.line.at),
        EventOutcomeIndicator=kind.outcome,
    )  # fmt: skip
    _coded(identification, "EventID", kind.event)
    if kind.type is not None:
        _coded(identification, "EventTypeCode", kind.type)
    if kind.outcome != events.SUCCESS:
        SubElement(identification, "EventOutcomeDescription").text = clean(event.line.action)
    for participant in _participants(event, reporter):
        root.append(participant)
    site = {"AuditEnterpriseSiteID": token(reporter.site)} if reporter.site else {}
    told_by = SubElement(root, "AuditSourceIdentification", {**site, "AuditSourceID": reporter.source})
    SubElement(told_by, "AuditSourceTypeCode", {"csd-code": "4"})
    for thing in _objects(event):
        root.append(thing)
    body: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + body


def syslog_line(event: AuditedEvent, reporter: Reporter) -> bytes:
    """The message as RFC 5424 writes it; MSGID says what it is, and the number of the line tells a copy from news."""
    head = [
        f"<{AUTHPRIV * 8 + SEVERITIES[event.kind.outcome]}>1",
        moment(event.line.at),
        reporter.machine,
        reporter.source[:48],
        str(os.getpid()),
        "DICOM+RFC3881",
        f'[meta sequenceId="{event.line.id}"]',
    ]
    return " ".join([*head, ""]).encode("ascii") + BOM + message(event, reporter)


def moment(at: float) -> str:
    """A time as XML and syslog write it, in UTC."""
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clean(text: str) -> str:
    """Without what no XML may hold."""
    return _NOT_XML.sub("�", text)


def token(text: str) -> str:
    """A token of XML: one line, single spaces."""
    return " ".join(clean(text).split())


def _coded(parent: Element, name: str, code: Code) -> None:
    SubElement(
        parent, name, {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    )  # fmt: skip


# -- who


def _participants(event: AuditedEvent, reporter: Reporter) -> Iterator[Element]:
    kind, account = event.kind.event, event.line.account
    system, person = _participant(reporter.source, host=reporter.machine), event.agent is not Agent.SYSTEM
    if kind is events.APPLICATION:
        yield _participant(reporter.source, PROGRAM, name=f"Med-AI {program_version()}", host=reporter.machine)
        if person:
            yield _participant(account, LAUNCHER, asks=True)
    elif kind is events.TRANSFERRED:
        read = event.line.action == "reading"
        ends = ("archive", event.to) if read else (reporter.source, event.to)
        yield _participant(ends[0], SOURCE, asks=not read)
        yield _participant(ends[1] or "-", DESTINATION)
        if read:
            yield _participant(reporter.source, asks=True, host=reporter.machine)
    elif kind is events.QUERY:
        yield _participant(account, SOURCE, asks=True, address=event.address)
        yield _participant(reporter.source, DESTINATION, host=reporter.machine)
    else:
        yield _participant(account, asks=True, address=event.address)
        if person:
            yield system


def _participant(
    user: str, role: Code | None = None, *, name: str = "", asks: bool = False, address: str = "", host: str = ""
) -> Element:
    attributes = {"UserID": clean(user), "UserIsRequestor": "true" if asks else "false"}
    if name:
        attributes["UserName"] = clean(name)
    if address or host:
        attributes["NetworkAccessPointID"] = token(address or host)
        attributes["NetworkAccessPointTypeCode"] = "2" if address else "1"
    element = Element("ActiveParticipant", attributes)
    if role is not None:
        _coded(element, "RoleIDCode", role)
    return element


# -- about what

_ABOUT_A_PATIENT = frozenset(
    {events.ACCESSED, events.TRANSFERRED, events.ORDER, events.PATIENT, events.PROCEDURE}
)  # fmt: skip


def _objects(event: AuditedEvent) -> Iterator[Element]:
    kind = event.kind.event
    if kind is events.LOG_USED:
        yield _object("medai:audit", URI, "2", "13", event, name="Security Audit Log")
    elif kind is events.QUERY:
        asked = _object(STUDY_ROOT_FIND, SOP_CLASS, "2", "3", event, query=STUDY_LEVEL)
        _detail(asked, "TransferSyntax", EXPLICIT_VR)
        yield asked
    elif kind is events.ALERT:
        yield _object(f"medai:{event.line.action.replace(' ', '-')}", URI, "2", "13", event, name=event.line.action)
    if event.about_study:
        yield _study(event)
    if kind in _ABOUT_A_PATIENT:
        who = event.subject
        yield _object(
            who.identifier or NOBODY, PATIENT_NUMBER, "1", "1", event, name=who.name, detailed=not event.about_study
        )


def _study(event: AuditedEvent) -> Element:
    line = event.line
    study = _object(line.study_uid, STUDY_UID, "2", "3", event, name=f"study {line.study_id}")
    described = SubElement(study, "ParticipantObjectDescription")
    if line.accession:
        SubElement(described, "Accession", Number=token(line.accession))
    holds = SubElement(described, "ParticipantObjectContainsStudy")
    SubElement(holds, "StudyIDs", UID=token(line.study_uid))
    return study


def _object(
    name_of: str, scheme: Code, type_: str, role: str, event: AuditedEvent, *, name: str = "",
    query: bytes | None = None, detailed: bool = True,
) -> Element:  # fmt: skip
    thing = Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=token(name_of), ParticipantObjectTypeCode=type_, ParticipantObjectTypeCodeRole=role,
    )  # fmt: skip
    _coded(thing, "ParticipantObjectIDTypeCode", scheme)
    if query is None:
        SubElement(thing, "ParticipantObjectName").text = token(name)
    else:
        SubElement(thing, "ParticipantObjectQuery").text = base64.b64encode(query).decode("ascii")
    line = event.line
    said = {
        "action": line.action,
        "detail": line.detail,
        "job": line.job_id or "",
        "order": event.order,
    }
    for kind, text in said.items() if detailed else ():
        if text:
            _detail(thing, kind, text)
    return thing


def _detail(thing: Element, kind: str, text: str) -> None:
    value = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    SubElement(thing, "ParticipantObjectDetail", type=kind, value=value)
