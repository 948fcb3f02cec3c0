"""The five steps that prepare a data set, each from a folder to a folder; Mage's blocks start them one by one.

``load`` fetches cases from wherever they are, ``validate`` stops at what ``qa`` calls an error, ``resample`` makes what
a network reads (models/segmenters/feed.py), ``augment`` adds copies of training cases (data/augment.py), ``export``
writes a folder data set with a manifest that ``fit`` reads. A step leaves ``step.json``, which tells the next one where
the cases are. Next: mage_project/utils/step.py (who starts them), command.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medai.models.files import sha256_of
from medai.models.format.recipe import Feed, Intensity
from medai.models.geometry import Geometry
from medai.models.volume import Volume
from medai.training.cases import Dataset, Example
from medai.training.config import TrainingConfig, to_toml
from medai.training.data.augment import make_augmentation, patch_of
from medai.training.data.datasets import open_dataset, write_pair, write_tables
from medai.training.data.prepare import prepare
from medai.training.data.splits import split
from medai.training.errors import ConfigError, DataError
from medai.training.qa.command import survey, write
from medai.training.words import counted

STATE = "step.json"
PICTURES = 24


@dataclass(frozen=True, kw_only=True)
class State:
    """What a step leaves for the next one. ``folder`` holds images/, labels/, patients.csv and labels.csv."""

    name: str
    modality: str
    folder: str
    cases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a step is to do: from ``source`` (for ``load`` a data set, else the step before) to ``out``."""

    source: str
    out: Path
    config: TrainingConfig
    copies: int = 1
    """Augmented copies of each training case."""


def load(order: Order) -> State:
    """Every case of a data set as NIfTI pairs."""
    data = order.config.data
    dataset = open_dataset(order.source, kind=data.format, modality=data.modality)
    for case in tqdm(dataset.cases, desc="load", unit="case"):
        write_pair(case.load(), case.name, order.out)
    write_tables(order.out, {case.name: case.patient for case in dataset.cases}, dataset.label_names)
    return State(
        name=dataset.name,
        modality=dataset.modality or data.modality,
        folder=str(order.out.resolve()),
        cases=tuple(case.name for case in dataset.cases),
    )


def validate(order: Order) -> State:
    """The same cases, if ``qa`` finds no error. Raises DataError with the first ones; the report is in qa/."""
    state = _state(order.source)
    found = survey(_cases(state))
    write(found, order.out / "qa", pictures=PICTURES)
    if found.errors:
        texts = [f"{one.case or 'whole set'}: {one.text}" for one in found.findings if one.level == "error"]
        raise DataError(f"{counted(found.errors, 'error')} in the data: {'; '.join(texts[:5])}. See {order.out / 'qa'}")
    return state


def resample(order: Order) -> State:
    """Images as the configuration's network reads them (float32), labels merged into its classes."""
    state = _state(order.source)
    dataset = _cases(state)
    for case in tqdm(dataset.cases, desc="resample", unit="case"):
        prepared = prepare(case, case.load(), order.config)
        write_pair(_example(prepared.image, prepared.target, prepared.fed.grid, state), case.name, order.out)
    names = dict(enumerate(order.config.data.classes, start=1))
    write_tables(order.out, {case.name: case.patient for case in dataset.cases}, names)
    return State(name=state.name, modality=state.modality, folder=str(order.out.resolve()), cases=state.cases)


