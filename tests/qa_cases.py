"""Small sets of cases in memory, sound unless a test plants a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from medai.models.geometry import Geometry
from medai.models.volume import Volume
from medai.training.cases import Case, Dataset, Example

SIDE = 20


def head(number: int, **changes: float) -> Example:
    """A block of two labels in smooth noise of its own, all cases a bit different."""
    rng = np.random.default_rng(number)
    coarse = rng.normal(size=(5, 5, 5)).repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    voxels = (100 + 20 * coarse + rng.normal(size=(SIDE,) * 3)).astype(np.float32)
    labels = np.zeros((SIDE,) * 3, dtype=np.uint8)
    end = 11 + number % 2
    labels[5:end, 5:10, 5:10], labels[5:end, 10:14, 5:10] = 1, 2
    spacing = changes.get("spacing_mm", 1.0)
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(spacing, 1.0, 1.0), shape=voxels.shape
    )
    return Example(
        volume=Volume(voxels=voxels * changes.get("scale", 1.0), geometry=geometry, modality="MR"), labels=labels
    )


def dataset(examples: dict[str, Example], patients: dict[str, str] | None = None) -> Dataset:
    """Cases in memory."""
    cases = tuple(
        Case(name=name, patient=(patients or {}).get(name, name), read=lambda example=example: example)
        for name, example in examples.items()
    )
    return Dataset(name="heads", cases=cases, label_names={1: "front", 2: "back"}, modality="MR")


def with_labels(change: Callable[[np.ndarray], None]) -> Example:
    example = head(9)
    labels = example.labels.copy()
    change(labels)
    return replace(example, labels=labels)


def put(where: object, value: float) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[where] = value

    return change
