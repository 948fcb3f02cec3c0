"""One whole system for the acceptance tests: started by ``medai up``, driven from outside, stopped at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import urllib3
import version_before
from servers import wait_for

from medai.router.onebox.site import Site, pick_ports

PATIENCE_S = 500.0
"""For one reading, also on a machine that is busy with other things."""
LENIENT = """
# For the tests: the small heads of test_system.py, whose reading is killed at this and that.
[[routes]]
name = "small-head"
model = "mr_brain"
[routes.series]
modality = ["MR"]
where = 's.SeriesDescription == "small head"'
image_type_excludes = []
[routes.completeness]
quiet_s = 3.0

# Whatever the routes above leave goes to the brain model, which must say what is wrong with it.
[[routes]]
name = "whatever"
model = "mr_brain"
[routes.series]
modality = ["CT", "MR"]
image_type_excludes = []
slices_min = 1
[routes.completeness]
quiet_s = 1.0
"""


def medai(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "medai.router.cli", *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@dataclass
class Running:
    """A running system, seen from outside."""

    site: Site

    @property
    def folder(self) -> str:
        return str(self.site.folder)

    def archive(self, method: str, path: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        """Orthanc's REST API."""
        headers = urllib3.make_headers(basic_auth=f"{self.site.username}:{self.site.password}")
        return urllib3.request(
            method,
            self.site.orthanc_url + path,
            body=body,
            headers=headers,
            timeout=60.0,
            retries=urllib3.Retry(5, backoff_factor=0.2),
        )

    def send(self, files: list[bytes]) -> None:
        for data in files:
            assert self.archive("POST", "/instances", data).status == 200

    def send_folder(self, folder: Path) -> str:
        """Every file of a folder; returns the Study Instance UID."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.send([path.read_bytes() for path in files])
        return str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)

    def jobs(self, study_uid: str) -> dict[str, Any]:
        """What ``medai jobs --study-uid --json`` prints."""
        text = medai("jobs", "--dir", self.folder, "--study-uid", study_uid, "--json").stdout
        return dict(json.loads(text))

    def states(self, study_uid: str) -> list[str]:
        """Of the study's jobs."""
        return self._look("SELECT job.state FROM job", study_uid)

    def stamps(self, study_uid: str) -> list[str]:
        """Names of the stamps of the study's jobs."""
        return self._look("SELECT stamp.name FROM stamp JOIN job ON job.id = stamp.job_id", study_uid)

    def _look(self, select: str, study_uid: str) -> list[str]:
        """Read from the ledger itself, for those who wait: the command takes a second of a processor each time."""
        query = f"{select} JOIN study ON study.id = job.study_id WHERE study.study_uid = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self.site.folder / 'ledger.sqlite'}?mode=ro", uri=True)) as db:
            return [str(value) for (value,) in db.execute(query, (study_uid,))]

    def finished(self, study_uid: str, *, within_s: float = PATIENCE_S, jobs: int = 1) -> dict[str, Any]:
        """Wait until the study has this many finished readings; returns the newest."""

        def over() -> bool:
            states = self.states(study_uid)
            return len(states) >= jobs and set(states) <= {"done", "failed", "superseded"}

        wait_for(over, within_s=within_s, every_s=0.25, what="the reading")
        return dict(self.jobs(study_uid)["jobs"][0])

    def objects(self, study_uid: str, modality: str) -> list[pydicom.Dataset]:
        """Result objects in the archive."""
        query = {"Level": "Series", "Query": {"StudyInstanceUID": study_uid, "Modality": modality}, "Expand": True}
        found = []
        for series in self.archive("POST", "/tools/find", json.dumps(query).encode()).json():
            for instance in series["Instances"]:
                found.append(pydicom.dcmread(BytesIO(self.archive("GET", f"/instances/{instance}/file").data)))
        return found

    def result(self, study_uid: str) -> dict[str, Any]:
        """The study's one result at the RIS."""
        rows = urllib3.request("GET", f"{self.site.ris_url}/results").json()
        (row,) = [row for row in rows if row["study_uid"] == study_uid]
        return dict(row)

    def pid(self, part: str) -> int:
        """Process id of a part, as supervisord knows it."""
        from medai.router.onebox import supervisor

        return int(supervisor.states(self.site)[part]["pid"])

    def child(self, part: str) -> int:
        """Process id of a part's only child (the worker's child reads the images)."""
        pid = self.pid(part)
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.site.logs.glob("*.log*")))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its folder was made by the version before, and ``medai up`` takes it over (tests/integration/test_version_before.py)."""
    folder = tmp_path_factory.mktemp("site")
    version_before.site(folder, pick_ports(), python=sys.executable)
    site = Site.create(folder, free_ports=True)
    assert site.password == "made-by-the-version-before"
    site.config.write_text(site.config.read_text() + LENIENT)
    medai("up", "--dir", str(folder))
    try:
        yield Running(site)
    finally:
        medai("down", "--dir", str(folder), check=False)


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command ``medai``."""
    return medai
