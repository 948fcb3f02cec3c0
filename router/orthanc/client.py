"""Orthanc's REST API, as far as we use it, with its errors translated once.

Measured choices (docs/orthanc.md, section 3): ``/file`` over kept-alive connections for pixels,
``/tools/bulk-content`` to climb from instances to their series in one call. Errors name the kind of resource, never a
patient. Next: transport.py (the connections), recode.py (other patient data for a study), intake/changes.py,
intake/facts.py.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import urllib3

from medai.router import tls
from medai.router.errors import OrthancBroke, OrthancRefused, OrthancUnreachable, PermanentError
from medai.router.orthanc.transport import POOLS, is_whole
from medai.router.settings.tables import OrthancSettings

CHANGES_PAGE = 1000
NETWORK_ERRORS = frozenset({0, 9, 2015})
"""OrthancStatus where the other DICOM node is the matter: network protocol, no acceptable presentation context; 0 where
``HttpDescribeErrors`` is off."""
UNKNOWN_RESOURCE = 17
"""OrthancStatus of a 404 for something that is not stored (a modality that is not configured has another)."""
COMMITMENT_POLLS_S = (0.05, 2.0)
"""First and longest pause between two looks at a storage commitment."""


@dataclass(frozen=True, kw_only=True)
class ChangesPage:
    """One answer of ``/changes``: ``last`` is the cursor after it."""

    changes: tuple[dict[str, Any], ...]
    last: int
    done: bool


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What came of asking a DICOM node whether it keeps instances.

    ``not offered``: the node takes no such request; ``no answer``: it took it and did not report in time.
    """

    outcome: Literal["committed", "failed", "not offered", "no answer"]
    committed: int = 0
    """Instances that the node says it keeps."""
    failures: Mapping[int, int] = field(default_factory=dict, hash=False)
    """Failure Reason (0008,1197) -> number of instances (PS3.3 C.14.1.1)."""


