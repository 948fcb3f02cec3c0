"""Grids: turned and turned back, resampled, compared with SimpleITK's own reader."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from medai.models.errors import GeometryMismatch, NotAVolume, UnreadableImage
from medai.models.geometry import Geometry
from medai.models.images.decode import AIR_HU, NEVER_HU
from medai.models.images.preprocess import (
    image_to_volume,
    labels_to_grid,
    labels_to_nifti,
    nifti_to_volume,
    reorient,
    resample,
    series_to_volume,
    to_axial,
    volume_to_image,
)
from medai.models.volume import Volume

SharedData = Callable[[str], Path]
ReadSeries = Callable[[Path], list[Dataset]]


def oblique_volume() -> Volume:
    angle = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    geometry = Geometry(
        origin_mm=(12.0, -30.0, 7.0),
        direction=tuple(turn.ravel().tolist()),
        spacing_mm=(1.0, 2.0, 3.0),
        shape=(4, 5, 6),
        frame_of_reference_uid="2.25.2",
    )
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    return Volume(voxels=voxels, geometry=geometry, modality="MR")


def place_mm(volume: Volume, value: int) -> np.ndarray:  # type: ignore[type-arg] # a position of three numbers
    k, j, i = np.argwhere(volume.voxels == value)[0]
    return volume.geometry.affine @ [i, j, k, 1]


@pytest.mark.parametrize(
    "sides", ["".join(s) for p in itertools.permutations(("LR", "PA", "SI")) for s in itertools.product(*p)]
)
def test_every_reorientation_keeps_each_value_in_its_place_and_can_be_undone(sides: str) -> None:
    volume = oblique_volume()
    turned, turn = reorient(volume, sides)
    for value in (0, 7, 64, 119):
        assert np.allclose(place_mm(turned, value), place_mm(volume, value))
    back = turn.undo(turned.voxels)
    assert np.array_equal(back, volume.voxels)
    assert back.flags.c_contiguous
    direction = np.reshape(turned.geometry.direction, (3, 3))
    signs = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
    assert all(direction[signs[side][0], place] * signs[side][1] > 0.5 for place, side in enumerate(sides))


def test_an_axial_series_is_axial_already(make_series: Callable[..., list[Dataset]]) -> None:
    volume = series_to_volume(make_series()).volume
    axial, _ = to_axial(volume)
    assert axial.geometry == volume.geometry
    assert np.array_equal(axial.voxels, volume.voxels)


def test_an_image_there_and_back_is_the_same_volume() -> None:
    volume = oblique_volume()
    back = image_to_volume(volume_to_image(volume), modality="MR", unit="arbitrary", frame_of_reference_uid="2.25.2")
    assert np.array_equal(back.voxels, volume.voxels)
    back.geometry.require_same(volume.geometry, what="round trip")


def test_resampling_keeps_the_edges_and_a_ramp() -> None:
    geometry = replace(oblique_volume().geometry, shape=(20, 20, 20), spacing_mm=(2.0, 2.0, 2.0))
    ramp = np.broadcast_to(np.arange(20, dtype=np.int16)[:, None, None], (20, 20, 20))
    fine = resample(Volume(voxels=ramp, geometry=geometry, modality="CT"), (1.0, 1.0, 1.0))
    assert fine.geometry.shape == (40, 40, 40)
    assert fine.voxels.dtype == np.float32
    assert np.allclose(fine.voxels[1:-1, 5, 5], np.arange(1, 39) / 2 - 0.25, atol=1e-4)
    corner = geometry.affine @ [-0.5, -0.5, -0.5, 1]
    assert np.allclose(fine.geometry.affine @ [-0.5, -0.5, -0.5, 1], corner)
    assert fine.voxels.min() >= 0
    assert fine.voxels[-1, 5, 5] > 18


def test_labels_survive_a_finer_grid_and_return() -> None:
    geometry = replace(oblique_volume().geometry, shape=(10, 12, 14), spacing_mm=(2.0, 2.0, 2.0))
    labels = np.random.default_rng(3).integers(0, 4, geometry.shape).astype(np.uint8)
    fine = resample(Volume(voxels=labels, geometry=geometry, modality="CT"), (1.0, 1.0, 1.0)).geometry
    back = labels_to_grid(labels_to_grid(labels, geometry, fine), fine, geometry)
    assert back.dtype == np.uint8
    assert np.array_equal(back[:-1, :-1, :-1], labels[:-1, :-1, :-1])


def test_labels_do_not_move_between_frames_of_reference() -> None:
    geometry = oblique_volume().geometry
    with pytest.raises(GeometryMismatch):
        labels_to_grid(np.zeros(geometry.shape, np.uint8), geometry, replace(geometry, frame_of_reference_uid="2.25.8"))


def test_nifti_there_and_back(tmp_path: Path) -> None:
    geometry = replace(oblique_volume().geometry, frame_of_reference_uid="")
    labels = np.random.default_rng(5).integers(0, 3, geometry.shape).astype(np.uint8)
    labels_to_nifti(labels, geometry, tmp_path / "mask.nii.gz")
    back = nifti_to_volume(tmp_path / "mask.nii.gz")
    assert np.array_equal(back.voxels, labels)
    back.geometry.require_same(geometry, what="NIfTI")


def test_a_file_that_is_no_nifti_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.nii").write_bytes(b"nonsense")
    with pytest.raises(UnreadableImage, match=r"broken\.nii cannot be read"):
        nifti_to_volume(tmp_path / "broken.nii")


@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("ct_abdomen_CRLM/CRLM-CT-1004_dicom_jpegls", (41, 512, 512)),
        ("ct_TotalSegmentator_example/example_ct_dicom", (20, 512, 512)),
        ("mr_abdomen_T2_CMB-CRC/dicom_jpegls", (33, 512, 584)),
        ("mr_hippocampus_MSD/dicom_HippoCrop_11", (40, 50, 34)),
        ("dcmqi_ct3slice_seg_sr/ct-3slice", (3, 512, 512)),
        pytest.param("ct_chest_LIDC-IDRI-0314/dicom_jpegls", (275, 512, 512), marks=pytest.mark.slow),
        ("mr_brain_T1_studyforrest/dicom_jpegls", (384, 384, 274)),
    ],
)
def test_a_real_series_has_the_voxels_and_grid_that_simpleitk_reads(
    shared_data: SharedData, read_series: ReadSeries, folder: str, shape: tuple[int, int, int]
) -> None:
    path = shared_data(folder)
    ours = series_to_volume(read_series(path)).volume
    assert ours.geometry.shape == shape
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    frame = ours.geometry.frame_of_reference_uid
    theirs = image_to_volume(reader.Execute(), modality="", unit="", frame_of_reference_uid=frame)
    # ITK may run the slices the other way.
    (ours, _), (theirs, _) = reorient(ours, "LPS"), reorient(theirs, "LPS")
    ours.geometry.require_same(theirs.geometry, what=folder)
    air = np.where(theirs.voxels < NEVER_HU, AIR_HU, theirs.voxels) if ours.unit == "HU" else theirs.voxels
    assert np.array_equal(ours.voxels, air)  # ITK keeps the scanner's mark for what it did not scan


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("gantrytilting/001", "gantry tilt"),
        ("notavolume/001", "all 4 images lie at the same place"),
        ("slicecount/001", "2 slices"),
        ("sliceincrement/001", "slices 3 and 4 are 10 mm apart, the others 5 mm"),
        ("sliceincrement/002", "gantry tilt"),
        ("sliceorientation/001", "different orientations"),
    ],
)
def test_real_bad_series_get_their_reason(
    shared_data: SharedData, read_series: ReadSeries, folder: str, reason: str
) -> None:
    with pytest.raises(NotAVolume, match=reason):
        series_to_volume(read_series(shared_data("robust_dicom2nifti") / "failing" / folder))


@pytest.mark.parametrize(("folder", "reason"), [("S1000", "localizer"), ("S4010", "secondary capture|localizer")])
def test_localizers_and_screenshots_are_no_volume(
    shared_data: SharedData, read_series: ReadSeries, folder: str, reason: str
) -> None:
    with pytest.raises(NotAVolume, match=reason):
        series_to_volume(read_series(shared_data("ct_phantom_philips_localizer_SC") / folder))


def test_an_enhanced_object_is_read_frame_by_frame(shared_data: SharedData, read_series: ReadSeries) -> None:
    stack = series_to_volume(read_series(shared_data("robust_dicom2nifti") / "siemens_multiframe"))
    assert stack.volume.geometry.shape == (8, 256, 256)
    assert stack.volume.geometry.spacing_mm == pytest.approx((0.9375, 0.9375, 0.9), abs=1e-4)
    assert stack.frames == tuple(range(1, 9))
    assert len(stack.datasets) == 8
    assert len({id(dataset) for dataset in stack.datasets}) == 1
