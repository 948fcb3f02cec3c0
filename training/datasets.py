"""Cases from where data scientists keep them: folders, Decathlon, OpenKBP's arrays.

``open_dataset`` looks at a path and picks the reader. Reading is lazy: a case's voxels are loaded by ``Case.load``.
Next: cases.py (what a case is), splits.py (who trains, who judges).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from models.errors import ModelsError
from models.geometry import Geometry
from models.preprocess import labels_to_nifti, nifti_to_volume, volume_to_image
from models.volume import Volume
from training.cases import Case, Dataset, Example
from training.errors import DataError

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def open_dataset(
    root: str, *, kind: str = "auto", modality: str = "MR", label_names: Mapping[int, str] | None = None
) -> Dataset:
    """The data set at ``root``. Raises DataError, saying what was looked for."""
    if not root:
        raise DataError("no data set is named: give --data, or root in [data]")
    path = Path(root).expanduser()
    kind = _guess(path) if kind == "auto" else kind
    if kind not in READERS:
        raise DataError(f"there is no reader for data of format {kind!r}; there are {', '.join(READERS)}")
    dataset = READERS[kind](path, modality)
    if not dataset.cases:
        raise DataError(f"{path.name} holds no case with labels")
    names = [case.name for case in dataset.cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name} holds two cases named {', '.join(twice[:5])}")
    return replace(dataset, label_names=dict(label_names)) if label_names else dataset


def _guess(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.name == "dataset.json" or (path / "dataset.json").is_file():
        return "decathlon"
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return "folder"
    if any(path.glob("*.npz")):
        return "openkbp"
    raise DataError(
        f"{path} is no data set: expected images/ and labels/ with equal names, a Decathlon dataset.json, "
        "or OpenKBP arrays (*.npz)"
    )


def read_folder(path: Path, modality: str) -> Dataset:
    """``images/NAME.nii.gz`` with ``labels/NAME.nii.gz``; patients.csv (name,patient) where cases share a patient."""
    patients = _patients(path / "patients.csv")
    images = {_stem(file): file for file in sorted((path / "images").iterdir()) if _stem(file)}
    labels = {_stem(file): file for file in sorted((path / "labels").iterdir()) if _stem(file)}
    alone = sorted(images.keys() ^ labels.keys())
    if alone:
        raise DataError(f"{path.name}: {', '.join(alone[:5])} is in images/ or labels/ only")
    cases = tuple(
        Case(
            name=name,
            patient=patients.get(name, name),
            read=partial(read_pair, name, images[name], labels[name], modality),
        )
        for name in sorted(images)
    )
    return Dataset(name=path.resolve().name, cases=cases, modality=modality)


def _stem(file: Path) -> str:
    for ending in IMAGE_ENDINGS:
        if file.name.endswith(ending) and not file.name.startswith("."):
            return file.name.removesuffix(ending)
    return ""


def _patients(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"name", "patient"} <= rows[0].keys():
        raise DataError(f"{path.name} needs the columns name and patient")
    return {row["name"]: row["patient"] for row in rows}


def read_decathlon(path: Path, modality: str) -> Dataset:
    """A Medical Segmentation Decathlon folder by its dataset.json."""
    file = path if path.name == "dataset.json" else path / "dataset.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        pairs = [(file.parent / item["image"], file.parent / item["label"]) for item in content["training"]]
        names = {int(value): str(name) for value, name in content.get("labels", {}).items() if int(value)}
        kinds = [str(kind) for kind in content.get("modality", {}).values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a Decathlon dataset.json: it needs training, labels and modality") from error
    if len(kinds) > 1:
        raise DataError(f"{file.parent.name} has {len(kinds)} channels ({', '.join(kinds)}); one is needed")
    modality = "CT" if kinds and kinds[0].upper() == "CT" else modality
    patients = _patients(file.parent / "patients.csv")
    cases = tuple(
        Case(
            name=_stem(image) or image.name,
            patient=patients.get(_stem(image), _stem(image)),
            read=partial(read_pair, _stem(image), image, label, modality),
        )
        for image, label in pairs
    )
    return Dataset(name=file.resolve().parent.name, cases=cases, label_names=names, modality=modality)


def read_pair(name: str, image: Path, labels: Path, modality: str) -> Example:
    """An image file with its label file. Raises DataError when they do not lie on one grid."""
    try:
        volume = nifti_to_volume(image, modality=modality)
        drawn = nifti_to_volume(labels, modality=modality)
        volume.geometry.require_same(drawn.geometry, what="labels and image")
    except ModelsError as error:
        raise DataError(f"case {name}: {error}") from error
    return Example(volume=volume, labels=_whole_numbers(drawn.voxels, name))


def _whole_numbers(values: np.ndarray, name: str) -> np.ndarray:
    labels = values.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise DataError(f"case {name}: labels must be whole numbers from 0 to 255")
    return labels


def read_openkbp(path: Path, modality: str) -> Dataset:  # noqa: ARG001 - readers share one shape
    """OpenKBP cases as arrays: ``ct`` (HU + 1000, 0 outside the body), ``label``, ``voxel_mm``, ``names``.

    Axes, found from where the organs lie: row (towards the back), column (towards the left), slice (towards the feet).
    """
    files = sorted(path.glob("*.npz"))
    names: dict[int, str] = {}
    if files:
        try:
            with np.load(files[0], allow_pickle=False) as arrays:
                names = {value: str(text) for value, text in enumerate(arrays["names"]) if value}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{files[0].name} is not an OpenKBP array file: {error}") from error
    cases = tuple(Case(name=file.stem, patient=file.stem, read=partial(_read_openkbp_case, file)) for file in files)
    return Dataset(name=path.resolve().name, cases=cases, label_names=names, modality="CT")


def _read_openkbp_case(file: Path) -> Example:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            ct, label, voxel_mm = arrays["ct"], arrays["label"], arrays["voxel_mm"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"case {file.stem}: not an OpenKBP array file ({error})") from error
    # [row, column, slice towards the feet] -> [slice towards the head, row, column]: an axial CT in LPS.
    voxels = np.ascontiguousarray(ct.transpose(2, 0, 1)[::-1]).astype(np.int16) - 1000
    labels = np.ascontiguousarray(label.transpose(2, 0, 1)[::-1])
    spacing = (float(voxel_mm[1]), float(voxel_mm[0]), float(voxel_mm[2]))
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=spacing, shape=voxels.shape
    )
    return Example(volume=Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU"), labels=labels)


def write_pair(example: Example, name: str, folder: Path) -> None:
    """A case as NIfTI under ``images`` and ``labels`` of a folder, as read_folder reads it."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(volume_to_image(example.volume), str(folder / "images" / f"{name}.nii.gz"))
    labels_to_nifti(example.labels, example.volume.geometry, folder / "labels" / f"{name}.nii.gz")


READERS: Mapping[str, Callable[[Path, str], Dataset]] = {
    "folder": read_folder,
    "decathlon": read_decathlon,
    "openkbp": read_openkbp,
}
