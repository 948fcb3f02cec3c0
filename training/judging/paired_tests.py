"""Paired tests of models on the same cases: Wilcoxon's signed-rank test, with Holm's correction over all of them.

Next: comparison.py."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

from medai.training.judging.case import CaseResult, paired_dice
from medai.training.judging.comparison import Pair
from medai.training.metrics import interval


def paired_tests(
    names: Sequence[str], classes: Sequence[str], results: Sequence[Sequence[CaseResult]], *, seed: int = 0
) -> tuple[Pair, ...]:
    """All pairs on all structures, with Holm's correction over them."""
    pairs = []
    for structure in classes:
        dice = paired_dice(structure, results)
        for one, other in itertools.combinations(range(len(names)), 2):
            pairs.append(_pair(structure, names[one], names[other], dice[one] - dice[other], seed))
    corrected = holm([pair.p for pair in pairs])
    return tuple(replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True))


def _pair(structure: str, first: str, second: str, differences: npt.NDArray[np.float64], seed: int) -> Pair:
    moved = differences[differences != 0]
    p, effect = 1.0, 0.0
    if moved.size:
        p = float(wilcoxon(moved).pvalue)
        ranks = float(wilcoxon(moved, alternative="greater").statistic)  # of the positive differences
        effect = 2 * ranks / (moved.size * (moved.size + 1) / 2) - 1
    return Pair(
        structure=structure,
        first=first,
        second=second,
        cases=int(differences.size),
        difference=float(differences.mean()) if differences.size else 0.0,
        ci95=interval(differences, seed=seed),
        effect=effect,
        p=p,
        differences=tuple(differences.tolist()),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): the k-th smallest of m p-values times m - k + 1, never decreasing."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected
