"""What may be asked of a patient, and the ADT^A04, A08 and A40 that tell it (HL7 v2.5.1 chapter 3: EVN, PID, MRG).

Next: patients.py (where it is kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medai.hl7_mock.acks import timestamp
from medai.hl7_mock.message import build, escape
from medai.hl7_mock.order_messages import AUTHORITY, BadOrderError, parse_request

KEYS = ("patient_id", "patient_name", "birth_date", "sex")


@dataclass(frozen=True, kw_only=True)
class Person:
    """A patient's data; empty text where nothing is known."""

    patient_id: str
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""

    def over(self, known: Person) -> Person:
        """This person, with what is not said here taken from ``known``."""
        return Person(
            patient_id=self.patient_id,
            patient_name=self.patient_name or known.patient_name,
            birth_date=self.birth_date or known.birth_date,
            sex=self.sex or known.sex,
        )


def parse_person(asked: object, *, merge: bool) -> tuple[Person, str]:
    """(person, prior id) of a JSON object, by the rules of an order; raises BadOrderError naming the key."""
    if not isinstance(asked, Mapping):
        raise BadOrderError("(body)", "must be a JSON object")
    known = (*KEYS, "prior_id") if merge else KEYS
    for key in asked:
        if key not in known:
            raise BadOrderError(str(key), f"unknown; known are {', '.join(sorted(known))}")
    request = parse_request({key: value for key, value in asked.items() if key != "prior_id"})
    prior_id = _prior(asked) if merge else ""
    if not request.patient_id:
        raise BadOrderError("patient_id", "is needed")
    if request.patient_id == prior_id:
        raise BadOrderError("prior_id", "is the patient_id: a patient cannot be merged into itself")
    person = Person(
        patient_id=request.patient_id,
        patient_name=request.patient_name,
        birth_date=request.birth_date,
        sex=request.sex.upper(),
    )
    return person, prior_id


def _prior(asked: Mapping[str, object]) -> str:
    if not asked.get("prior_id"):
        raise BadOrderError("prior_id", "is needed")
    try:
        return parse_request({"patient_id": asked["prior_id"]}).patient_id
    except BadOrderError as error:
        raise BadOrderError("prior_id", str(error).partition(": ")[2]) from error


def encode(person: Person, *, prior_id: str, control_id: str, sent_at: float, registers: bool = False) -> bytes:
    """ADT^A40 where there is a prior identifier, ADT^A04 where the patient is registered, else ADT^A08."""
    moment = timestamp(sent_at)
    event, structure = ("A40", "ADT_A39") if prior_id else ("A04" if registers else "A08", "ADT_A01")
    kind = f"ADT^{event}^{structure}"
    msh = ["MSH", "^~\\&", "RIS", AUTHORITY, "MEDAI", "AI", moment, "", kind, control_id, "P", "2.5.1"]
    name = "^".join(escape(part) for part in person.patient_name.split("^"))
    pid = ["PID", "1", "", _identifier(person.patient_id), "", name, "", person.birth_date, person.sex]
    last = ["MRG", _identifier(prior_id)] if prior_id else ["PV1", "1", "O"]
    return build([[*msh, *[""] * 5, "UNICODE UTF-8"], ["EVN", "", moment], pid, last])


def _identifier(patient_id: str) -> str:
    return f"{escape(patient_id)}^^^{AUTHORITY}^MR"
