"""The radiologists of a trial: who reads what next, and when. One queue with two uses.

Live, ``ReadingRoom`` is told what arrives and asked what happens; afterwards ``replay`` lets the same people read the
same studies at the moments that were recorded, with or without the AI's order, so that the two can be compared pair by
pair. Times are real seconds since the arm began; nothing here looks at a clock. Next: record.py, scenario.py.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from medai.trials.hospital.record import NEVER, StudyRow
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scenario import PRIORITIES, Scenario

LOOK, REPORT = "first-look", "report"
NOBODY = -1


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A radiologist opened or finished a study. ``ai``: the AI's result was there at the first look."""

    name: str
    number: int
    reader: int
    at_s: float
    ai: bool


@dataclass(frozen=True, kw_only=True)
class RoomState:
    """How it stands now."""

    unread: int
    busy: int
    on_shift: int


@dataclass(frozen=True, kw_only=True)
class ReadOf:
    """What became of one study; NaN where it has not."""

    first_look_s: float = NEVER
    report_s: float = NEVER
    reader: int = NOBODY
    ai: bool = False


@dataclass
class _Waiting:
    number: int
    arrived_s: float
    urgency: int
    ai_s: float = math.inf
    """When the AI's result came."""


@dataclass
class _Reader:
    number: int
    free_s: float = 0.0
    hand: int = NOBODY


class _Shift(NamedTuple):
    """Real seconds."""

    from_s: float
    to_s: float
    readers: int


@dataclass
class ReadingRoom:
    """Tell it ``arrived`` and ``ai_result`` in the order of time, from any thread, and ``step`` now and then."""

    scenario: Scenario
    planned: Sequence[PlannedStudy]
    accelerate: float
    use_ai: bool
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _read: dict[int, ReadOf] = field(default_factory=dict)
    _raised: set[int] = field(default_factory=set)
    _ai_early: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._plans = {study.number: study for study in self.planned}
        shifts = self.scenario.staffing.shifts
        # In real seconds once and for all: there and back again, a shift's begin could fall before itself.
        self._shifts = [_Shift(s.from_s / self.accelerate, s.to_s / self.accelerate, s.readers) for s in shifts]
        self._readers = [_Reader(number=number) for number in range(max((s.readers for s in shifts), default=0))]
        self._lock = threading.Lock()

    def arrived(self, number: int, at_s: float) -> None:
        """The last image of a study is in the archive."""
        with self._lock:
            self._arrived(number, at_s)

    def _arrived(self, number: int, at_s: float) -> None:
        if number in self._waiting or number in self._read:
            return
        urgency = 0 if number in self._raised else PRIORITIES.index(self._plans[number].priority)
        waiting = _Waiting(number=number, arrived_s=at_s, urgency=urgency)
        waiting.ai_s = self._ai_early.pop(number, math.inf)
        self._waiting[number] = waiting

    def ai_result(self, number: int, at_s: float) -> None:
        """The AI's result of a study is at the RIS."""
        with self._lock:
            if number in self._waiting:
                self._waiting[number].ai_s = min(self._waiting[number].ai_s, at_s)
            elif number not in self._read:
                self._ai_early[number] = at_s

    def raised(self, number: int) -> None:
        """The order was raised to STAT."""
        with self._lock:
            self._raised.add(number)
            if number in self._waiting:
                self._waiting[number].urgency = 0

    def step(self, now_s: float) -> list[Happening]:
        """What happened until now, in the order of time."""
        out: list[Happening] = []
        with self._lock:
            while (moment := self._next_moment(now_s)) is not None:
                out += self._at(moment)
        return sorted(out, key=lambda each: each.at_s)

    def of(self, number: int) -> ReadOf:
        """What became of a study."""
        return self._read.get(number, ReadOf())

    def state(self, now_s: float) -> RoomState:
        """Counts for now."""
        busy = sum(reader.hand != NOBODY for reader in self._readers)
        return RoomState(unread=len(self._waiting), busy=busy, on_shift=self._on_shift(now_s))

    # -- inside

    def _next_moment(self, until_s: float) -> float | None:
        """The next moment, not after ``until_s``, at which a reader becomes free or can begin something."""
        moments = [reader.free_s for reader in self._readers if reader.hand != NOBODY and reader.free_s <= until_s]
        start = self._earliest_start(until_s)
        if start is not None:
            moments.append(start)
        return min(moments, default=None)

    def _earliest_start(self, until_s: float) -> float | None:
        """When somebody idle and on shift can next open a study."""
        best: float | None = None
        for reader in self._readers:
            if reader.hand != NOBODY:
                continue
            for study in self._waiting.values():
                at = self._on_shift_from(reader, max(self._ready_s(study), reader.free_s))
                if at is not None and at <= until_s and (best is None or at < best):
                    best = at
        return best

    def _at(self, moment: float) -> list[Happening]:
        """Who finishes, then who begins, at one moment."""
        out = []
        for reader in self._readers:
            if reader.hand != NOBODY and reader.free_s <= moment:
                read = self._read[reader.hand]
                at_s, number = reader.free_s, reader.hand
                out.append(Happening(name=REPORT, number=number, reader=reader.number, at_s=at_s, ai=read.ai))
                reader.hand = NOBODY
        for reader in self._readers:
            if reader.hand == NOBODY and reader.free_s <= moment and reader.number < self._on_shift(moment):
                ready = [study for study in self._waiting.values() if self._ready_s(study) <= moment]
                if ready:
                    out.append(self._begin(reader, min(ready, key=lambda s: self._rank(s, moment)), moment))
        return out

    def _begin(self, reader: _Reader, study: _Waiting, moment: float) -> Happening:
        ai = self.use_ai and study.ai_s <= moment
        staffing = self.scenario.staffing
        took_s = self._plans[study.number].reading_s * (staffing.speed_with_ai if ai else 1.0) / self.accelerate
        del self._waiting[study.number]
        reader.hand, reader.free_s = study.number, moment + took_s
        self._read[study.number] = ReadOf(first_look_s=moment, report_s=moment + took_s, reader=reader.number, ai=ai)
        return Happening(name=LOOK, number=study.number, reader=reader.number, at_s=moment, ai=ai)

    def _ready_s(self, study: _Waiting) -> float:
        """From when a reader takes a study: at once, or when its AI result is there or was waited for long enough."""
        waits = self.scenario.staffing.waits_for_ai_s / self.accelerate
        if not self.use_ai or not waits:
            return study.arrived_s
        return max(study.arrived_s, min(study.ai_s, study.arrived_s + waits))

    def _rank(self, study: _Waiting, moment: float) -> tuple[int, int, float, int]:
        order = self.scenario.staffing.order
        if order == "arrival":
            return (0, 0, study.arrived_s, study.number)
        flagged = self._plans[study.number].flagged and study.ai_s <= moment
        first = 0 if order == "ai" and self.use_ai and flagged else 1
        return (study.urgency, first, study.arrived_s, study.number)

    def _on_shift(self, at_s: float) -> int:
        return max((shift.readers for shift in self._shifts if shift.from_s <= at_s < shift.to_s), default=0)

    def _on_shift_from(self, reader: _Reader, at_s: float) -> float | None:
        """The first moment from ``at_s`` at which this reader is on shift."""
        starts = [max(s.from_s, at_s) for s in self._shifts if reader.number < s.readers and s.to_s > at_s]
        return min(starts, default=None)


