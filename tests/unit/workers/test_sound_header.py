"""A stranger's header comes out in Unicode with dates of the calendar, and never ends in a traceback."""

from __future__ import annotations

import warnings
from io import BytesIO

import pydicom
import pytest
from dicom_cases import slice_of, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from medai.workers.sound_header import make_sound, sound_date, sound_time

NAMES = {
    "jp": ("ISO 2022 IR 6\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
    "jp_empty_first": ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
    "jp_ir13": ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
    "kr": ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
    "extension_alone": ("ISO 2022 IR 100", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
    "gb18030": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    "gbk_backslash": ("GBK", b"Zhang^San=" + "張^乗誠".encode("gbk"), "Zhang^San=張^乗誠"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
    "greek": ("ISO_IR 126", "Διονυσιος".encode("iso8859-7"), "Διονυσιος"),
    "none_utf8": (None, "Müller^Jürgen".encode(), "Müller^Jürgen"),
    "none_latin": (None, "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
    "misspelt": ("ISO-IR 192", "Müller^Jürgen".encode(), "Müller^Jürgen"),
    "unknown": ("KLINGON", "Müller^Jürgen".encode(), "Müller^Jürgen"),
    "unicode_with_latin_bytes": ("ISO_IR 192", "Müller^Jürgen".encode("latin-1"), "Müller^Jürgen"),
}  # fmt: skip


def read(charset: str | None, name: bytes) -> Dataset:
    """A file whose name has just these bytes."""
    image = slice_of(3, study="sound")
    image.PatientName = "PLACEHOLDER"
    image.SpecificCharacterSet = "ISO_IR 100"
    name += b" " * (len(name) % 2)
    data = to_bytes(image)
    data = _swap(data, b"\x10\x00\x10\x00PN", name)
    term = (charset or "").encode()
    data = _swap(data, b"\x08\x00\x05\x00CS", term + b" " * (len(term) % 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom tells of character sets that it does not know
        found = pydicom.dcmread(BytesIO(data))
    if charset is None:
        del found.SpecificCharacterSet
    return found


def _swap(data: bytes, head: bytes, value: bytes) -> bytes:
    at = data.index(head, 132)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    return data[: at + 6] + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]


@pytest.mark.parametrize("case", NAMES)
def test_a_name_in_any_character_set_of_the_field_is_unicode_afterwards(case: str) -> None:
    charset, raw, wanted = NAMES[case]
    header = read(charset, raw)
    make_sound(header)
    assert str(header.PatientName) == wanted
    assert header.SpecificCharacterSet == "ISO_IR 192"
    again = pydicom.dcmread(BytesIO(to_bytes(header)))
    assert str(again.PatientName) == wanted


def test_identifiers_with_a_backslash_stay_what_they_are() -> None:
    header = read("ISO_IR 100", b"A^B")
    header.PatientID = "CR3\\TEST"
    make_sound(header)
    assert b"CR3\\TEST" in to_bytes(header)


@settings(max_examples=150, deadline=None)
@given(
    raw=st.binary(max_size=40),
    charset=st.sampled_from([None, "", "ISO_IR 192", "ISO 2022 IR 6\\ISO 2022 IR 87", "GBK", "X"]),
)
def test_no_bytes_of_a_name_end_in_a_traceback(raw: bytes, charset: str | None) -> None:
    header = read(charset, raw)
    make_sound(header)
    text = str(header.get("PatientName", ""))
    assert not any(ord(letter) < 0x20 for letter in text)
    to_bytes(header)


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("20260105", "20260105"),
        ("2026.01.05", "20260105"),
        ("2026-01-05", "20260105"),
        (" 20260105 ", "20260105"),
        ("20260230", ""),
        ("00000000", ""),
        ("0", ""),
        ("1960", ""),
        ("20261301", ""),
        ("", ""),
    ],
)
def test_a_date_is_one_of_the_calendar_or_none(given_: str, wanted: str) -> None:
    assert sound_date(given_) == wanted


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("101500", "101500"),
        ("10:15:00", "101500"),
        ("10:15", "1015"),
        ("101500.123456", "101500.123456"),
        ("246000", ""),
        ("996099", ""),
        ("1", ""),
        ("", ""),
    ],
)
def test_a_time_is_one_of_a_clock_or_none(given_: str, wanted: str) -> None:
    assert sound_time(given_) == wanted


def test_odd_dates_of_a_header_are_mended_or_emptied() -> None:
    header = slice_of(1, study="dates")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.StudyDate, header.SeriesDate, header.AcquisitionDate = "2026.01.05", "20260230", "00000000"
        header.StudyTime, header.SeriesTime, header.PatientBirthDate = "10:15:00", "996099", "00000000"
    make_sound(header)
    assert (header.StudyDate, header.StudyTime) == ("20260105", "101500")
    assert [header.SeriesDate, header.AcquisitionDate, header.SeriesTime, header.PatientBirthDate] == ["", "", "", ""]
