"""Folders, Decathlon and arrays as cases; what does not fit together is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drawn_cases import block, ct_slices, save
from judging_cases import block_case

from medai.models.images.preprocess import volume_to_image
from medai.training.data.datasets import open_dataset, read_labels, write_pair
from medai.training.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases as NIfTI."""
    for name in ("a", "b"):
        write_pair(block_case(noise=ord(name)), name, tmp_path)
    return tmp_path


def test_a_folder_gives_back_what_was_written(folder: Path) -> None:
    dataset = open_dataset(str(folder))
    assert [case.name for case in dataset.cases] == ["a", "b"]
    expected = block_case(noise=ord("a"))
    example = dataset.cases[0].load()
    assert np.array_equal(example.labels, expected.labels)
    assert np.allclose(example.volume.voxels, expected.volume.voxels)


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_other_formats_read_alike(folder: Path, ending: str) -> None:
    for part in ("images", "labels"):
        file = folder / part / "a.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file.with_name(f"a{ending}")))
        file.unlink()
    assert np.array_equal(open_dataset(str(folder)).cases[0].load().labels, block_case(noise=ord("a")).labels)


def test_an_image_may_be_a_folder_with_a_dicom_series(folder: Path) -> None:
    images = ct_slices("one")
    save(folder / "images" / "c", *images)
    mask = block((3, 4, 4), (7, 9, 8)).astype(np.uint8)
    drawn = sitk.GetImageFromArray(mask)
    drawn.SetOrigin([float(value) for value in images[0].ImagePositionPatient])
    drawn.SetSpacing((3.0, 3.0, 3.0))
    sitk.WriteImage(drawn, str(folder / "labels" / "c.nrrd"))
    assert np.array_equal(open_dataset(str(folder), modality="CT").cases[2].load().labels, mask)


def test_patients_csv_keeps_cases_together(folder: Path) -> None:
    (folder / "patients.csv").write_text("name,patient\na,x\nb,x\n", encoding="utf-8")
    assert {case.patient for case in open_dataset(str(folder)).cases} == {"x"}


def test_a_patients_csv_without_its_columns_is_refused(folder: Path) -> None:
    (folder / "patients.csv").write_text("case,person\na,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="needs the columns name and patient"):
        open_dataset(str(folder))


def test_an_image_without_labels_is_refused_by_name_and_passes_when_tolerated(folder: Path) -> None:
    (folder / "labels" / "b.nii.gz").unlink()
    with pytest.raises(DataError, match="b has an image and no labels"):
        open_dataset(str(folder))
    assert [case.name for case in open_dataset(str(folder), tolerant=True).cases] == ["a"]


def test_labels_on_another_grid_are_refused(folder: Path) -> None:
    example = block_case()
    moved = replace(example.volume.geometry, origin_mm=(5.0, 0.0, 0.0))
    labels = replace(example.volume, voxels=example.labels, geometry=moved)
    sitk.WriteImage(volume_to_image(labels), str(folder / "labels" / "a.nii.gz"))
    with pytest.raises(DataError, match="case a: labels and image: the grids lie 5.000 mm apart"):
        open_dataset(str(folder)).cases[0].load()


def test_labels_that_are_no_whole_numbers_are_refused(folder: Path) -> None:
    example = block_case()
    labels = replace(example.volume, voxels=example.labels.astype(np.float32) * 0.5)
    sitk.WriteImage(volume_to_image(labels), str(folder / "labels" / "a.nii.gz"))
    with pytest.raises(DataError, match="case a: labels must be whole numbers"):
        open_dataset(str(folder)).cases[0].load()


def test_a_decathlon_folder_brings_its_label_names(folder: Path) -> None:
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "shell", "2": "core"},
        "training": [{"image": f"./images/{name}.nii.gz", "label": f"./labels/{name}.nii.gz"} for name in "ab"],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = open_dataset(str(folder))
    assert dataset.label_names == {1: "shell", 2: "core"}
    assert dataset.modality == "CT"
    assert dataset.cases[1].load().labels.any()


def test_a_decathlon_file_that_is_missing_is_named(folder: Path) -> None:
    content = {
        "modality": {"0": "MRI"},
        "labels": {},
        "training": [{"image": "images/z.nii.gz", "label": "labels/a.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"names images/z.nii.gz, which is not there"):
        open_dataset(str(folder))


def test_labels_csv_names_values(folder: Path) -> None:
    (folder / "labels.csv").write_text("value,label\n1,shell\n2,core\n", encoding="utf-8")
    assert open_dataset(str(folder)).label_names == {1: "shell", 2: "core"}


def test_a_value_beyond_a_byte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("value,label\n300,shell\n", encoding="utf-8")
    with pytest.raises(DataError, match="values go from 1 to 255"):
        read_labels(tmp_path / "labels.csv")


def test_a_folder_that_is_no_data_set_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected images/ and labels/"):
        open_dataset(str(tmp_path))


def test_openkbp_organs_lie_where_they_should(shared_data: Callable[[str], Path]) -> None:
    example = open_dataset(str(shared_data("ct_headneck_OpenKBP"))).cases[0].load()
    right, left = ((example.labels == value).nonzero()[2].mean() for value in (3, 4))
    assert right < left  # columns grow towards the patient's left
