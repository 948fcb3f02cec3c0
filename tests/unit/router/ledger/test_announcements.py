"""What is announced of a study is kept by study, also before its first image; the newest word counts."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_cases import T0, arrive, keep, make, seen

from medai.router.announcements.read import Notice, Refused, Series, StepBegun, StepChange, StepState
from medai.router.ledger import Ledger
from medai.router.routing.completeness import Announced

KEEP_S = 7 * 86_400.0


def series(*uids: str, name: str = "1.8.1") -> tuple[Series, ...]:
    return (Series(uid=name, instances=uids),)


def begin(ledger: Ledger, uid: str = "1.5", *studies: str, at: float = T0, **more: Any) -> None:
    step = StepBegun(uid=uid, studies=studies or ("1.2.3",), series=more.get("series", ()))
    ledger.announcements.step_begun(step, at, keep_s=KEEP_S)


def change(
    ledger: Ledger, state: StepState | None, made: tuple[Series, ...] | None = None, uid: str = "1.5", at: float = T0
) -> StepState:
    return ledger.announcements.step_changed(StepChange(uid=uid, state=state, series=made), at)


def available(ledger: Ledger, uid: str, *online: str, away: tuple[str, ...] = (), at: float = T0) -> None:
    told = Notice(uid=uid, study="1.2.3", online=series(*online), away=series(*away))
    ledger.announcements.notice(told, at, keep_s=KEEP_S)


def said(ledger: Ledger, study: str = "1.2.3") -> dict[str, list[str]]:
    found = ledger.announcements.of_study(study)
    return {name: sorted(uids) for name, uids in found.instances.items() if uids}


def refused(act: Any) -> tuple[int, int | None]:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.status, caught.value.error_id


def test_of_a_study_that_nobody_announced_nothing_is_said(ledger: Ledger) -> None:
    assert ledger.announcements.of_study("1.2.3") == Announced()


def test_a_step_names_its_objects_when_it_has_ended(ledger: Ledger) -> None:
    begin(ledger)
    change(ledger, None, series("1.9.1"))
    assert (said(ledger), ledger.announcements.of_study("1.2.3").open_steps) == ({}, 1)
    assert change(ledger, StepState.COMPLETED, series("1.9.1", "1.9.2"), at=T0 + 9) is StepState.COMPLETED
    found = ledger.announcements.of_study("1.2.3")
    assert (said(ledger), found.open_steps, found.said_at) == ({"mpps": ["1.9.1", "1.9.2"]}, 0, T0 + 9)


def test_a_completion_that_names_no_series_keeps_those_that_were_named(ledger: Ledger) -> None:
    begin(ledger, series=series("1.9.1"))
    change(ledger, StepState.COMPLETED)
    assert said(ledger) == {"mpps": ["1.9.1"]}


def test_a_discontinued_step_promises_nothing_and_holds_nothing(ledger: Ledger) -> None:
    begin(ledger)
    change(ledger, StepState.DISCONTINUED, series("1.9.1"))
    found = ledger.announcements.of_study("1.2.3")
    assert (said(ledger), found.open_steps, found.said_at) == ({}, 0, 0.0)


def test_several_steps_of_a_study_add_up_and_one_in_progress_keeps_it_open(ledger: Ledger) -> None:
    for uid, image in (("1.5", "1.9.1"), ("1.6", "1.9.2")):
        begin(ledger, uid)
        change(ledger, StepState.COMPLETED, series(image), uid)
    begin(ledger, "1.7")
    found = ledger.announcements.of_study("1.2.3")
    assert (said(ledger), found.open_steps) == ({"mpps": ["1.9.1", "1.9.2"]}, 1)


def test_a_step_that_goes_on_and_on_holds_its_study_from_its_beginning(ledger: Ledger) -> None:
    begin(ledger)
    change(ledger, StepState.IN_PROGRESS, series("1.9.1"), at=T0 + 500)
    assert ledger.announcements.of_study("1.2.3").said_at == T0


def test_a_step_of_two_studies_waits_in_each_for_what_does_not_lie_in_the_other(ledger: Ledger) -> None:
    begin(ledger, "1.5", "1.2.3", "1.2.4")
    made = (*series("1.9.1", name="1.2.3.1"), *series("1.9.2", name="1.2.4.1"))
    change(ledger, StepState.COMPLETED, made)
    assert said(ledger) == said(ledger, "1.2.4") == {"mpps": ["1.9.1", "1.9.2"]}
    arrive(ledger, seen(uid="1.2.3"))
    arrive(ledger, seen(uid="1.2.4"))
    assert (said(ledger), said(ledger, "1.2.4")) == ({"mpps": ["1.9.1"]}, {"mpps": ["1.9.2"]})


def test_of_notices_the_newest_word_on_each_object_counts(ledger: Ledger) -> None:
    available(ledger, "1.6.1", "1.9.1", "1.9.2")
    available(ledger, "1.6.2", "1.9.3", away=("1.9.2",), at=T0 + 1)
    assert said(ledger) == {"ian": ["1.9.1", "1.9.3"]}
    available(ledger, "1.6.3", "1.9.2", at=T0 + 2)
    assert said(ledger) == {"ian": ["1.9.1", "1.9.2", "1.9.3"]}


def test_nobody_waits_for_our_own_results(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0)
    assert claim is not None
    keep(ledger, claim)
    available(ledger, "1.6", "1.9.1", "9.1")
    assert said(ledger) == {"ian": ["1.9.1"]}


def test_what_the_standard_forbids_is_refused(ledger: Ledger) -> None:
    begin(ledger)
    available(ledger, "1.5", "1.9.1")
    assert refused(lambda: begin(ledger)) == (0x0111, None)
    assert refused(lambda: begin(ledger, "1.5", "1.2.9")) == (0x0111, None)
    assert refused(lambda: available(ledger, "1.5")) == (0x0111, None)
    assert refused(lambda: change(ledger, StepState.COMPLETED, series("1.9.1"), "1.99")) == (0x0112, None)
    assert refused(lambda: change(ledger, StepState.COMPLETED)) == (0x0120, None)
    change(ledger, StepState.COMPLETED, ())
    for state in (None, *StepState):
        assert refused(lambda state=state: change(ledger, state, series("1.9.1"))) == (0x0110, 0xA710)


def test_old_announcements_go_when_new_ones_come(ledger: Ledger) -> None:
    begin(ledger)
    begin(ledger, "1.6", at=T0 + 10)
    begin(ledger, "1.7", "1.2.9", at=T0 + KEEP_S + 5)
    assert ledger.announcements.of_study("1.2.3").open_steps == 1
    begin(ledger, at=T0 + KEEP_S + 5)
    assert ledger.announcements.of_study("1.2.3").open_steps == 2


def test_a_stepped_clock_moves_announcements_with_the_waits(ledger: Ledger) -> None:
    begin(ledger)
    ledger.studies.shift_waits(-3600.0)
    assert ledger.announcements.of_study("1.2.3").said_at == T0 - 3600


def test_only_a_study_that_waits_is_looked_at_again(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    ledger.studies.set_due(row.id, None)
    begin(ledger, at=T0 + 1)
    assert ledger.studies.due(T0 + 1) == []
    ledger.studies.set_due(row.id, T0 + 60)
    change(ledger, StepState.COMPLETED, series("1.9.1"), at=T0 + 2)
    assert len(ledger.studies.due(T0 + 2)) == 1
