"""What a report says of a trial, as numbers and sentences; no drawing. Next: plots.py, page.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medai.trials.hospital.readers import ReadOf, plans, replay
from medai.trials.hospital.record import WITH_AI, StudyRow, TrialRun
from medai.trials.scenario import PRIORITIES
from medai.trials.statistics import Estimate, Summary, paired_difference, summary

STAGES = (
    ("waits to be complete", "last_image_s", "complete_s"),
    ("waits for a worker", "complete_s", "started_s"),
    ("is fetched", "started_s", "fetched_s"),
    ("is prepared", "fetched_s", "prepared_s"),
    ("is segmented", "prepared_s", "inferred_s"),
    ("is encoded", "inferred_s", "encoded_s"),
    ("is stored in the archive", "encoded_s", "stored_s"),
    ("is reported to the RIS", "stored_s", "result_s"),
)
"""What happens to a study, from which column to which."""


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """How long positive studies waited for a radiologist, hospital seconds, and what the AI's order changes."""

    of: str
    """Which comparison: the arms, or the replay."""
    with_ai: Summary
    without_ai: Summary
    pairs: int
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class HabitRow:
    """What became of the studies with one habit."""

    name: str
    studies: int
    answered: int
    revised: int
    lost: int
    duplicate: int


def turnaround(rows: Sequence[StudyRow]) -> dict[str, Summary | None]:
    """Last image to result at the RIS, by priority and for all, of the studies that must be answered."""
    owed = [row for row in rows if row.expected]
    found = {name: summary(row.turnaround_s for row in owed if row.priority == name) for name in PRIORITIES}
    return {**found, "all": summary(row.turnaround_s for row in owed)}


def stages(rows: Sequence[StudyRow]) -> list[tuple[str, Summary]]:
    """Median and spread of each stage of a study's journey."""
    found = [
        (name, summary(getattr(row, to) - getattr(row, since) for row in rows if row.expected and row.jobs))
        for name, since, to in STAGES
    ]
    return [(name, figures) for name, figures in found if figures is not None]


def waited(row: StudyRow) -> float:
    """Last image to first look; NaN where nobody has looked."""
    return row.first_look_s - row.last_image_s


def first_looks(run: TrialRun) -> list[FirstLook]:
    """With and without the AI's order: the arms against each other, and the replay of the arm with AI."""
    found = []
    if len(run.arms) > 1:
        both = _paired(run, "two real runs, the same patients", _looks_of_arms(run))
        found += [both] if both else []
    if WITH_AI in run.arms:
        rows = run.of(WITH_AI)
        reads = [_replayed(run, rows, use_ai=use_ai) for use_ai in (True, False)]
        both = _paired(run, "the same moments read again in the other order", (rows, reads[0], reads[1]))
        found += [both] if both else []
    return found


Looks = tuple[Sequence[StudyRow], Mapping[int, float], Mapping[int, float]]


def _looks_of_arms(run: TrialRun) -> Looks:
    waits = [{row.number: waited(row) for row in run.of(arm)} for arm in run.arms]
    with_ai = run.arms.index(WITH_AI)
    return run.of(WITH_AI), waits[with_ai], waits[1 - with_ai]


def _replayed(run: TrialRun, rows: Sequence[StudyRow], *, use_ai: bool) -> Mapping[int, float]:
    reads: Mapping[int, ReadOf] = replay(rows, plans(rows), run.scenario, accelerate=run.accelerate, use_ai=use_ai)
    return {row.number: reads[row.number].first_look_s - row.last_image_s for row in rows}


def _paired(run: TrialRun, of: str, looks: Looks) -> FirstLook | None:
    rows, with_ai, without = looks
    positive = [row.number for row in rows if row.positive and not math.isnan(row.last_image_s)]
    seconds = [[each.get(number, math.nan) * run.accelerate for number in positive] for each in (with_ai, without)]
    found = [summary(each) for each in seconds]
    difference = paired_difference(seconds[1], seconds[0])
    if found[0] is None or found[1] is None or difference is None:
        return None
    return FirstLook(of=of, with_ai=found[0], without_ai=found[1], pairs=difference[0], difference=difference[1])