def replay(
    rows: Sequence[StudyRow], planned: Sequence[PlannedStudy], scenario: Scenario, *, accelerate: float, use_ai: bool
) -> Mapping[int, ReadOf]:
    """Let the radiologists read what one arm recorded, with or without the AI's order; study number -> what became.

    The same studies at the same moments, by the same people with the same reading times: only the order differs.
    """
    room = ReadingRoom(scenario, planned, accelerate=accelerate, use_ai=use_ai)
    moments: list[tuple[float, int, int]] = []
    for row in rows:
        if not math.isnan(row.last_image_s):
            heapq.heappush(moments, (row.last_image_s, 0, row.number))
        if not math.isnan(row.result_s):
            heapq.heappush(moments, (row.result_s, 1, row.number))
        if "order_changed" in row.habits.split():
            room.raised(row.number)
    while moments:
        at_s, kind, number = heapq.heappop(moments)
        room.step(math.nextafter(at_s, -math.inf))
        (room.ai_result if kind else room.arrived)(number, at_s)
    ends = [shift.to_s / accelerate for shift in scenario.staffing.shifts]
    room.step(max(ends, default=0.0))
    return {row.number: room.of(row.number) for row in rows}


def plans(rows: Iterable[StudyRow]) -> tuple[PlannedStudy, ...]:
    """The plan of the studies, out of what was recorded of them."""
    return tuple(
        PlannedStudy(
            number=row.number, at_s=0.0, case=row.case, priority=row.priority, positive=row.positive,
            flagged=row.flagged, reading_s=row.reading_hospital_s, habits=tuple(row.habits.split()), seed="",
        )
        for row in rows
    )  # fmt: skip
