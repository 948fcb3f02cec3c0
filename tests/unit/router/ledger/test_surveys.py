"""The surveys: what is kept of an answer, what the answers come to, and what an export gives away."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

import pytest
from ledger_cases import T0, arrive, make, seen, store

from medai.router.ledger import Ledger
from medai.router.ledger.actions import ActionRefused
from medai.router.ledger.surveys import SUS, USEFULNESS, SurveyFault, UsefulnessAnswer, sus_score
from medai.router.reports import survey_csv
from medai.router.reports.story import actions
from medai.router.reports.survey_summary import adjective, of_counts, of_scores, screen, student_t, summary, wilson

ALL_FIVE: dict[str, int | None] = {question.key: 5 for question in USEFULNESS}
BEST = [5, 1] * 5


def read(ledger: Ledger, uid: str = "1.2.3", **changes: Any) -> str:
    """A reading with a result."""
    job_id = str(make(ledger, arrive(ledger, seen(uid=uid)), **changes)[0])
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
    assert claim is not None
    store(ledger, claim)
    return job_id


def table(ledger: Ledger, what: str, *, names: bool = False) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(survey_csv.text(ledger, what, names=names)))))


# -- the System Usability Scale


@pytest.mark.parametrize(
    ("answers", "score"),
    [
        (BEST, 100.0),
        ([1, 5] * 5, 0.0),
        ([3] * 10, 50.0),
        ([5] * 10, 50.0),
        ([5, 4, 2, 1, 2, 4, 3, 2, 2, 3], 50.0),
        ([4, 2, 4, 1, 4, 2, 5, 1, 4, 2], 82.5),  # 3+3+3+4+3+3+4+4+3+3 = 33
    ],
)
def test_the_score_is_brookes(answers: list[int], score: float) -> None:
    assert sus_score(answers) == score


def test_each_step_towards_good_is_two_and_a_half_points_whichever_the_statement() -> None:
    for number in range(10):
        better = [3] * 10
        better[number] += 1 if number % 2 == 0 else -1
        assert sus_score(better) == 52.5, number


@pytest.mark.parametrize("answers", [[], [3] * 9, [3] * 11, [3] * 9 + [0], [6] + [3] * 9])
def test_a_scale_that_is_not_whole_has_no_score(answers: list[int]) -> None:
    with pytest.raises(SurveyFault, match="ten answers from 1 to 5"):
        sus_score(answers)


def test_the_statements_alternate_between_praise_and_blame_as_brookes_do() -> None:
    blame = (
        "unnecessarily complex",
        "support of a technical person",
        "too much inconsistency",
        "cumbersome",
        "learn a lot",
    )
    assert len(SUS) == 10
    for question, words in zip(SUS[1::2], blame, strict=True):
        assert words in question.text


def test_every_scale_is_kept_and_the_newest_of_each_account_counts(ledger: Ledger) -> None:
    assert ledger.surveys.answer_sus("ana", [3] * 10, T0) == 50.0
    ledger.surveys.answer_sus("bob", [1, 5] * 5, T0 + 1)
    ledger.surveys.answer_sus("ana", BEST, T0 + 2)
    assert [(row.score, row.newest) for row in ledger.surveys.sus_answers(account="ana")] == [
        (100.0, True),
        (50.0, False),
    ]
    found = summary(ledger).sus
    assert (found.readers, found.mean) == (2, 50.0)
    assert ledger.surveys.sus_answers(account="eve") == []


# -- the usefulness of a reading


def test_a_later_answer_replaces_the_earlier_one_of_the_same_account_alone(ledger: Ledger) -> None:
    job_id = read(ledger)
    ledger.surveys.answer_usefulness("ana", job_id, ALL_FIVE, "good", T0)
    ledger.surveys.answer_usefulness("bob", job_id, {"correct": 1}, "", T0 + 1)
    ledger.surveys.answer_usefulness("ana", job_id, {"correct": 2, "time": None}, " worse\n", T0 + 2)
    mine = ledger.surveys.usefulness_of("ana", job_id)
    assert mine is not None
    assert asdict(mine) == {"job_id": job_id, "answered_at": T0 + 2, "correct": 2, "time": None, "changed": None, "contours": None, "again": None, "comment": "worse"}  # fmt: skip
    assert [row.correct for row in table_of(ledger)] == [2, 1]
    assert ledger.surveys.usefulness_of("eve", job_id) is None


def table_of(ledger: Ledger) -> list[UsefulnessAnswer]:
    return ledger.surveys.usefulness_answers()


def test_my_answers_are_listed_with_their_readings_and_by_study(ledger: Ledger) -> None:
    first, second = read(ledger, "1.1"), read(ledger, "1.2")
    for at, job_id in enumerate((first, second)):
        ledger.surveys.answer_usefulness("ana", job_id, ALL_FIVE, "", T0 + at)
    assert [row.job_id for row in ledger.surveys.usefulness_by("ana")] == [second, first]
    (row,) = ledger.surveys.usefulness_by("ana", study_id=1)
    assert (row.job_id, row.route, row.model) == (first, "brain", "mr_brain")
    assert ledger.surveys.usefulness_by("bob") == []


@pytest.mark.parametrize(
    ("answers", "comment", "words"),
    [
        ({}, "", "one question at least"),
        ({"correct": None}, "a comment alone", "one question at least"),
        ({"correct": 0}, "", "from 1 to 5"),
        ({"correct": 6}, "", "from 1 to 5"),
        ({"pretty": 5}, "", "no question named 'pretty'"),
        ({"correct": 5}, "x" * 1001, "1000 characters"),
    ],
)
def test_what_can_not_be_kept_is_refused_with_its_reason(
    ledger: Ledger, answers: dict[str, int | None], comment: str, words: str
) -> None:
    job_id = read(ledger)
    with pytest.raises(SurveyFault, match=words):
        ledger.surveys.answer_usefulness("ana", job_id, answers, comment, T0)
    assert table_of(ledger) == []


def test_only_a_reading_with_a_result_can_be_judged(ledger: Ledger) -> None:
    job_id = str(make(ledger, arrive(ledger, seen()))[0])
    with pytest.raises(ActionRefused, match="no result yet"):
        ledger.surveys.answer_usefulness("ana", job_id, ALL_FIVE, "", T0)
    with pytest.raises(ActionRefused, match="no such reading"):
        ledger.surveys.answer_usefulness("ana", "x", ALL_FIVE, "", T0)
    assert [each.action for each in actions(ledger)] == ["reading"]


def test_a_withdrawn_result_can_be_judged_too(ledger: Ledger) -> None:
    job_id = read(ledger)
    ledger.actions.withdraw(job_id, "wrong side", T0 + 5, withdrawn={}, by="ana")
    ledger.surveys.answer_usefulness("ana", job_id, {"correct": 1}, "", T0 + 6)
    assert len(table_of(ledger)) == 1


def test_the_audit_log_says_that_somebody_answered_and_not_what_or_about_which_study(ledger: Ledger) -> None:
    ledger.surveys.answer_usefulness("ana", read(ledger), {"correct": 1}, "secret", T0)
    ledger.surveys.answer_sus("ana", BEST, T0)
    rows = [each for each in actions(ledger) if each.account != "router"]
    assert [(row.account, row.action) for row in rows] == [
        ("ana", "survey usability"),
        ("ana", "survey usefulness"),
    ]
    assert {(row.study_id, row.job_id, row.detail) for row in rows} == {(None, None, "")}


# -- what they come to


@pytest.mark.parametrize(
    ("hits", "number", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Newcombe, Stat Med 1998;17:857-872, method 3: 81/263, 15/148, 0/20, 1/29
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_shares_have_wilsons_interval(hits: int, number: int, low: float, high: float) -> None:
    assert wilson(hits, number) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("freedom", "width"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (9, 2.2622),
        (30, 2.0423),
        (120, 1.9799),
        (5000, 1.9604),
    ],
)
def test_students_t_is_that_of_the_tables(freedom: int, width: float) -> None:
    assert student_t(freedom) == pytest.approx(width, abs=5e-5)


@pytest.mark.parametrize(
    ("counts", "mean", "median", "agree"),
    [
        ([0, 0, 0, 0, 1], 5.0, 5.0, 1.0),
        ([1, 0, 0, 0, 1], 3.0, 3.0, 0.5),
        ([0, 1, 1, 0, 0], 2.5, 2.5, 0.0),
        ([2, 0, 0, 3, 0], 2.8, 4.0, 0.6),
    ],
)
def test_a_question_has_mean_median_and_the_share_that_agrees(
    counts: list[int], mean: float, median: float, agree: float
) -> None:
    found = of_counts(USEFULNESS[0], counts)
    assert (found.number, found.mean, found.median, found.agree) == (sum(counts), mean, median, agree)


def test_a_question_that_nobody_answered_has_no_figures() -> None:
    found = of_counts(USEFULNESS[0], [0] * 5)
    assert (found.number, found.mean, found.median, found.agree_interval) == (0, None, None, None)


def test_scores_have_an_interval_from_two_on_that_stays_on_the_scale() -> None:
    assert of_scores([]).mean is None
    assert of_scores([80.0]).interval is None
    found = of_scores([70.0, 80.0, 90.0])
    assert (found.mean, found.deviation) == (80.0, 10.0)
    assert found.interval == pytest.approx((55.159, 100.0), abs=1e-3)  # 80 +- 4.3027 * 10 / sqrt(3), cut at 100


@pytest.mark.parametrize(
    ("score", "word"),
    [(0, "worst imaginable"), (51, "OK"), (71.4, "good"), (80, "excellent"), (100, "best imaginable")],
)
def test_a_score_has_the_adjective_whose_mean_is_nearest(score: float, word: str) -> None:
    assert adjective(score) == word


def test_usefulness_is_summed_for_each_model_and_route(ledger: Ledger) -> None:
    brain, other = read(ledger, "1.1"), read(ledger, "1.2", route="head", model="other")
    ledger.surveys.answer_usefulness("ana", brain, {"correct": 5, "time": 2}, "", T0)
    ledger.surveys.answer_usefulness("bob", brain, {"correct": 4}, "", T0)
    ledger.surveys.answer_usefulness("ana", other, {"correct": 1}, "", T0)
    first, second = summary(ledger).usefulness
    assert (first.model, first.route, first.readers, first.readings) == ("mr_brain", "brain", 2, 1)
    assert (second.model, second.route, second.readers) == ("other", "head", 1)
    correct, time = first.questions[:2]
    assert (correct.number, correct.mean, correct.agree, correct.counts) == (2, 4.5, 1.0, (0, 0, 0, 1, 1))
    assert (time.number, time.mean, time.agree) == (1, 2.0, 0.0)


def test_the_screen_says_how_sure_it_is(ledger: Ledger) -> None:
    assert "nobody has answered yet" in screen(summary(ledger))
    ledger.surveys.answer_usefulness("ana", read(ledger), {"correct": 5}, "", T0)
    ledger.surveys.answer_sus("ana", BEST, T0)
    text = screen(summary(ledger))
    assert "100% (21% to 100%)" in text
    assert "mean 100.0 of 1 reader; nearest to “best imaginable” (Bangor 2009)" in text
    ledger.surveys.answer_sus("bob", [3] * 10, T0)
    assert "95% interval 0.0 to 100.0" in screen(summary(ledger))


# -- what goes out


def test_an_export_names_no_account_unless_it_is_asked_to(ledger: Ledger) -> None:
    job_id = read(ledger)
    for account in ("ana", "bob"):
        ledger.surveys.answer_usefulness(account, job_id, ALL_FIVE, "", T0)
        ledger.surveys.answer_sus(account, BEST, T0)
    for what in survey_csv.EXPORTS:
        assert [row["reader"] for row in table(ledger, what)] == ["1", "2"]
        assert "ana" not in "".join(survey_csv.text(ledger, what))
        assert [row["account"] for row in table(ledger, what, names=True)] == ["ana", "bob"]


def test_an_export_holds_days_and_not_moments(ledger: Ledger) -> None:
    ledger.surveys.answer_sus("ana", BEST, T0)
    (row,) = table(ledger, "sus")
    assert (row["answered_on"], row["q1"], row["q2"], row["score"], row["newest"]) == (
        "2027-01-15",
        "5",
        "1",
        "100.0",
        "1",
    )


def test_an_export_holds_no_identifier_of_the_study(ledger: Ledger) -> None:
    job_id = read(ledger, "1.2.826.7")
    ledger.surveys.answer_usefulness("ana", job_id, {"correct": 4}, "", T0)
    (row,) = table(ledger, "usefulness")
    assert (row["job_id"], row["correct"], row["time"]) == (job_id, "4", "")
    assert "1.2.826.7" not in str(row)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "\t=", "\n ="])
def test_a_comment_is_no_formula(ledger: Ledger, start: str) -> None:
    comment = f'{start}HYPERLINK("http://evil", "a,b")'
    assert survey_csv.harmless(comment) == f"'{comment}"
    ledger.surveys.answer_usefulness("ana", read(ledger), {"correct": 4}, comment, T0)
    (row,) = table(ledger, "usefulness")
    assert row["comment"] == "'" + comment.strip()


def test_what_is_no_formula_is_left_alone(ledger: Ledger) -> None:
    comment = 'left, "too" small\n- and late'
    ledger.surveys.answer_usefulness("ana", read(ledger), {"correct": 4}, comment, T0)
    assert table(ledger, "usefulness")[0]["comment"] == comment
    assert survey_csv.harmless(-1) == -1


def test_a_long_export_comes_in_parts_and_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_csv, "PART", 2)
    job_id = read(ledger)
    for n in range(5):
        ledger.surveys.answer_usefulness(f"reader{n}", job_id, ALL_FIVE, "", T0)
        ledger.surveys.answer_sus(f"reader{n}", BEST, T0 + n)
    for what in survey_csv.EXPORTS:
        assert len(list(survey_csv.text(ledger, what))) == 4, "its head, and 2 + 2 + 1"
        assert [row["reader"] for row in table(ledger, what)] == ["1", "2", "3", "4", "5"]
