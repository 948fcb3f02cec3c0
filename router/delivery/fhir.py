"""Send a result to a FHIR server: one transaction, kept as bytes, so that every attempt sends the same.

The Bundle was encoded by a worker (workers/results/fhir.py); here its inside matters only to ``withdrawn``. Errors do
not quote the server's words, which may name a patient: of an OperationOutcome they hold the codes and the places.
Next: web.py (the call), settings/destinations.py, cli/check.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from medai.router.contract import Order
from medai.router.delivery import web
from medai.router.delivery.web import Answer, Peer
from medai.router.errors import FhirRefused, FhirUnreachable, TemporaryError
from medai.router.hl7.fhir_reference import order_reference
from medai.router.hl7.order_patient import LEFT_OUT
from medai.router.hl7.oru_edit import JOINED
from medai.router.settings.destinations import FhirDestination
from medai.router.words import counted

MEDIA_TYPE = "application/fhir+json"
HEADERS = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, "Prefer": "return=minimal"}
WITHDRAWN = "entered-in-error"
REPORT = "DiagnosticReport"
_WITHDRAWAL = "-W"
"""How the id of a withdrawal's Provenance ends; it begins with that of the report."""
WITHDRAWABLE = frozenset({"DiagnosticReport", "Observation", "ImagingSelection", "DocumentReference", "Media"})
"""What a result says, in R5 and R4. The study and the device stay true without it, and so does a Provenance, which is
history; the ImagingStudy with the result's own series goes, which is known by its label (AIAST)."""
ANSWERS = frozenset({"DiagnosticReport", "DocumentReference", "Media"})
"""What says which order it answers."""
_CODE = re.compile(r"[a-z][a-z-]{1,30}")
_PLACE = re.compile(r"[A-Za-z]+(\[\d{1,3}\])?(\.[A-Za-z]+(\[\d{1,3}\])?){0,12}")


def send(payload: bytes, destination: FhirDestination, *, name: str) -> str:
    """POST the transaction to the server's base and read its answer; the receipt is such as "200, 7 resources".

    Raises FhirUnreachable (away, overloaded, or not as configured) and FhirRefused (the result itself is not taken).
    """
    peer = _peer(destination, name)
    answer = web.request("POST", peer, headers=HEADERS, body=payload)
    if not 200 <= answer.status < 300:
        raise _failure(peer, answer)
    return f"{answer.status}, {counted(_taken(peer, answer.data, len(json.loads(payload)['entry'])), 'resource')}"


def capability(destination: FhirDestination, *, name: str) -> dict[str, Any]:
    """What the server says that it can do (GET /metadata); raises FhirUnreachable or FhirRefused."""
    peer = _peer(destination, name)
    answer = web.request("GET", peer, headers=HEADERS, path="/metadata")
    if answer.status != 200:
        raise _failure(peer, answer)
    found = _parsed(answer.data)
    if found.get("resourceType") != "CapabilityStatement":
        raise FhirUnreachable(f"{peer} answered something that is not a CapabilityStatement: is fhir_url right?")
    return found


def ordered(payload: bytes, order: Order) -> bytes | None:
    """The same Bundle with the order that a person joined to it; None where it names one, or the order has no number.

    Every revision updates the same resources, so the server has the result with its order afterwards, and no second
    one. The patient stays that of the images.
    """
    bundle, reference = json.loads(payload), order_reference(order.placer)
    answers = [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] in ANSWERS]
    if not reference or not answers or any("basedOn" in each for each in answers):
        return None
    for each in answers:
        each["basedOn"] = reference
    text = json.dumps(bundle, ensure_ascii=False, separators=(",", ":"))
    return text.replace(LEFT_OUT, JOINED).encode("utf-8")


