"""Codes that cannot be right are found before a result carries them."""

from __future__ import annotations

import re

import pytest
from foreign_cases import LUNG
from pydicom.sr._concepts_dict import concepts

from medai.models.codes import faults_in, remarks_on, sct_identifier


def test_the_check_digit_holds_for_dicom_s_own_snomed_codes() -> None:
    values = {value for meanings in concepts["SCT"].values() for value in meanings}
    wrong = [value for value in values if not sct_identifier(value)]
    assert len(values) > 8_000
    assert wrong == ["115347700"], "one code of the standard is itself mistyped"


@pytest.mark.parametrize("place", range(8))
def test_one_wrong_digit_is_found(place: int) -> None:
    value = "39607008"
    assert sct_identifier(value)
    changed = value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]
    assert not sct_identifier(changed)


@pytest.mark.parametrize("value", ["", "T-28000", "39607080", "0039607008", "12345"])
def test_what_is_no_identifier_is_found(value: str) -> None:
    assert not sct_identifier(value)


def test_good_segments_have_no_fault() -> None:
    assert faults_in([LUNG, {**LUNG, "number": 2, "type": ["99LUNG1", "99MINE", "Left lung"]}]) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": ["T-28000", "SRT", "Lung"]}, "scheme SRT is retired"),
        ({"type": ["39607009", "SCT", "Lung"]}, "check digit"),
        ({"type": ["39607008", "SNOMED", "Lung"]}, "scheme 'SNOMED' is unknown"),
        ({"type": ["39607008", "SCT", " "]}, "meaning must have"),
        ({"type": "39607008"}, r"must be \[value, scheme, meaning\]"),
        ({"number": 3}, r"numbers are \[3\]; they must be 1, 2"),
    ],
)
def test_a_fault_is_named(change: dict[str, object], text: str) -> None:
    (fault,) = faults_in([{**LUNG, **change}])
    assert re.search(text, fault)


def test_an_unusual_category_is_remarked_not_refused() -> None:
    segment = {**LUNG, "category": ["39607008", "SCT", "Lung"]}
    assert faults_in([segment]) == []
    assert "not one of DICOM's" in remarks_on([segment])[0]
