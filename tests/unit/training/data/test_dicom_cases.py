"""SEG and RTSTRUCT come out as the very masks that went in, on their images' grid, or are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import PLANTED
from drawn_cases import block, ct_slices, rtstruct, save, seg, square
from pydicom.uid import generate_uid

from medai.training.data.datasets import open_dataset
from medai.training.data.dicom_cases import PSEUDONYM_KEY, pseudonym
from medai.training.errors import DataError

A, B = block((3, 4, 4), (7, 9, 8)), block((9, 2, 3), (12, 6, 12))


def test_a_seg_comes_out_as_the_mask_that_was_drawn(tmp_path: Path) -> None:
    images = ct_slices("one")
    save(tmp_path, *images[::-1], seg(images, {"spleen": B, "liver": A}))
    dataset = open_dataset(str(tmp_path))
    assert dataset.label_names == {1: "liver", 2: "spleen"}
    assert dataset.modality == "CT"
    example = dataset.cases[0].load()
    assert np.array_equal(example.labels == 1, A)
    assert np.array_equal(example.labels == 2, B)
    assert example.volume.unit == "HU"


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_other_types_of_seg_mean_the_same(tmp_path: Path, kind: str) -> None:
    images = ct_slices("one")
    more = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
    save(tmp_path, *images, seg(images, {"liver": A, "spleen": B}, segmentation_type=kind, **more))
    labels = open_dataset(str(tmp_path)).cases[0].load().labels
    assert np.array_equal(labels, A * 1 + B * 2)


def test_two_segs_of_one_series_make_one_case(tmp_path: Path) -> None:
    images = ct_slices("one")
    save(tmp_path, *images, seg(images, {"liver": A}), seg(images, {"spleen": B}))
    dataset = open_dataset(str(tmp_path))
    assert len(dataset.cases) == 1
    assert np.array_equal(dataset.cases[0].load().labels, A * 1 + B * 2)


def test_segments_that_overlap_are_refused_unless_their_order_is_said(tmp_path: Path) -> None:
    images = ct_slices("one")
    lesion = block((4, 5, 5), (6, 7, 7))
    save(tmp_path, *images, seg(images, {"lesion": lesion, "liver": A}))
    with pytest.raises(DataError, match=r"overlap in 8 voxels.*labels.csv"):
        open_dataset(str(tmp_path)).cases[0].load()
    (tmp_path / "labels.csv").write_text("value,label\n1,Liver\n2,Lesion\n", encoding="utf-8")
    dataset = open_dataset(str(tmp_path))
    assert dataset.label_names == {1: "Liver", 2: "Lesion"}
    assert np.array_equal(dataset.cases[0].load().labels, np.where(lesion, 2, A * 1))


def test_a_label_list_chooses_and_numbers_structures(tmp_path: Path) -> None:
    images = ct_slices("one")
    save(tmp_path, *images, seg(images, {"liver": A, "spleen": B}))
    labels = open_dataset(str(tmp_path), label_names={7: "spleen"}).cases[0].load().labels
    assert np.array_equal(labels, B * 7)


def test_a_seg_on_another_grid_is_refused(tmp_path: Path) -> None:
    images, others = ct_slices("one"), ct_slices("one")
    for other in others:
        other.ImagePositionPatient[0] += 1.0
    save(tmp_path, *images, seg(others, {"liver": A}))
    with pytest.raises(DataError, match=r"frame 1 of the SEG lies on no slice"):
        open_dataset(str(tmp_path)).cases[0].load()


def test_a_seg_in_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    images = ct_slices("one")
    drawn = seg(images, {"liver": A})
    drawn.FrameOfReferenceUID = generate_uid()
    save(tmp_path, *images, drawn)
    with pytest.raises(DataError, match="different frames of reference"):
        open_dataset(str(tmp_path)).cases[0].load()


def test_a_seg_whose_images_are_elsewhere_is_left_out_and_told(tmp_path: Path) -> None:
    images = ct_slices("one")
    stranger = seg(ct_slices("other"), {"liver": A})
    save(tmp_path, *images, seg(images, {"liver": A}), stranger)
    (oddity,) = open_dataset(str(tmp_path)).oddities
    assert "the images that they refer to are not here" in oddity.text


def test_a_contour_holds_the_pixels_whose_centres_lie_in_it(tmp_path: Path) -> None:
    images = ct_slices("one")
    contours = [square(images, place, 4, 9) for place in (3, 4, 5)]
    save(tmp_path, *images, rtstruct(images, {"Cord": contours}))
    labels = open_dataset(str(tmp_path)).cases[0].load().labels
    assert np.array_equal(labels == 1, block((3, 4, 4), (6, 9, 9)))


def test_a_contour_within_another_cuts_a_hole(tmp_path: Path) -> None:
    images = ct_slices("one")
    rings = [square(images, 3, 2, 12), square(images, 3, 5, 8)]
    save(tmp_path, *images, rtstruct(images, {"Ring": rings}))
    labels = open_dataset(str(tmp_path)).cases[0].load().labels
    assert np.array_equal(labels == 1, block((3, 2, 2), (4, 12, 12)) & ~block((3, 5, 5), (4, 8, 8)))


def test_contours_follow_an_oblique_series(tmp_path: Path) -> None:
    """A circle on sagittal slices: the mask is the disk that numpy computes from the same centre and radius."""
    turned = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    images = ct_slices("one", **turned)
    for index, image in enumerate(images):
        image.ImagePositionPatient = [index * -3.0, -20.0, 30.0]
    angle = np.linspace(0, 2 * np.pi, 721)[:-1]
    row, column, radius = 7.3, 6.8, 4.1
    circle = np.stack(
        [
            np.full(720, -15.0),
            -20 + 3 * (column + radius * np.cos(angle)),
            30 - 3 * (row + radius * np.sin(angle)),
        ],
        axis=1,
    )
    save(tmp_path, *images, rtstruct(images, {"Disk": [circle]}))
    example = open_dataset(str(tmp_path)).cases[0].load()
    rows, columns = np.mgrid[:16, :16]
    disk = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    assert np.array_equal(example.labels.any(axis=(1, 2)), np.arange(16) == 5)
    assert np.array_equal(example.labels[5] == 1, disk)


def test_a_contour_between_slices_is_refused(tmp_path: Path) -> None:
    images = ct_slices("one")
    between = square(images, 3, 4, 9) + np.array([0, 0, 1.5])
    save(tmp_path, *images, rtstruct(images, {"Cord": [between]}))
    with pytest.raises(DataError, match="contour 1 of 'Cord' lies between slices"):
        open_dataset(str(tmp_path)).cases[0].load()


def test_no_identifier_leaves_the_reader(tmp_path: Path) -> None:
    images = ct_slices("one")
    save(
        tmp_path,
        *images,
        seg(images, {"liver": A}),
        rtstruct(images, {"Cord": [square(images, 3, 4, 9) + np.array([0, 0, 1])]}),
    )
    dataset = open_dataset(str(tmp_path))
    with pytest.raises(DataError) as caught:
        dataset.cases[0].load()
    told = repr(dataset) + str(caught.value)
    for secret in (*PLANTED.values(), str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)):
        assert secret not in told


def test_two_studies_of_one_person_have_one_patient(tmp_path: Path) -> None:
    for study in ("one", "two"):
        images = ct_slices(study)
        save(tmp_path / study, *images, seg(images, {"liver": A}))
    cases = open_dataset(str(tmp_path)).cases
    assert len({case.name for case in cases}) == 2
    assert len({case.patient for case in cases}) == 1


def test_a_sites_key_changes_the_pseudonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    pseudonym.cache_clear()
    plain = pseudonym("MRN 1")
    pseudonym.cache_clear()
    monkeypatch.setenv(PSEUDONYM_KEY, "secret")
    assert pseudonym("MRN 1") != plain
    pseudonym.cache_clear()


def test_dcmqis_liver_is_the_mask_in_its_nrrd(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data("dcmqi_ct3slice_seg_sr")
    shutil.copytree(source / "ct-3slice", tmp_path / "ct")
    shutil.copy(source / "liver.dcm", tmp_path)
    dataset = open_dataset(str(tmp_path))
    assert dataset.label_names == {1: "Liver"}
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "liver_seg.nrrd")))
    assert np.array_equal(dataset.cases[0].load().labels, expected)


def test_dcmqis_overlapping_seg_is_refused_in_words(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data("dcmqi_ct3slice_seg_sr")
    shutil.copytree(source / "ct-3slice", tmp_path / "ct")
    shutil.copy(source / "partial_overlaps.dcm", tmp_path)
    with pytest.raises(DataError, match=r"'\w+' and '\w+' overlap in \d+ voxels"):
        open_dataset(str(tmp_path)).cases[0].load()
