"""An event as a FHIR R4 AuditEvent, by IHE's Basic Audit Log Patterns (BALP) where one is what happened. Pure.

BALP has patterns for what a person reads, changes or searches by REST, as in the console; those events name their
profile. All others have DICOM's codes as their type. The number of our line is a tag, by which a receiver tells a copy
from news. Sources: hl7.org/fhir/R4/auditevent, profiles.ihe.net/ITI/BALP. Next: exporter.py (how it is sent).
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from medai.router.audit import events
from medai.router.audit.dicom_message import DESTINATION, PROGRAM, SOURCE, Reporter, clean, moment
from medai.router.audit.events import Agent, AuditedEvent, Code
from medai.router.contract import NAMESPACE

DCM = "http://dicom.nema.org/resources/ontology/DCM"
CODES = "http://terminology.hl7.org/CodeSystem"
REST = {"system": f"{CODES}/audit-event-type", "code": "rest", "display": "Restful Operation"}
PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
UNKNOWN = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
LINE = f"urn:uuid:{uuid.uuid5(NAMESPACE, 'audit line')}"
"""System of the tag that holds the number of the trail's line."""
_PATTERNS = {events.READ: ("read", "Read"), events.UPDATE: ("update", "Update"), events.EXECUTE: ("search", "Query")}
"""Action -> interaction of FHIR's REST, and the name of the profile."""
_BY_REST = frozenset({events.ACCESSED, events.PATIENT, events.ORDER, events.PROCEDURE, events.QUERY})
_RECIPIENT, _AUTHOR = ("IRCP", "information recipient"), ("AUT", "author (originator)")
_ROLES = {
    "Read": (DESTINATION, SOURCE, _RECIPIENT),
    "Update": (SOURCE, DESTINATION, _AUTHOR),
    "Query": (SOURCE, DESTINATION, _RECIPIENT),
}
"""Of each pattern: what the client is, what the server is, and the user."""

Json = dict[str, Any]


