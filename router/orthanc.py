"""Orthanc's REST API, as far as we use it, with its errors translated once.

Measured choices (orthanc.md): ``/file`` over kept-alive connections for pixels, ``/tools/bulk-content`` to climb from
instances to their series in one call. Errors name the kind of resource, never a patient. Next: changes.py, facts.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from urllib.parse import urlsplit

import urllib3

from router.errors import OrthancRefused, OrthancUnreachable
from router.settings import OrthancSettings

CHANGES_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class ChangesPage:
    """One answer of ``/changes``: ``last`` is the cursor after it."""

    changes: tuple[dict[str, Any], ...]
    last: int
    done: bool


def orthanc_id(*identifiers: str) -> str:
    """Orthanc's id of a resource: SHA-1 of "PatientID|Study|Series|SOP" in five groups (Orthanc Book)."""
    digest = sha1("|".join(identifiers).encode("utf-8"), usedforsecurity=False).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


class Orthanc:
    """A client of one Orthanc; safe to share between threads."""

    def __init__(self, settings: OrthancSettings, *, connections: int = 8) -> None:
        self._base = settings.url.rstrip("/")
        headers = {}
        if settings.username:
            secret = f"{settings.username}:{settings.password.get_secret_value()}"
            headers = urllib3.make_headers(basic_auth=secret)
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(5.0, settings.timeout_s), read=settings.timeout_s),
            retries=urllib3.Retry(total=2, connect=0, read=0, other=0, redirect=0, status=0),
        )

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self._base).netloc.rpartition("@")[2]

    def close(self) -> None:
        """Give the connections back."""
        self._pool.clear()

    def request(self, method: str, path: str, *, body: bytes | None = None, timeout_s: float | None = None) -> bytes:
        """One call; raises OrthancUnreachable (away, 5xx, cut short) or OrthancRefused (4xx)."""
        extra: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        try:
            answer = self._pool.request(method, self._base + path, body=body, **extra)
        except urllib3.exceptions.HTTPError as error:
            kind = type(error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error).__name__
            raise OrthancUnreachable(f"Orthanc at {self.address} does not answer ({kind})") from error
        if answer.status >= 500:
            raise OrthancUnreachable(f"Orthanc at {self.address} answered {answer.status}")
        if answer.status >= 400:
            what = path.split("/")[1] if "/" in path else path
            hint = ": check [orthanc] username and password" if answer.status in (401, 403) else ""
            raise OrthancRefused(
                f"Orthanc at {self.address} answered {answer.status} for a request to /{what}{hint}",
                status=answer.status,
            )
        return answer.data

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

    def instances(self, orthanc_series: str) -> list[dict[str, Any]]:
        """The instances of a series with their main tags (SOPInstanceUID, InstanceNumber …)."""
        return [dict(item) for item in self.get(f"/series/{orthanc_series}/instances?expand")]

    def tags(self, orthanc_instance: str) -> dict[str, Any]:
        """An instance's attributes by keyword; long and binary values are left out by Orthanc."""
        return dict(self.get(f"/instances/{orthanc_instance}/simplified-tags"))

    def file(self, orthanc_instance: str) -> bytes:
        """An instance as a DICOM file, byte for byte."""
        return self.request("GET", f"/instances/{orthanc_instance}/file")

    def store(self, dicom: bytes) -> dict[str, Any]:
        """Store one DICOM file (or a zip of them); OrthancRefused when it is not DICOM."""
        answer = self._json(self.request("POST", "/instances", body=dicom))
        return dict(answer) if isinstance(answer, dict) else {"Instances": answer}

    def exists(self, level: str, resource: str) -> bool:
        """Whether a resource is there (``level``: "instances", "series", "studies")."""
        try:
            self.request("GET", f"/{level}/{resource}")
        except OrthancRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    def send_to(self, modality: str, resources: Iterable[str], *, timeout_s: float = 120.0) -> None:
        """C-STORE resources from Orthanc to one of its DicomModalities; raises when any instance failed."""
        body = {"Resources": list(resources), "Synchronous": True}
        answer = self.post(f"/modalities/{modality}/store", body, timeout_s=timeout_s)
        failed = int(answer.get("FailedInstancesCount", 0))
        if failed:
            raise OrthancUnreachable(f"DICOM destination {modality} took all but {failed} of the results")
