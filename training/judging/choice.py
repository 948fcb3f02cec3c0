"""Which cases may judge a model: none that trained it, nor another of the same patient. Next: case.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medai.training.cases import Case, Dataset
from medai.training.errors import DataError, LeakageError, TrainingError
from medai.training.runs import KeptSplit


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The cases that judge, and why these. ``seen``: how many of them the model knew from its training."""

    cases: tuple[Case, ...]
    side: str
    reason: str
    seen: int = 0


def choose(
    dataset: Dataset, kept: KeptSplit | None, *, side: str = "", names: Sequence[str] = (), limit: int = 0
) -> Chosen:
    """The cases to judge on: ``names``, or a side of the model's own split, or (side "all") every case.

    Without either: ``test`` where all test cases of the model's split are in the data set, else all. Raises
    LeakageError when a test case's patient also trained the model.
    """
    chosen = _side(dataset, kept, side, names)
    cases = chosen.cases[:limit] if limit else chosen.cases
    if not cases:
        raise DataError(f"{dataset.name}: the side {chosen.side} holds no case")
    reason = f"{chosen.reason}; the first {limit} of them" if 0 < limit < len(chosen.cases) else chosen.reason
    seen = _seen(cases, dataset, kept)
    if seen and chosen.side == "test":
        raise LeakageError(
            f"{seen[0]} is a test case of a patient who is in the training or validation cases, too: "
            "a model judged on a patient it was trained on looks better than it is"
        )
    return Chosen(cases=cases, side=chosen.side, reason=reason, seen=len(seen))


def _side(dataset: Dataset, kept: KeptSplit | None, side: str, names: Sequence[str]) -> Chosen:
    if names:
        return Chosen(cases=dataset.named(set(names)), side="named", reason="the cases of a list")
    there = {case.name for case in dataset.cases}
    if not side:
        known = kept is not None and bool(kept.sides["test"]) and set(kept.sides["test"]) <= there
        side = "test" if known else "all"
        why = "the test side of the model's split" if known else "all cases: the data set is not that of the split"
    else:
        why = "all cases" if side == "all" else f"the {side} side of the model's split"
    if side == "all":
        return Chosen(cases=dataset.cases, side=side, reason=why)
    if kept is None:
        raise TrainingError(f"the model keeps no split (docs/split.json), so it has no side {side}: use --split all")
    absent = sorted(set(kept.sides[side]) - there)
    if absent:
        raise DataError(
            f"{dataset.name} lacks {len(absent)} of the {len(kept.sides[side])} {side} cases of the model's split "
            f"(of {kept.dataset or 'another data set'}), such as {absent[0]}: use --split all for other data"
        )
    return Chosen(cases=dataset.named(set(kept.sides[side])), side=side, reason=why)


def _seen(cases: Sequence[Case], dataset: Dataset, kept: KeptSplit | None) -> list[str]:
    """Cases that trained the model or chose its checkpoint, by their name or by their patient."""
    if kept is None:
        return []
    patients = {case.patient for case in dataset.cases if case.name in kept.seen}
    return [case.name for case in cases if case.name in kept.seen or case.patient in patients]
