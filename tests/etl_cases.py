"""The steps of the pipeline one after the other, and what they must come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medai.training.config import TrainingConfig
from medai.training.data.augment import make_augmentation, patch_of
from medai.training.data.datasets import open_dataset
from medai.training.data.prepare import prepare
from medai.training.data.splits import split
from medai.training.etl.steps import STEPS, Order, take


def all_steps(data: Path, out: Path, settings: TrainingConfig, *, copies: int = 1) -> Path:
    """Step after step; the last one's folder."""
    source = str(data)
    for name in STEPS:
        take(name, Order(source=source, out=out / name, config=settings, copies=copies))
        source = str(out / name)
    return out / "export"


def pixels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def require_what_fitting_sees(data: Path, exported: Path, settings: TrainingConfig) -> None:
    """Every exported array equals what the functions of fitting make of the source."""
    dataset = open_dataset(str(data))
    training = split(dataset, settings.split).train
    transform = make_augmentation(settings.augmentation, settings.budget, 3)
    copies = 0
    for case in dataset.cases:
        prepared = prepare(case, case.load(), settings)
        assert np.array_equal(pixels(exported / "images" / f"{case.name}.nii.gz"), prepared.image)
        assert np.array_equal(pixels(exported / "labels" / f"{case.name}.nii.gz"), prepared.target)
        copy = exported / "images" / f"{case.name}-copy1.nii.gz"
        assert copy.is_file() == (case in training)
        if case in training:
            image, target = patch_of(prepared, transform, (settings.seed, 1, training.index(case)))
            assert np.array_equal(pixels(copy), image[0].numpy())
            assert np.array_equal(pixels(exported / "labels" / copy.name), target.argmax(dim=0).numpy())
            copies += 1
    assert copies == len(training) == 4
