"""Escapes, names, identifiers and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydicom import Dataset

from medai.workers.results import hl7_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\F\\b"),
        ("a^b&c~d\\e", "a\\S\\b\\T\\c\\R\\d\\E\\e"),
        ("two\r\nlines\x00", "two lines"),
        ("Änne", "Änne"),
    ],
)
def test_delimiters_are_escaped_and_line_ends_become_spaces(text: str, expected: str) -> None:
    assert hl7_text.escape(text) == expected


@pytest.mark.parametrize(
    ("dicom", "hl7"),
    [
        ("Müller^Änne^^Dr.^MD", "Müller^Änne^^MD^Dr."),
        ("Doe", "Doe"),
        ("Doe^Jane^", "Doe^Jane"),
        ("", ""),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"),
        ("=山田^太郎", "山田^太郎^^^^^L^I"),
        ("O|Brien^A&B", "O\\F\\Brien^A\\T\\B"),
    ],
)
def test_a_name_keeps_its_parts_though_prefix_and_suffix_change_places(dicom: str, hl7: str) -> None:
    assert hl7_text.person_name(dicom) == hl7


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20260314", "120502.25", "20260314120502"),
        ("20260314", "1205", "202603141205"),
        ("20260314", "", "20260314"),
        ("", "120502", ""),
        ("1960", "", ""),
    ],
)
def test_dicom_dates_and_times_become_one_timestamp(date: str, time: str, expected: str) -> None:
    assert hl7_text.dicom_timestamp(date, time) == expected


def test_an_offset_from_utc_is_kept() -> None:
    assert hl7_text.dicom_timestamp("20260314", "120502", "+0100") == "20260314120502+0100"
    assert hl7_text.timestamp(datetime(2026, 3, 14, 1, 2, 3, tzinfo=UTC)) == "20260314010203+0000"
    assert hl7_text.timestamp(datetime(2026, 3, 14, 1, 2, 3)) == "20260314010203"  # noqa: DTZ001  (a naive one)


def test_an_identifier_names_its_authority_even_with_a_universal_id() -> None:
    assert hl7_text.patient_identifier("7|1", "HOSP") == "7\\F\\1^^^HOSP^MR"
    assert hl7_text.patient_identifier("7", "HOSP&1.2.3&ISO") == "7^^^HOSP&1.2.3&ISO^MR"
    assert hl7_text.patient_identifier("", "HOSP") == ""


def test_the_issuer_comes_with_its_universal_id_where_the_images_have_one() -> None:
    header, item = Dataset(), Dataset()
    assert hl7_text.issuer(header) == ""
    header.IssuerOfPatientID = "HOSP"
    assert hl7_text.issuer(header) == "HOSP"
    item.UniversalEntityID, item.UniversalEntityIDType = "1.2.3", "ISO"
    header.IssuerOfPatientIDQualifiersSequence = [item]
    assert hl7_text.issuer(header) == "HOSP&1.2.3&ISO"


def test_a_field_of_the_ris_goes_back_as_it_came() -> None:
    assert hl7_text.as_received("ORD1^RIS\r") == "ORD1^RIS"
