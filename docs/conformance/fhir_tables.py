"""The FHIR statement: a CapabilityStatement of our client, made of the transaction that it sends, and its tables.

Next: made_reading.py (the transactions), tables.py (where this is written).
"""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dicom_tables as dicom
import made_reading as made

from medai.router.contract import NAMESPACE
from medai.router.delivery import fhir, web
from medai.router.settings.destinations import FhirDestination
from medai.workers.results.encode import Results
from medai.workers.results.fhir_text import SYSTEMS, UCUM, UNITS

Json = dict[str, Any]
DATE = "2026-11-28"
"""When what the statement says was last changed by hand."""
WHY = {
    "ImagingStudy": "What every route knows of the study: Study Instance UID, accession number, WADO-RS address.",
    "Device": "The model and its version, under an id that changes with its weights.",
    "ImagingSelection": "A segment of the DICOM SEG, by SOP Instance UID and segment number.",
    "Observation": "A measurement group of a segment, a total, or the verdict of the plausibility checks; preliminary.",
    "DiagnosticReport": "The result. A revision updates the same one as modified; withdrawn it is entered-in-error.",
}
"""What each resource is for."""


def tables() -> dict[str, Callable[[], str]]:
    """Name of a table -> what makes it."""
    return {
        "fhir-resources": _resources,
        "fhir-elements": _elements,
        "fhir-systems": _systems,
        "fhir-status": _status,
        "fhir-answers": _answers,
        "fhir-example": _example,
        "settings-fhir": lambda: dicom.settings("destinations"),
    }


def bundle(variant: str = made.BASE) -> Json:
    """The transaction of a made reading."""
    found: Json = json.loads(made.results(variant).fhir[made.EHR])
    return found


def statement() -> str:
    """fhir.json."""
    project = tomllib.loads((dicom.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kinds = dict.fromkeys(entry["resource"]["resourceType"] for entry in bundle()["entry"])
    capability = {
        "resourceType": "CapabilityStatement",
        "id": "med-ai-client",
        "url": f"urn:uuid:{uuid.uuid5(NAMESPACE, 'capability statement')}",
        "version": project["version"],
        "name": "MedAIClient",
        "title": "What Med-AI sends to a FHIR server",
        "status": "active",
        "date": DATE,
        "description": "Med-AI is a client. It sends each result of an AI as one transaction; it reads nothing but the "
        "server's own CapabilityStatement, and serves none itself.",
        "kind": "capability",
        "software": {"name": "Med-AI", "version": project["version"]},
        "fhirVersion": "5.0.0",
        "format": [fhir.MEDIA_TYPE],
        "rest": [
            {
                "mode": "client",
                "documentation": "GET [base]/metadata (medai check) and POST [base] of a transaction Bundle. The "
                "server must accept PUT of a resource that is not there yet (update as create), under ids that the "
                "client chooses.",
                "security": {"description": "HTTPS; a bearer token, or HTTP Basic. A redirect is not followed."},
                "resource": [_resource(kind) for kind in kinds],
                "interaction": [{"code": "transaction"}],
            }
        ],
    }
    return json.dumps(capability, indent=2, ensure_ascii=False) + "\n"


def _resource(kind: str) -> Json:
    methods = {entry["request"]["method"] for entry in bundle()["entry"] if entry["resource"]["resourceType"] == kind}
    assert methods == {"PUT"}, methods
    return {
        "type": kind,
        "documentation": WHY[kind],
        "interaction": [{"code": "update", "documentation": "within the transaction alone"}],
        "versioning": "no-version",
        "updateCreate": True,
        "referencePolicy": ["literal", "logical"] if _logical(kind) else ["literal"],
    }


def _logical(kind: str) -> bool:
    return any(
        '"identifier": {' in json.dumps(entry)
        for entry in bundle()["entry"]
        if entry["resource"]["resourceType"] == kind
    )


def _resources() -> str:
    entries = bundle()["entry"]
    kinds = dict.fromkeys(entry["resource"]["resourceType"] for entry in entries)
    rows = []
    for kind in kinds:
        mine = [entry for entry in entries if entry["resource"]["resourceType"] == kind]
        rows.append((kind, "PUT, update as create", f"`{mine[0]['request']['url']}`", WHY[kind]))
    return dicom.table(("resource", "interaction", "example of its address", "what it says"), rows)


def _flat(result: Results) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for entry in json.loads(result.fhir[made.EHR])["entry"]:
        for path, text in _leaves(entry["resource"], entry["resource"]["resourceType"]):
            found.setdefault(path, set()).add(text)
    return {path: frozenset(texts) for path, texts in found.items() if not path.endswith(".resourceType")}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, str(value)


def _elements() -> str:
    found = made.differences(_flat)
    parts = []
    for kind in dict.fromkeys(path.split(".")[0] for path in found):
        rows = []
        for path, told in found.items():
            if path.split(".")[0] == kind:
                value = "" if told.sources else dicom.shown(told.values)
                rows.append((path.removeprefix(kind + "."), told.presence, dicom.source(told), value))
        parts.append(f"**{kind}**\n\n" + dicom.table(("element", "present", "source", "value"), rows))
    return "\n\n".join(parts)


def _systems() -> str:
    rows = [(scheme, f"`{uri}`") for scheme, uri in SYSTEMS.items()]
    rows += [(f"UCUM ({unit}: `{code}`, shown as {shown})", f"`{UCUM}`") for unit, (shown, code) in UNITS.items()]
    return dicom.table(("DICOM and HL7 coding scheme", "system"), rows)


def _status() -> str:
    told = {
        "first result": bundle(),
        "revision": bundle("reading"),
        "withdrawn": json.loads(fhir.withdrawn(json.dumps(bundle()).encode())),
    }
    kinds = ("DiagnosticReport", "Observation", "ImagingSelection", "ImagingStudy", "Device")
    rows = [(name, *(", ".join(sorted(_statuses(found, kind))) for kind in kinds)) for name, found in told.items()]
    return dicom.table(("", *kinds), rows)


def _statuses(found: Json, kind: str) -> set[str]:
    return {entry["resource"]["status"] for entry in found["entry"] if entry["resource"]["resourceType"] == kind}


def _answers() -> str:
    """What becomes of a result after each answer, out of the sender's own tables."""
    rows = [("2xx with a transaction-response that took every resource", "delivered")]
    told = web.misconfigured(key="fhir_url", takes="transactions")
    rows += [(str(code), f"waits for a person, is tried again: {words}") for code, words in told.items()]
    rows.append((", ".join(map(str, sorted(web.BUSY))) + ", 5xx", "tried again, after Retry-After where that is said"))
    rows.append(("3xx", "tried again: is fhir_url right?"))
    rows.append(("any other 4xx", "a dead letter, with the codes and places of its OperationOutcome, never its words"))
    return dicom.table(("answer", "what happens"), rows)


def _example() -> str:
    """The report of a transaction, and how it is asked for."""
    entry = next(e for e in bundle()["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    destination = FhirDestination(fhir_url="https://ehr.example/fhir")
    head = "\n".join(f"{name}: {value}" for name, value in fhir.HEADERS.items())
    body = json.dumps(entry, indent=2, ensure_ascii=False)
    return f"```text\nPOST {destination.fhir_url}\n{head}\n```\n\n```json\n{body}\n```"
