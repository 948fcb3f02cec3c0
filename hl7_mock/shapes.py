"""Orders and results as JSON: the shapes that GET /orders and GET /results promise (docs/ris.md).

Next: web.py.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medai.hl7_mock.matching import match
from medai.hl7_mock.mpps import Step
from medai.hl7_mock.orders import Order
from medai.hl7_mock.patients import PatientEvent
from medai.hl7_mock.reports import Report
from medai.hl7_mock.results import Observation, Result
from medai.hl7_mock.ris import Ris


def order_json(order: Order, *, resulted: bool, step: Step | None = None) -> dict[str, Any]:
    """An order for GET and POST /orders; ``ack`` is that of its newest message, ``step`` what a
    scanner says of it."""
    details, newest = order.details, order.messages[-1]
    return {
        "placer": order.placer,
        **asdict(details.request),
        "requested_procedure_id": details.requested_procedure_id,
        "scheduled_step_id": details.scheduled_step_id,
        "visit_number": details.visit_number,
        "placed_at": details.placed_at,
        "state": order.state(resulted=resulted),
        "ack": newest.ack,
        "ack_text": newest.ack_text,
        "attempts": newest.attempts,
        "step": step.status if step else "",
        "messages": [asdict(message) for message in order.messages],
    }


def patient_json(event: PatientEvent) -> dict[str, Any]:
    """An update or merge for GET and POST /patients."""
    message = event.message
    return {
        "kind": event.kind,
        "prior_id": event.prior_id,
        **asdict(event.person),
        "at": event.at,
        "control_id": message.control_id,
        "ack": message.ack,
        "ack_text": message.ack_text,
        "attempts": message.attempts,
        "messages": [asdict(message)],
    }


def report_json(report: Report) -> dict[str, Any]:
    """A final report for GET and POST /reports."""
    shown = {key: value for key, value in asdict(report).items() if key != "message"}
    message = report.message
    return {**shown, "control_id": message.control_id, "ack": message.ack, "messages": [asdict(message)]}


def brief_json(result: Result) -> dict[str, Any]:
    """What a poller needs of a result: GET /results?brief=1."""
    reading = result.reading
    return {
        "placer": reading.placer,
        "filler": reading.filler,
        "accession": reading.accession,
        "study_uid": reading.study_uid,
        "status": reading.status,
        "withdrawn": reading.status == "X",
        "received_at": result.latest.received_at,
    }


def result_json(ris: Ris, result: Result) -> dict[str, Any]:
    """A result for GET /results; times are seconds since the epoch, measurements are those that hold now.

    ``patient_id`` is the patient's of today, ``sent_patient_id`` the one of the message.
    """
    reading, found = result.reading, match(result.reading, ris.book)
    raw = ris.inbox.raw(result.latest.message_id) or b""
    return {
        "placer": reading.placer,
        "filler": reading.filler,
        "accession": reading.accession,
        "study_uid": reading.study_uid,
        "patient_id": ris.patients.surviving(reading.patient_id),
        "sent_patient_id": reading.patient_id,
        "procedure": reading.procedure,
        "modality": reading.modality,
        "status": reading.status,
        "withdrawn": reading.status == "X",
        "control_id": result.latest.control_id,
        "message_id": result.latest.message_id,
        "received_at": result.latest.received_at,
        "order": found.order.placer if found.order else None,
        "flags": list(found.flags),
        "measurements": [measurement_json(each, reading.subject_of(each)) for each in reading.measurements],
        "observations": [asdict(each) for each in reading.observations],
        "history": [asdict(step) for step in result.history],
        "raw": raw.decode("utf-8", "replace"),
    }


def measurement_json(item: Observation, subject: str) -> dict[str, Any]:
    """One number; ``subject`` is what it is of, where the message says so."""
    return {
        "name": item.name,
        "value": item.number,
        "unit": item.unit,
        "label": item.label,
        "subject": subject,
        "code": item.code,
        "sub_id": item.sub_id,
        "flag": item.flag,
        "status": item.status,
    }
