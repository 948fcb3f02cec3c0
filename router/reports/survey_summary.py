"""What the answers of the surveys come to: counts, means, shares and scores, with 95% intervals.

The intervals take answers as independent. Those of one reader are not: read them with the number of readers.
Next: ledger/surveys.py, screens of it in console/surveys.py and ``medai survey summary``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from pydantic import Field

from medai.router.ledger import Ledger
from medai.router.ledger.surveys import USEFULNESS, Question
from medai.router.reports.report import Report
from medai.router.words import counted

LEVEL = 0.95
Z = statistics.NormalDist().inv_cdf(0.5 + LEVEL / 2)
AGREE = 4
"""An answer of this or more agrees."""
ADJECTIVES: Mapping[str, float] = {
    "worst imaginable": 12.5, "awful": 20.3, "poor": 35.7, "OK": 50.9, "good": 71.4, "excellent": 85.5,
    "best imaginable": 90.9,
}  # fmt: skip
"""Mean score of the systems that people called so: Bangor A, Kortum P, Miller J. Determining what individual SUS scores
mean: adding an adjective rating scale. J Usability Stud 2009;4(3):114-123."""


class QuestionFigures(Report):
    """What one question got; figures are null where nobody answered it."""

    key: str
    text: str
    counts: tuple[int, ...] = Field(description="How often 1, 2, 3, 4 and 5 were given.")
    number: int
    mean: float | None
    median: float | None
    agree: float | None = Field(description="Share of 4 and 5.")
    agree_interval: tuple[float, float] | None = Field(description="95 %, Wilson.")


class GroupFigures(Report):
    """Usefulness of one model on one route."""

    model: str
    route: str
    readers: int
    readings: int
    questions: tuple[QuestionFigures, ...]


class SusFigures(Report):
    """The System Usability Scale over each account's newest answer."""

    readers: int
    mean: float | None
    deviation: float | None
    interval: tuple[float, float] | None = Field(description="95 %, Student; null for fewer than two.")
    adjective: str | None = Field(description="The word whose mean score is nearest (Bangor 2009).")


class SurveySummary(Report):
    """Both surveys."""

    usefulness: tuple[GroupFigures, ...]
    sus: SusFigures


def summary(ledger: Ledger) -> SurveySummary:
    """What both surveys came to: ``usefulness`` by model and route, ``sus`` of each account's newest answer."""
    scores = [row.score for row in ledger.surveys.sus_answers() if row.newest]
    return SurveySummary(
        usefulness=tuple(
            GroupFigures(
                model=found.model,
                route=found.route,
                readers=found.readers,
                readings=found.readings,
                questions=tuple(of_counts(each, found.counts[each.key]) for each in USEFULNESS),
            )
            for found in ledger.surveys.usefulness_counts()
        ),
        sus=of_scores(scores),
    )


def of_counts(question: Question, counts: Sequence[int]) -> QuestionFigures:
    """Figures of how often a question got 1, 2, 3, 4 and 5."""
    number = sum(counts)
    agreed = sum(counts[AGREE - 1 :])
    return QuestionFigures(
        key=question.key,
        text=question.text,
        counts=tuple(counts),
        number=number,
        mean=sum(value * count for value, count in enumerate(counts, 1)) / number if number else None,
        median=_median(counts) if number else None,
        agree=agreed / number if number else None,
        agree_interval=wilson(agreed, number) if number else None,
    )


def _median(counts: Sequence[int]) -> float:
    number = sum(counts)
    return (_at(counts, (number - 1) // 2) + _at(counts, number // 2)) / 2


def _at(counts: Sequence[int], place: int) -> int:
    """The answer at a place of the sorted answers, counted from 0."""
    before = 0
    for value, count in enumerate(counts, 1):
        before += count
        if place < before:
            return value
    raise IndexError(place)


def of_scores(scores: Sequence[float]) -> SusFigures:
    """Figures of SUS scores, one of each account. The interval needs two, and is cut at the ends of the scale."""
    number = len(scores)
    mean = statistics.fmean(scores) if scores else None
    deviation = statistics.stdev(scores) if number > 1 else None
    interval = None
    if mean is not None and deviation is not None:
        half = student_t(number - 1) * deviation / math.sqrt(number)
        interval = (max(0.0, mean - half), min(100.0, mean + half))
    return SusFigures(
        readers=number,
        mean=mean,
        deviation=deviation,
        interval=interval,
        adjective=adjective(mean) if mean is not None else None,
    )


def adjective(score: float) -> str:
    """The word whose mean score is nearest (ADJECTIVES)."""
    return min(ADJECTIVES, key=lambda word: abs(ADJECTIVES[word] - score))


def wilson(hits: int, number: int) -> tuple[float, float]:
    """95% interval of a share by Wilson's score (J Am Stat Assoc 1927;22:209-212), without continuity correction."""
    share, z2 = hits / number, Z * Z
    middle = share + z2 / (2 * number)
    half = Z * math.sqrt(share * (1 - share) / number + z2 / (4 * number * number))
    low, high = (middle - half) / (1 + z2 / number), (middle + half) / (1 + z2 / number)
    return (0.0 if hits == 0 else low, 1.0 if hits == number else high)  # not almost, by rounding


def student_t(freedom: int) -> float:
    """How many standard errors hold 95% of Student's t with so many degrees of freedom, to either side.

    Found by halving an interval: the probability is exact (``_within``), so no table and no library is needed.
    """
    low, high = 0.0, 13.0  # 12.71 for one degree of freedom, less for more
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < LEVEL else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t): Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = cosine if odd else 1.0, 0.0
    for step in range(1, freedom // 2 + 1):
        total += term
        term *= cosine * cosine * ((2 * step) / (2 * step + 1) if odd else (2 * step - 1) / (2 * step))
    part = math.sin(angle) * total
    return 2 / math.pi * (angle + part) if odd else part


def screen(found: SurveySummary) -> str:
    """A summary for a terminal."""
    lines = []
    for group in found.usefulness:
        lines.append(
            f"{group.model} by {group.route}: {counted(group.readers, 'reader')}, {counted(group.readings, 'reading')}"
        )
        lines.append(f"  {'':<48} {'n':>4} {'mean':>5} {'median':>6}  4 or 5 (95% interval)")
        lines += [_question_line(each) for each in group.questions]
    lines = lines or ["usefulness: nobody has answered yet"]
    return "\n".join([*lines, _sus_line(found.sus)])


def _sus_line(sus: SusFigures) -> str:
    if sus.mean is None:
        return "usability (SUS): nobody has answered yet"
    spread = ""
    if sus.interval is not None:
        spread = f", SD {sus.deviation:.1f}, 95% interval {sus.interval[0]:.1f} to {sus.interval[1]:.1f}"
    word = f"nearest to “{sus.adjective}” (Bangor 2009)"
    return f"usability (SUS): mean {sus.mean:.1f} of {counted(sus.readers, 'reader')}{spread}; {word}"


def _question_line(each: QuestionFigures) -> str:
    if each.agree is None or each.agree_interval is None:
        return f"  {each.text:<48} {0:>4}"
    low, high = each.agree_interval
    share = f"{each.agree:.0%} ({low:.0%} to {high:.0%})"
    return f"  {each.text:<48} {each.number:>4} {each.mean:>5.2f} {each.median:>6g}  {share}"
