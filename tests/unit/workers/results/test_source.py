"""What results take from the images, and what they do without."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom import Dataset

from medai.models.errors import GeometryMismatch
from medai.workers.results.source import Source


def without(source: Source, *keywords: str, **values: Any) -> Source:
    headers = tuple(deepcopy(header) for header in source.headers)
    for header in headers:
        for keyword in keywords:
            header.pop(keyword, None)
        for keyword, value in values.items():
            setattr(header, keyword, value)
    return replace(source, headers=headers)


def test_the_headers_that_were_read_are_left_as_they_are(make: Any) -> None:
    source = make.source()
    before = [header.to_json() for header in source.headers]
    make.encode(source)
    assert [header.to_json() for header in source.headers] == before


def test_a_count_of_images_other_than_slices_is_refused(make: Any) -> None:
    source = make.source()
    with pytest.raises(GeometryMismatch, match="11 images were given for a volume of 12 slices"):
        replace(source, headers=source.headers[:-1])


def test_images_in_another_order_than_the_slices_are_refused(make: Any) -> None:
    source = make.source()
    with pytest.raises(GeometryMismatch, match="slice 1 lies"):
        replace(source, headers=tuple(reversed(source.headers)))


def test_a_missing_frame_of_reference_is_derived_and_the_same_each_time(make: Any) -> None:
    source = make.source()
    bare = without(source, "FrameOfReferenceUID")
    bare = replace(bare, volume=replace(bare.volume, geometry=replace(bare.volume.geometry, frame_of_reference_uid="")))
    first, second = make.encode(bare), make.encode(bare)
    assert first["seg"].FrameOfReferenceUID.startswith("2.25.")
    assert first["seg"].FrameOfReferenceUID == second["seg"].FrameOfReferenceUID
    assert first["seg"].FrameOfReferenceUID != source.first.StudyInstanceUID


OPTIONAL = (
    *("StudyID", "PatientSex", "PatientBirthDate", "PositionReferenceIndicator", "AccessionNumber", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName", "PatientName", "SpecificCharacterSet", "SliceThickness"),
    *("Manufacturer", "BodyPartExamined", "StudyDescription", "ImageType", "IssuerOfPatientID", "AcquisitionDate"),
)


@pytest.mark.filterwarnings("error")
def test_no_optional_attribute_that_is_missing_stops_a_result(make: Any) -> None:
    made = make.encode(without(make.source(), *OPTIONAL))
    assert made["seg"].PatientSex is None or made["seg"].PatientSex == ""
    assert made["sr"].StudyInstanceUID == made["seg"].StudyInstanceUID


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "MALE"),
        ("PatientBirthDate", None),
        ("StudyID", None),
        ("SliceThickness", None),
        ("SpacingBetweenSlices", "-3"),
        ("BodyPartExamined", ""),
    ],
)
def test_an_odd_value_does_not_stop_a_result(make: Any, keyword: str, value: Any) -> None:
    made = make.encode(without(make.source(modality="MR"), **{keyword: value}), segments=1)
    if keyword == "PatientSex":
        assert not made["seg"].PatientSex


def test_a_result_never_warns_with_the_patients_name(make: Any, recwarn: pytest.WarningsRecorder) -> None:
    make.encode(without(make.source(), PatientName="Jane_Doe", ReferringPhysicianName="Doctor"))
    assert not [str(w.message) for w in recwarn if "Doe" in str(w.message) or "Doctor" in str(w.message)]


def test_times_are_converted_to_the_zone_that_the_images_name(make: Any) -> None:
    source = without(make.source(), TimezoneOffsetFromUTC="-0500")
    assert source.moment(datetime(2026, 3, 14, 2, 0, tzinfo=UTC)).strftime("%Y%m%d %H%M") == "20260313 2100"
    made = make.encode(source)
    assert made["seg"].ContentTime == "100926"
    assert made["seg"].TimezoneOffsetFromUTC == "-0500"


def test_without_a_zone_the_time_is_taken_as_it_is_given(make: Any) -> None:
    source = make.source()
    assert source.moment(make.created_at) is make.created_at


def test_headers_stay_out_of_the_text_of_a_source(make: Any) -> None:
    assert "MRN-77" not in repr(make.source())
    assert isinstance(make.source().first, Dataset)
