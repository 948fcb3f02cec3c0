"""What a worklist asks for is kept: one row a workitem, each move once, and the standing of its reading."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from ledger_cases import T0, arrive, make, seen

from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.workitems import Seen, Standing, State, WorkitemRow

NEW = Seen(uid="1.5.1", lock_uid="2.25.1", study_uid="1.2.3", route="brain", codes={"work": ("LUNGS", "L", "Lungs")})


def test_a_row_has_the_columns_of_its_table() -> None:
    assert [field.name for field in fields(WorkitemRow)] == [column.name for column in t.workitems.columns]


def test_a_workitem_that_waits_follows_what_is_said_of_it_and_one_that_is_ours_does_not(ledger: Ledger) -> None:
    first = ledger.workitems.see(NEW, T0)
    assert (first.state, first.seen_at, first.codes) == ("waiting", T0, {"work": ["LUNGS", "L", "Lungs"]})
    changed = ledger.workitems.see(replace(NEW, study_uid="1.2.4"), T0 + 5)
    assert (changed.study_uid, changed.seen_at) == ("1.2.4", T0)
    claiming = ledger.workitems.begin_claim(changed)
    assert claiming is not None
    ledger.workitems.claimed(claiming, T0 + 6)
    assert ledger.workitems.see(replace(NEW, study_uid="1.2.5"), T0 + 7).study_uid == "1.2.4"


def test_what_somebody_else_moved_is_left(ledger: Ledger) -> None:
    row = ledger.workitems.see(NEW, T0)
    assert ledger.workitems.ending(row, Standing(ended=True)) is None
    claiming = ledger.workitems.begin_claim(row)
    assert claiming is not None
    ledger.workitems.claimed(claiming, T0)
    assert ledger.workitems.begin_claim(row) is None
    ledger.workitems.let_go(claiming, T0 + 60)
    assert ledger.workitems.see(NEW, T0).state == "claimed"


def test_a_claim_has_its_study_looked_at_again_unless_it_is_made_to_cancel(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    for uid, reason, due in (("1.5.1", "too late", None), ("1.5.2", "", T0 + 9)):
        ledger.studies.set_due(study.id, None)
        waiting = ledger.workitems.see(replace(NEW, uid=uid), T0)
        claiming = ledger.workitems.begin_claim(waiting, study_id=study.id, reason=reason)
        assert claiming is not None
        ledger.workitems.claimed(claiming, T0 + 9)
        after = ledger.studies.find(study.orthanc_id)
        assert after is not None
        assert after.due_at == due
        assert (ledger.workitems.routes_asked(study.id) == {"brain"}) is (due is not None)


def test_what_is_under_way_comes_when_it_is_due_and_a_clock_that_was_put_back_delays_nothing(ledger: Ledger) -> None:
    claiming = ledger.workitems.begin_claim(ledger.workitems.see(NEW, T0))
    assert claiming is not None
    ledger.workitems.put_off(NEW.uid, T0 + 10)

    def due(at: float) -> int:
        return len(ledger.workitems.under_way(at, longest_s=100.0))

    assert [due(T0), due(T0 + 10), due(T0 - 1000)] == [0, 1, 1]


@pytest.mark.parametrize("state", [State.COMPLETED, State.CANCELED, State.LOST])
def test_an_end_is_the_end(ledger: Ledger, state: State) -> None:
    claiming = ledger.workitems.begin_claim(ledger.workitems.see(NEW, T0))
    assert claiming is not None
    ledger.workitems.claimed(claiming, T0)
    ledger.workitems.ended(claiming, state, T0 + 1)
    ledger.workitems.ended(claiming, State.LOST, T0 + 2)
    ledger.workitems.put_off(NEW.uid, T0 + 100)
    row = ledger.workitems.see(NEW, T0 + 3)
    assert (row.state, row.ended_at, row.next_try_at) == (state, T0 + 1, 0.0)
    assert ledger.workitems.under_way(T0 + 5, longest_s=1.0) == []


def test_a_reading_that_a_person_asked_another_model_for_is_not_the_workitems(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    row = ledger.workitems.begin_claim(ledger.workitems.see(NEW, T0), study_id=study.id)
    assert row is not None
    ledger.studies.set_complete(study.id, T0)
    make(ledger, study, slot="~other", model="other")
    assert ledger.workitems.standing(row) == Standing(ended=False)
    job, _ = make(ledger, study)
    assert ledger.workitems.standing(row) == Standing(ended=False, job_id=job)


def test_a_claim_that_is_asked_for_again_is_as_it_was_the_first_time(ledger: Ledger) -> None:
    first = ledger.workitems.begin_claim(ledger.workitems.see(NEW, T0), study_id=7)
    assert first is not None
    again = ledger.workitems.begin_claim(first)
    assert again is not None
    assert (again.study_id, again.reason, again.tries) == (7, "", 2)
    ledger.workitems.let_go(again, T0)
    late = ledger.workitems.begin_claim(ledger.workitems.see(NEW, T0), reason="too late")
    assert late is not None
    assert (late.study_id, late.reason, late.tries) == (None, "too late", 1)


def test_a_clock_that_is_stepped_moves_what_is_waited_for_and_not_what_has_ended(ledger: Ledger) -> None:
    for uid in ("1.5.1", "1.5.2"):
        claiming = ledger.workitems.begin_claim(ledger.workitems.see(replace(NEW, uid=uid), T0))
        assert claiming is not None
        ledger.workitems.claimed(claiming, T0 + 1)
    ledger.workitems.ended(claiming, State.COMPLETED, T0 + 2)
    ledger.studies.shift_waits(500.0)
    moved, left = (ledger.workitems.see(replace(NEW, uid=uid), T0) for uid in ("1.5.1", "1.5.2"))
    assert (moved.seen_at, moved.claimed_at) == (T0 + 500, T0 + 501)
    assert (left.seen_at, left.claimed_at) == (T0, T0 + 1)
