"""A report shows what there is, says what there is not, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from trial_cases import WITH_AI, WITHOUT_AI, trial

from medai.trials.hospital.record import NEVER, TrialRun
from medai.trials.report import command, figures
from medai.trials.report.page import render, write_report


@pytest.fixture(scope="module")
def plain() -> str:
    """The page of a trial at which nothing went wrong: drawing it takes a second."""
    return render(trial())


def test_it_says_what_happened_in_plain_sentences(plain: str) -> None:
    assert "60 studies were made in 2 hours of the hospital" in plain
    assert "were; 0 were lost, 0 answered twice" in plain
    assert "the objective of 900 s was kept" in plain
    assert 'class="box good"' in plain


def test_what_was_lost_is_shown_and_not_only_counted() -> None:
    run = trial()
    rows = [replace(row, lost=True, results_at_ris=0) if row.number == 3 else row for row in run.studies]
    rows = [replace(row, duplicate=True) if row.number == 5 else row for row in rows]
    text = render(replace(run, studies=tuple(rows)))
    assert 'class="box bad"' in text
    assert "Lost or answered twice" in text
    assert "1 were lost, 1 answered twice" in text


def test_every_picture_has_words_and_ids_of_its_own() -> None:
    text = render(trial(arms=(WITH_AI, WITHOUT_AI)))
    assert text.count("<svg") == 11
    assert text.count('role="img" aria-label="') == 11
    ids = Counter(re.findall(r'\bid="([^"]+)"', text))
    assert [name for name, count in ids.items() if count > 1] == []
    for target in re.findall(r'(?:href|clip-path)="(?:url\()?#([^")]+)', text):
        assert target in ids


def test_it_loads_nothing(plain: str) -> None:
    assert "<script" not in plain
    assert set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', plain)) == set()


def test_texts_of_a_scenario_are_not_markup(plain: str) -> None:
    assert "Some hours &lt;of a Monday&gt; &amp; more" in plain


@pytest.mark.parametrize(
    "change", ["no positives", "no samples", "no studies", "no faults", "few studies", "only without"]
)
def test_what_is_missing_is_said_and_breaks_nothing(change: str) -> None:
    run = {
        "no positives": trial(positives=False),
        "no samples": trial(samples=False),
        "no studies": trial(studies=0, samples=False),
        "no faults": replace(trial(), faults=()),
        "few studies": trial(studies=3),
        "only without": trial(arms=(WITHOUT_AI,)),
    }[change]
    text = render(run)
    assert text.count("<figure") >= 3
    if change in ("no positives", "only without", "no studies"):
        assert "there is nothing to compare" in text


def test_what_has_not_come_counts_against_the_objective() -> None:
    run = trial()
    rows = tuple(replace(row, result_s=NEVER, results_at_ris=0) if row.number % 9 == 0 else row for row in run.studies)
    found = figures.turnaround(rows)["all"]
    assert found is not None
    assert found.missing > 0
    assert "missed" in " ".join(figures.sentences(replace(run, studies=rows)))


def test_the_ais_order_brings_positive_studies_forward_where_people_are_busy() -> None:
    run = trial(studies=200)
    crowd = tuple(
        replace(row, last_image_s=row.last_image_s / 20, result_s=row.last_image_s / 20 + 3) for row in run.studies
    )
    look = figures.first_looks(replace(run, studies=crowd))[-1]
    assert look.pairs > 20
    assert look.difference.value < 0
    assert look.difference.high is not None
    assert look.difference.high < 0, "with so many the interval is on one side"


def test_studies_alive_during_a_fault_are_those_that_had_come_and_had_no_answer() -> None:
    rows = trial().studies
    alive, answered = figures.alive_during(rows, 30.0, 40.0)
    expected = [row for row in rows if row.expected and row.last_image_s <= 40 and row.result_s >= 30]
    assert alive == answered == len(expected) > 0


def test_both_files_are_written_and_the_pdf_is_one(tmp_path: Path) -> None:
    trial().write(tmp_path)
    html, pdf = write_report(tmp_path)
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert not list(tmp_path.glob("*.part"))


def test_several_trials_make_one_table(tmp_path: Path) -> None:
    trial().write(tmp_path / "one")
    rows = [command.row_of(TrialRun.read(tmp_path / "one"), tmp_path / "one")]
    table = command.table(rows).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| some-hours | 60 |")
    assert json.dumps(rows)
