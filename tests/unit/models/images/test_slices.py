"""Which series make a volume, and the reasons why others do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import DataElement, Dataset

from medai.models.errors import NotAVolume
from medai.models.images.preprocess import series_to_volume

Series = Callable[..., list[Dataset]]


def refusal(series: list[Dataset]) -> str:
    with pytest.raises(NotAVolume) as caught:
        series_to_volume(series)
    text = str(caught.value)
    assert not re.search(r"2\.25\.|\d+\.\d+\.\d+\.\d+", text), "a UID in a text for people"
    return text


def test_the_grid_has_the_first_slice_as_origin_and_the_mean_increment(make_series: Series) -> None:
    geometry = series_to_volume(make_series()).volume.geometry
    assert geometry.shape == (5, 8, 10)
    assert geometry.spacing_mm == (1.5, 2.0, 5.0)
    assert geometry.origin_mm == (-10.0, -20.0, 5.0)
    assert geometry.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert geometry.frame_of_reference_uid == "2.25.2"


def test_a_sagittal_series_runs_along_its_normal(make_series: Series) -> None:
    series = make_series(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for number, dataset in enumerate(series):
        dataset.ImagePositionPatient = [float(-number), 0.0, 0.0]  # the normal of these rows and columns is -x
    stack = series_to_volume(list(reversed(series)))
    assert [dataset.InstanceNumber for dataset in stack.datasets] == [1, 2, 3, 4, 5]
    assert np.allclose(np.reshape(stack.volume.geometry.direction, (3, 3))[:, 2], [-1, 0, 0])


def test_a_gap_is_named_by_slice_numbers_and_distance(make_series: Series) -> None:
    series = make_series(14)
    del series[12]
    assert refusal(series).startswith("slices 12 and 13 are 10 mm apart, the others 5 mm")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(make_series: Series) -> None:
    series = make_series(20)
    for number, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0.0, 0.0, round(1.25 * number + 1e-9, 1)]
    assert series_to_volume(series).volume.geometry.spacing_mm[2] == pytest.approx(1.25, abs=0.005)


def test_a_drifting_increment_is_refused_though_each_gap_is_nearly_usual(make_series: Series) -> None:
    series = make_series(40)
    for number, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0.0, 0.0, 5.0 * number + 0.004 * number**2 / 4]
    assert "changes along the series" in refusal(series)


def test_gantry_tilt_is_named_with_its_angle(make_series: Series) -> None:
    series = make_series()
    for number, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0.0, number * 5 * float(np.tan(np.radians(10))), 5.0 * number]
    assert "gantry tilt" in (text := refusal(series))
    assert "10.0 degrees" in text


def test_one_shifted_slice_is_named(make_series: Series) -> None:
    series = make_series()
    series[2].ImagePositionPatient = [-7.0, -20.0, 15.0]
    assert refusal(series) == "slice 3 is shifted sideways by 3.0 mm against slice 1"


def test_two_phases_in_one_series_are_named(make_series: Series) -> None:
    series = make_series(6)
    for number, dataset in enumerate(series):
        dataset.ImagePositionPatient = [0.0, 0.0, 5.0 * (number // 2)]
    assert "6 images at 3 places" in (text := refusal(series))
    assert "phases, echoes" in text


def test_the_same_instance_twice_counts_once(make_series: Series) -> None:
    assert len(series_to_volume(make_series() + make_series()).datasets) == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PixelSpacing": [0.0, 1.0]}, "Pixel Spacing of 0 x 1 mm"),
        ({"PixelSpacing": None}, "no readable Pixel Spacing"),
        ({"PixelSpacing": [-1.0, 1.0]}, "Pixel Spacing of -1 x 1 mm"),
        ({"ImagePositionPatient": None}, "without position and orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "not at right angles"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "not at right angles"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer (scout)"),
        ({"Rows": None}, "not an image"),
        ({"NumberOfFrames": 3}, "multi-frame images without positions"),
    ],
)
def test_a_header_that_gives_no_place_is_refused(make_series: Series, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(make_series(**changes))


def test_a_spacing_whose_vr_says_that_it_is_text_is_read(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        dataset["PixelSpacing"] = DataElement(0x00280030, "UT", "\\".join(str(mm) for mm in dataset.PixelSpacing))
    assert series_to_volume(series).volume.geometry == series_to_volume(make_series()).volume.geometry


def test_nan_in_a_position_is_refused(make_series: Series) -> None:
    series = make_series()
    series[1].ImagePositionPatient = [float("nan"), 0.0, 0.0]
    assert refusal(series) == "the image with Instance Number 2 has no valid Image Position"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "axial (4 images), coronal (1 image)"),
        ({"Rows": 7}, "different sizes: 8 x 10 (4 images), 7 x 10 (1 image)"),
        ({"PixelSpacing": [2.0, 1.6]}, "different pixel spacings"),
        ({"FrameOfReferenceUID": "2.25.3"}, "2 frames of reference"),
        ({"SeriesInstanceUID": "2.25.9"}, "more than one series"),
        ({"Modality": "MR"}, "different modalities"),
    ],
)
def test_one_image_that_differs_from_the_others_is_refused(
    make_series: Series, make_slice: Callable[..., Dataset], changes: dict[str, Any], reason: str
) -> None:
    assert reason in refusal([*make_series(4), make_slice(5, **changes)])


def test_no_images_and_two_slices_are_refused(make_series: Series) -> None:
    assert refusal([]) == "the series has no images"
    assert refusal(make_series(2)) == "the series has 2 slices; a volume needs at least 3"
