"""The parts of an HL7 v2 message as plain text: header, segments, fields, components. Pure.

Tolerant of what does not matter (line ends, missing segments, character sets). Texts of errors name segments and
fields, never what they hold. Next: text.py (characters, escapes, times), orders_in.py, patients_in.py (what they say).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import hl7

from medai.router.errors import PermanentError
from medai.router.hl7.text import codec_of, decode, escape, moment, unescape

NULL = '""'
PART_LIMIT = 20_000
"""Fields, repetitions, components and segments of one message: an order has some hundred. Each becomes several objects
(about 12 s and 450 MB for a million)."""


class BadMessage(PermanentError):
    """A message that can't be taken. ``ack``: AE for its content, AR for its kind; ``code``: HL7 table 0357."""

    def __init__(self, text: str, *, ack: str = "AE", code: str = "101", location: str = "") -> None:
        super().__init__(text)
        self.ack = ack
        self.code = code
        self.location = location


@dataclass(frozen=True, kw_only=True)
class Header:
    """MSH. ``accept_only``: the sender wants a commit acknowledgement (CA, CE, CR) and no other."""

    control_id: str
    kind: tuple[str, str]
    version: str
    processing_id: str
    sender: tuple[str, str]
    receiver: tuple[str, str]
    sent_at: float | None
    sequence: int | None = None
    """MSH-13: tells two messages of one moment apart."""
    accept_only: bool = False


def header(data: bytes) -> Header | None:
    """The header of a message that may be wrong otherwise, to address its acknowledgement; None for garbage."""
    try:
        return header_of(read(data, header_only=True), strict=False)
    except BadMessage:
        return None


def read(data: bytes, *, header_only: bool = False) -> Any:
    text = re.sub(r"[\r\n]+", "\r", decode(data))
    start = re.match(r"MSH([^\w\s])([^\w\s]{2,5}?)(?:\1|\r|$)", text)
    marks = start[1] + start[2] if start else ""
    if not start or len(set(marks)) < len(marks):
        raise BadMessage("this is not an HL7 message: it does not begin with MSH|^~\\&", code="100", location="MSH^1^1")
    if header_only:
        text = text.partition("\r")[0]
    if text.count("\r") + sum(text.count(mark) for mark in marks) > PART_LIMIT:
        raise BadMessage(f"the message has more than {PART_LIMIT} fields and parts of fields", code="207")
    try:
        return hl7.parse(text)
    except (hl7.HL7Exception, ValueError, IndexError, KeyError, AssertionError) as error:
        raise BadMessage("the message cannot be split into segments", code="100") from error


def header_of(message: Any, *, strict: bool = True) -> Header:
    msh = segments_of(message)[0]
    control_id, version = msh.text(10), msh.text(12)
    if strict and not control_id:
        raise BadMessage("MSH-10 (message control id) is empty", location="MSH^1^10")
    if strict and version and not version.startswith("2"):
        raise BadMessage("MSH-12 names no version 2 of HL7", ack="AR", code="203", location="MSH^1^12")
    accept, application = msh.text(15).upper(), msh.text(16).upper()
    return Header(
        control_id=control_id,
        kind=(msh.text(9).upper(), msh.text(9, 2).upper()),
        version=version,
        processing_id=msh.text(11),
        sender=(msh.text(3), msh.text(4)),
        receiver=(msh.text(5), msh.text(6)),
        sent_at=moment(msh.text(7)),
        sequence=int(msh.text(13)) if re.fullmatch(r"[0-9]{1,15}", msh.text(13)) else None,
        accept_only=accept in ("AL", "SU", "ER") and application in ("", "NE"),
    )


class Segment:
    """Fields of one segment as plain text; what is not there is empty, and so is HL7's null ``""``."""

    def __init__(self, segment: Any, marks: str, codec: str = "utf-8") -> None:
        self._segment = segment
        self._marks = marks
        self._codec = codec
        self.name = str(segment[0]) if segment else ""

    def text(self, field: int, component: int = 1, *, sub: int = 1, repetition: int = 1) -> str:
        """MSH-like numbering from 1; unescaped and stripped."""
        node: Any = self._segment
        for index in (field, repetition - 1, component - 1, sub - 1):
            parts = [node] if isinstance(node, str) else node
            node = parts[index] if index < len(parts) else ""
        text = unescape(str(node), self._marks, self._codec).strip() if node else ""
        return "" if text == NULL else text

    def said(self, field: int, component: int = 1, *, repetition: int = 1) -> str | None:
        """As ``text``; None where the message says nothing, empty where it says that there is nothing (null)."""
        found = self.text(field, component, repetition=repetition)
        return found if found or self.is_null(field) else None

    def encoded(self, field: int) -> tuple[str, ...]:
        """Every repetition that says something, whole and HL7 encoded with the usual delimiters."""
        if field >= len(self._segment) or self.is_null(field):
            return ()
        written = (self._encoded(node, "^&") for node in _parts(self._segment[field]))
        return tuple(text for text in written if text)

    def _encoded(self, node: Any, delimiters: str) -> str:
        if not delimiters:
            text = unescape(str(node), self._marks, self._codec).strip()
            return "" if text == NULL else escape(text)
        return delimiters[0].join(self._encoded(part, delimiters[1:]) for part in _parts(node)).rstrip(delimiters[0])

    def is_null(self, field: int) -> bool:
        """Whether a field holds HL7's null ``""``: what it said before is deleted. An empty field says nothing."""
        if field >= len(self._segment):
            return False
        parts = re.split(f"[{re.escape(self._marks[1:3] or '^~')}]", str(self._segment[field]))
        return NULL in parts and all(part.strip() in ("", NULL) for part in parts)

    def repetitions(self, field: int) -> range:
        """Numbers of the repetitions that a field has."""
        return range(1, len(self._segment[field]) + 1) if field < len(self._segment) else range(0)

    def name_text(self, field: int) -> str:
        """A person's name (XPN), HL7 encoded with the usual delimiters: family^given^middle."""
        parts = [escape(self.text(field, n)) for n in range(1, 6)]
        return "^".join(parts).rstrip("^")


def _parts(node: Any) -> list[Any]:
    return [node] if isinstance(node, str) else list(node)


def segments_of(message: Any) -> list[Segment]:
    msh = message[0]
    marks = str(msh[1]) + str(msh[2])
    codec = codec_of(str(msh[18]) if len(msh) > 18 else "", marks[2:3] or "~")
    return [Segment(segment, marks, codec) for segment in message]


def find(segments: Iterable[Segment], name: str) -> Segment:
    return next((segment for segment in segments if segment.name == name), Segment([], ""))


def patient_number(pid: Segment, field: int) -> int:
    """Which repetition of a list of identifiers is the medical record number (type MR), else the first."""
    return next((n for n in pid.repetitions(field) if pid.text(field, 5, repetition=n).upper() == "MR"), 1)


def first(*texts: str) -> str:
    return next((text for text in texts if text), "")