def augment(order: Order) -> State:
    """Copies of the cases that the configuration's split trains on; validation and test cases get none.

    A copy has its case's patient, so the same split puts it on the training side. The cases themselves stay.
    """
    state = _state(order.source)
    dataset = _cases(state)
    patients = {case.name: case.patient for case in dataset.cases}
    neutral = as_prepared(order.config)
    if order.copies:
        if len(order.config.budget.patch) != 3:
            raise ConfigError("copies need a patch of three sides: set [budget] patch, or --copies 0")
        transform = make_augmentation(
            order.config.augmentation, order.config.budget, len(order.config.data.classes) + 1
        )
        training = split(dataset, order.config.split).train
        for index, case in enumerate(tqdm(training, desc="augment", unit="case")):
            prepared = prepare(case, case.load(), neutral)
            for copy in range(1, order.copies + 1):
                image, target = patch_of(prepared, transform, (order.config.seed, copy, index))
                name = f"{case.name}-copy{copy}"
                grid = _grid_of_copy(image.shape[1:], prepared.fed.grid)
                made = _example(image[0].numpy(), target.argmax(dim=0).numpy().astype(np.uint8), grid, state)
                write_pair(made, name, order.out)
                patients[name] = case.patient
    for name in state.cases:
        _copy_pair(Path(state.folder), order.out, name)
    names = dict(enumerate(order.config.data.classes, start=1))
    write_tables(order.out, patients, names)
    return State(name=state.name, modality=state.modality, folder=str(order.out.resolve()), cases=tuple(patients))


def export(order: Order) -> State:
    """The folder data set: images/, labels/, patients.csv, labels.csv, config.toml for ``fit``, and manifest.json."""
    state = _state(order.source)
    source = Path(state.folder)
    for name in tqdm(state.cases, desc="export", unit="case"):
        _copy_pair(source, order.out, name)
    for table in ("patients.csv", "labels.csv"):
        shutil.copyfile(source / table, order.out / table)
    (order.out / "config.toml").write_text(to_toml(as_prepared(order.config)), encoding="utf-8")
    files = sorted(file for part in ("images", "labels") for file in (order.out / part).iterdir())
    manifest = {
        "dataset": state.name,
        "modality": state.modality,
        "cases": len(state.cases),
        "classes": list(order.config.data.classes),
        "feed": order.config.feed.model_dump(mode="json"),
        "copies": order.copies,
        "seed": order.config.seed,
        "versions": {package: version(package) for package in ("numpy", "SimpleITK", "torch", "monai")},
        "sha256": {f"{file.parent.name}/{file.name}": sha256_of(file) for file in files},
    }
    (order.out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return State(name=state.name, modality=state.modality, folder=str(order.out.resolve()), cases=state.cases)


STEPS: Mapping[str, Callable[[Order], State]] = {
    "load": load,
    "validate": validate,
    "resample": resample,
    "augment": augment,
    "export": export,
}


def take(name: str, order: Order) -> State:
    """One step. ``out`` is made anew."""
    order.out.mkdir(parents=True, exist_ok=True)
    state = STEPS[name](order)
    (order.out / STATE).write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    return state


def as_prepared(config: TrainingConfig) -> TrainingConfig:
    """The configuration for data that is prepared already: nothing is scaled twice, classes are 1, 2, ..."""
    feed = Feed(axes=config.feed.axes, intensity=Intensity(kind="none"))
    classes = {name: (number,) for number, name in enumerate(config.data.classes, start=1)}
    data = config.data.model_copy(update={"root": "", "format": "folder", "classes": classes})
    return config.model_copy(update={"feed": feed, "data": data})


def _state(source: str) -> State:
    try:
        content: dict[str, Any] = json.loads((Path(source) / STATE).read_text(encoding="utf-8"))
        return State(**{**content, "cases": tuple(content["cases"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{source} holds no finished step: run the step before it first") from error


def _cases(state: State) -> Dataset:
    return open_dataset(state.folder, kind="folder", modality=state.modality)


def _example(image: np.ndarray, target: np.ndarray, grid: Geometry, state: State) -> Example:
    volume = Volume(voxels=np.ascontiguousarray(image), geometry=grid, modality=state.modality)
    return Example(volume=volume, labels=np.ascontiguousarray(target))


def _grid_of_copy(shape: Sequence[int], grid: Geometry) -> Geometry:
    """A turned and scaled copy lies nowhere in the patient: its grid begins at 0."""
    slices, rows, columns = shape
    return Geometry(
        origin_mm=(0.0, 0.0, 0.0),
        direction=grid.direction,
        spacing_mm=grid.spacing_mm,
        shape=(int(slices), int(rows), int(columns)),
    )


def _copy_pair(source: Path, out: Path, name: str) -> None:
    for part in ("images", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / part / f"{name}.nii.gz", out / part / f"{name}.nii.gz")
