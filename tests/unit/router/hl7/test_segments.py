"""The parts of a message: its delimiters, its characters, and what an empty field says."""

from __future__ import annotations

import pytest

from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import OrderMessage
from medai.router.hl7.segments import BadMessage, find, read, segments_of

PID = "PID|1||5928948^^^MPI^MR||{name}||19811016|F"


def order(msh: str, name: str, codec: str = "utf-8") -> OrderMessage:
    rows = [msh, PID.format(name=name), "ORC|NW|PL1", "OBR|1|PL1||X^x^L" + "|" * 14 + "ACC1"]
    _, (found,) = parse(("\r".join(rows) + "\r").encode(codec))
    assert isinstance(found, OrderMessage)
    return found


@pytest.mark.parametrize(
    ("name", "charset", "codec"),
    [
        (r"Libert\X00E0\^Anna", "8859/1", "iso8859-1"),
        (r"Libert\XE0\^Anna", "8859/1", "iso8859-1"),
        (r"Libert\XC3A0\^Anna", "UNICODE UTF-8", "utf-8"),
        ("Libert\u00e0^Anna", "8859/1", "iso8859-1"),
        (r"Libert\X00E0\^Anna", "UNICODE UTF-8", "utf-8"),
        (r"Libert\X00E0\^Anna", "", "utf-8"),
        (r"Libert\XE0\^Anna", "ASCII~8859/15", "utf-8"),
    ],
)
def test_a_letter_in_hexadecimal_is_of_the_messages_character_set_or_utf_16(
    name: str, charset: str, codec: str
) -> None:
    msh = rf"MSH|^~\&|HELIOS|DEDALUS|MEDAI|AI|20260105101500||ORM^O01|X1|P|2.5|||AL|AL|D|{charset}"
    assert order(msh, name, codec).order.patient_name == "Libert\u00e0^Anna"


def test_line_ends_in_hexadecimal_are_a_line_break() -> None:
    msh = r"MSH|^~\&|R|D|MEDAI|AI|20260105101500||ORM^O01|X1|P|2.5|||AL|AL|D|UNICODE UTF-8"
    assert order(msh, r"Line\X0D0A\two^Anna").order.patient_name == r"Line\.br\two^Anna"


@pytest.mark.parametrize("marks", ["^~\\&#", "^~\\", "^~\\&", "^~"])
@pytest.mark.parametrize("version", ["2.1", "2.3", "2.5.1", "2.7", "2.8"])
def test_a_header_may_name_fewer_marks_and_the_truncation_character(marks: str, version: str) -> None:
    found = order(f"MSH|{marks}|RIS|H|MEDAI|AI|20260105101500||ORM^O01^ORM_O01|T1|P|{version}", "Doe\\F\\Roe^Jane")
    assert found.order.accession == "ACC1"
    assert (found.order.patient_id, found.order.patient_name) == ("5928948", "Doe\\F\\Roe^Jane")


@pytest.mark.parametrize(
    "start", ["MSH|", "MSH|^|", "MSH|^^~\\&|", "MSH|^~\\&#%|", "MSH|abcd|", "MSH||^~\\&|", "MSH ^~\\& "]
)
def test_a_header_without_delimiters_of_its_own_is_refused(start: str) -> None:
    with pytest.raises(BadMessage, match="not an HL7 message"):
        read(f"{start}RIS|H|MEDAI|AI|20260105101500||ORM^O01|T1|P|2.5\r".encode())


@pytest.mark.parametrize(
    ("field", "null"),
    [
        ('""', True),
        ('""^x', False),
        ('""^""', True),
        ('""~""', True),
        ('""^^^H~A', False),
        ("", False),
        ("x", False),
        ('"', False),
        ('x^""', False),
    ],
)
def test_a_null_is_told_from_an_empty_field(field: str, null: bool) -> None:
    pid = find(segments_of(read(f"MSH|^~\\&|R\rPID|1||7||{field}".encode())), "PID")
    assert pid.is_null(5) is null
    assert pid.is_null(30) is False
    assert find([], "PID").is_null(5) is False
