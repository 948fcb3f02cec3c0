"""Who comes when: the planned studies of a scenario, the same for the same seed, whatever the machine does.

Each property is drawn from a generator of its own (one for each study and purpose), so that a change of one share moves
nothing else, and both arms of a trial see the same patients. Next: scenario.py, arm.py.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medai.trials.scenario import PRIORITIES, SHIPPED, Case, Habits, Scenario, ScenarioError

HABITS = tuple(Habits.model_fields)
COLUMNS = ("at_s", "case", "priority")
"""Of a replayed CSV."""
SHIPPED_BESIDE = Path(str(SHIPPED))
"""Where the CSV files of the shipped scenarios are."""


@dataclass(frozen=True, kw_only=True)
class PlannedStudy:
    """One study that will be made. Times are hospital seconds since the trial began."""

    number: int
    """From 0, in the order of arrival."""
    at_s: float
    """The patient lies down: the scanner begins when it is free."""
    case: str
    priority: str
    """``stat``, ``urgent`` or ``routine``, as it was ordered."""
    positive: bool
    """Shows what must be seen soon."""
    flagged: bool
    """What the AI will say of it."""
    reading_s: float
    """How long a radiologist takes for it without AI, hospital seconds."""
    habits: tuple[str, ...]
    """Names of ``Habits``."""
    seed: str
    """For the images and all UIDs."""


def plan(scenario: Scenario, *, beside: Path | None = None) -> tuple[PlannedStudy, ...]:
    """The live studies of a scenario in their order; ``beside`` is the folder of a replayed CSV (None: the shipped)."""
    arrivals = scenario.arrivals
    if arrivals.kind == "replay":
        rows = _replayed((beside or SHIPPED_BESIDE) / arrivals.csv, scenario)
    else:
        rows = [(at_s, "", "") for at_s in _poisson(scenario)]
    return tuple(_study(scenario, number, *row) for number, row in enumerate(rows))


def seed_of(scenario: Scenario, number: int) -> str:
    """Where everything about a study is drawn from."""
    return f"{scenario.name}|{scenario.seed}|{number}"


def _poisson(scenario: Scenario) -> Iterator[float]:
    """Arrivals of a Poisson process whose rate changes each hour: thinning (Lewis and Shedler 1979)."""
    dice = random.Random(f"{scenario.name}|{scenario.seed}|arrivals")  # noqa: S311 - a simulation
    highest = max(scenario.arrivals.at_hour(hour) for hour in range(24)) / 3600
    at_s = 0.0
    while highest > 0:
        at_s += dice.expovariate(highest)
        if at_s >= scenario.duration_s:
            return
        hour = int((scenario.starts_s + at_s) // 3600)
        if dice.random() * highest < scenario.arrivals.at_hour(hour) / 3600:
            yield at_s


def _replayed(path: Path, scenario: Scenario) -> list[tuple[float, str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet puts a mark before its UTF-8
            reader = csv.DictReader(file)
            _right_columns(path, reader.fieldnames or ())
            found = [(float(row["at_s"] or ""), row.get("case") or "", row.get("priority") or "") for row in reader]
    except OSError as error:
        raise ScenarioError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise ScenarioError(f"{path}: each row needs at_s, a number of seconds ({error})") from error
    cases = {case.name for case in scenario.cases}
    for number, (at_s, case, priority) in enumerate(found, start=2):
        if not (math.isfinite(at_s) and at_s >= 0):
            raise ScenarioError(f"{path}, line {number}: at_s must be seconds from the trial's begin, not {at_s:g}")
        if case and case not in cases:
            raise ScenarioError(f"{path}, line {number}: no case is named {case!r}")
        if priority and priority not in PRIORITIES:
            raise ScenarioError(f"{path}, line {number}: priority {priority!r} is none of {', '.join(PRIORITIES)}")
    return sorted(row for row in found if row[0] < scenario.duration_s)


def _right_columns(path: Path, given: Sequence[str]) -> None:
    if "at_s" not in given:
        raise ScenarioError(f"{path}: each row needs at_s, a number of seconds: there is no such column")
    for name in given:
        if name not in COLUMNS:
            raise ScenarioError(f"{path}: the column {name!r} is none of {', '.join(COLUMNS)}")


def _study(scenario: Scenario, number: int, at_s: float, case_name: str, priority: str) -> PlannedStudy:
    seed = seed_of(scenario, number)

    def dice(purpose: str) -> random.Random:
        return random.Random(f"{seed}|{purpose}")  # noqa: S311 - a simulation

    weights = [each.weight for each in scenario.cases]
    case: Case = scenario.case(case_name) if case_name else dice("case").choices(scenario.cases, weights)[0]
    shares = [scenario.priorities.get(name, 0.0) for name in PRIORITIES]  # type: ignore[call-overload] # its Literal
    positive = dice("positive").random() < case.positive
    says = scenario.ai.sensitivity if positive else 1 - scenario.ai.specificity
    return PlannedStudy(
        number=number,
        at_s=at_s,
        case=case.name,
        priority=priority or dice("priority").choices(PRIORITIES, shares)[0],
        positive=positive,
        flagged=dice("ai").random() < says,
        reading_s=case.reading.median_s * math.exp(dice("reading").gauss(0.0, case.reading.sigma)),
        habits=tuple(name for name in HABITS if dice(name).random() < getattr(scenario.habits, name)),
        seed=seed,
    )
