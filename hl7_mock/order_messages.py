"""What an order is made of, and the ORM^O01 that carries it (HL7 v2.5.1 chapter 4; IHE RAD TF-2 4.2, ZDS).

``parse_request`` judges what a person or a test asked for; ``new_order`` fills the gaps; ``encode`` writes the
message. Next: orders.py (where orders are kept).
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

from medai.hl7_mock.acks import timestamp
from medai.hl7_mock.checks import is_dicom_uid
from medai.hl7_mock.message import build, escape
from medai.hl7_mock.tables import PRIORITIES

AUTHORITY = "HOSPITAL"
"""Assigning authority of our patient ids (PID-3.4)."""

CHANGEABLE = ("priority", "procedure_code", "procedure_text")
"""What an order change (ORC-1 XO) may say."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class BadOrderError(ValueError):
    """An order cannot be placed as asked; ``field`` names the key."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


@dataclass(frozen=True, kw_only=True)
class OrderRequest:
    """What may be asked for; empty text means that the RIS chooses."""

    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    accession: str = ""
    study_uid: str = ""
    procedure_code: str = ""
    procedure_text: str = ""
    modality: str = ""
    priority: str = ""


@dataclass(frozen=True, kw_only=True)
class OrderDetails:
    """One complete order, as it is sent."""

    placer: str
    request: OrderRequest
    requested_procedure_id: str
    scheduled_step_id: str
    visit_number: str
    placed_at: float


def short_id(length: int) -> str:
    """Random letters and digits that cannot be mistaken for each other."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def parse_request(asked: object) -> OrderRequest:
    """Check a JSON object; raises BadOrderError naming the key. ``priority`` becomes S, A or R."""
    if not isinstance(asked, Mapping):
        raise BadOrderError("(body)", "must be a JSON object")
    known = {field.name for field in fields(OrderRequest)}
    for key, value in asked.items():
        if key not in known:
            raise BadOrderError(str(key), f"unknown; known are {', '.join(sorted(known))}")
        if not isinstance(value, str):
            raise BadOrderError(key, "must be text")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise BadOrderError(key, "holds a control character")
        if value and (problem := _FORMATS[key](value)):
            raise BadOrderError(key, problem)
    request = OrderRequest(**{key: value.strip() for key, value in asked.items()})
    birth_date = request.birth_date.replace("-", "")
    return replace(request, birth_date=birth_date, priority=PRIORITIES.get(request.priority.upper(), ""))


def _at_most(length: int) -> Callable[[str], str]:
    return lambda value: "" if len(value) <= length else f"is longer than {length} characters"


