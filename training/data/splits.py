"""Who trains, who chooses the checkpoint, who judges: whole patients on one side each, drawn by a seed.

The draw depends on the patients' names and the seed alone, not on the order or number of files read. The same
patient, or the same image under two names, on two sides is an error. Next: fitting/fit.py, judging/evaluate.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medai.training.cases import Case, Dataset
from medai.training.config import SplitConfig
from medai.training.errors import DataError, LeakageError
from medai.training.words import counted


@dataclass(frozen=True, kw_only=True)
class Split:
    """The three sides. ``names`` is what a run folder and a bundle keep of it."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    def names(self) -> dict[str, list[str]]:
        """Case names of each side."""
        return {side: [case.name for case in cases] for side, cases in self.sides().items()}

    def sides(self) -> dict[str, tuple[Case, ...]]:
        """The cases of each side."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split(dataset: Dataset, config: SplitConfig) -> Split:
    """Cut a data set by patients. Raises DataError when a side would be empty that must not be."""
    patients = sorted({case.patient for case in dataset.cases}, key=lambda patient: _rank(patient, config.seed))
    if config.test_cases:
        held_out = {case.patient for case in dataset.named(set(config.test_cases))}
    else:
        held_out = set(patients[: round(config.test * len(patients))])
    rest = [patient for patient in patients if patient not in held_out]
    validating = _validating(rest, config)
    found = Split(
        train=tuple(case for case in dataset.cases if case.patient not in held_out | validating),
        validation=tuple(case for case in dataset.cases if case.patient in validating),
        test=tuple(case for case in dataset.cases if case.patient in held_out),
    )
    if not found.train:
        raise DataError(f"{dataset.name} leaves no case to train on ({counted(len(patients), 'patient')})")
    require_separate(found.sides())
    return found


def _validating(rest: Sequence[str], config: SplitConfig) -> set[str]:
    if config.folds > 1:
        if config.fold >= config.folds:
            raise DataError(f"fold {config.fold} does not exist: {config.folds} folds are counted from 0")
        if len(rest) < config.folds:
            raise DataError(f"{counted(len(rest), 'patient')} cannot be cut into {config.folds} folds")
        return set(rest[config.fold :: config.folds])
    count = round(config.validation * len(rest))
    return set(rest[:count])


def _rank(patient: str, seed: int) -> str:
    """A random order that a new patient does not reshuffle."""
    return hashlib.sha256(f"{seed}|{patient}".encode()).hexdigest()


def by_names(dataset: Dataset, names: Mapping[str, Iterable[str]]) -> Split:
    """A split as it was kept. Raises DataError for a case that is not there."""
    sides = {side: dataset.named(set(names.get(side, ()))) for side in ("train", "validation", "test")}
    require_separate(sides)
    return Split(**sides)


def require_separate(sides: Mapping[str, Sequence[Case]]) -> None:
    """Raise LeakageError when one patient is on two sides."""
    seen: dict[str, tuple[str, str]] = {}
    for side, cases in sides.items():
        for case in cases:
            other, name = seen.setdefault(case.patient, (side, case.name))
            if other != side:
                raise LeakageError(
                    f"cases {name} ({other}) and {case.name} ({side}) are of one patient: "
                    "a model judged on a patient it was trained on looks better than it is"
                )


class ImageWatch:
    """Finds the same image on two sides while cases are read (names and patients may lie)."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def look(self, side: str, case: Case, voxels: np.ndarray) -> None:
        """Raise LeakageError when these voxels were seen on another side."""
        digest = hashlib.sha256(np.ascontiguousarray(voxels).tobytes() + str(voxels.shape).encode()).hexdigest()
        other, name = self._seen.setdefault(digest, (side, case.name))
        if other != side:
            raise LeakageError(f"cases {name} ({other}) and {case.name} ({side}) hold the same image")
