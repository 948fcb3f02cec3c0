"""Send a result to a FHIR server: one transaction, kept as bytes, so that every attempt sends the same.

The Bundle was encoded by a worker (workers/results/fhir.py); here its inside matters only to ``withdrawn``. Errors do
not quote the server's words, which may name a patient: of an OperationOutcome they hold the codes and the places.
Next: settings/destinations.py, cli/check.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3

from medai.router.errors import FhirRefused, FhirUnreachable
from medai.router.settings.destinations import FhirDestination
from medai.router.words import counted

MEDIA_TYPE = "application/fhir+json"
WITHDRAWN = "entered-in-error"
REPORT = "DiagnosticReport"
_WITHDRAWAL = "-W"
"""How the id of a withdrawal's Provenance ends; it begins with that of the report."""
WITHDRAWABLE = frozenset({"DiagnosticReport", "Observation", "ImagingSelection", "DocumentReference", "Media"})
"""What a result says, in R5 and R4. The study and the device stay true without it, and so does a Provenance, which is
history; the ImagingStudy with the result's own series goes, which is known by its label (AIAST)."""
MISCONFIGURED = {
    401: "check its username and password, or token",
    403: "its login may not write: check its username and password, or token",
    404: "is fhir_url right?",
    405: "is fhir_url right? It accepts no transactions there",
    410: "is fhir_url right?",
}
"""Answers that say that the configuration is wrong and not the result: they wait for a person without losing it."""
BUSY = frozenset({408, 409, 412, 423, 425, 429})
"""Answers that another time may bring another: slow down, a lock, a change by somebody else at the same moment."""
RETRY_AFTER_MAX_S = 6 * 3600.0
_CODE = re.compile(r"[a-z][a-z-]{1,30}")
_PLACE = re.compile(r"[A-Za-z]+(\[\d{1,3}\])?(\.[A-Za-z]+(\[\d{1,3}\])?){0,12}")


def send(payload: bytes, destination: FhirDestination, *, name: str) -> str:
    """POST the transaction to the server's base and read its answer; the receipt is such as "200, 7 resources".

    Raises FhirUnreachable (away, overloaded, or not as configured) and FhirRefused (the result itself is not taken).
    """
    peer = _peer(destination, name)
    answer = _request("POST", destination, peer, body=payload)
    if not 200 <= answer.status < 300:
        raise _failure(peer, answer)
    return f"{answer.status}, {counted(_taken(peer, answer.data, len(json.loads(payload)['entry'])), 'resource')}"


def capability(destination: FhirDestination, *, name: str) -> dict[str, Any]:
    """What the server says that it can do (GET /metadata); raises FhirUnreachable or FhirRefused."""
    peer = _peer(destination, name)
    answer = _request("GET", destination, peer, path="/metadata")
    if answer.status != 200:
        raise _failure(peer, answer)
    found = _parsed(answer.data)
    if found.get("resourceType") != "CapabilityStatement":
        raise FhirUnreachable(f"{peer} answered something that is not a CapabilityStatement: is fhir_url right?")
    return found


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


def _peer(destination: FhirDestination, name: str) -> str:
    return f"the FHIR server {name} at {urlsplit(destination.fhir_url).netloc}"


def _request(
    method: str, destination: FhirDestination, peer: str, *, path: str = "", body: bytes | None = None
) -> urllib3.BaseHTTPResponse:
    """One call on a connection of its own. A redirect is not followed: it would take the login elsewhere."""
    trust: dict[str, Any] = {"ca_certs": destination.ca_file} if destination.ca_file else {}
    try:
        with urllib3.PoolManager(**trust) as pool:
            return pool.request(
                method,
                destination.fhir_url.rstrip("/") + path,
                body=body,
                headers=_headers(destination),
                timeout=urllib3.Timeout(connect=min(10.0, destination.timeout_s), read=destination.timeout_s),
                retries=False,
                redirect=False,
            )
    except urllib3.exceptions.SSLError as error:
        hint = "does it speak https, and does ca_file exist and hold its certificate authority?"
        raise FhirUnreachable(f"{peer} cannot be trusted (TLS failed): {hint}") from error
    except urllib3.exceptions.HTTPError as error:
        raise FhirUnreachable(f"{peer} does not answer ({type(error).__name__})") from error


def _headers(destination: FhirDestination) -> dict[str, str]:
    headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, "Prefer": "return=minimal"}
    token = destination.token.get_secret_value()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif destination.username:
        secret = f"{destination.username}:{destination.password.get_secret_value()}"
        headers |= urllib3.make_headers(basic_auth=secret)
    return headers


def _failure(peer: str, answer: urllib3.BaseHTTPResponse) -> FhirUnreachable | FhirRefused:
    status = answer.status
    if status < 400:
        return FhirUnreachable(f"{peer} answered {status}, a redirect: is fhir_url right?")
    if status in MISCONFIGURED:
        return FhirUnreachable(f"{peer} answered {status}: {MISCONFIGURED[status]}")
    if status >= 500 or status in BUSY:
        wait_s = _retry_after_s(answer.headers.get("Retry-After", ""))
        return FhirUnreachable(f"{peer} answered {status}", retry_after_s=wait_s)
    told = ", ".join(_issues(answer.data))
    return FhirRefused(f"{peer} refused the result with {status}" + (f" ({told})" if told else ""))


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


def _taken(peer: str, data: bytes, sent: int) -> int:
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


def _retry_after_s(text: str) -> float | None:
    """Retry-After in seconds from now (RFC 9110 10.2.3: a number, or a date); None where there is none."""
    if text.strip().isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    wait_s = (at - datetime.now(tz=UTC)).total_seconds()
    return min(wait_s, RETRY_AFTER_MAX_S) if wait_s > 0 else None
