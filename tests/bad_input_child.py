"""Bad input in a process of its own, so that its memory can be measured: ``worker`` reads jobs, ``process`` files.

Prints JSON: each outcome with its seconds, and how far the memory grew over that of a good reading, in MiB.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from ball_model import BallModel, BallModels
from broken_cases import peak_of

from medai.models.errors import ModelUnavailable
from medai.models.registry import Registry
from medai.router.errors import MedaiError
from medai.router.ledger import Ledger
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings
from medai.workers.process import process
from medai.workers.tasks import JobRunner


class OneModel(BallModels):
    """A registry that offers the ball model for MR."""

    def names(self) -> tuple[str, ...]:
        """Its only name."""
        return ("mr_brain",)

    def describe(self) -> tuple[Any, ...]:
        """Nothing but a name is asked for where a model is named."""
        return ()

    def load(self, name: str) -> BallModel:
        """The ball model."""
        if name != "mr_brain":
            raise ModelUnavailable(name)
        return self.model


def measured(outcomes: Iterable[tuple[str, Callable[[], str]]]) -> dict[str, Any]:
    """Run each; the first is a good one that loads what there is to load."""
    told: dict[str, Any] = {"outcomes": {}, "seconds": {}}
    (first, run), *others = outcomes
    told["outcomes"][first] = run()
    with peak_of() as peak:
        for name, run in others:
            began = time.monotonic()
            told["outcomes"][name] = run()
            told["seconds"][name] = time.monotonic() - began
    return {**told, "grown_mib": peak() / 2**20}


def worker(settings: Settings, jobs: dict[str, str]) -> dict[str, Any]:
    """Read jobs (name -> id) as a worker does."""
    ledger, orthanc = Ledger(settings.ledger.url), Orthanc(settings.orthanc)
    runner = JobRunner(settings, orthanc=orthanc, ledger=ledger, models=OneModel(), worker="child")
    told = measured((name, lambda job=job: str(runner.read(job))) for name, job in jobs.items())  # type: ignore[misc]
    orthanc.close()
    ledger.close()
    return told


def files(settings: Settings, paths: dict[str, str], out: Path) -> dict[str, Any]:
    """Read files (name -> path) as ``medai process`` does."""

    def run(path: str) -> str:
        try:
            process(
                Path(path), out, settings=settings, registry=cast(Registry, OneModel()), model="mr_brain", series=None,
                report=lambda _text: None,
            )  # fmt: skip
        except MedaiError as error:
            return str(error)
        return "done"

    return measured((name, lambda path=path: run(path)) for name, path in paths.items())  # type: ignore[misc]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked = json.loads(sys.stdin.read())
    site = Settings(**asked["settings"])
    print(
        json.dumps(worker(site, asked["jobs"]) if "jobs" in asked else files(site, asked["paths"], Path(asked["out"])))
    )
