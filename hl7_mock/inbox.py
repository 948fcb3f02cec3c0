"""What arrived, kept on disk: one file for each accepted message, and an index that is rebuilt at start.

The file name holds number and time of arrival, the file holds the bytes as they came; all else follows from them,
so there is no second truth that could disagree. A message is acknowledged after its file is on the disk.
``seen`` and ``contradictions`` say what a message is to what came before; ``store`` keeps it.
Next: matching.py (which order it answers), receiver.py.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from medai.hl7_mock.acks import Objection
from medai.hl7_mock.message import Message, UnreadableMessageError, parse
from medai.hl7_mock.results import Reading, Result, Step, readings
from medai.hl7_mock.storage import clear_parts, make_private, write_atomic
from medai.hl7_mock.tables import STATUS_RANK

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One accepted message on disk."""

    message_id: str
    received_at: float
    control_id: str
    digest: str
    path: Path


class Inbox:
    """The accepted messages of one folder, and what they add up to.

    Not for several tasks at once: receiver.py holds a lock from ``seen`` to ``store``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "inbox"
        self._arrivals: dict[str, Arrival] = {}
        self._by_key: dict[tuple[str, str, str], Arrival] = {}
        self._results: dict[str, Result] = {}
        self._next = 1
        self.writable = True
        make_private(self._folder)
        clear_parts(self._folder)
        self._load()

    def __len__(self) -> int:
        """How many messages were accepted."""
        return len(self._arrivals)

    @property
    def results(self) -> tuple[Result, ...]:
        """One for each filler number, the latest arrival last."""
        return tuple(sorted(self._results.values(), key=lambda result: result.latest.received_at))

    def raw(self, name: str) -> bytes | None:
        """The bytes of an accepted message, by its number here or by its control id (the latest of that name)."""
        arrival = self._arrivals.get(name)
        if arrival is None:
            arrival = next((each for each in reversed(self._arrivals.values()) if each.control_id == name), None)
        return None if arrival is None else arrival.path.read_bytes()

    def seen(self, message: Message) -> bool | None:
        """True: this very message is here already. False: another one of the same name is. None: it is new."""
        known = self._by_key.get(message.key)
        return None if known is None else known.digest == _digest(message.raw)

    def contradictions(self, message: Message) -> tuple[Objection, ...]:
        """Why a message cannot follow what is already known of its filler numbers."""
        found: list[Objection] = []
        fillers: set[str] = set()
        for number, reading in enumerate(readings(message), start=1):
            known = self._results.get(reading.filler)
            if reading.filler in fillers:
                found.append(_objection("205", 3, number, "(filler number) appears twice in this message"))
            elif known is None and reading.status == "X":
                found.append(_objection("204", 3, number, "(filler number) has no result here that could be withdrawn"))
            elif known is not None:
                found += _contradictions(number, known, reading)
            fillers.add(reading.filler)
        return tuple(found)

    async def store(self, message: Message, received_at: float) -> Arrival:
        """Put a new message on the disk, then take it into the index. Raises OSError with nothing changed."""
        path = self._folder / f"{self._next:08d}-{round(received_at * 1000)}.hl7"
        try:
            await asyncio.to_thread(write_atomic, path, message.raw)
        except OSError:
            self.writable = False
            raise
        self.writable = True
        return self._index(path, message)

    def _index(self, path: Path, message: Message) -> Arrival:
        number, _, milliseconds = path.stem.partition("-")
        arrival = Arrival(
            message_id=str(int(number)),
            received_at=int(milliseconds) / 1000,
            control_id=message.header.raw(10),
            digest=_digest(message.raw),
            path=path,
        )
        self._next = int(number) + 1
        self._arrivals[arrival.message_id] = arrival
        self._by_key[message.key] = arrival
        for reading in readings(message):
            known = self._results.get(reading.filler)
            self._results[reading.filler] = _follow(known, reading, arrival)
        return arrival

    def _load(self) -> None:
        for path in sorted(self._folder.glob("*.hl7")):
            try:
                self._index(path, parse(path.read_bytes()))
            except (UnreadableMessageError, ValueError):
                log.error("inbox_file_unreadable", file=path.name)


def _follow(known: Result | None, reading: Reading, arrival: Arrival) -> Result:
    step = Step(
        status=reading.status,
        control_id=arrival.control_id,
        received_at=arrival.received_at,
        message_id=arrival.message_id,
    )
    return Result(reading=reading, history=(*(known.history if known else ()), step))


def may_follow(history: Sequence[str], news: str) -> bool:
    """Whether a result that had these statuses (table 0123) may be followed by one with another.

    Never backwards. C replaces a final result, so there must have been one: a preliminary result that is read again is
    preliminary again. HL7 does not say what may follow X (no result available). A study can be deleted and come again,
    so a new result may; a late copy of the withdrawn one never gets here, as ``seen`` knows it by its control id. X
    after X says nothing new.
    """
    known = history[-1]
    if news == "C":
        return "F" in history or "C" in history
    if known == "X":
        return news != "X"
    return STATUS_RANK[news] >= STATUS_RANK[known]


def _contradictions(number: int, result: Result, news: Reading) -> list[Objection]:
    known, found = result.reading, list[Objection]()
    history = [step.status for step in result.history]
    if not may_follow(history, news.status):
        why = ": no final result came before" if news.status == "C" else ""
        text = f"(result status) cannot go from {known.status} to {news.status}{why}"
        found.append(_objection("207", 25, number, text))
    if known.study_uid != news.study_uid:
        found.append(_objection("204", 3, number, "(filler number) belongs to a result of another study"))
    if known.accession and news.accession and known.accession != news.accession:
        found.append(_objection("204", 18, number, "(accession) differs from the result that this one replaces"))
    return found


def _objection(code: str, field: int, number: int, text: str) -> Objection:
    return Objection(code=code, text=f"OBR-{field} {text}", segment="OBR", sequence=number, field=field)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