def habits(rows: Sequence[StudyRow]) -> list[HabitRow]:
    """One row for each habit that occurred."""
    names = sorted({name for row in rows for name in row.habits.split()})
    return [_habit(name, [row for row in rows if name in row.habits.split()]) for name in names]


def _habit(name: str, mine: Sequence[StudyRow]) -> HabitRow:
    return HabitRow(
        name=name,
        studies=len(mine),
        answered=sum(row.results_at_ris > 0 for row in mine),
        revised=sum(row.jobs > 1 for row in mine),
        lost=sum(row.lost for row in mine),
        duplicate=sum(row.duplicate for row in mine),
    )


def counted(rows: Sequence[StudyRow], keep: Callable[[StudyRow], bool]) -> int:
    """How many."""
    return sum(map(keep, rows))


def worker_share(run: TrialRun, arm: str) -> float:
    """Share of the arm's time in which workers read: sum of started to stored over workers and length."""
    busy = sum(
        row.stored_s - row.started_s
        for row in run.of(arm)
        if not (math.isnan(row.stored_s) or math.isnan(row.started_s))
    )
    return busy / (run.length_s[arm] * run.scenario.system.workers)


def reader_share(run: TrialRun, arm: str) -> float | None:
    """Share of the radiologists on shift that were busy, over the samples; None without samples."""
    samples = [row for row in run.samples if row.arm == arm and row.readers]
    return sum(row.readers_busy for row in samples) / sum(row.readers for row in samples) if samples else None


def alive_during(rows: Sequence[StudyRow], began_s: float, ended_s: float) -> tuple[int, int]:
    """How many studies were under way at some moment of a fault, and how many of them were answered in the end."""
    there = [row for row in rows if row.expected and row.last_image_s <= ended_s and not row.result_s < began_s]
    return len(there), sum(row.results_at_ris > 0 for row in there)


def sentences(run: TrialRun) -> list[str]:
    """The trial in a few plain sentences."""
    out = ["The trial was interrupted: what had not been answered by then counts as lost."] * bool(
        run.machine.get("interrupted")
    )
    hours = run.scenario.duration_s / 3600
    for arm in run.arms:
        rows = run.of(arm)
        owed = [row for row in rows if row.expected]
        lost, twice = counted(rows, lambda row: row.lost), counted(rows, lambda row: row.duplicate)
        made = counted(rows, lambda row: row.images > 0)
        text = f"{arm}: {made} studies were made in {hours:g} hours of the hospital"
        if arm == WITH_AI:
            answered = counted(owed, lambda row: row.results_at_ris > 0)
            text += f"; {len(owed)} had to be answered, {answered} were; {lost} were lost, {twice} answered twice."
        else:
            text += f"; {lost} were lost."
        out.append(text)
    if WITH_AI in run.arms:
        out += _kept(run)
        out += [_looked(look) for look in first_looks(run)]
    return out


def _kept(run: TrialRun) -> list[str]:
    out = []
    for name, figures in turnaround(run.of(WITH_AI)).items():
        if name == "all" or figures is None:
            continue
        limit = getattr(run.scenario.objectives, f"{name}_s")
        word = "kept" if figures.p95.value <= limit and not figures.missing else "missed"
        out.append(
            f"{name}: half of {figures.n} results were at the RIS {figures.p50.value:.1f} s after the last image, 95 % "
            f"after {figures.p95.value:.1f} s; the objective of {limit:g} s was {word}."
        )
    return out


def _looked(look: FirstLook) -> str:
    minutes = look.difference.value / 60
    sooner = "sooner" if minutes < 0 else "later"
    spread = ""
    if look.difference.low is not None and look.difference.high is not None:
        spread = f" (95 % CI {look.difference.low / 60:.1f} to {look.difference.high / 60:.1f} min)"
    return (
        f"A radiologist looked at positive studies {abs(minutes):.1f} hospital minutes {sooner} with the AI's order "
        f"than without{spread}; {look.pairs} studies, {look.of}."
    )


def first_look_of(rows: Sequence[StudyRow], priority: str, accelerate: float) -> Summary | None:
    """Wait for a radiologist, hospital minutes, of the studies of one priority."""
    made = [row for row in rows if row.priority == priority and not math.isnan(row.last_image_s)]
    return summary(waited(row) * accelerate / 60 for row in made)
