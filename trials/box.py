"""The system on one machine, seen from outside: its command line, its archive's REST API, its RIS's page.

Everything the demo and the trials know of the system they learn here, as a hospital would: no import of its code.
Next: demo/command.py.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import urllib3

from medai.trials.study import StudyFolder

_TIMEOUT = urllib3.Timeout(connect=5, read=60)


class BoxError(Exception):
    """A part of the system did not do what was asked; the text says which part and what it answered."""


def medai_command() -> list[str]:
    """The ``medai`` beside this Python, else the one on PATH; raises BoxError where there is none."""
    beside = Path(sys.executable).with_name("medai")
    found = str(beside) if beside.exists() else shutil.which("medai")
    if found is None:
        raise BoxError("the medai command is not installed beside this Python; run ./medai setup")
    return [found]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A running system: what ``medai up --json`` printed, and ways to ask it."""

    folder: Path
    facts: Mapping[str, Any]
    http: urllib3.PoolManager

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What its parts are spoken to with by other means than HTTP; None where it has no TLS."""
        return _context(self.facts)

    @property
    def orthanc_url(self) -> str:
        """Base of the archive's REST API, without a slash at its end."""
        return str(self.facts["orthanc"]["url"]).rstrip("/")

    @property
    def ris_url(self) -> str:
        """Base of the RIS's page and JSON, without a slash at its end."""
        return str(self.facts["ris"]["http"]).rstrip("/")

    @property
    def logs(self) -> Path:
        """Folder with one log per process."""
        return Path(str(self.facts.get("logs", self.folder / "logs")))

    def jobs(self, study_uid: str) -> dict[str, Any]:
        """``medai jobs --json`` of one study: ``{"jobs": […], "decisions": […]}``."""
        answer = _medai("jobs", "--dir", str(self.folder), "--study-uid", study_uid, "--json")
        found: dict[str, Any] = json.loads(answer)
        return found

    def every_job(self) -> list[dict[str, Any]]:
        """All readings, newest first, with their stamps."""
        answer = _medai("jobs", "--dir", str(self.folder), "--limit", "1000000", "--json")
        found: list[dict[str, Any]] = json.loads(answer)["jobs"]
        return found

    def place_order(self, study: StudyFolder, *, priority: str) -> dict[str, Any]:
        """Order the study at the RIS, which tells the router by ORM^O01; the RIS's answer, ``ack`` in it."""
        patient = study.patient
        wanted = {
            "patient_id": patient.patient_id,
            "patient_name": patient.name.replace("\\", ""),
            "birth_date": patient.birth_date if len(patient.birth_date) == 8 else "",
            "sex": patient.sex if patient.sex in ("M", "F", "O") else "",
            "accession": study.accession,
            "study_uid": study.study_uid,
            "modality": study.modality,
            "procedure_code": f"{study.modality}STUDY"[:20],
            "procedure_text": f"{study.modality} study",
            "priority": priority,
        }
        body = json.dumps({key: value for key, value in wanted.items() if value})
        headers = {"Content-Type": "application/json"}
        order: dict[str, Any] = self._json("POST", f"{self.ris_url}/orders", body=body, headers=headers)
        return order

    def ask_ris(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call of the RIS's JSON; raises BoxError."""
        headers = {"Content-Type": "application/json"}
        data = self._bytes(
            method, self.ris_url + path, body=json.dumps(body) if body is not None else None, headers=headers
        )
        return json.loads(data) if data else None

    def ask_archive(self, method: str, path: str, body: Any = None) -> Any:
        """One call of Orthanc's REST API; raises BoxError."""
        data = json.dumps(body) if body is not None else None
        return self._json(method, self.orthanc_url + path, body=data, headers=self._orthanc_auth)

    def results_at_ris(self, study_uid: str) -> list[dict[str, Any]]:
        """The results that the RIS holds for a study, with each ORU's text under ``raw``."""
        found = self._json("GET", f"{self.ris_url}/results")
        return [each for each in found if each["study_uid"] == study_uid]

    def instance(self, sop_uid: str) -> tuple[str, dict[str, Any]] | None:
        """Orthanc's id and tags of an instance, looked up by its SOP Instance UID; None where it is not stored."""
        hits = self._json("POST", f"{self.orthanc_url}/tools/lookup", body=sop_uid, headers=self._orthanc_auth)
        ids = [hit["ID"] for hit in hits if hit["Type"] == "Instance"]
        if not ids:
            return None
        url = f"{self.orthanc_url}/instances/{ids[0]}/simplified-tags"
        return ids[0], self._json("GET", url, headers=self._orthanc_auth)

    def instance_bytes(self, orthanc_id: str, what: str, *, accept: str = "*/*") -> bytes:
        """``file`` (DICOM) or ``rendered``/``preview`` (an image of type ``accept``) of an instance."""
        url = f"{self.orthanc_url}/instances/{orthanc_id}/{what}"
        return self._bytes("GET", url, headers=self._orthanc_auth | {"Accept": accept})

    @property
    def _orthanc_auth(self) -> dict[str, str]:
        archive = self.facts["orthanc"]
        made: dict[str, str] = urllib3.make_headers(basic_auth=f"{archive['username']}:{archive['password']}")
        return made

    def _json(self, method: str, url: str, **options: Any) -> Any:
        return json.loads(self._bytes(method, url, **options))

    def _bytes(self, method: str, url: str, **options: Any) -> bytes:
        try:
            answer = self.http.request(method, url, **options)
        except urllib3.exceptions.HTTPError as error:
            raise BoxError(f"{method} {url}: no answer ({type(error).__name__})") from error
        if answer.status >= 400:
            raise BoxError(f"{method} {url}: {answer.status} {answer.data[:300].decode(errors='replace')}")
        return answer.data


def _context(facts: Mapping[str, Any]) -> ssl.SSLContext | None:
    files = facts.get("tls")
    if files is None:
        return None
    context = ssl.create_default_context(cafile=files["ca_file"])
    context.load_cert_chain(files["certificate_file"], files["key_file"])
    return context


def prepare(folder: Path, *, workers: int, tls: bool = False) -> dict[str, Any]:
    """Write the configuration of a system in ``folder``, on free loopback ports, and start nothing; where it is."""
    wanted = ["--workers", str(workers), *(["--tls"] if tls else [])]
    answer = _medai("up", "--dir", str(folder), "--free-ports", *wanted, "--prepare", "--json")
    facts: dict[str, Any] = json.loads(answer)
    return facts


def switch(folder: Path, part: str, *, on: bool) -> None:
    """Stop one part of a running system, or start what is stopped; raises BoxError."""
    _medai("up" if on else "down", "--dir", str(folder), "--part", part, "--json")


def up(folder: Path) -> Box:
    """Start everything in ``folder`` on free loopback ports; returns when all parts answer. Raises BoxError."""
    facts = json.loads(_medai("up", "--dir", str(folder), "--free-ports", "--json"))
    retries = urllib3.Retry(total=2, status=0)
    http = urllib3.PoolManager(timeout=_TIMEOUT, retries=retries, ssl_context=_context(facts))
    return Box(folder=folder, facts=facts, http=http)


def down(folder: Path) -> None:
    """Stop what ``up`` started in ``folder``; raises BoxError. A second Ctrl-C does not stop the stopping."""
    _medai("down", "--dir", str(folder), own_session=True)


def log_tails(folder: Path, *, lines: int = 8) -> list[str]:
    """The last lines of every log under ``folder``, each block under its path."""
    shown = []
    for path in sorted(folder.rglob("*.log")):
        tail = path.read_text(errors="replace").splitlines()[-lines:]
        if tail:
            shown += [f"--- {path}", *(f"    {line[:300]}" for line in tail)]
    return shown


def _medai(*arguments: str, own_session: bool = False) -> str:
    """Run a medai command; its messages go through to our standard error, its output is returned."""
    command = [*medai_command(), *arguments]
    done = subprocess.run(  # noqa: S603 - our own command with our own arguments
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        start_new_session=own_session,
        env=dict(os.environ),
    )
    if done.returncode != 0:
        raise BoxError(
            f"medai {arguments[0]} failed (exit {done.returncode}); {done.stdout.strip()[-500:]}".rstrip("; ")
        )
    return done.stdout


class Teller:
    """Says what is going on, each line with the seconds since the start."""

    def __init__(self, to: TextIO | None = None) -> None:
        self._began = time.monotonic()
        self._to = to

    @property
    def elapsed_s(self) -> float:
        """Seconds since this teller was made."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """One line, at once visible."""
        print(f"[{self.elapsed_s:6.1f} s] {text}", file=self._to, flush=True)
