"""Patient updates and merges: what is asked, what is sent, and that orders follow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hl7types import decode_er7
from hl7types.hl7.v2_5_1.messages import ADT_A01, ADT_A39

from medai.hl7_mock.message import escapes_are_sound, parse
from medai.hl7_mock.order_messages import BadOrderError, parse_request
from medai.hl7_mock.orders import OrderBook, OrderConflictError
from medai.hl7_mock.patient_messages import Person, encode, parse_person
from medai.hl7_mock.patients import QUEUE, PatientBook
from medai.router.hl7 import messages as hl7
from medai.router.hl7.patients_in import PatientMessage

JOAN = Person(patient_id="B|2", patient_name="Röe & Co^Joan", birth_date="19710202", sex="F")


def tell(book: PatientBook, prior_id: str = "", **person: str):
    asked = Person(**person)
    return asyncio.run(book.tell(asked, prior_id=prior_id, known=Person(patient_id=asked.patient_id)))


@pytest.mark.parametrize(("prior", "structure"), [("", ADT_A01), ("A^1", ADT_A39)])
def test_an_adt_passes_an_independent_validator(prior: str, structure) -> None:
    raw = encode(JOAN, prior_id=prior, control_id="ID1", sent_at=1_800_000_000.0)
    decode_er7(raw.decode(), structure)
    assert all(escapes_are_sound(text) for segment in parse(raw).segments for text in segment.fields[3:])


@pytest.mark.parametrize("prior", ["", "A^1"])
def test_the_router_understands_an_adt(prior: str) -> None:
    raw = encode(JOAN, prior_id=prior, control_id="ID1", sent_at=1_800_000_000.0)
    _, (told,) = hl7.parse(raw)
    assert isinstance(told, PatientMessage)
    assert (told.kind, told.prior_id) == ("merge" if prior else "update", prior)
    assert (told.patient_id, told.patient_id_authority) == ("B|2", "HOSPITAL")
    assert (told.patient_name, told.birth_date, told.sex) == ("Röe \\T\\ Co^Joan", "19710202", "F")


@pytest.mark.parametrize(
    ("asked", "merge", "key"),
    [
        ([], False, "(body)"),
        ({}, False, "patient_id"),
        ({"patient_id": "A", "prior_id": "B"}, False, "prior_id"),
        ({"patient_id": "A"}, True, "prior_id"),
        ({"patient_id": "A", "prior_id": "A"}, True, "prior_id"),
        ({"patient_id": "A", "prior_id": 7}, True, "prior_id"),
        ({"patient_id": "A", "prior_id": "B\rPID"}, True, "prior_id"),
        ({"patient_id": "A", "birth_date": "soon"}, False, "birth_date"),
        ({"patient_id": "A", "accession": "A1"}, False, "accession"),
    ],
)
def test_what_makes_no_sense_is_refused_naming_the_key(asked: object, merge: bool, key: str) -> None:
    with pytest.raises(BadOrderError) as caught:
        parse_person(asked, merge=merge)
    assert caught.value.field == key


def test_orders_follow_an_update_and_a_chain_of_merges(tmp_path, clock) -> None:
    patients = PatientBook(tmp_path, clock)
    orders = OrderBook(tmp_path, clock, patients.follow)
    order, _ = asyncio.run(orders.place(parse_request({"patient_id": "A", "patient_name": "Doe^Jane"})))
    tell(patients, patient_id="A", patient_name="Doe^Joan")
    assert orders.orders[0].details.request.patient_name == "Doe^Joan"
    tell(patients, "A", patient_id="B", sex="F")
    tell(patients, "B", patient_id="C", patient_name="Roe^Joan")
    request = orders.orders[0].details.request
    assert (request.patient_id, request.patient_name, request.sex) == ("C", "Roe^Joan", "F")
    cancelled = asyncio.run(orders.cancel(order.placer))
    told = [parse(message.text.encode()).first("PID") for message in cancelled.messages]
    assert [pid.value(3) for pid in told if pid] == ["A", "C"]
    again = OrderBook(tmp_path, clock, PatientBook(tmp_path, clock).follow)
    assert again.orders == orders.orders


def test_an_update_says_nothing_of_orders_that_came_after_it(tmp_path) -> None:
    moments = iter(range(1000, 2000))
    patients = PatientBook(tmp_path, lambda: next(moments))
    orders = OrderBook(tmp_path, lambda: next(moments), patients.follow)
    tell(patients, patient_id="A", patient_name="Old^Name")
    asyncio.run(orders.place(parse_request({"patient_id": "A", "patient_name": "New^Name"})))
    assert orders.orders[0].details.request.patient_name == "New^Name"


def test_the_same_merge_again_is_the_one_that_stands(tmp_path, clock) -> None:
    patients = PatientBook(tmp_path, clock)
    first, is_new = tell(patients, "A", patient_id="B", patient_name="Doe^Jane")
    again, is_new_again = tell(patients, "A", patient_id="B")
    assert (is_new, is_new_again, again) == (True, False, first)
    assert patients.merged_away("A")
    assert not patients.merged_away("B")


@pytest.mark.parametrize(("prior", "surviving"), [("A", "C"), ("B", "A"), ("C", "A"), ("", "A")])
def test_a_merge_or_update_that_contradicts_a_merge_is_a_conflict(tmp_path, clock, prior: str, surviving: str) -> None:
    patients = PatientBook(tmp_path, clock)
    tell(patients, "A", patient_id="B", patient_name="Doe^Jane")
    with pytest.raises(OrderConflictError):
        tell(patients, prior, patient_id=surviving)
    assert len(patients.events) == 1


def test_events_survive_a_restart_and_are_sent_in_their_order(tmp_path, clock) -> None:
    patients = PatientBook(tmp_path, clock)
    first, _ = tell(patients, "A", patient_id="B", patient_name="Doe^Jane")
    second, _ = tell(patients, "B", patient_id="C", patient_name="Doe^Jane")
    again = PatientBook(tmp_path, clock)
    assert again.events == (first, second)
    assert again.unsettled() == (QUEUE,)
    assert again.next_message(QUEUE) == first.message
    asyncio.run(again.record(QUEUE, replace(first.message, ack="AA", attempts=1, settled_at=1.0)))
    assert again.next_message(QUEUE) == second.message
    asyncio.run(again.record(QUEUE, replace(second.message, ack="AA", attempts=1, settled_at=1.0)))
    assert PatientBook(tmp_path, clock).unsettled() == ()
