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
    "ImagingStudy": "Two: what every route knows of the study (Study Instance UID, accession number, WADO-RS address); "
    "and, under the filler number, the series that the result adds to it (SEG, SR, key image).",
    "Device": "The model and its version, under an id that changes with its weights.",
    "ImagingSelection": "A segment of the DICOM SEG, by SOP Instance UID and segment number.",
    "Observation": "A measurement group of a segment, a total, or the verdict of the plausibility checks; preliminary.",
    "DocumentReference": "The key image, rendered by WADO-RS, where an address is configured.",
    "Media": "The key image, rendered by WADO-RS, where an address is configured.",
    "DiagnosticReport": "The result. A revision updates the same one (in R5 as modified, in R4 still preliminary); "
    "withdrawn it is entered-in-error.",
    "Provenance": "Who (the Device) made what from which study: one for each revision, and one for a withdrawal.",
}
"""What each resource is for."""
IDENTITY = {made.EHR: "capability statement", made.EHR_R4: "capability statement, R4"}
"""Of which the statement's canonical address is made."""
VERSIONS = {"fhir.json": (made.EHR, "5.0.0"), "fhir_r4.json": (made.EHR_R4, "4.0.1")}
"""Each CapabilityStatement: for which server of a made reading it is, and what that speaks."""


def tables() -> dict[str, Callable[[], str]]:
    """Name of a table -> what makes it."""
    return {
        "fhir-resources": _resources,
        "fhir-elements": lambda: _elements(made.EHR),
        "fhir-elements-r4": _elements_r4,
        "fhir-systems": _systems,
        "fhir-status": _status,
        "fhir-answers": _answers,
        "fhir-example": _example,
        "settings-fhir": lambda: dicom.settings("destinations"),
    }


def bundle(variant: str = made.BASE, server: str = made.EHR) -> Json:
    """The transaction of a made reading."""
    found: Json = json.loads(made.results(variant).fhir[server])
    return found


def statement(name: str) -> str:
    """fhir.json or fhir_r4.json."""
    server, version = VERSIONS[name]
    project = tomllib.loads((dicom.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    kinds = dict.fromkeys(entry["resource"]["resourceType"] for entry in bundle(server=server)["entry"])
    capability = {
        "resourceType": "CapabilityStatement",
        "id": "med-ai-client" if server == made.EHR else "med-ai-client-r4",
        "url": f"urn:uuid:{uuid.uuid5(NAMESPACE, IDENTITY[server])}",
        "version": project["version"],
        "name": "MedAIClient",
        "title": "What Med-AI sends to a FHIR server",
        "status": "active",
        "date": DATE,
        "description": "Med-AI is a client. It sends each result of an AI as one transaction; it reads nothing but the "
        "server's own CapabilityStatement, and serves none itself.",
        "kind": "capability",
        "software": {"name": "Med-AI", "version": project["version"]},
        "fhirVersion": version,
        "format": [fhir.MEDIA_TYPE],
        "rest": [
            {
                "mode": "client",
                "documentation": "GET [base]/metadata (medai check) and POST [base] of a transaction Bundle. The "
                "server must accept PUT of a resource that is not there yet (update as create), under ids that the "
                "client chooses.",
                "security": {"description": "HTTPS; a bearer token, or HTTP Basic. A redirect is not followed."},
                "resource": [_resource(kind, server) for kind in kinds],
                "interaction": [{"code": "transaction"}],
            }
        ],
    }
    return json.dumps(capability, indent=2, ensure_ascii=False) + "\n"


def _resource(kind: str, server: str) -> Json:
    entries = [entry for entry in bundle(server=server)["entry"] if entry["resource"]["resourceType"] == kind]
    assert {entry["request"]["method"] for entry in entries} == {"PUT"}
    logical = any('"identifier": {' in json.dumps(entry) for entry in entries)
    return {
        "type": kind,
        "documentation": WHY[kind],
        "interaction": [{"code": "update", "documentation": "within the transaction alone"}],
        "versioning": "no-version",
        "updateCreate": True,
        "referencePolicy": ["literal", "logical"] if logical else ["literal"],
    }


def _resources() -> str:
    """Those of both versions, each with the versions that have it."""
    by_version = {"R5": bundle()["entry"], "R4": bundle(server=made.EHR_R4)["entry"]}
    kinds = dict.fromkeys(entry["resource"]["resourceType"] for found in by_version.values() for entry in found)
    rows = []
    for kind in kinds:
        mine = {
            version: [entry for entry in found if entry["resource"]["resourceType"] == kind]
            for version, found in by_version.items()
        }
        having = [version for version, found in mine.items() if found]
        rows.append((kind, ", ".join(having), f"`{mine[having[0]][-1]['request']['url']}`", WHY[kind]))
    return dicom.table(("resource", "in", "example of its address", "what it says"), rows)


def _flat(result: Results, server: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for entry in json.loads(result.fhir[server])["entry"]:
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


def _told(server: str) -> dict[str, made.Told]:
    return made.differences(lambda result: _flat(result, server))


def _elements(server: str, without: Mapping[str, made.Told] | None = None) -> str:
    """A table for each kind of resource; of what is told in the same way in ``without``, nothing."""
    found = {path: told for path, told in _told(server).items() if (without or {}).get(path) != told}
    parts = []
    for kind in dict.fromkeys(path.split(".")[0] for path in found):
        rows = []
        for path, told in found.items():
            if path.split(".")[0] == kind:
                value = "" if told.sources else dicom.shown(told.values)
                rows.append((path.removeprefix(kind + "."), told.presence, dicom.source(told), value))
        parts.append(f"**{kind}**\n\n" + dicom.table(("element", "present", "source", "value"), rows))
    return "\n\n".join(parts)


def _elements_r4() -> str:
    """What R4 says otherwise than R5, or besides; and what it does not say."""
    r5, r4 = _told(made.EHR), _told(made.EHR_R4)
    kinds = {path.split(".")[0] for path in r4}
    gone = [path for path in r5 if path not in r4 and path.split(".")[0] in kinds]
    missing = ", ".join(f"`{path}`" for path in gone)
    return f"{_elements(made.EHR_R4, r5)}\n\nOf R5, R4 does not have: {missing}."


def _systems() -> str:
    rows = [(scheme, f"`{uri}`") for scheme, uri in SYSTEMS.items()]
    rows += [(f"UCUM ({unit}: `{code}`, shown as {shown})", f"`{UCUM}`") for unit, (shown, code) in UNITS.items()]
    return dicom.table(("DICOM and HL7 coding scheme", "system"), rows)


def _status() -> str:
    rows = []
    kinds = (
        "DiagnosticReport",
        "Observation",
        "ImagingSelection",
        "DocumentReference",
        "Media",
        "ImagingStudy",
        "Device",
    )
    for version, server in (("R5", made.EHR), ("R4", made.EHR_R4)):
        first = bundle(server=server)
        told = {
            "first result": first,
            "revision": bundle("reading", server),
            "withdrawn": json.loads(fhir.withdrawn(json.dumps(first).encode(), now=0.0, words="Why.")),
        }
        rows += [(version, name, *(_statuses(found, kind) for kind in kinds)) for name, found in told.items()]
    return dicom.table(("", "", *kinds), rows)


def _statuses(found: Json, kind: str) -> str:
    """In the order of the resources: of two ImagingStudy, the study's and that of the result's series."""
    statuses = [each["resource"]["status"] for each in found["entry"] if each["resource"]["resourceType"] == kind]
    return ", ".join(dict.fromkeys(statuses))


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
