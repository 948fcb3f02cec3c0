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
        (" Doe ^ Jane ^ M ^ Dr ^ MD ^ more", "Doe^Jane^M^MD^Dr"),
        ("Doe^Jane= ^ =やまだ", "Doe^Jane~やまだ^^^^^^L^P"),
        ("A=B=C=D", "A~B^^^^^^L^I~C^^^^^^L^P"),
        (None, ""),
        ("O|Brien^A&B", "O\\F\\Brien^A\\T\\B"),
    ],
)
def test_a_name_keeps_its_parts_though_prefix_and_suffix_change_places(dicom: str | None, hl7: str) -> None:
    assert hl7_text.person_name(dicom) == hl7


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20260314", "120502.25", "20260314120502"),
        ("20260314", "1205", "202603141205"),
        ("20260314", "", "20260314"),
        ("20260314", "12", "20260314"),
        ("20260314", "about 1205", "20260314"),
        ("", "120502", ""),
        ("20260314x", "120502", ""),
        ("1960", "", ""),
    ],
)
def test_dicom_dates_and_times_become_one_timestamp(date: str, time: str, expected: str) -> None:
    assert hl7_text.dicom_timestamp(date, time) == expected


def test_an_offset_from_utc_is_kept() -> None:
    assert hl7_text.dicom_timestamp("20260314", "120502", "+0100") == "20260314120502+0100"
    for wrong in ("0100", "+01", "+01000", " +0100"):
        assert hl7_text.dicom_timestamp("20260314", "120502", wrong) == "20260314120502"
    assert hl7_text.timestamp(datetime(2026, 3, 14, 1, 2, 3, tzinfo=UTC)) == "20260314010203+0000"
    assert hl7_text.timestamp(datetime(2026, 3, 14, 1, 2, 3)) == "20260314010203"  # noqa: DTZ001  (a naive one)


def test_an_identifier_names_its_authority_even_with_a_universal_id() -> None:
    assert hl7_text.patient_identifier("7|1", "HOSP") == "7\\F\\1^^^HOSP^MR"
    assert hl7_text.patient_identifier("7", "HOSP&1.2.3&ISO") == "7^^^HOSP&1.2.3&ISO^MR"
    assert hl7_text.patient_identifier("7", "A|B&1^2&ISO") == "7^^^A\\F\\B&1\\S\\2&ISO^MR"
    assert hl7_text.patient_identifier("", "HOSP") == ""


def test_the_issuer_comes_with_its_universal_id_where_the_images_have_one() -> None:
    header, item = Dataset(), Dataset()
    assert hl7_text.issuer(header) == ""
    header.IssuerOfPatientID = "HOSP"
    assert hl7_text.issuer(header) == "HOSP"
    item.UniversalEntityID, item.UniversalEntityIDType = "1.2.3", "ISO"
    header.IssuerOfPatientIDQualifiersSequence = [item]
    assert hl7_text.issuer(header) == "HOSP&1.2.3&ISO"
    item.UniversalEntityIDType = "DNS"
    assert hl7_text.issuer(header) == "HOSP&1.2.3&DNS"
    del item.UniversalEntityIDType
    assert hl7_text.issuer(header) == "HOSP&1.2.3&ISO"
    header.IssuerOfPatientID = None
    assert hl7_text.issuer(header) == "&1.2.3&ISO"
    header.IssuerOfPatientID, item.UniversalEntityID = " HOSP ", ""
    assert hl7_text.issuer(header) == "HOSP"


def test_a_field_of_the_ris_goes_back_as_it_came() -> None:
    assert hl7_text.as_received("ORD1^RIS\r") == "ORD1^RIS"
    assert hl7_text.as_received("ORD1\x00\x1fand|more^A\\T\\B") == "ORD1 and\\F\\more^A\\T\\B"


def test_a_composite_keeps_its_places_and_leaves_out_what_is_empty_at_its_end() -> None:
    assert hl7_text.components("", "a", "", "b|", 7, "", "") == "^a^^b\\F\\^7"
    assert hl7_text.components("", "") == ""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({1: "a", 4: "d"}, "ZZZ|a|||d"),
        ({2: "b", 1: "a", 3: "", 9: ""}, "ZZZ|a|b"),
        ({1: ""}, "ZZZ"),
        ({}, "ZZZ"),
    ],
)
def test_a_segment_has_its_fields_in_their_places_up_to_the_last_that_is_not_empty(
    fields: dict[int, str], text: str
) -> None:
    assert hl7_text.segment("ZZZ", fields) == text


def test_every_segment_of_a_message_ends_with_a_carriage_return() -> None:
    assert hl7_text.join(["A|ü", "B"]) == b"A|\xc3\xbc\rB\r"
