"""What the page shows: orders with their results, results without one, patient updates, refused messages, counts.

Turns the parts into rows of plain text; templates/ris.html lays them out and escapes them.
Next: web.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from medai.hl7_mock.matching import flags_of, match
from medai.hl7_mock.orders import Order
from medai.hl7_mock.patient_messages import Person
from medai.hl7_mock.results import Result
from medai.hl7_mock.ris import Ris
from medai.hl7_mock.tables import PRIORITY_NAMES, RESULT_STATUS

SHOWN = 100
"""Rows; older ones are in GET /orders and GET /results."""

FLAGS = {
    "unsolicited": "no order",
    "other_study_uid": "other study than ordered",
    "order_cancelled": "order was cancelled",
}

_TEMPLATES = Environment(
    loader=PackageLoader("medai.hl7_mock"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, kw_only=True)
class ResultView:
    """One result."""

    filler: str
    status: str
    status_name: str
    received: str
    elapsed: str
    """From the order to the first result; empty without an order."""
    flags: tuple[str, ...]
    study_uid: str
    measurements: tuple[tuple[str, str, str, str], ...]
    """(what of, name, value, unit)."""
    findings: tuple[tuple[str, str], ...]
    """(name, text) of the other observations."""
    history: tuple[tuple[str, str, str, str], ...]
    """(status, when, control id, message id)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: an order, or a result that has none."""

    key: str
    patient: str
    patient_id: str
    accession: str
    procedure: str
    modality: str
    priority: str
    priority_name: str
    placed: str
    state: str
    acks: tuple[tuple[str, str, str, int], ...]
    """(ORC-1, MSA-1 or "", its text, attempts) of each message of the order."""
    messages: tuple[tuple[str, str], ...]
    """(name, id) of the order's messages."""
    results: tuple[ResultView, ...]


def render(ris: Ris) -> str:
    """The page as HTML."""
    results = _by_order(ris)
    orders = tuple(_order_row(order, results.get(order.placer, ())) for order in reversed(ris.book.orders[-SHOWN:]))
    loose = tuple(_loose_row(ris, result) for result in reversed(results.get("", ())[-SHOWN:]))
    patients = [
        (each.kind, _spoken(each.person.patient_name), each.person.patient_id, each.prior_id, _moment(each.at),
         each.message.ack, each.message.ack_text, each.message.control_id)
        for each in reversed(ris.patients.events[-20:])
    ]  # fmt: skip
    refused = [
        (each.message_id, _moment(each.received_at), each.ack, [(o.code, o.text) for o in each.objections])
        for each in ris.refusals.newest_first[:20]
    ]
    return _TEMPLATES.get_template("ris.html").render(
        rows=orders,
        newest=next((row.key for row in orders if row.results), ""),
        loose=loose,
        patients=patients,
        refused=refused,
        stats=ris.receiver.stats,
        order_count=len(ris.book.orders),
        waiting=sum(row.state in {"placed", "acknowledged"} for row in orders),
        hidden=max(0, len(ris.book.orders) - SHOWN),
        faults=ris.faults.as_list(),
        mllp_address=ris.mllp_address,
        router_address=ris.router_address,
        ready=ris.mllp.ready and ris.inbox.writable,
        now=_moment(ris.clock()),
    )


def _by_order(ris: Ris) -> dict[str, tuple[Result, ...]]:
    """Results by placer number of their order; those without one under the empty text."""
    found: dict[str, tuple[Result, ...]] = {}
    for result in ris.inbox.results:
        order = match(result.reading, ris.book).order
        key = order.placer if order else ""
        found[key] = (*found.get(key, ()), result)
    return found


def _order_row(order: Order, results: Sequence[Result]) -> Row:
    asked = order.details.request
    return Row(
        key=order.placer,
        patient=_spoken(asked.patient_name),
        patient_id=asked.patient_id,
        accession=asked.accession,
        procedure=asked.procedure_text,
        modality=asked.modality,
        priority=asked.priority,
        priority_name=PRIORITY_NAMES.get(asked.priority, asked.priority),
        placed=_moment(order.details.placed_at),
        state=order.state(resulted=bool(results)),
        acks=tuple((each.control, each.ack, each.ack_text, each.attempts) for each in order.messages),
        messages=tuple((f"ORM {each.control}", each.control_id) for each in order.messages),
        results=tuple(_result_view(result, order) for result in results),
    )


def _loose_row(ris: Ris, result: Result) -> Row:
    reading = result.reading
    person = ris.patients.current(Person(patient_id=reading.patient_id), since=result.latest.received_at)
    return Row(
        key=reading.filler,
        patient=_spoken(person.patient_name) or reading.patient_name,
        patient_id=person.patient_id,
        accession=reading.accession,
        procedure=reading.procedure,
        modality=reading.modality,
        priority="",
        priority_name="",
        placed="",
        state="resulted",
        acks=(),
        messages=(),
        results=(_result_view(result, None),),
    )


def _result_view(result: Result, order: Order | None) -> ResultView:
    reading = result.reading
    elapsed_s = result.history[0].received_at - order.details.placed_at if order else None
    return ResultView(
        filler=reading.filler,
        status=reading.status,
        status_name=RESULT_STATUS.get(reading.status, reading.status),
        received=_moment(result.latest.received_at),
        elapsed=_duration(elapsed_s) if elapsed_s is not None and elapsed_s >= 0 else "",
        flags=tuple(FLAGS[flag] for flag in flags_of(reading, order)),
        study_uid=reading.study_uid,
        measurements=tuple(
            (reading.subject_of(item), item.name, f"{item.number:,.10g}", item.unit)
            for item in reading.measurements
            if item.number is not None
        ),
        findings=tuple((item.name, item.text) for item in reading.observations if item.number is None and item.text),
        history=tuple(
            (step.status, _moment(step.received_at), step.control_id, step.message_id) for step in result.history
        ),
    )


def _spoken(name: str) -> str:
    """PID-5 as people read it."""
    family, _, rest = name.partition("^")
    return ", ".join(part for part in (family, rest.replace("^", " ").strip()) if part)


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
