"""The worklist answers what was asked, and only with what a scanner may begin (PS3.4 annex K)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from medai.hl7_mock import worklist
from medai.hl7_mock.dicom_server import DicomServer
from medai.hl7_mock.mpps import StepBook
from medai.hl7_mock.order_messages import parse_request
from medai.hl7_mock.orders import Order, OrderBook

AT = 1_764_150_000.0  # 2025-11-26, about ten in the morning


def order(book: OrderBook, **asked: str) -> Order:
    request = parse_request({"patient_id": "P1", "patient_name": "Muster^Anna", "modality": "CT", **asked})
    return asyncio.run(book.place(request))[0]


@pytest.fixture
def book(tmp_path: Path) -> OrderBook:
    book = OrderBook(tmp_path, lambda: AT)
    order(book, accession="A1", patient_id="P1", patient_name="Muster^Anna", priority="S")
    order(book, accession="A2", patient_id="P2", patient_name="Müller^Jörg", modality="MR")
    order(book, accession="A3", patient_id="P3", patient_name="Mustermann^Max")
    return book


def asked(step: dict[str, str] | None = None, **keys: str) -> Dataset:
    query = Dataset()
    for name in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureID"):
        setattr(query, name, keys.pop(name, ""))
    for name, value in keys.items():
        setattr(query, name, value)
    if step is not None:
        item = Dataset()
        for name, value in step.items():
            setattr(item, name, value)
        query.ScheduledProcedureStepSequence = [item]
    return query


def found(book: OrderBook, query: Dataset) -> list[str]:
    return [str(each.AccessionNumber) for each in worklist.answers(query, book.orders)]


@pytest.mark.parametrize(
    ("keys", "step", "accessions"),
    [
        ({}, None, ["A1", "A2", "A3"]),
        ({"AccessionNumber": "A2"}, None, ["A2"]),
        ({"PatientID": "P3"}, None, ["A3"]),
        ({"PatientName": "Muster*"}, None, ["A1", "A3"]),
        ({"PatientName": "muster^anna"}, None, ["A1"]),
        ({"PatientName": "M?ller*"}, None, ["A2"]),
        ({"PatientName": "Muster^Anna^^"}, None, ["A1"]),
        ({"AccessionNumber": "A9"}, None, []),
        ({}, {"Modality": "MR"}, ["A2"]),
        ({}, {"Modality": "CT", "ScheduledStationAETitle": "CT7"}, ["A1", "A3"]),
        ({}, {"ScheduledProcedureStepStartDate": "20251126"}, ["A1", "A2", "A3"]),
        ({}, {"ScheduledProcedureStepStartDate": "20251125-20251127"}, ["A1", "A2", "A3"]),
        ({}, {"ScheduledProcedureStepStartDate": "-20251125"}, []),
        ({}, {"ScheduledProcedureStepStartDate": "20251127-"}, []),
        ({"PatientID": "P1"}, {"Modality": "MR"}, []),
    ],
)
def test_what_matches_comes_back(
    book: OrderBook, keys: dict[str, str], step: dict[str, str] | None, accessions: list[str]
) -> None:
    assert found(book, asked(step, **keys)) == accessions


def test_an_answer_holds_what_was_asked_for_and_no_more(book: OrderBook) -> None:
    query = asked(
        {"Modality": "CT", "ScheduledProcedureStepID": ""}, AccessionNumber="A1", RequestedProcedurePriority=""
    )
    (answer,) = worklist.answers(query, book.orders)
    assert {each.keyword for each in answer} == {each.keyword for each in query} | {"SpecificCharacterSet"}
    assert (answer.PatientName, answer.RequestedProcedurePriority) == ("Muster^Anna", "STAT")
    (step,) = answer.ScheduledProcedureStepSequence
    assert {each.keyword for each in step} == {"Modality", "ScheduledProcedureStepID"}
    assert step.ScheduledProcedureStepID == book.orders[0].details.scheduled_step_id


def test_a_key_that_we_do_not_have_comes_back_empty(book: OrderBook) -> None:
    query = asked(AccessionNumber="A1", PatientComments="")
    (answer,) = worklist.answers(query, book.orders)
    assert answer.PatientComments in ("", None)


def test_an_empty_item_of_a_sequence_asks_for_all_of_it(book: OrderBook) -> None:
    query = asked(AccessionNumber="A1")
    query.ScheduledProcedureStepSequence = []
    (answer,) = worklist.answers(query, book.orders)
    assert answer.ScheduledProcedureStepSequence[0].Modality == "CT"


def test_what_is_cancelled_or_has_begun_is_no_longer_scheduled(book: OrderBook, tmp_path: Path) -> None:
    steps = StepBook(tmp_path, lambda: AT)
    server = DicomServer(book, steps, ae_title="RIS")
    first, second, third = book.orders
    asyncio.run(book.cancel(first.placer))
    said, scheduled = Dataset(), Dataset()
    scheduled.AccessionNumber, scheduled.StudyInstanceUID = "", second.details.request.study_uid
    said.ScheduledStepAttributesSequence = [scheduled]
    said.PerformedProcedureStepID, said.PerformedStationAETitle, said.Modality = "1", "MR1", "MR"
    said.PerformedProcedureStepStartDate, said.PerformedProcedureStepStartTime = "20251126", "100000"
    said.PerformedProcedureStepStatus = "IN PROGRESS"
    steps.begin("1.2.3.4", said)
    assert [each.placer for each in server.scheduled()] == [third.placer]