def bundle(audited: Sequence[AuditedEvent], reporter: Reporter, patient_system: str) -> bytes:
    """One transaction: all are kept, or none."""
    entries = [
        {"resource": resource(event, reporter, patient_system), "request": {"method": "POST", "url": "AuditEvent"}}
        for event in audited
    ]
    return written({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def written(what: Json) -> bytes:
    """JSON in one line."""
    return json.dumps(what, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def resource(event: AuditedEvent, reporter: Reporter, patient_system: str) -> Json:
    """The AuditEvent."""
    pattern = _pattern(event)
    kind = event.kind
    type_ = dicom(kind.event)
    subtype = [dicom(kind.type)] if kind.type else []
    meta: Json = {"tag": [{"system": LINE, "code": str(event.line.id)}]}
    if pattern:
        interaction, profile = _PATTERNS[kind.action]
        subtype = [{"system": "http://hl7.org/fhir/restful-interaction", "code": interaction}, type_, *subtype]
        whose = "Patient" if event.subject.identifier and pattern != "Query" else ""
        type_, meta = REST, {"profile": [f"{PROFILES}{whose}{profile}"], **meta}
    return {
        "resourceType": "AuditEvent",
        "meta": meta,
        "type": type_,
        **({"subtype": subtype} if subtype else {}),
        "action": kind.action,
        "recorded": moment(event.line.at),
        "outcome": kind.outcome,
        **({"outcomeDesc": clean(event.line.action)} if kind.outcome != events.SUCCESS else {}),
        "agent": list(_by_pattern(event, reporter, pattern) if pattern else _agents(event, reporter)),
        "source": {
            **({"site": clean(reporter.site)} if reporter.site else {}),
            "observer": {"type": "Device", "identifier": {"value": reporter.source}, "display": "Med-AI"},
            "type": [{"system": f"{CODES}/security-source-type", "code": "4", "display": "Application Server"}],
        },
        **_listed("entity", list(_entities(event, patient_system))),
    }


def dicom(code: Code) -> Json:
    """A code of DICOM's as a Coding."""
    return {"system": DCM, "code": code.value, "display": code.meaning}


def _listed(name: str, items: list[Json]) -> Json:
    return {name: items} if items else {}


def _pattern(event: AuditedEvent) -> str:
    """The pattern of BALP that this is: something that a person did by the console's REST, and that went well."""
    is_rest = event.agent is Agent.PERSON and event.kind.event in _BY_REST and event.kind.outcome == events.SUCCESS
    known = event.kind.action in _PATTERNS and (event.about_study or event.order or event.kind.event is events.QUERY)
    return _PATTERNS[event.kind.action][1] if is_rest and known else ""


# -- who


def _by_pattern(event: AuditedEvent, reporter: Reporter, pattern: str) -> Iterator[Json]:
    client, server, (code, display) = _ROLES[pattern]
    network = _address(event) or {"extension": [UNKNOWN]}
    yield {"type": _concept(client), "who": {"display": "console"}, "requestor": False, "network": network}
    yield {"type": _concept(server), "who": _system(reporter), "requestor": False, "network": _machine(reporter)}
    user = {"system": f"{CODES}/v3-ParticipationType", "code": code, "display": display}
    yield {"type": {"coding": [user]}, **_user(event.line.account), "requestor": True}


def _agents(event: AuditedEvent, reporter: Reporter) -> Iterator[Json]:
    kind, system = event.kind.event, {"who": _system(reporter), "network": _machine(reporter)}
    if kind is events.APPLICATION:
        yield {"type": _concept(PROGRAM), **system, "requestor": True}
    elif kind is events.TRANSFERRED:
        read = event.line.action == "reading"
        here: Json = {"who": {"display": "archive"}} if read else system
        yield {"type": _concept(SOURCE), **here, "requestor": not read}
        to = {"who": {"display": clean(event.to) or "-"}}
        yield {"type": _concept(DESTINATION), **to, "requestor": False}
        if read:
            yield {**system, "requestor": True}
    else:
        yield {**_user(event.line.account), "requestor": True, **_listed_network(event)}
        if event.agent is not Agent.SYSTEM:
            yield {**system, "requestor": False}


def _listed_network(event: AuditedEvent) -> Json:
    network = _address(event)
    return {"network": network} if network else {}


def _user(account: str) -> Json:
    name = clean(account)
    return {"who": {"identifier": {"value": name}, "display": name}, "altId": name, "name": name}


def _system(reporter: Reporter) -> Json:
    return {"type": "Device", "identifier": {"value": reporter.source}, "display": "Med-AI"}


def _machine(reporter: Reporter) -> Json:
    return {"address": reporter.machine, "type": "1"}


def _address(event: AuditedEvent) -> Json:
    return {"address": event.address, "type": "2"} if event.address else {}


def _concept(code: Code) -> Json:
    return {"coding": [dicom(code)]}


# -- about what


def _entities(event: AuditedEvent, patient_system: str) -> Iterator[Json]:
    kind = event.kind.event
    if kind is events.QUERY:
        asked = base64.b64encode(event.line.action.encode("utf-8")).decode("ascii")
        yield {**_types("2", "24", "Query"), "query": asked, "description": clean(event.line.action)}
    elif event.about_study:
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{event.line.study_uid}"}
        accession = {"value": clean(event.line.accession)} if event.line.accession else None
        what: Json = {"type": "ImagingStudy", "identifier": uid}
        if accession:
            what["display"] = f"accession number {accession['value']}"
        yield {**_types("2", "4", "Domain Resource"), "what": what, **_detail(event)}
    elif event.order:
        what = {"type": "ServiceRequest", "identifier": {"value": clean(event.order)}}
        yield {**_types("2", "4", "Domain Resource"), "what": what, **_detail(event)}
    elif kind is events.LOG_USED:
        what = {"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:medai:audit"}}
        yield {**_types("2", "13", "Security Resource"), "what": what, "name": "Security Audit Log", **_detail(event)}
    elif kind not in (events.APPLICATION, events.AUTHENTICATION, events.PATIENT):
        yield {**_types("2", "13", "Security Resource"), "name": clean(event.line.action), **_detail(event)}
    if event.subject.identifier:
        identifier = {
            **({"system": patient_system} if patient_system else {}),
            "value": clean(event.subject.identifier),
        }
        named = {"display": clean(event.subject.name)} if event.subject.name else {}
        more = _detail(event) if kind is events.PATIENT and not event.about_study else {}
        yield {**_types("1", "1", "Patient"), "what": {"type": "Patient", "identifier": identifier, **named}, **more}


def _types(type_: str, role: str, display: str) -> Json:
    name = {"1": "Person", "2": "System Object"}[type_]
    return {
        "type": {"system": f"{CODES}/audit-entity-type", "code": type_, "display": name},
        "role": {"system": f"{CODES}/object-role", "code": role, "display": display},
    }


def _detail(event: AuditedEvent) -> Json:
    said = {"action": event.line.action, "detail": event.line.detail, "job": event.line.job_id or ""}
    return _listed(
        "detail", [{"type": name, "valueString": clean(text)} for name, text in said.items() if text.strip()]
    )
