"""Write our acknowledgements and read those of others (HL7 v2.5.1 chapter 2, 2.9 and 2.14: MSH, MSA, ERR).

Original mode: AA took it, AE the content is wrong, AR we cannot take it now or never will.
Next: receiver.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from medai.hl7_mock.message import Message, Segment, UnreadableMessageError, build, escape, parse
from medai.hl7_mock.tables import ERROR_CODES

MAX_ERRORS = 20
"""More ERR segments than these help nobody."""


@dataclass(frozen=True, kw_only=True)
class Objection:
    """One thing that is wrong with a message: becomes an ERR segment. ``text`` never quotes the patient's data."""

    code: str
    """HL7 table 0357."""
    text: str
    segment: str = ""
    sequence: int = 1
    """Which segment of that name, from 1."""
    field: int = 0


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """What the other side answered."""

    code: str
    """MSA-1: AA, AE, AR, CA, CE, CR."""
    control_id: str
    """MSA-2."""
    text: str = ""
    error_code: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the message was taken."""
        return self.code in {"AA", "CA"}


def timestamp(at_s: float) -> str:
    """HL7 TS of a moment (seconds since the epoch), to the second, in UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%d%H%M%S+0000")


def write(
    *,
    header: Segment | None,
    code: str,
    own_id: str,
    at_s: float,
    objections: Sequence[Objection] = (),
    control_id: str | None = None,
) -> bytes:
    """The ACK for the message with this MSH (None: the message had no readable one).

    ``control_id`` replaces MSA-2; only a test fault wants that.
    """

    def of(number: int) -> str:
        return header.raw(number) if header is not None else ""

    event = header.value(9, 2) if header is not None else ""
    kind = f"ACK^{escape(event)}^ACK" if event else "ACK"
    answered = of(10) if control_id is None else control_id
    msh = ["MSH", "^~\\&", of(5), of(6), of(3), of(4), timestamp(at_s), "", kind, own_id, of(11) or "P", "2.5.1"]
    msa = ["MSA", code, answered]
    return build([[*msh, *[""] * 5, "UNICODE UTF-8"], msa, *map(_err, objections[:MAX_ERRORS])])


def _err(objection: Objection) -> list[str]:
    place = ""
    if objection.segment:
        place = f"{objection.segment}^{objection.sequence}" + (f"^{objection.field}" if objection.field else "")
    coded = f"{objection.code}^{ERROR_CODES.get(objection.code, 'Error')}^HL70357"
    return ["ERR", "", place, coded, "E", "", "", "", escape(objection.text[:250])]


def read(raw: bytes) -> Acknowledgement:
    """An acknowledgement; raises UnreadableMessageError where there is no usable MSA."""
    message: Message = parse(raw)
    msa = message.first("MSA")
    if msa is None or not msa.raw(1):
        raise UnreadableMessageError("100", "the reply has no MSA segment")
    err = message.first("ERR")
    text = msa.value(3)
    if err is not None:
        text = err.value(8) or err.value(3, 2) or text
    return Acknowledgement(
        code=msa.value(1), control_id=msa.value(2), text=text, error_code=err.value(3) if err is not None else ""
    )
