"""Images that came together are one series of one patient, or are refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from medai.models.errors import NotAVolume
from medai.models.images.preprocess import series_to_volume

Series = Callable[..., list[Dataset]]


def refusal(series: list[Dataset]) -> str:
    with pytest.raises(NotAVolume) as caught:
        series_to_volume(series)
    return str(caught.value)


def bare(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


@pytest.mark.parametrize("place", [0, 3, 99])
@pytest.mark.parametrize("modality", ["RTSTRUCT", "SR", "KO", "PR", ""])
def test_what_is_no_image_is_left_out_wherever_it_lies(make_series: Series, place: int, modality: str) -> None:
    series = make_series()
    series.insert(place, bare(SeriesInstanceUID="2.25.1", SOPInstanceUID="2.25.9", Modality=modality))
    assert series_to_volume(series).volume.voxels[:, 0, 0].tolist() == [-1023, -1022, -1021, -1020, -1019]


def test_a_series_without_any_image_says_so(make_series: Series) -> None:
    only = [bare(SeriesInstanceUID="2.25.1", SOPInstanceUID=f"2.25.{n}", Modality="SR") for n in range(4)]
    assert "is not an image" in refusal(only)


def test_the_same_image_twice_counts_once(make_series: Series) -> None:
    assert series_to_volume(make_series() + make_series()).volume.voxels.shape[0] == 5


@pytest.mark.parametrize("keyword", ["PixelData", "ImagePositionPatient", "RescaleIntercept", "InstanceNumber"])
def test_two_images_under_one_uid_are_refused(make_series: Series, keyword: str) -> None:
    series, twin = make_series(), make_series()[1]
    other: dict[str, Any] = {
        "PixelData": np.full((8, 10), 77, dtype=np.int16).tobytes(),
        "ImagePositionPatient": [-10.0, -20.0, 35.0],
        "RescaleIntercept": 0,
        "InstanceNumber": 12,
    }
    setattr(twin, keyword, other[keyword])
    assert "have one SOP Instance UID and different content" in refusal([*series, twin])


@pytest.mark.parametrize(
    ("keyword", "other", "words"),
    [
        ("PatientID", "TEMP-7", "2 Patient IDs"),
        ("PatientID", "", "2 Patient IDs"),
        ("StudyInstanceUID", "2.25.77", "2 Study Instance UIDs"),
        ("PatientBirthDate", "19800101", "2 birth dates"),
        ("IssuerOfPatientID", "SOUTH", "2 issuers of the Patient ID"),
    ],
)
def test_images_of_two_patients_are_never_one_volume(make_series: Series, keyword: str, other: str, words: str) -> None:
    of = {"PatientID": "P1", "StudyInstanceUID": "2.25.7", "PatientBirthDate": "19700101", "IssuerOfPatientID": "NORTH"}
    series = make_series(**of)
    setattr(series[4], keyword, other)
    assert words in refusal(series)
    assert "P1" not in refusal(series)


def test_an_issuer_or_birth_date_that_only_some_images_name_is_no_other_patient(make_series: Series) -> None:
    series = make_series(PatientID="P1")
    series[0].IssuerOfPatientID, series[0].PatientBirthDate = "NORTH", "19700101"
    assert series_to_volume(series).volume.voxels.shape[0] == 5


def test_a_series_for_each_slice_is_told(make_series: Series) -> None:
    series = make_series()
    for number, image in enumerate(series):
        image.SeriesInstanceUID = f"2.25.1.{number}"
    assert "each of the 5 images has a Series Instance UID of its own" in refusal(series)


@pytest.mark.parametrize(
    ("keyword", "values", "words"),
    [
        ("AcquisitionNumber", [1, 2], "2 acquisitions"),
        ("EchoTime", [4.6, 9.2, 13.8], "3 echoes"),
        ("ContrastBolusAgent", [None, "agent"], "2 states of contrast agent"),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]], "2 kinds of image"),
        ("TemporalPositionIdentifier", [1, 2, 3, 4], "4 phases"),
        ("ConvolutionKernel", ["B30f", "B70f"], "2 kernels"),
    ],
)
def test_passes_that_alternate_along_the_series_are_refused(
    make_series: Series, keyword: str, values: list[Any], words: str
) -> None:
    series = make_series(12)
    for number, image in enumerate(series):
        if values[number % len(values)] is not None:
            setattr(image, keyword, values[number % len(values)])
    assert f"slices of {words} alternate along the series" in refusal(series)


@pytest.mark.parametrize("values", [[1] * 6 + [2] * 6, list(range(12)), [1] * 12, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]])
def test_acquisitions_one_after_another_are_one_volume(make_series: Series, values: list[int]) -> None:
    series = make_series(12)
    for image, value in zip(series, values, strict=True):
        image.AcquisitionNumber = value
    assert series_to_volume(series).volume.voxels.shape[0] == 12
