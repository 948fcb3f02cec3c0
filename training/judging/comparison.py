"""What a comparison of models found: what each cost and gave, and every pair of them. Next: comparison_tables.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medai.training.judging.case import CaseResult
from medai.training.metrics import FEW
from medai.training.words import counted


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A model with what it cost and what it gave."""

    name: str
    network: str
    parameters: int | None
    weights_mb: float
    epochs: int | None
    training_s: float | None
    training_device: str
    history: Path | None
    results: tuple[CaseResult, ...] = field(hash=False)
    structures: Mapping[str, Any] = field(hash=False)

    @property
    def seconds_per_case(self) -> float:
        """Median."""
        return float(np.median([result.seconds for result in self.results]))

    @property
    def voxels_per_second(self) -> float:
        """Median."""
        return float(np.median([result.voxels / result.seconds for result in self.results]))

    @property
    def memory_mb(self) -> float:
        """The most that drawing a case took above what the process held before."""
        return max(result.growth_mb for result in self.results)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models on one structure; ``difference`` is the first one's mean Dice minus the second one's."""

    structure: str
    first: str
    second: str
    cases: int
    difference: float
    ci95: tuple[float, float] | None
    effect: float
    """Matched-pairs rank-biserial correlation: 1 when the first is better in every case, -1 when the second is."""
    p: float
    p_holm: float = 1.0
    differences: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was found."""

    contestants: tuple[Contestant, ...]
    pairs: tuple[Pair, ...]
    classes: tuple[str, ...]
    dataset: str
    cases: tuple[str, ...]
    reason: str
    tolerance_mm: float
    seed: int
    threads: int
    device: str
    command: str

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know."""
        found = []
        if len(self.cases) < FEW:
            found.append(f"only {counted(len(self.cases), 'case')}: intervals and tests say little")
        for one in self.contestants:
            refused = sum(bool(result.refusal) for result in one.results)
            if refused:
                found.append(
                    f"{one.name} refused {counted(refused, 'case')}: Dice 0 in the paired tests, not in the means"
                )
        return tuple(found)

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "cases": len(self.cases),
            "models": {
                one.name: {
                    "structures": dict(one.structures),
                    "seconds_per_case": one.seconds_per_case,
                    "voxels_per_second": one.voxels_per_second,
                    "peak_memory_mb": max(result.peak_mb for result in one.results),
                    "memory_growth_mb": one.memory_mb,
                    "parameters": one.parameters,
                    "weights_mb": one.weights_mb,
                    "network": one.network,
                    "epochs": one.epochs,
                    "training_s": one.training_s,
                }
                for one in self.contestants
            },
            "pairs": [
                {key: value for key, value in asdict(pair).items() if key != "differences"} for pair in self.pairs
            ],
            "data": {"name": self.dataset, "chosen": self.reason, "cases": list(self.cases)},
            "surface_dice_tolerance_mm": self.tolerance_mm,
            "bootstrap_seed": self.seed,
            "threads": self.threads,
            "device": self.device,
        }
