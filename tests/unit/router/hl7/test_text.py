"""Characters, escapes and times of HL7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.hl7.text import codec_of, decode, escape, moment, narrow, unescape


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("20240301100000+0100", 1709283600.0),
        ("20240301090000.25+0000", 1709283600.25),
        ("202403010900-0000", 1709283600.0),
        ("202403010400-0500", 1709283600.0),
        ("", None),
        ("2024", None),
        ("20241399", None),
        ("yesterday", None),
    ],
)
def test_times_are_read_with_their_zone(written: str, seconds: float | None) -> None:
    assert moment(written) == seconds


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_escaped_text_comes_back_unchanged(words: str) -> None:
    assert unescape(escape(words)) == words
    assert not set("|^~&") & set(escape(words))


def message(declared: str, name: bytes, marks: bytes = b"^~\\&") -> bytes:
    head = b"MSH|" + marks + b"|RIS|H|MEDAI|AI|20260105101500||ORM^O01|X1|P|2.5||||||" + declared.encode()
    return head + b"\rPID|1||1^^^H^MR||" + name + b"\rORC|NW|P1\rOBR|1|P1||X^x^L\r"


@pytest.mark.parametrize(
    ("declared", "name", "text"),
    [
        *[(f"8859/{n}", "na\u00efve".encode(f"iso8859-{n}"), "na\u00efve") for n in (1, 9, 15)],
        ("8859/2", "\u0141\u00f3d\u017a".encode("iso8859-2"), "\u0141\u00f3d\u017a"),
        ("8859/5", "\u0416".encode("iso8859-5"), "\u0416"), ("8859/7", "\u03a9".encode("iso8859-7"), "\u03a9"),
        ("8859/16", "\u0218".encode("iso8859-16"), "\u0218"), ("8859/11", "\u0e01".encode("iso8859-11"), "\u0e01"),
        ("ISO IR166", "\u0e01".encode("iso8859-11"), "\u0e01"), ("ISO_IR 166", b"\xa1", "\u0e01"),
        ("ISO-8859-2", b"\xa3", "\u0141"), ("ISO8859-15", b"\xa4", "\u20ac"), ("ISO 8859/1", b"\xe0", "\u00e0"),
        ("ISO 2022 IR 100", b"\xe0", "\u00e0"), ("windows-1251", b"\xc6", "\u0416"), ("CP1250", b"\xa3", "\u0141"),
        ("8859/1", b"O\x92Neil", "O\u2019Neil"), ("LATIN1", b"\xe0", "\u00e0"), ("", b"\xe0", "\u00e0"),
        ("KS X 1001", "\uae40".encode("euc_kr"), "\uae40"), ("BIG-5", "\u738b".encode("big5"), "\u738b"),
        ("CNS 11643-1992", "\u738b".encode("big5"), "\u738b"), ("GB 18030-2000", "\u738b".encode("gb18030"), "\u738b"),
        ("ASCII~8859/2", b"\xa3", "\u0141"), ("~8859/1", b"\xe0", "\u00e0"), ("ASCII^x~8859/1", b"\xe0", "\u00e0"),
        ("ISO IR13~ISO IR87", b"\xcf\xcc", "\uff8f\uff8c"), ("ISO IR13", b"\xcf", "\uff8f"),
        ("ISO IR14~ISO IR87", "\u5c71\u7530".encode("iso2022_jp"), "\u5c71\u7530"),
        ("ISO IR87", "\u5c71\u7530".encode("cp932"), "\u5c71\u7530"), ("SHIFT_JIS", "\u5c71".encode("cp932"), "\u5c71"),
        ("ISO IR6~ISO IR100", b"\x1b-A\xe0", "\u00e0"), ("ASCII~ISO IR149", b"\x1b$)C\xb1\xe8", "\uae40"),
        ("ISO IR14~ISO IR87~ISO IR159", "\u4e02".encode("iso2022_jp_1"), "\u4e02"),
        ("8859/1~ISO IR87", b"\xe0 \x1b$B;3\x1b(B", "\u00e0 \u5c71"),
        ("ISO IR14~ISO IR87", b"\\M2442\\;3ED\\C284A\\", "\u5c71\u7530"),
        ("UNICODE UTF-8", "\u5c71".encode(), "\u5c71"), ("nobody knows", "\u5c71".encode(), "\u5c71"),
        ("8859/12", "\u5c71".encode(), "\u5c71"), ("ISO IR999", "\u5c71".encode(), "\u5c71"),
    ],
)  # fmt: skip
def test_a_name_is_read_in_the_character_set_that_msh_18_declares(declared: str, name: bytes, text: str) -> None:
    assert f"||{text}\r" in decode(message(declared, name))


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_message_of_wide_characters_is_read_with_its_mark_and_without(codec: str) -> None:
    text = message("UNICODE UTF-16", "\u5c71".encode()).decode()
    assert "||\u5c71\r" in decode(text.encode(codec))
    assert decode(narrow(text.encode(codec))) == decode(text.encode(codec))
    assert "||\u5c71\r" in decode(text.encode()), "what says so and is not"


def test_kanji_end_with_their_line_where_the_sender_forgot_to_switch_back() -> None:
    read = decode(message("ISO IR14~ISO IR87", b"\x1b$B;3ED"))
    assert "||\u5c71\u7530\rORC|NW|P1\r" in read


def test_a_header_of_kanji_does_not_hide_the_character_set() -> None:
    data = message("ISO IR14~ISO IR87", b"\x1b$B;3\x1b(B").replace(b"|RIS|", b"|\x1b$B|||||||\x1b(B|")
    assert "||\u5c71\r" in decode(data)


@pytest.mark.parametrize(
    ("written", "declared", "text"),
    [
        ("Libert\\X00E0\\", "8859/1", "Libert\u00e0"), ("Libert\\XE0\\", "8859/1", "Libert\u00e0"),
        ("Libert\\XC3A0\\", "UNICODE UTF-8", "Libert\u00e0"), ("Libert\\XC3\\\\XA0\\", "", "Libert\u00e0"),
        ("Libert\\XE0\\", "UNICODE UTF-8", "Libert\u00e0"), ("\\X00410042\\", "ASCII", "AB"), ("\\X4100\\", "", "A"),
        ("\\X5C71\\", "UNICODE UTF-16", "\u5c71"), ("\\X5C71\\", "8859/1", "\\q"), ("\\xA4\\", "8859/15", "\u20ac"),
        ("\\X1B24423B331B2842\\", "ISO IR87", "\u5c71"),
        ("\\XA1\\", "ISO IR166", "\u0e01"), ("Line\\X0D0A\\two", "", "Line\ntwo"), ("a\\X0D\\\\X0A\\b", "", "a\nb"),
        ("a\\X0D\\b\\X0A\\c", "", "a\nb\nc"), ("a\\X00\\b", "", "ab"), ("a\\X0000\\b", "", "ab"), ("a\\X09\\b", "", "a b"),
        ("a\\X7F\\\\X1B\\b", "8859/2", "ab"), ("a\0b\tc\x1bd", "", "ab cd"), ("\\X4\\", "", "\\X4\\"), ("\\X\\", "", ""),
        ("\\H\\bold\\N\\", "", "bold"), ("a\\.br\\b\\.sp2\\c\\.sk3\\d\\.in+4\\e", "", "a\nb\nc de"),
        ("\\C2842\\a\\M244228\\b\\Zx\\c", "", "abc"), ("\\F\\\\S\\\\T\\\\R\\\\E\\", "", "|^&~\\"),
        ("CR3\\TEST", "", "CR3\\TEST"), ("\\server\\share\\T\\x", "", "\\server\\share&x"), ("a\\P\\b", "", "ab"),
    ],
)  # fmt: skip
def test_escape_sequences_are_read_by_the_messages_character_set(written: str, declared: str, text: str) -> None:
    assert unescape(written, codec=codec_of(declared)) == text


@pytest.mark.parametrize(
    ("marks", "text"),
    [("|^~\\&", "|^&~\\#P"), ("|^~\\&#", "|^&~\\#P"), ("|^~\\", "|^&~\\#P"), ("|^~", "|^&~\\#P"), ("", "|^&~\\#P")],
)
def test_marks_that_msh_2_does_not_name_are_the_usual_ones(marks: str, text: str) -> None:
    assert unescape("\\F\\\\S\\\\T\\\\R\\\\E\\#P", marks) == text
    assert unescape("\\P\\", "|^~\\&#") == "#"
