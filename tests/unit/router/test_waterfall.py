"""The bars of a reading's journey: in order, on one axis, and growing while it is under way."""

from __future__ import annotations

import itertools

import pytest
from ledger_cases import T0

from medai.router.contract import StampName as S
from medai.router.waterfall import COLUMNS, WIDTH, bars, lines

WHOLE = {
    S.ORDERED: T0 - 900, S.ACQUIRED: T0 - 600, S.FIRST_INSTANCE: T0, S.LAST_INSTANCE: T0 + 2, S.STUDY_COMPLETE: T0 + 5,
    S.ENQUEUED: T0 + 5.5, S.STARTED: T0 + 6, S.FETCHED: T0 + 7, S.PREPARED: T0 + 8, S.INFERRED: T0 + 18,
    S.ENCODED: T0 + 19, S.STORED: T0 + 19.5, S.ORU_ACKNOWLEDGED: T0 + 20,
}  # fmt: skip


def test_the_bars_of_a_whole_journey_follow_each_other_and_end_with_the_axis() -> None:
    drawn = bars({str(name): at for name, at in WHOLE.items()}, T0 + 999)
    assert [bar.stage for bar in drawn][:4] == ["receiving", "completeness_wait", "routing", "queue_wait"]
    assert drawn[0].x == 0
    assert drawn[-1].x + drawn[-1].width == pytest.approx(WIDTH)
    for before, after in itertools.pairwise(drawn):
        assert before.x + before.width == pytest.approx(after.x, abs=2.1)
    assert not any(bar.open for bar in drawn)
    assert sum(bar.length_s for bar in drawn) == pytest.approx(20)


def test_the_last_stage_of_a_reading_under_way_grows() -> None:
    begun = {str(name): at for name, at in WHOLE.items() if at <= T0 + 8}
    first, later = bars(begun, T0 + 9)[-1], bars(begun, T0 + 10)[-1]
    assert (first.stage, first.open, first.length_s, later.length_s) == ("infer", True, 1.0, 2.0)


def test_a_study_that_still_arrives_or_is_not_known_has_few_bars() -> None:
    assert [bar.stage for bar in bars({S.FIRST_INSTANCE.value: T0}, T0 + 1)] == ["receiving"]
    assert bars({}, T0) == []


def test_a_stage_of_no_length_can_still_be_seen() -> None:
    drawn = bars({S.FIRST_INSTANCE.value: T0, S.LAST_INSTANCE.value: T0}, T0 + 100)
    assert all(bar.width >= 2.0 for bar in drawn)


def drawn(**at: float) -> list[tuple[int, int]]:
    """Start and length of each bar in a terminal."""
    told = lines(bars({name: T0 + s for name, s in at.items()}, T0 + 100), block="#")
    return [(line[19:].index("#"), line.count("#")) for line in told]


def test_in_a_terminal_stages_follow_one_another_on_one_axis() -> None:
    assert drawn(started=0, fetched=1, prepared=3, inferred=4, encoded=4, stored=4, oru_acknowledged=4)[:3] == [
        (0, 10), (10, 20), (30, 10),
    ]  # fmt: skip


def test_a_stage_of_no_time_is_still_seen_within_the_axis() -> None:
    found = drawn(started=0, fetched=0, prepared=4, inferred=4, encoded=4, stored=4, oru_acknowledged=4)
    assert found[0] == (0, 1)
    assert all(start + length <= COLUMNS for start, length in found)


def test_bars_and_seconds_stay_in_their_columns_and_a_stage_that_goes_on_says_so() -> None:
    told = list(lines(bars({S.LAST_INSTANCE.value: T0, S.STUDY_COMPLETE.value: T0 + 3}, T0 + 93)))
    assert [line.split()[-2:] for line in told] == [["3.00", "s"], ["min", "…"]]
    assert len({len(line) for line in told}) == 1


def test_what_happened_before_the_images_came_is_not_drawn() -> None:
    stamps = {S.ORDERED.value: T0 - 9999, S.ACQUIRED.value: T0 - 99, S.FIRST_INSTANCE.value: T0}
    assert [line.split()[0] for line in lines(bars(stamps, T0 + 1))] == ["receiving"]
    assert list(lines([])) == []
