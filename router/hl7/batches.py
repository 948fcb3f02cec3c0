"""Several messages in one frame, with a header and a trailer (FHS, BHS, BTS, FTS), and the batch that answers. Pure.

A batch is looked at as a whole before anything of it is taken: one that came in part would leave nobody knowing what
was kept. Sources: HL7 v2.5.1 chapter 2 (2.10.3, batch protocol; 2.15.2, 2.15.3, 2.15.4, 2.15.5, segments).
Next: listener.py (who takes each message), acknowledge.py (the answer to each).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from medai.router.contract import short_id
from medai.router.hl7.acknowledge import stamp
from medai.router.hl7.segments import BadMessage, Header, header
from medai.router.hl7.text import BOM, decode, escape, narrow, unescape

MESSAGE_LIMIT = 10_000
"""Messages of one frame: a day's orders, and some seconds of work during which no other sender is answered."""
_NAMES = frozenset({"FHS", "BHS", "MSH", "BTS", "FTS"})


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """FHS or BHS: who sends to whom, under which number."""

    control_id: str
    sender: tuple[str, str]
    receiver: tuple[str, str]

    @property
    def head(self) -> Header:
        """What an acknowledgement of the whole needs."""
        return Header(
            control_id=self.control_id,
            kind=("", ""),
            version="",
            processing_id="",
            sender=self.sender,
            receiver=self.receiver,
            sent_at=None,
        )


@dataclass(kw_only=True)
class Batch:
    """The messages between BHS and BTS; without an envelope those of a file that has no BHS."""

    envelope: Envelope | None = None
    messages: list[bytes] = field(default_factory=list)


@dataclass(kw_only=True)
class Batches:
    """What one frame holds."""

    envelope: Envelope | None = None
    batches: list[Batch] = field(default_factory=list)


def split(data: bytes) -> Batches | None:
    """The messages of a frame; None where it holds one message (or none). Raises BadMessage for a wrong envelope."""
    lines, mark = _lines(data)
    names = [_name(line) for line in lines]
    if not _NAMES.intersection(names) - {"MSH"} and names.count("MSH") < 2:
        return None
    if names.count("MSH") > MESSAGE_LIMIT:
        raise BadMessage(f"there are more than {MESSAGE_LIMIT} messages in one frame", code="207")
    reader = _Reader(mark)
    for name, line in zip(names, lines, strict=True):
        reader.take(name, line)
    return reader.end()


def head_of(data: bytes) -> Header | None:
    """Whom to tell that a frame was refused: its first envelope, else its first message; None for garbage."""
    lines, _ = _lines(data)
    try:
        return _envelope(lines[0]).head if lines and _name(lines[0]) in ("FHS", "BHS") else header(data)
    except BadMessage:
        return None


def answer(whole: Batches, acknowledgements: Sequence[Sequence[bytes]], *, now: float) -> bytes:
    """The acknowledgements of each batch's messages, in envelopes that mirror those that came."""
    found = [_opening("FHS", whole.envelope, now)] if whole.envelope else []
    for batch, acks in zip(whole.batches, acknowledgements, strict=True):
        found += [_opening("BHS", batch.envelope, now)] if batch.envelope else []
        found += acks
        found += [f"BTS|{len(acks)}\r".encode()] if batch.envelope else []
    found += [f"FTS|{len(whole.batches)}\r".encode()] if whole.envelope else []
    return b"".join(found)


