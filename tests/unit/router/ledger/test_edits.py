"""Edits in the ledger: one row each, one owner each, and an end for every one; and the sums over them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from edit_rows import brain, compared, edit_of, read, see
from ledger_cases import T0

from medai.router.ledger import Ledger
from medai.router.ledger.edits import CLAIM_S, MAX_TRIES, Compared, EditState
from medai.router.reports.agreement import agreement, counts, edits


def test_the_same_object_seen_twice_is_one_row(ledger: Ledger) -> None:
    edit = edit_of(read(ledger))
    assert [see(ledger, edit), see(ledger, edit, T0 + 20)] == [True, False]
    assert len(edits(ledger)) == 1


def test_other_content_under_its_uid_is_compared_again_and_the_old_figures_go(ledger: Ledger) -> None:
    job_id = read(ledger)
    edit_id = compared(ledger, job_id, [brain(0.9)])
    assert see(ledger, edit_of(job_id), T0 + 50, digest="d2")
    (row,) = edits(ledger)
    assert (row["id"], row["state"], row["comparisons"]) == (edit_id, "pending", [])


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
    assert edits(ledger)[0]["comparisons"] == []


def test_what_ends_its_workers_again_and_again_is_given_up(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)))
    for turn in range(MAX_TRIES):
        assert ledger.edits.claim(1, T0 + 2 * CLAIM_S * turn) is not None
    assert ledger.edits.claim(1, T0 + 2 * CLAIM_S * MAX_TRIES) is None
    (row,) = edits(ledger)
    assert (row["state"], row["reason"]) == ("failed", f"begun {MAX_TRIES} times and never finished")


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


def test_the_figures_of_a_structure_are_median_quartiles_and_the_lowest(ledger: Ledger) -> None:
    dices = [0.5, 0.8, 0.9, 1.0, 0.7]
    for number, dice in enumerate(dices):
        job_id = read(ledger, f"1.2.{number}", at=T0 + 10 * number)
        compared(ledger, job_id, [brain(dice, theirs=1000 + 10 * number)], f"1.2.{number}")
    (model,) = agreement(ledger)
    assert (model["model"], model["readings"], model["edited"], model["reported"]) == ("mr_brain", 5, 5, 0)
    (row,) = model["structures"]
    assert (row["structure"], row["n"], row["unchanged"]) == ("Brain", 5, 1)
    assert row["dice"] == {"q1": 0.7, "median": 0.8, "q3": 0.9}
    assert row["difference_ml"]["median"] == 20.0
    assert row["difference_percent"]["median"] == pytest.approx(2.0)
    assert [each["dice"] for each in row["lowest"]] == sorted(dices)


def test_of_several_drawings_of_a_reading_the_newest_counts(ledger: Ledger) -> None:
    job_id = read(ledger)
    compared(ledger, job_id, [brain(0.5)], number=1)
    compared(ledger, job_id, [brain(0.9)], number=2, at=T0 + 30)
    (model,) = agreement(ledger)
    assert model["edited"] == 1
    assert model["structures"][0]["dice"]["median"] == 0.9


def test_what_one_side_lacks_is_told_and_is_in_no_median(ledger: Ledger) -> None:
    removed = Compared(structure="Brain", outcome="removed", ours=10.0)
    compared(ledger, read(ledger), [removed, Compared(structure="Lesion", outcome="added", theirs=1.0)])
    assert agreement(ledger)[0]["structures"] == []
    (row,) = edits(ledger)
    assert [(c["structure"], c["outcome"], c["difference"]) for c in row["comparisons"]] == [
        ("Brain", "removed", None), ("Lesion", "added", None),
    ]  # fmt: skip


def test_reports_are_counted_by_what_they_say(ledger: Ledger) -> None:
    compared(ledger, read(ledger), [], kind="sr", verdict="verified")
    compared(ledger, read(ledger, "1.2.4", at=T0 + 5), [], "1.2.4", kind="sr", verdict="rejected")
    (model,) = agreement(ledger)
    assert {key: model[key] for key in ("edited", "reported", "accepted", "rejected", "verified")} == {
        "edited": 0, "reported": 2, "accepted": 0, "rejected": 1, "verified": 1,
    }  # fmt: skip


def test_the_report_may_begin_at_a_moment(ledger: Ledger) -> None:
    compared(ledger, read(ledger), [brain(0.5)])
    assert agreement(ledger, since=T0 + 11) == []
    assert len(agreement(ledger, since=T0)) == 1


def test_buckets_are_cumulative(ledger: Ledger) -> None:
    for number, dice in enumerate((0.55, 0.95, 1.0)):
        compared(ledger, read(ledger, f"1.2.{number}", at=T0 + number), [brain(dice)], f"1.2.{number}")
    (row,) = counts(ledger)["dice"]
    assert (row["b0"], row["b1"], row["b6"], row["b9"], row["count"]) == (0, 1, 2, 3, 3)
    assert row["sum"] == pytest.approx(2.5)


def test_edits_are_paged_newest_first(ledger: Ledger) -> None:
    for number in range(3):
        compared(ledger, read(ledger, f"1.2.{number}", at=T0 + number), [brain(0.9)], f"1.2.{number}")
    assert [row["id"] for row in edits(ledger, limit=2)] == [3, 2]
    assert [row["id"] for row in edits(ledger, after=2)] == [1]
    assert edits(ledger, state=EditState.FAILED) == edits(ledger, model="other") == []
