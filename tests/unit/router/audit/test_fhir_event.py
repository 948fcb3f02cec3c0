"""An AuditEvent is FHIR R4 to another library, and has the slices of the BALP profile that it names."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from audit_cases import JANE, NASTY, REPORTER, bare, event, every_kind, line
from fhir.resources.R4B.auditevent import AuditEvent

from medai.router.audit.events import AuditedEvent
from medai.router.audit.fhir_event import PROFILES, bundle, resource, written
from medai.router.ledger.audit_lines import Subject

SYSTEM = "urn:oid:1.2.3"
TYPE, ROLE = (
    "http://terminology.hl7.org/CodeSystem/audit-entity-type",
    "http://terminology.hl7.org/CodeSystem/object-role",
)
AGENTS = {  # profile -> codes of client, server and user (input/fsh of IHE's ITI.BasicAudit)
    "Read": ("110152", "110153", "IRCP"), "Update": ("110153", "110152", "AUT"), "Query": ("110153", "110152", "IRCP"),
}  # fmt: skip
SUBTYPES = {"Read": ("read", "R"), "Update": ("update", "U"), "Query": ("search", "E")}


def told(audited: AuditedEvent) -> dict[str, Any]:
    """As a receiver gets it."""
    found: dict[str, Any] = json.loads(written(resource(audited, REPORTER, SYSTEM)))
    return found


def entities(found: dict[str, Any], type_: str) -> list[dict[str, Any]]:
    return [each for each in found.get("entity", ()) if each["type"] == {**each["type"], "system": TYPE, "code": type_}]


@pytest.mark.parametrize("audited", every_kind(), ids=lambda each: f"{each.line.action}-{each.line.id}")
def test_it_is_a_resource_of_r4_and_of_the_profile_that_it_names(audited: AuditedEvent) -> None:
    found = told(audited)
    AuditEvent.model_validate(found)
    assert sum(agent["requestor"] for agent in found["agent"]) == 1
    assert all(not ("name" in each and "query" in each) for each in found.get("entity", ())), "sev-1"
    for profile in found["meta"].get("profile", ()):
        assert profile.startswith(PROFILES)
        _holds_to(profile.removeprefix(PROFILES), found)


def _holds_to(profile: str, found: dict[str, Any]) -> None:
    name = profile.removeprefix("Patient")
    interaction, action = SUBTYPES[name]
    assert (found["type"]["code"], found["action"], found["outcome"]) == ("rest", action, "0")
    assert {"system": "http://hl7.org/fhir/restful-interaction", "code": interaction} in found["subtype"]
    slices: dict[str, list[dict[str, Any]]] = {}
    for agent in found["agent"]:
        slices.setdefault(agent["type"]["coding"][0]["code"], []).append(agent)
    assert slices.keys() == set(AGENTS[name])
    client, server, user = (slices[code] for code in AGENTS[name])
    assert len(client) == len(server) == len(user) == 1
    assert all(each["network"] and each["who"] for each in (*client, *server))
    assert user[0]["requestor"]
    assert "network" not in user[0]
    assert user[0]["who"]
    if name == "Query":
        (query,) = entities(found, "2")
        assert query["role"]["code"] == "24"
        assert base64.b64decode(query["query"])
        assert not query.keys() & {"what", "lifecycle", "detail"}
    else:
        (data,) = entities(found, "2")
        assert data["role"]["code"] in {"3", "4", "20"}
        assert data["what"]
    patients = entities(found, "1")
    assert len(patients) == (1 if profile.startswith("Patient") else 0)
    assert all(each["role"]["code"] == "1" and each["what"]["type"] == "Patient" for each in patients)


def test_what_a_person_saw_names_the_profile_the_patient_and_the_study() -> None:
    found = told(event(line("patient", number=42)))
    assert found["meta"]["profile"] == [f"{PROFILES}PatientRead"]
    assert found["meta"]["tag"][0]["code"] == "42", "by which a receiver tells a copy"
    (data,), (patient,) = entities(found, "2"), entities(found, "1")
    assert data["what"]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.7"}
    assert patient["what"]["identifier"] == {"system": SYSTEM, "value": JANE.identifier}
    assert told(event(line("study"), Subject()))["meta"]["profile"] == [f"{PROFILES}Read"]


def test_what_no_pattern_is_has_dicoms_codes() -> None:
    failed = told(event(bare("login failed", detail="from 10.1.2.3"), Subject()))
    assert (failed["type"]["code"], failed["outcome"], failed["outcomeDesc"]) == ("110114", "4", "login failed")
    assert failed["agent"][0]["network"] == {"address": "10.1.2.3", "type": "2"}
    merge = told(event(bare("patient merge", detail="4710 to 4711"), Subject()))
    assert (merge["type"]["code"], entities(merge, "1")[0]["what"]["identifier"]["value"]) == ("110110", "4711")


def test_any_text_can_be_told() -> None:
    found = told(event(line("cancel", detail=NASTY, account=NASTY), Subject(identifier=NASTY, name=NASTY)))
    AuditEvent.model_validate(found)


def test_several_are_one_transaction() -> None:
    sent = json.loads(bundle([event(line(number=1)), event(line(number=2))], REPORTER, SYSTEM))
    assert (sent["type"], len(sent["entry"])) == ("transaction", 2)
    assert {entry["request"]["method"] for entry in sent["entry"]} == {"POST"}
