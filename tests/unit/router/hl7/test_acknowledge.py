"""What a RIS gets for a message: an answer, to the right sender, that says where an error is."""

from __future__ import annotations

from typing import Any

import hl7 as reader
import pytest

from medai.router.hl7.acknowledge import acknowledge
from medai.router.hl7.messages import parse
from medai.router.hl7.segments import BadMessage, header

NOW = 1_700_000_000.0
MSH = "MSH|^~\\&|RIS|HOSPITAL|MEDAI|AI|20240301101500+0100||ORM^O01^ORM_O01|MSG00001|P|2.5.1"
OBR = "OBR|1|PL1|FI1|CTCHEST^CT chest^L"


def order(*, msh: str = MSH, orc: str = "ORC|NW|PL1^RIS|FI1^RIS", obr: str = OBR) -> bytes:
    return f"{msh}\r{orc}\r{obr}\r".encode()


def fields(ack: bytes) -> Any:
    return reader.parse(ack.decode())


def test_an_acceptance_names_the_message_and_goes_back_to_its_sender() -> None:
    ack = fields(acknowledge(header(order()), "AA", now=NOW))
    assert [str(ack[0][n]) for n in (3, 4, 5, 6, 9, 11, 12, 18)] == [
        "MEDAI", "AI", "RIS", "HOSPITAL", "ACK^O01^ACK", "P", "2.5.1", "UNICODE UTF-8",
    ]  # fmt: skip
    assert 0 < len(str(ack[0][10])) <= 20
    assert [str(part) for part in ack[1]] == ["MSA", "AA", "MSG00001"]
    assert len(ack) == 2


def test_a_refusal_says_where_the_error_is() -> None:
    data = order(orc="ORC|NW|", obr="OBR|1|")
    with pytest.raises(BadMessage) as caught:
        parse(data)
    ack = fields(acknowledge(header(data), caught.value.ack, now=NOW, error=caught.value))
    assert str(ack[1][1]) == "AE"
    assert str(ack[2][2]) == "ORC^1^2"
    assert str(ack[2][3]) == "101^Required field missing^HL70357"
    assert str(ack[2][8]) == "ORC-2, ORC-3, OBR-2 and OBR-3 (placer and filler order number) are empty"


def test_garbage_gets_an_acknowledgement_too() -> None:
    ack = fields(acknowledge(header(b"garbage"), "AE", now=NOW, error=BadMessage("no | message", code="100")))
    assert str(ack[1][1]) == "AE"
    assert str(ack[2][8]) == "no \\F\\ message"


def test_a_sender_that_wants_only_a_commit_acknowledgement_gets_one() -> None:
    head = header(order(msh=f"{MSH}|||AL|NE"))
    assert str(fields(acknowledge(head, "AR", now=NOW))[1][1]) == "CR"
    both = header(order(msh=f"{MSH}|||AL|AL"))
    assert str(fields(acknowledge(both, "AA", now=NOW))[1][1]) == "AA"
