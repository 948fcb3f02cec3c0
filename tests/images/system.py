"""One real head through the system that docker-compose.yml started: ordered, sent, followed, and looked for at its ends.

The flow and the judgement are those of ``medai demo`` (medai/trials/demo): only where things are, and how the command line
is asked, differ. Next: cli.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from images.engine import Engine, EngineError, say
from medai.trials.box import Box, Teller
from medai.trials.demo.command import HEAD, PATIENT
from medai.trials.demo.follow import Outcome, follow
from medai.trials.scanner.scu import Peer, send
from medai.trials.scanner.studies import nifti_to_mr_series
from medai.trials.study import StudyFolder, derive


@dataclass(frozen=True, kw_only=True)
class ComposeBox(Box):
    """A running system whose command line is in a container."""

    engine: Engine
    router: str
    """Name of the router's container."""

    def jobs(self, study_uid: str) -> dict[str, Any]:
        """``medai jobs --json`` of one study."""
        answer = self.engine.podman("exec", self.router, "medai", "jobs", "--study-uid", study_uid, "--json")
        found: dict[str, Any] = json.loads(answer)
        return found


def box(engine: Engine, services: dict[str, Any], router: str) -> ComposeBox:
    """The system at the ports that docker-compose.yml opens, with the password that it gives."""
    password = services["router"]["environment"]["MEDAI_ORTHANC__PASSWORD"]
    facts = {
        "orthanc": {"url": "http://127.0.0.1:8042", "username": "router", "password": password},
        "ris": {"http": "http://127.0.0.1:8090"},
    }
    http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), retries=urllib3.Retry(total=2, status=0))
    return ComposeBox(folder=Path(), facts=facts, http=http, engine=engine, router=router)


def read_a_head(system: ComposeBox, folder: Path, timeout_s: float) -> list[Outcome]:
    """Order the demo's head at the RIS, send it to the archive, follow it; what came of it."""
    study = _head(folder)
    order = system.place_order(study, priority="R")
    say(f"order {order['placer']} placed at the RIS; the router answers {order.get('ack') or order.get('state')}")
    sent = send(study.files, Peer(host="127.0.0.1", port=4242, called_aet="ORTHANC"))
    if sent.failures:
        raise EngineError(f"the archive refused {len(sent.failures)} images: {sent.failures[0].reason}")
    say(f"sent {sent.sent} images in {sent.seconds:.1f} s")
    return follow(system, study, timeout_s=timeout_s, teller=_Teller())


def _head(folder: Path) -> StudyFolder:
    accession = f"I{datetime.now(UTC).astimezone():%y%m%d%H%M%S}"
    return nifti_to_mr_series(
        HEAD, folder, patient=PATIENT, accession=accession, study_uid=derive(accession, "study"), seed=accession,
        acquired_at=datetime.now(UTC).astimezone(),
    )  # fmt: skip


class _Teller(Teller):
    """Tells as the rest of a run does."""

    def say(self, text: str) -> None:
        say(text)
