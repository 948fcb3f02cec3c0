"""Which task a configuration means, with its data read and split. Next: segmentation.py, fit.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medai.training.cases import Case, Dataset, Example
from medai.training.config import TrainingConfig
from medai.training.data.datasets import open_dataset
from medai.training.data.kind_slices import read_slices
from medai.training.data.prepare import prepare_split
from medai.training.data.splits import by_names, split
from medai.training.errors import DataError
from medai.training.fitting.run_folder import RunFolder
from medai.training.fitting.segmentation import SegmentationTask
from medai.training.fitting.series_kind import KindTask
from medai.training.fitting.task import Task


def open_task(config: TrainingConfig, folder: RunFolder, *, resume: bool) -> Task:
    """Read the data, split it (or split it as before) and keep the split. Raises TrainingError."""
    if config.network.name == "densenet_classifier":
        return _kinds(config, folder)
    data = config.data
    dataset = open_dataset(data.root, kind=data.format, modality=data.modality)
    sides = by_names(dataset, folder.split()) if resume else split(dataset, config.split)
    folder.keep_split(sides.names(), dataset.name)
    prepared = prepare_split(sides, config, sides=("train", "validation"))
    return SegmentationTask(config, prepared["train"], prepared["validation"])


def _kinds(config: TrainingConfig, folder: RunFolder) -> Task:
    """The classifier of series: its slices are split by patients as cases are."""
    slices = read_slices(Path(config.data.root))
    cases = tuple(Case(name=str(name), patient=str(name), read=_unread) for name in np.unique(slices.patients))
    sides = split(Dataset(name=Path(config.data.root).stem, cases=cases), config.split).names()
    folder.keep_split(sides, Path(config.data.root).stem)
    return KindTask(config, slices, set(sides["train"]), set(sides["validation"]))


def _unread() -> Example:
    raise DataError("slices of series_kind have no volume to read")
