"""What the answers of the surveys come to: counts, means, shares and scores, with 95% intervals.

The intervals take answers as independent. Those of one reader are not: read them with the number of readers.
Next: ledger/surveys.py, screens of it in console/surveys.py and ``medai survey summary``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from medai.router.ledger import Ledger
from medai.router.ledger.surveys import USEFULNESS
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


def summary(ledger: Ledger) -> dict[str, Any]:
    """What both surveys came to: ``usefulness`` by model and route, ``sus`` of each account's newest answer."""
    scores = [row.score for row in ledger.surveys.sus_answers() if row.newest]
    return {
        "usefulness": [
            {
                "model": found.model,
                "route": found.route,
                "readers": found.readers,
                "readings": found.readings,
                "questions": [
                    {"key": each.key, "text": each.text, **of_counts(found.counts[each.key])} for each in USEFULNESS
                ],
            }
            for found in ledger.surveys.usefulness_counts()
        ],
        "sus": of_scores(scores),
    }


def of_counts(counts: Sequence[int]) -> dict[str, Any]:
    """Figures of how often a question got 1, 2, 3, 4 and 5; all but the number are None where it got none."""
    number = sum(counts)
    agreed = sum(counts[AGREE - 1 :])
    return {
        "counts": list(counts),
        "number": number,
        "mean": sum(value * count for value, count in enumerate(counts, 1)) / number if number else None,
        "median": _median(counts) if number else None,
        "agree": agreed / number if number else None,
        "agree_interval": wilson(agreed, number) if number else None,
    }


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


def of_scores(scores: Sequence[float]) -> dict[str, Any]:
    """Figures of SUS scores, one of each account. The interval needs two, and is cut at the ends of the scale."""
    number = len(scores)
    mean = statistics.fmean(scores) if scores else None
    deviation = statistics.stdev(scores) if number > 1 else None
    interval = None
    if mean is not None and deviation is not None:
        half = student_t(number - 1) * deviation / math.sqrt(number)
        interval = (max(0.0, mean - half), min(100.0, mean + half))
    return {
        "readers": number,
        "mean": mean,
        "deviation": deviation,
        "interval": interval,
        "adjective": adjective(mean) if mean is not None else None,
    }


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


def screen(found: Mapping[str, Any]) -> str:
    """A summary for a terminal."""
    lines = []
    for group in found["usefulness"]:
        lines.append(
            f"{group['model']} by {group['route']}: {counted(group['readers'], 'reader')}, "
            f"{counted(group['readings'], 'reading')}"
        )
        lines.append(f"  {'':<48} {'n':>4} {'mean':>5} {'median':>6}  4 or 5 (95% interval)")
        lines += [_question_line(each) for each in group["questions"]]
    lines = lines or ["usefulness: nobody has answered yet"]
    sus = found["sus"]
    if not sus["readers"]:
        return "\n".join([*lines, "usability (SUS): nobody has answered yet"])
    spread = "" if sus["interval"] is None else (
        f", SD {sus['deviation']:.1f}, 95% interval {sus['interval'][0]:.1f} to {sus['interval'][1]:.1f}"
    )  # fmt: skip
    word = f"nearest to “{sus['adjective']}” (Bangor 2009)"
    return "\n".join(
        [*lines, f"usability (SUS): mean {sus['mean']:.1f} of {counted(sus['readers'], 'reader')}{spread}; {word}"]
    )


def _question_line(each: Mapping[str, Any]) -> str:
    if not each["number"]:
        return f"  {each['text']:<48} {0:>4}"
    low, high = each["agree_interval"]
    share = f"{each['agree']:.0%} ({low:.0%} to {high:.0%})"
    return f"  {each['text']:<48} {each['number']:>4} {each['mean']:>5.2f} {each['median']:>6g}  {share}"