def withdrawn(payload: bytes, *, now: float, words: str) -> bytes:
    """The Bundle that takes a kept one back: the same resources marked entered in error, and who did so when and why.

    It must be that of the newest revision: every revision updates the same report. ``now``: seconds since the epoch.
    ``words``: why, for people; they stand in a Provenance beside those that tell how the result was made.
    """
    bundle = json.loads(payload)
    kept = [entry for entry in bundle["entry"] if not entry["request"]["url"].endswith(_WITHDRAWAL)]
    taken = [entry["resource"] for entry in kept if _is_said(entry["resource"])]
    for resource in taken:
        resource["status"] = WITHDRAWN
    reports = [each for each in taken if each["resourceType"] == REPORT]
    bundle["entry"] = [*kept, *(_nullified(each, taken, now, words) for each in reports)]
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _is_said(resource: dict[str, Any]) -> bool:
    """Whether it is a part of the result, and not of what is true without it."""
    labelled = any(label.get("code") == "AIAST" for label in resource.get("meta", {}).get("security", ()))
    return resource["resourceType"] in WITHDRAWABLE or (resource["resourceType"] == "ImagingStudy" and labelled)


def _nullified(report: dict[str, Any], taken: list[dict[str, Any]], now: float, words: str) -> dict[str, Any]:
    """The entry of the Provenance of a withdrawal, the same in R4 and R5 (which knows no Provenance.reason)."""
    moment = datetime.fromtimestamp(now, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    codes = "http://terminology.hl7.org/CodeSystem"
    resource = {
        "resourceType": "Provenance",
        "id": f"{report['id']}{_WITHDRAWAL}",
        "target": [{"reference": f"{each['resourceType']}/{each['id']}"} for each in taken],
        "occurredDateTime": moment,
        "recorded": moment,
        "activity": {"coding": [{"system": f"{codes}/v3-DataOperation", "code": "NULLIFY"}], "text": words},
        "agent": [
            {
                "type": {"coding": [{"system": f"{codes}/provenance-participant-type", "code": "performer"}]},
                "who": {"type": "Device", "display": "Med-AI"},
            }
        ],
    }
    return {"resource": resource, "request": {"method": "PUT", "url": f"Provenance/{resource['id']}"}}


def _peer(destination: FhirDestination, name: str) -> Peer:
    return Peer(
        title=f"the FHIR server {name}", url=destination.fhir_url, key="fhir_url", server=destination,
        away=FhirUnreachable, takes="transactions",
    )  # fmt: skip


def _failure(peer: Peer, answer: Answer) -> TemporaryError | FhirRefused:
    if (passing := web.misfortune(peer, answer)) is not None:
        return passing
    told = ", ".join(_issues(answer.data))
    return FhirRefused(f"{peer} refused the result with {answer.status}" + (f" ({told})" if told else ""))


def _issues(data: bytes) -> Iterator[str]:
    """Code and place of each issue that is an error; both only where they can't hold anything else."""
    issues = _parsed(data).get("issue")
    for issue in [item for item in issues if isinstance(item, dict)][:5] if isinstance(issues, list) else []:
        code = str(issue.get("code", ""))
        if issue.get("severity") not in ("fatal", "error") or not _CODE.fullmatch(code):
            continue
        expression = issue.get("expression")
        place = str(expression[0]) if isinstance(expression, list) and expression else ""
        yield f"{code} at {place}" if _PLACE.fullmatch(place) else code


def _taken(peer: Peer, data: bytes, sent: int) -> int:
    """How many resources the server took; raises FhirUnreachable where its answer does not say that it took all."""
    found = _parsed(data)
    entries = found.get("entry")
    if found.get("type") != "transaction-response" or not isinstance(entries, list):
        raise FhirUnreachable(f"{peer} answered something that is not a transaction-response: is fhir_url right?")
    statuses = [str((entry.get("response") or {}).get("status", "")) for entry in entries if isinstance(entry, dict)]
    taken = sum(status.startswith("2") for status in statuses)
    if taken != sent or len(entries) != sent:
        raise FhirUnreachable(f"{peer} accepted {taken} of {counted(sent, 'resource')}")
    return taken


def _parsed(data: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
