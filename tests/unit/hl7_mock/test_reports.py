"""A final report is an ORU of the RIS's own, beside the AI's; it is kept, and goes to the EHR where there is one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hl7types import decode_er7
from hl7types.hl7.v2_5_1.messages import ORU_R01

from medai.hl7_mock.message import parse
from medai.hl7_mock.order_messages import BadOrderError, changed, encode, new_order, parse_request
from medai.hl7_mock.orders import Order, OrderBook, OrderConflictError
from medai.hl7_mock.patient_messages import Person
from medai.hl7_mock.patients import PatientBook
from medai.hl7_mock.reports import QUEUE, ReportBook, parse_report


def order(folder: Path) -> Order:
    book = OrderBook(folder, lambda: 50.0)
    return asyncio.run(book.place(parse_request({"accession": "A|1", "patient_name": "O'Neil^Ann", "modality": "CT"})))[
        0
    ]


def test_a_report_says_that_it_is_final_and_who_signed_it(tmp_path: Path) -> None:
    book = ReportBook(tmp_path, lambda: 100.0, send=False)
    asked = parse_report(
        {"placer": "X", "text": "No bleed.\nAs before | better.", "radiologist": "R01", "used_ai": True}
    )
    report = asyncio.run(book.add(asked, order(tmp_path)))
    message = parse(report.message.text.encode())
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "ORC", "OBR", "OBX", "OBX", "OBX"]
    obr = message.segments[4]
    assert (obr.value(3), obr.value(18), obr.value(25), obr.value(32)) == ("REP00000001", "A|1", "F", "R01")
    assert [segment.value(5) for segment in message.segments[5:]] == ["No bleed.", "As before | better.", "Y"]
    assert all(segment.value(11) == "F" for segment in message.segments[5:])
    decode_er7(report.message.text, ORU_R01)
    assert report.message.settled_at == 100.0, "there is nobody to send it to"


def test_reports_are_numbered_and_wait_for_the_ehr(tmp_path: Path) -> None:
    book, placed = ReportBook(tmp_path, lambda: 100.0, send=True), order(tmp_path)
    for text in ("one", "two"):
        asyncio.run(book.add(parse_report({"placer": "X", "text": text}), placed))
    again = ReportBook(tmp_path, lambda: 100.0, send=True)
    assert [report.number for report in again.reports] == [1, 2]
    assert again.unsettled() == (QUEUE,)
    first = again.next_message(QUEUE)
    assert first is not None
    assert first.control_id == again.reports[0].message.control_id


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ([], r"\(body\)"),
        ({"text": "x"}, "placer: is needed, or accession"),
        ({"placer": "X"}, "text: is needed"),
        ({"placer": "X", "text": "x", "used_ai": "yes"}, "used_ai: must be true or false"),
        ({"placer": "X", "text": "x", "author": "me"}, "author: unknown"),
        ({"placer": "X", "text": "x" * 4001}, "text: must be text of at most 4000"),
    ],
)
def test_a_report_that_says_too_little_is_refused(asked: object, complaint: str) -> None:
    with pytest.raises(BadOrderError, match=complaint):
        parse_report(asked)


def test_an_order_is_changed_by_xo_with_its_new_urgency(tmp_path: Path) -> None:
    book = OrderBook(tmp_path, lambda: 50.0)
    placed, _ = asyncio.run(book.place(parse_request({"accession": "A1", "priority": "R"})))
    after = asyncio.run(book.change(placed.placer, lambda request: changed(request, {"priority": "STAT"})))
    assert [message.control for message in after.messages] == ["NW", "XO"]
    segments = {segment.name: segment for segment in parse(after.messages[-1].text.encode()).segments}
    assert (segments["ORC"].value(1), segments["OBR"].value(5), segments["OBR"].value(2)) == ("XO", "S", placed.placer)
    same = asyncio.run(book.change(placed.placer, lambda request: changed(request, {"priority": "S"})))
    assert len(same.messages) == 2, "asked twice, told once"
    asyncio.run(book.cancel(placed.placer))
    with pytest.raises(OrderConflictError, match="was cancelled"):
        asyncio.run(book.change(placed.placer, lambda request: changed(request, {"priority": "R"})))


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [({"accession": "A2"}, "accession: can't be changed"), ({}, "names nothing to change"), ([], "body")],
)
def test_only_some_of_an_order_can_be_changed(asked: object, complaint: str) -> None:
    with pytest.raises(BadOrderError, match=complaint):
        changed(parse_request({}), asked)


def test_an_imaging_order_has_its_study_in_ipc() -> None:
    details = new_order(parse_request({"accession": "A1", "study_uid": "1.2.3", "modality": "MR"}), placed_at=1.0)
    message = parse(encode(details, control="NW", control_id="C1", sent_at=2.0, imaging=True))
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "ORC", "OBR", "IPC"]
    assert message.segments[0].value(9, 3) == "OMI_O23"
    ipc = message.segments[-1]
    assert [ipc.value(n) for n in (1, 2, 3, 4, 5)] == [
        "A1", details.requested_procedure_id, "1.2.3", details.scheduled_step_id, "MR",
    ]  # fmt: skip


def test_a_patient_is_registered_by_a04(tmp_path: Path) -> None:
    book = PatientBook(tmp_path, lambda: 1.0)
    person = Person(patient_id="P1", patient_name="A^B")
    event, _ = asyncio.run(book.tell(person, known=Person(patient_id="P1"), registers=True))
    assert (event.kind, event.message.control) == ("register", "A04")
    assert "ADT^A04^ADT_A01" in event.message.text
    assert PatientBook(tmp_path, lambda: 1.0).events == (event,)
