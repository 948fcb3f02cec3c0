"""Radiologists read what is there, one at a time, in the order that the scenario says; live and replayed alike."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trial_cases import scenario, trial

from medai.trials.hospital.readers import LOOK, ReadingRoom, plans, replay
from medai.trials.hospital.record import WITH_AI, StudyRow
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scenario import Shift, Staffing

ROUTINE, URGENT, STAT = "routine", "urgent", "stat"


def study(number: int, priority: str = ROUTINE, *, flagged: bool = False, reading_s: float = 600.0) -> PlannedStudy:
    return PlannedStudy(
        number=number, at_s=0.0, case="chest-ct", priority=priority, positive=flagged, flagged=flagged,
        reading_s=reading_s, habits=(), seed="",
    )  # fmt: skip


def room(studies: Sequence[PlannedStudy], *, readers: int = 1, use_ai: bool = True, **staffing: object) -> ReadingRoom:
    people = Staffing.model_validate({"shifts": [{"to_s": 1e6, "readers": readers}], **staffing})
    return ReadingRoom(scenario(staffing=people), studies, accelerate=60.0, use_ai=use_ai)


def looks(of: ReadingRoom, until_s: float = 1e4) -> list[int]:
    return [each.number for each in of.step(until_s) if each.name == LOOK]


def test_the_more_urgent_goes_first_then_who_came_first() -> None:
    reading = room([study(0), study(1), study(2, STAT), study(3, URGENT)])
    for number in (1, 0, 2, 3):
        reading.arrived(number, 0.1 * number)
    assert looks(reading) == [0, 2, 3, 1], "the first was alone when a reader was free"


def test_what_the_ai_calls_positive_goes_first_within_its_urgency_once_its_word_is_there() -> None:
    reading = room([study(0), study(1), study(2, flagged=True), study(3, URGENT)])
    for number in range(4):
        reading.arrived(number, 0.0)
    reading.ai_result(2, 5.0)
    assert looks(reading) == [3, 2, 0, 1], "the urgent one was taken at once; then the AI had spoken"


@pytest.mark.parametrize(("order", "use_ai"), [("priority", True), ("ai", False)])
def test_without_the_ais_order_its_word_changes_nothing(order: str, use_ai: bool) -> None:
    reading = room([study(0), study(1), study(2, flagged=True)], use_ai=use_ai, order=order)
    for number in range(3):
        reading.arrived(number, 0.1 * number)
    reading.ai_result(2, 0.5)
    assert looks(reading) == [0, 1, 2]


def test_arrival_order_knows_no_urgency() -> None:
    reading = room([study(0), study(1, STAT)], order="arrival")
    reading.arrived(0, 0.0)
    reading.arrived(1, 0.1)
    assert looks(reading) == [0, 1]


def test_a_reader_waits_for_the_ai_so_long_and_no_longer() -> None:
    reading = room([study(0), study(1)], readers=2, waits_for_ai_s=300.0)  # 5 s
    reading.arrived(0, 0.0)
    reading.arrived(1, 0.0)
    reading.ai_result(0, 2.0)
    reading.step(100.0)
    assert (reading.of(0).first_look_s, reading.of(0).ai) == (2.0, True)
    assert (reading.of(1).first_look_s, reading.of(1).ai) == (5.0, False)


def test_the_ais_result_changes_how_long_a_study_takes() -> None:
    reading = room([study(0), study(1)], readers=2, speed_with_ai=0.5)
    reading.ai_result(0, 0.0)
    reading.arrived(0, 1.0)
    reading.arrived(1, 1.0)
    reading.step(100.0)
    assert reading.of(0).report_s - reading.of(0).first_look_s == pytest.approx(5.0)
    assert reading.of(1).report_s - reading.of(1).first_look_s == pytest.approx(10.0)


def test_who_goes_off_shift_finishes_what_is_in_hand_and_nobody_reads_at_night() -> None:
    shifts = [{"to_s": 300, "readers": 1}, {"from_s": 1200, "to_s": 9000, "readers": 1}]
    reading = room([study(0), study(1)], shifts=shifts)
    reading.arrived(0, 4.0)
    reading.arrived(1, 4.5)
    reading.step(15.0)
    assert reading.of(0).report_s == pytest.approx(14.0), "the shift ended at 5 s"
    assert math.isnan(reading.of(1).first_look_s)
    reading.step(100.0)
    assert reading.of(1).first_look_s == pytest.approx(20.0)


@pytest.mark.parametrize("accelerate", [7.3, 21, 42, 47, 49, 60, 93, 120])
def test_a_shift_begins_whatever_the_acceleration(accelerate: float) -> None:
    """21 and 42 once hung it: 1800 / 21 * 21 is less than 1800."""
    for begins_s in range(600, 30_000, 600):
        people = Staffing(shifts=(Shift(from_s=begins_s, to_s=begins_s + 7200, readers=1),))
        reading = ReadingRoom(scenario(staffing=people), [study(0)], accelerate=accelerate, use_ai=True)
        reading.arrived(0, 0.0)
        assert looks(reading) == [0]
        assert reading.of(0).first_look_s == begins_s / accelerate


def test_an_order_that_is_raised_goes_first() -> None:
    reading = room([study(0), study(1), study(2)])
    for number in range(3):
        reading.arrived(number, 0.1 * number)
    reading.step(0.5)
    reading.raised(2)
    assert looks(reading) == [2, 1]


moments = st.lists(
    st.tuples(
        st.floats(0, 300), st.sampled_from([STAT, URGENT, ROUTINE]), st.booleans(), st.floats(30, 900), st.floats(0, 60)
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(moments, st.integers(1, 3), st.booleans(), st.floats(0.3, 20))
def test_nobody_reads_two_at_once_none_is_read_early_and_live_is_the_replay(
    drawn: list[tuple[float, str, bool, float, float]], readers: int, use_ai: bool, step_s: float
) -> None:
    staffing = Staffing(shifts=(Shift(to_s=1e9, readers=readers),))
    of = scenario(staffing=staffing)
    planned = [study(n, p, flagged=f, reading_s=r) for n, (_, p, f, r, _) in enumerate(drawn)]
    rows = [_row(each, at, at + ai) for each, (at, _, _, _, ai) in zip(planned, drawn, strict=True)]
    live = ReadingRoom(of, planned, accelerate=60.0, use_ai=use_ai)
    told = sorted([(row.last_image_s, 0, row.number) for row in rows] + [(row.result_s, 1, row.number) for row in rows])
    clock = 0.0
    for at, kind, number in told:
        while clock + step_s < at:
            clock += step_s
            live.step(clock)
        live.step(math.nextafter(at, -math.inf))
        (live.ai_result if kind else live.arrived)(number, at)
    live.step(1e7)
    replayed = replay(rows, planned, of, accelerate=60.0, use_ai=use_ai)
    for row in rows:
        read = live.of(row.number)
        assert read.first_look_s >= row.last_image_s
        assert read == replayed[row.number]
    for reader in range(readers):
        mine = sorted(
            (live.of(r.number) for r in rows if live.of(r.number).reader == reader), key=lambda x: x.first_look_s
        )
        assert all(one.report_s <= other.first_look_s + 1e-9 for one, other in pairwise(mine))


def _row(planned: PlannedStudy, last_s: float, result_s: float) -> StudyRow:
    return StudyRow(
        arm=WITH_AI, number=planned.number, case=planned.case, modality="CT", priority=planned.priority,
        positive=planned.positive, flagged=planned.flagged, migrated=False, habits="", images=30, resent=0,
        scheduled_s=0.0, last_image_s=last_s, result_s=result_s, reading_hospital_s=planned.reading_s,
    )  # fmt: skip


def test_studies_may_arrive_from_other_threads_while_somebody_reads() -> None:
    many = [study(number, reading_s=1.0) for number in range(3000)]
    reading = room(many, readers=3)
    threads = [
        threading.Thread(target=lambda part=part: [reading.arrived(n, 0.0) for n in range(part, 3000, 4)]) for part in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while any(thread.is_alive() for thread in threads):
        seen += looks(reading, 0.01)
    for thread in threads:
        thread.join()
    assert reading.state(0.0).unread + len(seen) == 3000


def test_the_plan_can_be_told_from_the_record() -> None:
    rows = trial().studies
    assert [each.number for each in plans(rows)] == [row.number for row in rows]
    assert plans(rows)[0].reading_s == rows[0].reading_hospital_s
