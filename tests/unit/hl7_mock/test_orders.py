"""Orders: what is asked, what is sent, what is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hl7types import decode_er7
from hl7types.hl7.v2_5_1.messages import ORM_O01

from medai.hl7_mock.message import escapes_are_sound, parse
from medai.hl7_mock.order_messages import BadOrderError, encode, new_order, parse_request
from medai.hl7_mock.orders import OrderBook, OrderConflictError

ASKED = {
    "patient_id": "PAT|1",
    "patient_name": "O'Neil & Söhne^Anna",
    "birth_date": "1970-01-31",
    "sex": "F",
    "accession": "ACC1",
    "study_uid": "1.2.3",
    "procedure_code": "CTCHEST",
    "procedure_text": "CT ~ chest",
    "modality": "CT",
    "priority": "stat",
}


def place(book: OrderBook, **asked: str):
    return asyncio.run(book.place(parse_request(asked)))


def test_an_order_says_everything_that_was_asked() -> None:
    order = new_order(parse_request(ASKED), placed_at=1_800_000_000.0)
    message = parse(encode(order, control="NW", control_id="ID1", sent_at=1_800_000_001.0))
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "ORC", "OBR", "ZDS"]
    _, pid, pv1, orc, obr, zds = message.segments
    assert (pid.value(3), pid.value(3, 4), pid.value(3, 5)) == ("PAT|1", "HOSPITAL", "MR")
    assert (pid.value(5), pid.value(5, 2), pid.value(7), pid.value(8)) == ("O'Neil & Söhne", "Anna", "19700131", "F")
    assert pv1.value(19) == order.visit_number
    assert (orc.value(1), orc.value(2), orc.value(7, 6)) == ("NW", order.placer, "S")
    assert orc.value(9) == "20270115080000+0000"
    assert (obr.value(2), obr.value(4), obr.value(4, 2)) == (order.placer, "CTCHEST", "CT ~ chest")
    assert (obr.value(5), obr.value(18), obr.value(24), obr.value(27, 6)) == ("S", "ACC1", "CT", "S")
    assert (obr.value(19), obr.value(20)) == (order.requested_procedure_id, order.scheduled_step_id)
    assert (zds.value(1), zds.value(1, 4)) == ("1.2.3", "DICOM")
    assert all(escapes_are_sound(field) for segment in message.segments[1:] for field in segment.fields)


@pytest.mark.parametrize("control", ["NW", "CA"])
def test_an_order_passes_an_independent_validator(control: str) -> None:
    order = new_order(parse_request({}), placed_at=1_800_000_000.0)
    text = encode(order, control=control, control_id="ID1", sent_at=0).decode()
    decode_er7(text[: text.index("ZDS|")], ORM_O01)


def test_what_is_not_asked_is_generated_and_never_the_same() -> None:
    first, second = (new_order(parse_request({}), placed_at=0) for _ in range(2))
    for one, other in ((first.placer, second.placer), (first.request.accession, second.request.accession)):
        assert one != other
        assert 0 < len(one) <= 16
    assert first.request.study_uid != second.request.study_uid


def test_of_a_patient_who_was_named_nothing_is_made_up() -> None:
    """Images of theirs may say otherwise, and a router would hold the order for that."""
    order = new_order(parse_request({"patient_id": "77", "accession": "A1"}), placed_at=1_800_000_000.0)
    text = encode(order, control="NW", control_id="ID1", sent_at=1_800_000_001.0).decode()
    pid = parse(text.encode()).segments[1]
    assert (pid.value(5), pid.value(5, 7), pid.value(7), pid.value(8)) == ("", "U", "", "U")
    decode_er7(text[: text.index("ZDS|")], ORM_O01)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accession", "12345678901234567"),
        ("accession", "a\\b"),
        ("study_uid", "1.2.x"),
        ("birth_date", "19701332"),
        ("sex", "female"),
        ("priority", "now"),
        ("modality", "ct1"),
        ("patient_name", "Doe\rPID|"),
        ("patient_id", 7),
        ("surname", "Doe"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_naming_the_key(key: str, value: object) -> None:
    with pytest.raises(BadOrderError) as caught:
        parse_request({key: value})
    assert caught.value.field == key


def test_orders_survive_a_restart(tmp_path, clock) -> None:
    book = OrderBook(tmp_path, clock)
    first, _ = place(book)
    place(book)
    asyncio.run(book.record(first.placer, replace(first.messages[0], ack="AA", attempts=1, settled_at=1.0)))
    again = OrderBook(tmp_path, clock)
    assert set(again.orders) == set(book.orders)
    kept = again.get(first.placer)
    assert kept is not None
    assert kept.state(resulted=False) == "acknowledged"
    assert kept.messages[0].text == first.messages[0].text


def test_the_same_accession_gives_the_order_that_stands(tmp_path, clock) -> None:
    book = OrderBook(tmp_path, clock)
    first, new = place(book, accession="A1", patient_id="P1")
    again, new_again = place(book, accession="A1")
    assert (new, new_again, again.placer) == (True, False, first.placer)
    with pytest.raises(OrderConflictError, match="patient_id"):
        place(book, accession="A1", patient_id="P2")


def test_a_cancelled_order_may_be_placed_anew(tmp_path, clock) -> None:
    book = OrderBook(tmp_path, clock)
    first, _ = place(book, accession="A1")
    cancelled = asyncio.run(book.cancel(first.placer))
    assert [each.control for each in cancelled.messages] == ["NW", "CA"]
    assert asyncio.run(book.cancel(first.placer)) == cancelled
    second, new = place(book, accession="A1")
    assert new
    standing = book.by_accession("A1")
    assert standing is not None
    assert standing.placer == second.placer


def test_the_state_follows_the_acknowledgements(tmp_path, clock) -> None:
    book = OrderBook(tmp_path, clock)
    order, _ = place(book)

    def with_ack(ack: str, settled: float | None = 1.0):
        return replace(order, messages=(replace(order.messages[0], ack=ack, settled_at=settled),))

    assert order.state(resulted=False) == "placed"
    assert with_ack("AR", None).state(resulted=False) == "placed"
    assert with_ack("AA").state(resulted=False) == "acknowledged"
    assert with_ack("AE").state(resulted=False) == "refused"
    assert with_ack("AA").state(resulted=True) == "resulted"
