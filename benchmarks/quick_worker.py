"""A real worker process whose model is a threshold: what is measured is the system, not a network.

Run by benchmarks/latency.py as ``python benchmarks/quick_worker.py CONFIG``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the ball model is the tests'

from ball_model import BallModels

import medai.models.registry
from medai.models.format.bundle import Description
from medai.router.settings import load as configuration
from medai.workers import app


class QuickRegistry(BallModels):
    """The ball model behind the registry's interface."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        super().__init__()

    def describe(self) -> tuple[Description, ...]:
        """One model that is ready."""
        card = self.model.card
        return (
            Description(
                name=card.name, title=card.title, description="", intended_use="", version=card.version, licence="",
                available=True, card=card,
            ),
        )  # fmt: skip

    def folder(self, name: str) -> Path:
        """A folder that holds no bundle: the model has neither a card nor a reference."""
        return Path(__file__).parent / "no-bundle"


if __name__ == "__main__":
    medai.models.registry.Registry = QuickRegistry  # type: ignore[assignment,misc]  # the benchmark's one substitution
    app.device_name = lambda: "CPU"
    settings = configuration.load(sys.argv[1])
    raise SystemExit(app.run_worker(settings, config=sys.argv[1]))
