"""Which task a configuration means, with its data read and split. Next: segmentation.py, fit.py."""

from __future__ import annotations

from training.config import TrainingConfig
from training.datasets import open_dataset
from training.fit import Task
from training.prepare import prepare_split
from training.run_folder import RunFolder
from training.segmentation import SegmentationTask
from training.splits import by_names, split


def open_task(config: TrainingConfig, folder: RunFolder, *, resume: bool) -> Task:
    """Read the data, split it (or split it as before) and keep the split. Raises TrainingError."""
    data = config.data
    dataset = open_dataset(data.root, kind=data.format, modality=data.modality)
    sides = by_names(dataset, folder.split()) if resume else split(dataset, config.split)
    folder.keep_split(sides.names(), dataset.name)
    prepared = prepare_split(sides, config, sides=("train", "validation"))
    return SegmentationTask(config, prepared["train"], prepared["validation"])
