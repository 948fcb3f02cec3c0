"""A small hospital in the test's own process: real Orthanc, Redis and RIS; router and worker in threads.

The model is a threshold, so that a reading takes a moment. The worker takes what the broker hands out next, as a real one
does, and can be told to pause.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from ball_model import BallModels
from dicom_cases import study_uid
from reading_cases import told
from servers import MockRis, OrthancServer, free_port, make_orthanc, make_redis, make_ris, running, wait_for

from medai.router.daemon.service import build
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced
from medai.router.orthanc.client import Orthanc
from medai.router.queue.broker import make_celery
from medai.router.reports import readings
from medai.router.settings.tables import Settings
from medai.workers.tasks import JobRunner

ROUTE = {"name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "completeness": {"quiet_s": 0.5}}


def statuses_of(result: dict[str, Any]) -> list[str]:
    """What a RIS was told of a result, in order."""
    return [step["status"] for step in result["history"]]


@dataclass
class Hospital:
    """Router and worker run in threads here; the model is a threshold."""

    orthanc: OrthancServer
    ris: MockRis
    ledger: Ledger
    models: BallModels
    settings: Settings
    paused: threading.Event = field(default_factory=threading.Event)
    """While it is set, the worker takes nothing."""

    def send(self, files: list[bytes]) -> None:
        for data in files:
            assert self.orthanc.post(data)["Status"] in ("Success", "AlreadyStored")

    def jobs(self, name: str) -> list[dict[str, Any]]:
        return [told(job) for job in readings.jobs(self.ledger, study_uid=study_uid(name))]

    def read(self, name: str, *, revision: int = 1) -> dict[str, Any]:
        """The job of a revision, once it is done."""

        def look() -> list[dict[str, Any]]:
            return [job for job in self.jobs(name) if job["revision"] == revision and job["state"] == "done"]

        (job,) = wait_for(look, within_s=60, what=f"revision {revision}")
        return dict(job)

    def result(self, name: str, *history: str) -> dict[str, Any]:
        """The study's result at the RIS, once it has had these statuses."""

        def look() -> list[dict[str, Any]]:
            return [
                r
                for r in self.ris.get("/results")
                if r["study_uid"] == study_uid(name) and statuses_of(r) == list(history)
            ]

        (found,) = wait_for(look, within_s=60, what=f"statuses {history}")
        return dict(found)

    def delete(self, name: str) -> None:
        (study,) = [s for s in self.orthanc.get("/studies?expand")
                    if s["MainDicomTags"]["StudyInstanceUID"] == study_uid(name)]  # fmt: skip
        urllib3.request("DELETE", f"{self.orthanc.url}/studies/{study['ID']}")

    def modalities(self, name: str) -> list[str]:
        return sorted(s["MainDicomTags"]["Modality"] for s in self.orthanc.get("/series?expand")
                      if self.orthanc.get(f"/series/{s['ID']}/study")["MainDicomTags"]["StudyInstanceUID"] == study_uid(name))  # fmt: skip


def work(hospital: Hospital, runner: JobRunner, stop: threading.Event) -> None:
    """Read what the broker hands out next, and show that somebody works."""
    began, seen_at = time.time(), 0.0
    with make_celery(hospital.settings.broker).connection_for_read() as connection:
        channel = connection.channel()
        while not stop.wait(0.02):
            now = time.time()
            if now - seen_at > 1:
                hospital.ledger.fleet.worker_seen(
                    "w", queues=("cpu",), device="cpu", started_at=began, job_id=None, now=now
                )
                seen_at = now
            message = None if hospital.paused.is_set() else channel.basic_get("cpu", no_ack=True)
            if message is not None:
                runner.read(json.loads(message.body)[0][0])


@contextmanager
def hospital_in(
    folder: Path,
    *,
    archive: dict[str, Any] | None = None,
    orthanc: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> Iterator[Hospital]:
    """Started, handed over, stopped. ``archive``: of Orthanc's configuration; ``orthanc``: of our [orthanc] section;
    ``more``: other sections of ours."""
    port = free_port()
    server = make_orthanc(folder / "orthanc", **(archive or {}))
    redis, ris = make_redis(folder / "redis"), make_ris(folder / "ris", router_port=port)
    with running(server), running(redis), running(ris), ExitStack() as stack:
        settings = Settings(
            orthanc={"url": server.url, "sweep_s": 1.0, **(orthanc or {})},
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            broker={"url": f"redis://127.0.0.1:{redis.port}/0"},
            ris={"host": "127.0.0.1", "port": ris.port, "timeout_s": 3.0, "processing_id": "T"},
            hl7_in={"port": port},
            metrics={"port": 0},
            **{"routes": [ROUTE], **(more or {})},
        )
        ledger = Ledger(settings.ledger.url)
        ledger.migrate()
        ledger.fleet.announce([Announced(name="mr_brain", version="1", available=True, reason="")], time.time())
        models, stop, client = BallModels(), threading.Event(), Orthanc(settings.orthanc)
        runner = JobRunner(settings, orthanc=client, ledger=ledger, models=models, worker="w")
        hospital = Hospital(server, ris, ledger, models, settings)
        router = build(settings, ledger, stack)
        threads = [
            threading.Thread(target=router.run, args=(stop,)),
            threading.Thread(target=work, args=(hospital, runner, stop)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield hospital
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            client.close()
    ledger.close()
