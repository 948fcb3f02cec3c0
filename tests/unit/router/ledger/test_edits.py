"""Edits in the ledger: one row each, one owner each, and an end for every one; and the sums over them."""

from __future__ import annotations

from dataclasses import replace

from edit_rows import brain, compared, edit_of, read, see
from ledger_cases import T0

from medai.router.ledger import Ledger
from medai.router.ledger.edits import CLAIM_S, MAX_TRIES, EditState
from medai.router.reports.agreement import edits


def test_the_same_object_seen_twice_is_one_row(ledger: Ledger) -> None:
    edit = edit_of(read(ledger))
    assert [see(ledger, edit), see(ledger, edit, T0 + 20)] == [True, False]
    assert len(edits(ledger)) == 1


def test_other_content_under_its_uid_is_compared_again_and_the_old_figures_go(ledger: Ledger) -> None:
    job_id = read(ledger)
    edit_id = compared(ledger, job_id, [brain(0.9)])
    assert see(ledger, edit_of(job_id), T0 + 50, digest="d2")
    (row,) = edits(ledger)
    assert (row.id, row.state, row.comparisons) == (edit_id, "pending", ())


def test_an_edit_that_moved_with_its_study_is_found_under_its_new_name(ledger: Ledger) -> None:
    edit = edit_of(read(ledger))
    see(ledger, edit)
    assert not see(ledger, edit, orthanc_id="elsewhere")
    claim = ledger.edits.claim(1, T0 + 20)
    assert claim is not None
    assert claim.orthanc_id == "elsewhere"


def test_a_study_that_the_ledger_does_not_know_has_no_edit(ledger: Ledger) -> None:
    assert not see(ledger, replace(edit_of(read(ledger)), study_orthanc_id="unknown"))


def test_one_worker_has_an_edit_and_a_dead_ones_comes_back(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    first = ledger.edits.claim(1, T0 + 20)
    assert first is not None
    assert ledger.edits.claim(1, T0 + 21) is None
    assert ledger.edits.unsent(T0 + 21, resend_before=T0 + 21) == []
    later = T0 + 21 + CLAIM_S
    assert [row.id for row in ledger.edits.unsent(later, resend_before=later)] == [1]
    second = ledger.edits.claim(1, later)
    assert second is not None
    assert not ledger.edits.compared(first, "x", [], later), "the first worker has lost it"
    assert ledger.edits.ended(second, EditState.FAILED, "why")


def test_a_claim_of_a_clock_that_was_put_back_is_lost_too(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    assert ledger.edits.claim(1, T0 + 100_000) is not None
    assert ledger.edits.claim(1, T0 + 20) is not None


def test_what_was_stored_anew_meanwhile_is_not_given_the_old_figures(ledger: Ledger) -> None:
    job_id = read(ledger)
    see(ledger, edit_of(job_id))
    claim = ledger.edits.claim(1, T0 + 20)
    assert claim is not None
    see(ledger, edit_of(job_id), T0 + 21, digest="d2")
    assert not ledger.edits.compared(claim, job_id, [brain(0.9)], T0 + 22)
    assert edits(ledger)[0].comparisons == ()


def test_what_ends_its_workers_again_and_again_is_given_up(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    for turn in range(MAX_TRIES):
        assert ledger.edits.claim(1, T0 + 2 * CLAIM_S * turn) is not None
    assert ledger.edits.claim(1, T0 + 2 * CLAIM_S * MAX_TRIES) is None
    (row,) = edits(ledger)
    assert (row.state, row.reason) == ("failed", f"begun {MAX_TRIES} times and never finished")


def test_what_is_put_off_waits_and_does_not_use_its_tries_up(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    for turn in range(2 * MAX_TRIES):
        now = T0 + 100 * turn
        claim = ledger.edits.claim(1, now)
        assert claim is not None
        ledger.edits.put_off(claim, "Orthanc is away", now + 50)
        assert ledger.edits.unsent(now + 10, resend_before=now) == []
        assert len(ledger.edits.unsent(now + 51, resend_before=now)) == 1


def test_a_message_that_went_is_not_missed_before_its_time(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    ledger.edits.mark_sent({1: T0 + 20})
    assert ledger.edits.unsent(T0 + 22, resend_before=T0 + 17) == []
    assert len(ledger.edits.unsent(T0 + 30, resend_before=T0 + 25)) == 1


def test_an_edit_may_be_of_any_model_that_read_its_series_unless_it_names_one(ledger: Ledger) -> None:
    brain_job, other = read(ledger), read(ledger, model="mr_hippocampus", at=T0 + 1)
    see(ledger, edit_of(brain_job))
    claim = ledger.edits.claim(1, T0 + 20)
    assert claim is not None
    assert [each.job_id for each in claim.readings] == [brain_job, other]
    with ledger.begin() as db:
        ledger.edits.see(replace(edit_of(brain_job), named=True, digest="d2"), T0 + 21, db)
    claim = ledger.edits.claim(1, T0 + 22)
    assert claim is not None
    assert [each.job_id for each in claim.readings] == [brain_job]


def test_a_withdrawn_result_has_no_edits(ledger: Ledger) -> None:
    job_id = read(ledger)
    assert [each.job_id for each in ledger.edits.readings_with_results("o-1.2.3")] == [job_id]
    see(ledger, edit_of(job_id))
    ledger.actions.withdraw(job_id, "wrong side", T0 + 15, withdrawn={}, by="ana")
    assert ledger.edits.readings_with_results("o-1.2.3") == []
    claim = ledger.edits.claim(1, T0 + 20)
    assert claim is not None
    assert claim.readings == ()
