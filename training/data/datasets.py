"""Cases from where data scientists keep them: folders, Decathlon, DICOM, an Orthanc, OpenKBP's arrays.

``open_dataset`` looks at a path and picks the reader. Reading is lazy: a case's voxels are loaded by ``Case.load``.
docs/data.md describes the formats. Next: cases.py (what a case is), dicom_cases.py, splits.py (who trains, who judges).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medai.models.errors import ModelsError
from medai.models.geometry import Geometry
from medai.models.images.preprocess import labels_to_nifti, nifti_to_volume, volume_to_image
from medai.models.volume import Volume
from medai.training.cases import Case, Dataset, Example, Oddity
from medai.training.data.dicom_cases import Wish, dicom_files, read_dicom, read_series_folder
from medai.training.data.orthanc_cases import read_orthanc
from medai.training.errors import DataError

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
LabelList = tuple[tuple[int, str], ...]
"""(value, label text) pairs."""


def open_dataset(
    root: str,
    *,
    kind: str = "auto",
    modality: str = "MR",
    label_names: Mapping[int, str] | None = None,
    tolerant: bool = False,
) -> Dataset:
    """The data set at ``root``: a path or an Orthanc's URL. Raises DataError, saying what was looked for.

    ``label_names`` (else labels.csv in the folder) names the label values; for DICOM it also says which structures are
    wanted and what their values are. ``tolerant`` lets images without labels and the like pass: for ``qa``.
    """
    if not root:
        raise DataError("no data set is named: give --data, or root in [data]")
    kind = _guess(root) if kind == "auto" else kind
    if kind not in READERS:
        raise DataError(f"there is no reader for data of format {kind!r}; there are {', '.join(READERS)}")
    labels = _labels(root, label_names)
    dataset = READERS[kind](root, modality, labels)
    _require_sound(dataset, tolerant=tolerant)
    named = dict(reversed([(value, label) for value, label in labels]))
    return replace(dataset, label_names=named) if named else dataset


def _require_sound(dataset: Dataset, *, tolerant: bool) -> None:
    fatal = [oddity.text for oddity in dataset.oddities if oddity.fatal]
    if fatal and not tolerant:
        raise DataError(f"{dataset.name}: {'; '.join(fatal[:5])}")
    if not dataset.cases:
        why = "; ".join(oddity.text for oddity in dataset.oddities)
        raise DataError(f"{dataset.name} holds no case with labels" + (f" ({why})" if why else ""))
    names = Counter(case.name for case in dataset.cases)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise DataError(f"{dataset.name} holds two cases named {', '.join(twice[:5])}")


def _guess(root: str) -> str:
    if root.startswith(("http://", "https://")):
        return "orthanc"
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.name == "dataset.json" or (path / "dataset.json").is_file():
        return "decathlon"
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return "folder"
    if any(path.glob("*.npz")):
        return "openkbp"
    if path.is_dir() and next(iter(dicom_files(path)), None):
        return "dicom"
    raise DataError(
        f"{path} is not a data set: expected images/ and labels/ with equal names, a Decathlon dataset.json, "
        "DICOM files, or OpenKBP arrays (*.npz)"
    )


def _labels(root: str, label_names: Mapping[int, str] | None) -> LabelList:
    """(value, label) as given, else from labels.csv beside the data, else nothing."""
    if label_names:
        return tuple(label_names.items())
    if root.startswith(("http://", "https://")):
        return ()
    path = Path(root).expanduser()
    return read_labels((path if path.is_dir() else path.parent) / "labels.csv")


def read_labels(path: Path) -> LabelList:
    """A labels.csv (value,label); several labels may share a value. Nothing where there is none. Raises DataError."""
    rows = _rows(path, "value", "label")
    try:
        labels = tuple((int(row["value"]), row["label"].strip()) for row in rows)
    except ValueError as error:
        raise DataError(f"{path.name}: values must be whole numbers") from error
    if not all(0 < value < 256 and label for value, label in labels):
        raise DataError(f"{path.name}: values go from 1 to 255, and each needs a label")
    return labels


def read_folder(root: str, modality: str, labels: LabelList) -> Dataset:  # noqa: ARG001 - readers share one shape
    """``images/NAME.nii.gz`` with ``labels/NAME.nii.gz``; patients.csv (name,patient) where cases share a patient.

    .nii, .nrrd and .mha do as well, and an image may be a folder ``images/NAME/`` with one DICOM series.
    """
    path = Path(root).expanduser()
    patients = _patients(path / "patients.csv")
    images = {_name(file): file for file in sorted((path / "images").iterdir()) if _name(file)}
    drawn = {_stem(file): file for file in sorted((path / "labels").iterdir()) if _stem(file)}
    cases = tuple(
        Case(
            name=name,
            patient=patients.get(name, name),
            read=partial(read_pair, name, images[name], drawn[name], modality),
        )
        for name in sorted(images.keys() & drawn.keys())
    )
    alone = [
        *(f"{name} has an image and no labels" for name in sorted(images.keys() - drawn.keys())),
        *(f"{name} has labels and no image" for name in sorted(drawn.keys() - images.keys())),
    ]
    oddities = tuple(Oddity(text=text, fatal=True) for text in alone)
    return Dataset(name=path.resolve().name, cases=cases, modality=modality, oddities=oddities)


def _stem(file: Path) -> str:
    for ending in IMAGE_ENDINGS:
        if file.name.endswith(ending) and not file.name.startswith("."):
            return file.name.removesuffix(ending)
    return ""


def _name(file: Path) -> str:
    """Of a case by its image: a file, or a folder with a DICOM series."""
    return file.name if file.is_dir() and not file.name.startswith(".") else _stem(file)


def _patients(path: Path) -> dict[str, str]:
    return {row["name"]: row["patient"] for row in _rows(path, "name", "patient")}


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file that must have these columns; none where there is no file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} is not a CSV file in UTF-8") from error
    if not set(columns) <= set(reader.fieldnames or ()) or any(row[name] is None for row in rows for name in columns):
        raise DataError(f"{path.name} needs the columns {' and '.join(columns)} in every row")
    return rows


def read_decathlon(root: str, modality: str, labels: LabelList) -> Dataset:  # noqa: ARG001 - readers share one shape
    """A Medical Segmentation Decathlon folder by its dataset.json."""
    path = Path(root).expanduser()
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
        if image.is_file() and label.is_file()
    )
    oddities = tuple(
        Oddity(text=f"dataset.json names {part.parent.name}/{part.name}, which is not there", fatal=True)
        for pair in pairs
        for part in pair
        if not part.is_file()
    )
    return Dataset(
        name=file.resolve().parent.name, cases=cases, label_names=names, modality=modality, oddities=oddities
    )


def read_pair(name: str, image: Path, labels: Path, modality: str) -> Example:
    """An image file with its label file. Raises DataError when they do not lie on one grid."""
    try:
        volume = _image(image, modality)
        drawn = nifti_to_volume(labels, modality=modality)
        volume.geometry.require_same(drawn.geometry, what="labels and image")
    except ModelsError as error:
        raise DataError(f"case {name}: {error}") from error
    return Example(volume=volume, labels=_whole_numbers(drawn.voxels, name))


def _image(path: Path, modality: str) -> Volume:
    if not path.is_dir():
        return nifti_to_volume(path, modality=modality)
    volume = read_series_folder(path)
    # Files of labels name no frame of reference.
    return replace(volume, geometry=replace(volume.geometry, frame_of_reference_uid=""))


def _whole_numbers(values: np.ndarray, name: str) -> np.ndarray:
    labels = values.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise DataError(f"case {name}: labels must be whole numbers from 0 to 255")
    return labels


def read_openkbp(root: str, modality: str, labels: LabelList) -> Dataset:  # noqa: ARG001 - readers share one shape
    """OpenKBP cases as arrays: ``ct`` (HU + 1000, 0 outside the body), ``label``, ``voxel_mm``, ``names``.

    Axes, found from where the organs lie: row (towards the back), column (towards the left), slice (towards the feet).
    """
    path = Path(root).expanduser()
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


def write_tables(folder: Path, patients: Mapping[str, str], names: Mapping[int, str]) -> None:
    """patients.csv (case name -> patient) and labels.csv (value -> label) of a folder data set."""
    _write_csv(folder / "patients.csv", ("name", "patient"), sorted(patients.items()))
    if names:
        _write_csv(folder / "labels.csv", ("value", "label"), sorted(names.items()))


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def _dicom(root: str, modality: str, labels: LabelList) -> Dataset:  # noqa: ARG001 - DICOM names its modality
    return read_dicom(Path(root).expanduser(), Wish(labels=labels))


def _orthanc(root: str, modality: str, labels: LabelList) -> Dataset:  # noqa: ARG001 - DICOM names its modality
    return read_orthanc(root, Wish(labels=labels))


READERS: Mapping[str, Callable[[str, str, LabelList], Dataset]] = {
    "folder": read_folder,
    "decathlon": read_decathlon,
    "dicom": _dicom,
    "orthanc": _orthanc,
    "openkbp": read_openkbp,
}
