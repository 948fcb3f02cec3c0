"""The answer to a message: ACK with MSA, and ERR where it was not taken. Pure.

Sources: HL7 v2.5.1 chapter 2 (2.9, acknowledgements) and table 0357. Next: listener.py (when which answer leaves).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from medai.router.contract import short_id
from medai.router.hl7.segments import BadMessage, Header
from medai.router.hl7.text import escape

_CODES = {
    "100": "Segment sequence error", "101": "Required field missing", "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type", "201": "Unsupported event code", "203": "Unsupported version id",
    "207": "Application internal error",
}  # fmt: skip
"""HL7 table 0357."""


def acknowledge(head: Header | None, ack: str, *, now: float, error: BadMessage | None = None) -> bytes:
    """An ACK for a message: AA, AE or AR (CA, CE, CR where the sender wants only those), with ERR for an error.

    ``head`` is None for garbage. Its own control id derives from the message's, the answer and the time.
    """
    told = head or Header(
        control_id="",
        kind=("", ""),
        version="2.5.1",
        processing_id="P",
        sender=("", ""),
        receiver=("", ""),
        sent_at=None,
    )
    code = f"C{ack[1]}" if told.accept_only else ack
    event = f"^{escape(told.kind[1])}^ACK" if told.kind[1] else ""
    names = "|".join(escape(name) for name in (*told.receiver, *told.sender))
    own_id = short_id(f"{told.control_id}|{code}|{now}")
    lines = [
        f"MSH|^~\\&|{names}|{stamp(now)}||ACK{event}|{own_id}|{escape(told.processing_id or 'P')}"
        f"|{escape(told.version or '2.5.1')}||||||UNICODE UTF-8",
        f"MSA|{code}|{escape(told.control_id)}",
    ]
    if error is not None:
        kind = f"{error.code}^{_CODES.get(error.code, 'Application internal error')}^HL70357"
        lines.append(f"ERR||{error.location}|{kind}|E||||{escape(str(error))}")
    return ("\r".join(lines) + "\r").encode()


def stamp(now: float) -> str:
    """A time as HL7 writes it."""
    return time.strftime("%Y%m%d%H%M%S+0000", datetime.fromtimestamp(now, UTC).timetuple())
