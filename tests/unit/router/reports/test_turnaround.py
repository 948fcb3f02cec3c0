"""How long readings took: in groups, of those that succeeded, and of few enough for a page."""

from __future__ import annotations

from typing import get_args

import pytest
from ledger_cases import T0, arrive, make, seen
from reading_cases import read

from medai.router.contract import JobState
from medai.router.ledger import Ledger
from medai.router.reports.turnaround import Group, finished_stamps, recent_turnaround, turnaround
from medai.router.stages import percentiles


def test_failed_readings_are_counted_and_take_no_part_in_the_times(ledger: Ledger) -> None:
    for number, state in enumerate([JobState.DONE, JobState.FAILED]):
        job, _ = make(ledger, arrive(ledger, seen(uid=f"1.{number}")), at=T0 + 3, route=f"r{number}")
        read(ledger, job, state, at=T0 + 5)
    (both,) = turnaround(ledger, since=T0)
    assert (both.group, both.done, both.failed, both.turnaround.n) == ("all", 1, 1, 1)
    by_route = turnaround(ledger, since=T0, by="route")
    assert [(g.group, g.done, g.failed) for g in by_route] == [("r0", 1, 0), ("r1", 0, 1)]
    assert by_route[1].turnaround == percentiles([])
    assert by_route[1].stages == {}
    assert turnaround(ledger, since=T0 + 100) == []


@pytest.mark.parametrize("by", get_args(Group))
def test_every_grouping_that_is_offered_works(ledger: Ledger, by: Group) -> None:
    job, _ = make(ledger, arrive(ledger, seen()), at=T0 + 3)
    read(ledger, job, JobState.DONE, at=T0 + 5)
    (group,) = turnaround(ledger, since=T0, by=by)
    assert group.group == {"route": "brain", "modality": "MR", "priority": "routine"}[by]


def test_readings_that_ended_are_told_in_their_order_with_their_stamps(ledger: Ledger) -> None:
    for number in range(2):
        job, _ = make(ledger, arrive(ledger, seen(uid=f"1.{number}")), at=T0 + 3)
        read(ledger, job, JobState.DONE, at=T0 + 9 - number)
    first, second = finished_stamps(ledger, since=T0)
    assert (first.finished_at, second.finished_at) == (T0 + 10, T0 + 11)
    assert first.stamps["last_instance"] == T0
    assert finished_stamps(ledger, since=T0, limit=1) == [first]


def test_a_page_is_told_of_the_newest_readings_alone(ledger: Ledger) -> None:
    for number in range(3):
        job, _ = make(ledger, arrive(ledger, seen(uid=f"1.{number}")), at=T0 + 3)
        read(ledger, job, JobState.DONE, at=T0 + 5 + number)
    assert recent_turnaround(ledger, since=T0) == {"routine": percentiles([7.0, 8.0, 9.0])}
    assert recent_turnaround(ledger, since=T0, limit=1) == {"routine": percentiles([9.0])}
    assert recent_turnaround(ledger, since=T0 + 99) == {}
