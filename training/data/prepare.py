"""Cases as a network sees them: fed like in inference, labels merged into classes. Next: augment.py, fitting/fit.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from medai.models.errors import ModelsError
from medai.models.segmenters.feed import Fed, to_network
from medai.models.volume import Labels, Voxels
from medai.training.cases import Case, Example
from medai.training.config import TrainingConfig
from medai.training.data.splits import ImageWatch, Split
from medai.training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """``image`` float32 and ``target`` uint8 (0 background, then the classes in their order): [slice, row, column]."""

    name: str
    image: Voxels = field(repr=False, hash=False, compare=False)
    target: Labels = field(repr=False, hash=False, compare=False)
    fed: Fed = field(repr=False, hash=False, compare=False)


def prepare(case: Case, example: Example, config: TrainingConfig) -> Prepared:
    """One case on the network's grid. Raises DataError, naming the case."""
    try:
        fed = to_network(example.volume, config.feed)
    except ModelsError as error:
        raise DataError(f"case {case.name}: {error}") from error
    target = merge(fed.labels_in(example.labels), list(config.data.classes.values()))
    return Prepared(name=case.name, image=fed.array, target=target, fed=fed)


def merge(labels: Labels, classes: Sequence[Iterable[int]]) -> Labels:
    """Label values as class numbers: the values of ``classes[i]`` become i + 1, all others 0."""
    table: npt.NDArray[np.uint8] = np.zeros(256, dtype=np.uint8)
    for number, values in enumerate(classes, start=1):
        for value in values:
            table[value] = number
    merged: Labels = table[labels]
    return merged


def prepare_split(split: Split, config: TrainingConfig, *, sides: Sequence[str]) -> dict[str, list[Prepared]]:
    """The cases of these sides, with progress; every side is watched for images that another side holds."""
    watch = ImageWatch()
    prepared: dict[str, list[Prepared]] = {side: [] for side in sides}
    jobs = [(side, case) for side, cases in split.sides().items() for case in cases]
    for side, case in tqdm(jobs, desc="reading", unit="case", leave=False):
        example = case.load()
        watch.look(side, case, example.volume.voxels)
        if side in prepared:
            prepared[side].append(prepare(case, example, config))
    _require_classes(prepared.get("train", []), config)
    return prepared


def _require_classes(cases: Sequence[Prepared], config: TrainingConfig) -> None:
    held = {int(value) for case in cases for value in np.unique(case.target)}
    missing = [name for number, name in enumerate(config.data.classes, start=1) if number not in held]
    if missing:
        raise DataError(f"no training case holds {', '.join(missing)}: check [data] classes against the label values")
