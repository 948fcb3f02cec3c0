"""What readers made of our results, in figures: how often, how far, and which are the least alike."""

from __future__ import annotations

import pytest
from edit_rows import brain, compared, read
from ledger_cases import T0

from medai.router.ledger import Ledger
from medai.router.ledger.edits import Compared, EditState
from medai.router.reports.agreement import Quartiles, agreement, counts, edits


def test_the_figures_of_a_structure_are_median_quartiles_and_the_lowest(ledger: Ledger) -> None:
    dices = [0.5, 0.8, 0.9, 1.0, 0.7]
    for number, dice in enumerate(dices):
        job_id = read(ledger, f"1.2.{number}", at=T0 + 10 * number)
        compared(ledger, job_id, [brain(dice, theirs=1000 + 10 * number)], f"1.2.{number}")
    (model,) = agreement(ledger)
    assert (model.model, model.readings, model.edited, model.reported) == ("mr_brain", 5, 5, 0)
    (row,) = model.structures
    assert (row.structure, row.n, row.unchanged) == ("Brain", 5, 1)
    assert row.dice == Quartiles(q1=0.7, median=0.8, q3=0.9)
    assert row.difference_ml is not None
    assert row.difference_ml.median == 20.0
    assert row.difference_percent is not None
    assert row.difference_percent.median == pytest.approx(2.0)
    assert [each.dice for each in row.lowest] == sorted(dices)


def test_of_several_drawings_of_a_reading_the_newest_counts(ledger: Ledger) -> None:
    job_id = read(ledger)
    compared(ledger, job_id, [brain(0.5)], number=1)
    compared(ledger, job_id, [brain(0.9)], number=2, at=T0 + 30)
    (model,) = agreement(ledger)
    assert (model.edited, [row.dice and row.dice.median for row in model.structures]) == (1, [0.9])


def test_what_one_side_lacks_is_told_and_is_in_no_median(ledger: Ledger) -> None:
    removed = Compared(structure="Brain", outcome="removed", ours=10.0)
    compared(ledger, read(ledger), [removed, Compared(structure="Lesion", outcome="added", theirs=1.0)])
    assert agreement(ledger)[0].structures == ()
    (row,) = edits(ledger)
    assert [(c.structure, c.outcome, c.difference) for c in row.comparisons] == [
        ("Brain", "removed", None), ("Lesion", "added", None),
    ]  # fmt: skip


def test_reports_are_counted_by_what_they_say(ledger: Ledger) -> None:
    compared(ledger, read(ledger), [], kind="sr", verdict="verified")
    compared(ledger, read(ledger, "1.2.4", at=T0 + 5), [], "1.2.4", kind="sr", verdict="rejected")
    (model,) = agreement(ledger)
    said = (model.edited, model.reported, model.accepted, model.rejected, model.verified)
    assert said == (0, 2, 0, 1, 1)


def test_the_report_may_begin_at_a_moment(ledger: Ledger) -> None:
    compared(ledger, read(ledger), [brain(0.5)])
    assert agreement(ledger, since=T0 + 11) == []
    assert len(agreement(ledger, since=T0)) == 1


def test_buckets_are_cumulative(ledger: Ledger) -> None:
    for number, dice in enumerate((0.55, 0.95, 1.0)):
        compared(ledger, read(ledger, f"1.2.{number}", at=T0 + number), [brain(dice)], f"1.2.{number}")
    (row,) = counts(ledger).dice
    assert (row.up_to, row.count) == ((0, 1, 1, 1, 1, 1, 2, 2, 2, 3), 3)
    assert row.sum == pytest.approx(2.5)


def test_edits_are_paged_newest_first(ledger: Ledger) -> None:
    for number in range(3):
        compared(ledger, read(ledger, f"1.2.{number}", at=T0 + number), [brain(0.9)], f"1.2.{number}")
    assert [row.id for row in edits(ledger, limit=2)] == [3, 2]
    assert [row.id for row in edits(ledger, after=2)] == [1]
    assert edits(ledger, state=EditState.FAILED) == edits(ledger, model="other") == []
