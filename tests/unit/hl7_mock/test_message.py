"""Reading and writing HL7: escapes, delimiters, character sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.hl7_mock.message import UnreadableMessageError, escape, escapes_are_sound, header_of, parse, unescape


def test_fields_are_counted_as_hl7_counts_them(oru) -> None:
    message = parse(oru())
    assert message.header.raw(1) == "|"
    assert message.header.raw(2) == "^~\\&"
    assert message.header.value(9, 3) == "ORU_R01"
    assert message.key == ("MEDAI", "AI", "CTRL0000000000000001")
    pid = message.first("PID")
    assert pid is not None
    assert (pid.value(3), pid.value(3, 4), pid.value(5, 2), pid.value(30)) == ("PAT1", "HOSPITAL", "Jane", "")


def test_other_delimiters_are_understood() -> None:
    message = parse(b"MSH#*~\\&#A#B#######ORU*R01#1\rPID###7*8\r")
    pid = message.first("PID")
    assert pid is not None
    assert pid.value(3, 2) == "8"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_text_survives_escaping(text: str) -> None:
    assert unescape(escape(text)) == text
    assert escapes_are_sound(escape(text))
    assert not set(escape(text)) & set("|^&~")


@pytest.mark.parametrize("text", ["\\F\\\\S\\\\T\\\\R\\\\E\\", "a\\.br\\b", "\\X0D0A\\", "\\H\\x\\N\\", "\\Zabc\\"])
def test_defined_escape_sequences_are_sound(text: str) -> None:
    assert escapes_are_sound(text)


@pytest.mark.parametrize("text", ["C:\\temp", "\\", "\\Q\\", "\\X0\\", "\\F", "\\F\\\\"])
def test_undefined_escape_sequences_are_not(text: str) -> None:
    assert not escapes_are_sound(text)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "100"),
        (b"this is not HL7", "100"),
        (b"MSH|", "100"),
        (b"MSH|^~\\&|A\nPID|1\n", "100"),
        (b"MSH|^~\\&|A\rpatient\r", "100"),
        ("MSH|^~\\&|Ä\r".encode(), "102"),
        (b"MSH|^~\\&|||||||||||||||\r"[:-1] + b"|EBCDIC\r", "103"),
        (b"MSH|^~\\&||||||||||||||||UNICODE UTF-8\rPID|\xff\r", "102"),
    ],
)
def test_what_is_not_a_message_is_named_with_a_code(raw: bytes, code: str) -> None:
    with pytest.raises(UnreadableMessageError) as caught:
        parse(raw)
    assert caught.value.code == code
    assert caught.value.__cause__ is None


def test_the_header_of_an_unreadable_message_can_still_be_read() -> None:
    header = header_of(b"MSH|^~\\&|A|B|||||ORU^R01|ID7|P|2.5.1\r\xff\xff")
    assert header is not None
    assert header.raw(10) == "ID7"