class _Reader:
    """Takes a frame's segments one by one and holds what they must follow."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._whole = Batches()
        self._batch: Batch | None = None
        self._message: list[bytes] = []
        self._marks = {"FHS": "|^", "BHS": "|^"}
        self._begun = self._ended = False

    def take(self, name: str, line: bytes) -> None:
        if name.startswith("Z") and not self._message:
            return  # a site's own segment around the messages says nothing that is known here
        if self._ended:
            raise BadMessage("there is something after FTS", code="100", location="FTS^1")
        steps = {"FHS": self._open_file, "BHS": self._open_batch, "MSH": self._open_message, "BTS": self._close_batch}
        steps.get(name, self._close_file if name == "FTS" else self._go_on)(line)
        self._begun = True

    def end(self) -> Batches:
        if self._batch is not None and self._batch.envelope is not None:
            raise BadMessage("BTS is missing: the batch came in part", code="100", location="BTS^1")
        if self._whole.envelope is not None and not self._ended:
            raise BadMessage("FTS is missing: the file came in part", code="100", location="FTS^1")
        return self._whole

    def _open_file(self, line: bytes) -> None:
        if self._begun:
            raise BadMessage("FHS stands inside of a batch or a file", code="100", location="FHS^1")
        self._whole.envelope = _envelope(line)
        self._marks["FHS"] = line[3:5].decode("ascii", "replace")

    def _open_batch(self, line: bytes) -> None:
        if self._batch is not None and self._batch.envelope is not None:
            raise BadMessage("BHS stands inside of a batch: BTS is missing", code="100", location="BHS^1")
        self._close_message()
        self._batch = Batch(envelope=_envelope(line))
        self._whole.batches.append(self._batch)
        self._marks["BHS"] = line[3:5].decode("ascii", "replace")

    def _open_message(self, line: bytes) -> None:
        self._close_message()
        if self._batch is None:
            if self._whole.envelope is None:
                text = "there are several messages in one frame: put them between BHS and BTS"
                raise BadMessage(text, code="100", location="BHS^1")
            self._batch = Batch()
            self._whole.batches.append(self._batch)
        self._message = [line]

    def _go_on(self, line: bytes) -> None:
        if not self._message:
            raise BadMessage("a segment stands outside of the messages", code="100", location="MSH^1")
        self._message.append(line)

    def _close_message(self) -> None:
        if self._message and self._batch is not None:
            self._batch.messages.append(self._mark + b"\r".join(self._message) + b"\r")
        self._message = []

    def _close_batch(self, line: bytes) -> None:
        self._close_message()
        if self._batch is None or self._batch.envelope is None:
            raise BadMessage("BTS has no BHS before it", code="100", location="BTS^1")
        _check_count(line, self._marks["BHS"], "BTS", {len(self._batch.messages)})
        self._batch = None

    def _close_file(self, line: bytes) -> None:
        if self._whole.envelope is None:
            raise BadMessage("FTS has no FHS before it", code="100", location="FTS^1")
        if self._batch is not None and self._batch.envelope is not None:
            raise BadMessage("BTS is missing: the batch came in part", code="100", location="BTS^1")
        self._close_message()
        counts = {len(self._whole.batches)}
        if all(batch.envelope is None for batch in self._whole.batches):
            counts.add(sum(len(batch.messages) for batch in self._whole.batches))
        _check_count(line, self._marks["FHS"], "FTS", counts)
        self._batch, self._ended = None, True


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments of a frame, and the mark of UTF-8 that each message needs where the frame's was another encoding."""
    plain = narrow(data)
    mark = BOM if plain.startswith(BOM) else b""
    return [line for line in re.split(rb"[\r\n]+", plain.removeprefix(BOM)) if line.strip()], mark


def _name(line: bytes) -> str:
    found = re.match(rb"([A-Z][A-Z0-9]{2})(?:[^\w\s]|$)", line)
    return found[1].decode() if found else ""


def _envelope(line: bytes) -> Envelope:
    text = decode(line)
    start = re.match(r"[FB]HS([^\w\s])([^\w\s]{2,5}?)(?:\1|$)", text)
    marks = start[1] + start[2] if start else ""
    if len(set(marks)) < max(3, len(marks)):
        raise BadMessage(f"{text[:3]} names no delimiters", code="100", location=f"{text[:3]}^1^1")
    fields = [*text.split(marks[0]), *[""] * 12]

    def value(number: int) -> str:
        return unescape(fields[number - 1].split(marks[1])[0], marks).strip()

    return Envelope(control_id=value(11), sender=(value(3), value(4)), receiver=(value(5), value(6)))


def _check_count(line: bytes, marks: str, name: str, counts: set[int]) -> None:
    """A trailer that says how many there are must be right: what is missing was lost on the way."""
    told = re.split(f"[{re.escape(marks)}]", line.decode("utf-8", "replace") + marks[0])[1].strip()
    if not told:
        return
    if not re.fullmatch("[0-9]{1,9}", told):
        raise BadMessage(f"{name}-1 is not a number", code="102", location=f"{name}^1^1")
    if int(told) not in counts:
        raise BadMessage(f"{name}-1 says another number than came", code="100", location=f"{name}^1^1")


def _opening(name: str, envelope: Envelope, now: float) -> bytes:
    names = "|".join(escape(each) for each in (*envelope.receiver, *envelope.sender))
    number = short_id(f"{name}|{envelope.control_id}|{now}")
    return f"{name}|^~\\&|{names}|{stamp(now)}||||{number}|{escape(envelope.control_id)}\r".encode()