class Orthanc:
    """A client of one Orthanc; safe to share between threads."""

    def __init__(self, settings: OrthancSettings, *, connections: int = 8) -> None:
        self._base = settings.url.rstrip("/")
        headers = {}
        if settings.username:
            secret = f"{settings.username}:{settings.password.get_secret_value()}"
            headers = urllib3.make_headers(basic_auth=secret)
        secured = tls.client_context(settings, where="orthanc") if self._base.startswith("https:") else None
        self._pool = urllib3.PoolManager(
            ssl_context=secured,
            maxsize=connections,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(5.0, settings.timeout_s), read=settings.timeout_s),
            retries=urllib3.Retry(total=2, connect=0, read=0, other=0, redirect=0, status=0),
        )
        self._pool.pool_classes_by_scheme = POOLS

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self._base).netloc.rpartition("@")[2]

    def close(self) -> None:
        """Give the connections back."""
        self._pool.clear()

    def request(self, method: str, path: str, *, body: bytes | None = None, timeout_s: float | None = None) -> bytes:
        """One call; raises OrthancUnreachable (away; OrthancBroke: 5xx, cut short) or OrthancRefused (4xx)."""
        extra: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        try:
            answer = self._pool.request(method, self._base + path, body=body, **extra)
        except urllib3.exceptions.HTTPError as error:
            cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
            text = f"Orthanc at {self.address} does not answer ({type(cause).__name__})"
            if isinstance(cause, urllib3.exceptions.SSLError):
                text = (
                    f"Orthanc at {self.address} cannot be trusted (TLS failed): does it speak https, "
                    "and does [orthanc] ca_file hold its certificate authority?"
                )
            if isinstance(cause, urllib3.exceptions.ProtocolError):
                raise OrthancBroke(text) from error
            raise OrthancUnreachable(text) from error
        if answer.status >= 500:
            code, said = _described(answer.data)
            text = f"Orthanc at {self.address} answered {answer.status}"
            raise OrthancBroke(text, status=answer.status, code=code, said=said)
        if answer.status >= 400:
            what = path.split("/")[1] if "/" in path else path
            hint = ": check [orthanc] username and password" if answer.status in (401, 403) else ""
            raise OrthancRefused(
                f"Orthanc at {self.address} answered {answer.status} for a request to /{what}{hint}",
                status=answer.status,
                code=_described(answer.data)[0],
            )
        if not is_whole(answer):
            raise OrthancBroke(f"Orthanc at {self.address} sent an answer that was cut off")
        return answer.data

    def passed_on(self, path: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer to a GET as it is, its body unread: stream it, then release_conn(). OrthancUnreachable: away."""
        try:
            return self._pool.request(
                "GET", self._base + path, headers={**self._pool.headers, **headers}, preload_content=False,
                redirect=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise OrthancUnreachable(f"Orthanc at {self.address} does not answer ({type(error).__name__})") from error

    def get(self, path: str) -> Any:
        """GET and parse JSON."""
        return self._json(self.request("GET", path))

    def post(self, path: str, value: Any, *, timeout_s: float | None = None) -> Any:
        """POST JSON and parse JSON."""
        return self._json(self.request("POST", path, body=json.dumps(value).encode(), timeout_s=timeout_s))

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError as error:
            raise OrthancUnreachable(f"Orthanc at {self.address} sent a broken answer") from error
        except RecursionError as error:
            raise PermanentError(f"Orthanc at {self.address} sent an answer that is nested too deeply") from error

    # -- events and resources

    def system(self) -> dict[str, Any]:
        """Version and database of Orthanc."""
        return dict(self.get("/system"))

    def changes(self, since: int) -> ChangesPage:
        """Changes after ``since``, oldest first."""
        page = self.get(f"/changes?since={since}&limit={CHANGES_PAGE}")
        return ChangesPage(changes=tuple(page["Changes"]), last=int(page["Last"]), done=bool(page["Done"]))

    def last_change(self) -> int:
        """The newest sequence number; 0 for an empty log."""
        return int(self.get("/changes?last")["Last"])

    def series_of(self, resources: Iterable[str]) -> list[dict[str, Any]]:
        """The series that these instances or studies belong to, each once; resources that are gone are left out."""
        body = {"Resources": list(resources), "Level": "Series", "Short": False, "Metadata": False}
        return [dict(item) for item in self.post("/tools/bulk-content", body)]

    def study(self, orthanc_study: str) -> dict[str, Any]:
        """One study's main tags, its series and LastUpdate; OrthancRefused 404 when it was deleted."""
        return dict(self.get(f"/studies/{orthanc_study}"))

    def studies(self, *, since: int, limit: int) -> list[dict[str, Any]]:
        """A page of all studies, expanded."""
        return [dict(item) for item in self.get(f"/studies?expand&since={since}&limit={limit}")]

    def studies_with_uid(self, study_uid: str) -> list[str]:
        """Orthanc ids of all studies with this UID: several where a study lies under several patients."""
        found = self._json(self.request("POST", "/tools/lookup", body=study_uid.encode()))
        return [str(item["ID"]) for item in found if item["Type"] == "Study"]

    def instance_with_uid(self, sop_uid: str) -> str | None:
        """Orthanc's id of an instance; None where it is not stored."""
        found = self._json(self.request("POST", "/tools/lookup", body=sop_uid.encode()))
        return next((str(item["ID"]) for item in found if item["Type"] == "Instance"), None)

    def studies_of(self, patient_id: str) -> list[str]:
        """The studies of one patient, by Orthanc's id."""
        query = {"Level": "Study", "Query": {"PatientID": wildcards_escaped(patient_id)}, "CaseSensitive": True}
        found = [str(name) for name in self.post("/tools/find", query)]
        return [name for name in found if self.study(name)["PatientMainDicomTags"].get("PatientID") == patient_id]

    def patient(self, patient_id: str) -> dict[str, str]:
        """The main tags of the patient level under one identifier; empty where the archive has nobody of it."""
        query = {"Level": "Patient", "Query": {"PatientID": wildcards_escaped(patient_id)}, "CaseSensitive": True}
        found = self.post("/tools/find", {**query, "Expand": True})
        tags = ({str(k): str(v) for k, v in each["MainDicomTags"].items()} for each in found)
        return next((each for each in tags if each.get("PatientID") == patient_id), {})

    def instances(self, orthanc_series: str) -> list[dict[str, Any]]:
        """The instances of a series with their main tags (SOPInstanceUID, InstanceNumber …)."""
        return [dict(item) for item in self.get(f"/series/{orthanc_series}/instances?expand")]

    def sop_uids(self, orthanc_study: str) -> frozenset[str]:
        """SOP Instance UIDs of all that a study holds; none where it is gone."""
        try:
            found = self.get(f"/studies/{orthanc_study}/instances?expand")
        except OrthancRefused as error:
            if error.status == 404:
                return frozenset()
            raise
        return frozenset(str(item["MainDicomTags"].get("SOPInstanceUID", "")) for item in found)

    def tags(self, orthanc_instance: str) -> dict[str, Any]:
        """An instance's attributes by keyword; long and binary values are left out by Orthanc."""
        return dict(self.get(f"/instances/{orthanc_instance}/simplified-tags"))

    def file(self, orthanc_instance: str) -> bytes:
        """An instance as a DICOM file, byte for byte."""
        return self.request("GET", f"/instances/{orthanc_instance}/file")

    def size(self, orthanc_instance: str) -> int:
        """The size of an instance's file, bytes."""
        return int(self.get(f"/instances/{orthanc_instance}")["FileSize"])

    def md5(self, orthanc_instance: str) -> str:
        """The MD5 of an instance's file, as Orthanc noted it when it came."""
        return self.request("GET", f"/instances/{orthanc_instance}/attachments/dicom/md5").decode("ascii").strip()

    def store(self, dicom: bytes) -> dict[str, Any]:
        """Store one DICOM file (or a zip of them); OrthancRefused when it is not DICOM."""
        answer = self._json(self.request("POST", "/instances", body=dicom))
        return dict(answer) if isinstance(answer, dict) else {"Instances": answer}

    def store_result(self, kind: str, dicom: bytes) -> None:
        """Store one result object (``kind``: seg, sr or sc); the same bytes may come again.

        Raises PermanentError where Orthanc refuses it for good, TemporaryError where another try may help.
        """
        try:
            answer = self.store(dicom)
        except OrthancRefused as error:
            if error.status in (401, 403):  # a password that is wrong now costs time, no result
                raise OrthancUnreachable(str(error)) from error
            raise PermanentError(f"the archive refused the {kind.upper()} object ({error.status})") from error
        if answer.get("Status") not in ("Success", "AlreadyStored"):
            raise OrthancUnreachable(f"the archive did not keep the {kind.upper()} object ({answer.get('Status')})")

    def exists(self, level: str, resource: str) -> bool:
        """Whether a resource is there (``level``: "instances", "series", "studies")."""
        try:
            self.request("GET", f"/{level}/{resource}")
        except OrthancRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    def rendered(self, instance: str) -> bytes:
        """An image as Orthanc draws it (PNG)."""
        return self.request("GET", f"/instances/{instance}/preview")

    def drawn(self, instance: str, frame: int, *, windowed: bool) -> bytes:
        """A frame (from 1) as PNG, in the window that the image asks for, or from its darkest to its brightest."""
        return self.request("GET", f"/instances/{instance}/frames/{frame - 1}/{'rendered' if windowed else 'preview'}")

    def delete(self, level: str, resource: str) -> None:
        """Delete a resource; one that is gone already is no error."""
        try:
            self.request("DELETE", f"/{level}/{resource}")
        except OrthancRefused as error:
            if error.status != 404:
                raise

    def send_to(self, modality: str, resources: Iterable[str], *, timeout_s: float = 120.0) -> None:
        """C-STORE resources from Orthanc to one of its DicomModalities; raises when any instance failed."""
        body = {"Resources": list(resources), "Synchronous": True}
        answer = self.post(f"/modalities/{modality}/store", body, timeout_s=timeout_s)
        failed = int(answer.get("FailedInstancesCount", 0))
        if failed:
            raise OrthancUnreachable(f"DICOM destination {modality} accepted all but {failed} of the results")

    def send_through(self, modality: str, dicom: bytes, *, timeout_s: float = 120.0) -> None:
        """C-STORE a DICOM file to one of Orthanc's DicomModalities as it is, without storing it in Orthanc."""
        self.request("POST", f"/modalities/{modality}/store-straight", body=dicom, timeout_s=timeout_s)

    def commit(
        self,
        modality: str,
        resources: Iterable[str],
        *,
        references: Iterable[tuple[str, str]] = (),
        timeout_s: float,
        pause: Callable[[float], object] = time.sleep,
    ) -> Commitment:
        """Ask one of Orthanc's DicomModalities for storage commitment, and wait up to ``timeout_s`` for its report.

        ``references``: SOP Class and Instance UID of each object that was sent and is not in Orthanc. Raises
        OrthancRefused (no such modality or resource) and OrthancUnreachable (Orthanc or the node is away).
        """
        body: dict[str, Any] = {"Resources": list(resources)}
        others = [list(each) for each in references]
        if others:
            body["DicomInstances"] = others
        try:
            asked = self.post(f"/modalities/{modality}/storage-commitment", body, timeout_s=60.0)
        except OrthancUnreachable as error:
            away = "TCP Initialization Error" in error.said
            if error.status == 500 and error.code in NETWORK_ERRORS and not away:
                return Commitment(outcome="not offered")
            raise
        deadline = time.monotonic() + timeout_s
        wait_s, longest_s = COMMITMENT_POLLS_S
        while (report := self._commitment(str(asked["ID"])))["Status"] == "Pending":
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return Commitment(outcome="no answer")
            pause(min(wait_s, left_s))
            wait_s = min(2 * wait_s, longest_s)
        return _reported(report, len(body["Resources"]) + len(others))

    def _commitment(self, transaction: str) -> dict[str, Any]:
        try:
            return dict(self.get(f"/storage-commitment/{transaction}"))
        except OrthancRefused as error:  # it keeps them in memory
            raise OrthancUnreachable(
                f"Orthanc at {self.address} was restarted and lost a storage commitment"
            ) from error


def wildcards_escaped(text: str) -> str:
    """Orthanc knows no escape for * and ?, so the one stands for any character; the caller compares what it gets."""
    return text.replace("*", "?").replace("\\", "?")


def _described(data: bytes) -> tuple[int, str]:
    """OrthancStatus and Details of an error that Orthanc describes."""
    try:
        told = json.loads(data)
        return int(told["OrthancStatus"]), str(told.get("Details", ""))
    except (ValueError, TypeError, KeyError):
        return 0, ""


def _reported(report: Mapping[str, Any], asked: int) -> Commitment:
    """A node that reports success for fewer instances than were asked for has not committed the others."""
    kept = len(report["Success"])
    failures = Counter(int(item["FailureReason"]) for item in report["Failures"])
    complete = report["Status"] == "Success" and not failures and kept >= asked
    return Commitment(outcome="committed" if complete else "failed", committed=kept, failures=dict(failures))