def _date(value: str) -> str:
    try:
        datetime.strptime(value.replace("-", ""), "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return "must be a date, YYYYMMDD"
    return ""


def _one_of(values: frozenset[str], shown: str) -> Callable[[str], str]:
    return lambda value: "" if value.upper() in values else f"must be one of {shown}"


NAME_UNKNOWN = "^^^^^^U"
"""PID-5 is required: a name of type U (table 0200, unspecified)."""

_FORMATS: dict[str, Callable[[str], str]] = {
    "patient_id": _at_most(64),
    "patient_name": _at_most(190),
    "birth_date": _date,
    "sex": _one_of(frozenset("MFOUAN"), "M, F, O, U, A, N"),
    "accession": lambda value: (
        "must be at most 16 characters, without backslash" if len(value) > 16 or "\\" in value else ""
    ),
    "study_uid": lambda value: "" if is_dicom_uid(value) else "is not a DICOM UID",
    "procedure_code": _at_most(20),
    "procedure_text": _at_most(190),
    "modality": lambda value: "" if re.fullmatch(r"[A-Z]{2,16}", value) else "must be a DICOM modality such as CT",
    "priority": _one_of(frozenset(PRIORITIES), "S (STAT), A (ASAP), R (routine)"),
}


def new_order(request: OrderRequest, *, placed_at: float) -> OrderDetails:
    """Fill what was not asked for with generated values; every generated identifier is new.

    Of a patient whose number was given, nothing is made up: images of theirs may say otherwise.
    """
    made_up = not request.patient_id
    chosen = OrderRequest(
        patient_id=request.patient_id or f"P{short_id(8)}",
        patient_name=request.patient_name or ("Test^Patient" if made_up else ""),
        birth_date=request.birth_date or ("19700101" if made_up else ""),
        sex=request.sex.upper() or "U",
        accession=request.accession or f"A{short_id(9)}",
        study_uid=request.study_uid or f"2.25.{uuid.uuid4().int}",
        procedure_code=request.procedure_code or f"{request.modality or 'CT'}STUDY"[:20],
        procedure_text=request.procedure_text or request.procedure_code or f"{request.modality or 'CT'} study",
        modality=request.modality or "CT",
        priority=request.priority or "R",
    )
    return OrderDetails(
        placer=f"ORD{short_id(10)}",
        request=chosen,
        requested_procedure_id=f"RP{short_id(8)}",
        scheduled_step_id=f"SPS{short_id(8)}",
        visit_number=f"V{short_id(8)}",
        placed_at=placed_at,
    )


def changed(request: OrderRequest, asked: object) -> OrderRequest:
    """An order's request with another priority or procedure; raises BadOrderError naming the key."""
    if isinstance(asked, Mapping):
        for key in asked:
            if key not in CHANGEABLE:
                raise BadOrderError(str(key), f"can't be changed; these can: {', '.join(CHANGEABLE)}")
    wanted = parse_request(asked)
    said = {key: getattr(wanted, key) for key in CHANGEABLE if getattr(wanted, key)}
    if not said:
        raise BadOrderError("(body)", f"names nothing to change: {', '.join(CHANGEABLE)}")
    return replace(request, **said)


def encode(order: OrderDetails, *, control: str, control_id: str, sent_at: float, imaging: bool = False) -> bytes:
    """The message of an order; ``control`` is ORC-1: NW places it, XO changes it, CA cancels it.

    ORM^O01 with the Study UID in ZDS; with ``imaging`` OMI^O23, where IPC has it (v2.5.1 4.5.6).
    """
    head = _msh(control_id, sent_at, "OMI^O23^OMI_O23" if imaging else "ORM^O01^ORM_O01")
    last = _ipc(order) if imaging else _zds(order)
    return build([head, pid_of(order), _pv1(order), _orc(order, control), _obr(order), last])


def _msh(control_id: str, sent_at: float, kind: str) -> list[str]:
    start = ["MSH", "^~\\&", "RIS", AUTHORITY, "MEDAI", "AI", timestamp(sent_at), "", kind, control_id]
    return [*start, "P", "2.5.1", *[""] * 5, "UNICODE UTF-8"]


def pid_of(order: OrderDetails) -> list[str]:
    """PID of an order's patient."""
    asked = order.request
    name = "^".join(escape(part) for part in asked.patient_name.split("^")) or NAME_UNKNOWN
    patient_id = f"{escape(asked.patient_id)}^^^{AUTHORITY}^MR"
    return ["PID", "1", "", patient_id, "", name, "", asked.birth_date, asked.sex]


def _pv1(order: OrderDetails) -> list[str]:
    return ["PV1", "1", "O", *[""] * 16, f"{order.visit_number}^^^{AUTHORITY}"]


def _orc(order: OrderDetails, control: str) -> list[str]:
    status = "CA" if control == "CA" else "SC"
    timing = f"1^^^{timestamp(order.placed_at)}^^{order.request.priority}"
    return ["ORC", control, order.placer, "", "", status, "", timing, "", timestamp(order.placed_at)]


def _obr(order: OrderDetails) -> list[str]:
    asked = order.request
    procedure = f"{escape(asked.procedure_code)}^{escape(asked.procedure_text)}^L"
    values = {
        1: "1",
        2: order.placer,
        4: procedure,
        5: asked.priority,
        6: timestamp(order.placed_at),
        18: escape(asked.accession),
        19: order.requested_procedure_id,
        20: order.scheduled_step_id,
        24: asked.modality,
        27: f"1^^^{timestamp(order.placed_at)}^^{asked.priority}",
    }
    return ["OBR", *(values.get(field, "") for field in range(1, 28))]


def _ipc(order: OrderDetails) -> list[str]:
    asked = order.request
    return [
        "IPC", escape(asked.accession), order.requested_procedure_id, asked.study_uid, order.scheduled_step_id,
        asked.modality,
    ]  # fmt: skip


def _zds(order: OrderDetails) -> list[str]:
    return ["ZDS", f"{order.request.study_uid}^^Application^DICOM"]
