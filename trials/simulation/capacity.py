"""How many workers it takes, and what a region needs: the simulation asked again and again. Next: simulate.py."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medai.trials.hospital import timeline
from medai.trials.hospital.site import READ_MODALITIES
from medai.trials.scenario import PRIORITIES, Scenario, ScenarioError
from medai.trials.simulation.service_times import Service
from medai.trials.simulation.serving import Outcome, Ready, Resources, serve
from medai.trials.simulation.simulate import percentile, simulate

T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, two-sided 95 %, for 1 to 30 degrees of freedom."""
YEAR_DAYS = 365
DAY_S = 86_400.0
_OBJECTIVE = re.compile(r"p(\d+(?:\.\d+)?)=(\d+(?:\.\d+)?)([smh]?)")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over replications: mean and 95 % interval (Student); no interval of one replication."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Turnaround of one priority, seconds, and how many studies that is in all replications."""

    priority: str
    studies: int
    p50: Spread
    p95: Spread
    p99: Spread


@dataclass(frozen=True, kw_only=True)
class Region:
    """Many hospitals that share one pool of workers."""

    hospitals: int
    studies_per_year: float
    days: int = YEAR_DAYS


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A percentile that must not exceed ``limit_s``; of one priority, or of all where it is empty."""

    share: float
    limit_s: float
    priority: str = ""

    @property
    def name(self) -> str:
        """As in ``p95`` or ``p99.9``."""
        return f"p{100 * self.share:.6g}"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A number of workers and what it gives."""

    workers: int
    found: Spread
    busy: float
    keeps: bool


def spread(values: Sequence[float]) -> Spread:
    """Mean and interval over replications."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return Spread(value=math.nan, low=None, high=None)
    mean = sum(there) / len(there)
    if len(there) < 2:
        return Spread(value=mean, low=None, high=None)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in there) / (len(there) - 1))
    half = student_t95(len(there) - 1) * deviation / math.sqrt(len(there))
    return Spread(value=mean, low=mean - half, high=mean + half)


def student_t95(freedom: int) -> float:
    """Two-sided 95 %; beyond 30 degrees of freedom 1.96 + 2.4 / freedom, which is within 0.002."""
    return T95[freedom - 1] if freedom <= len(T95) else 1.96 + 2.4 / freedom


def summaries(outcomes: Sequence[Outcome]) -> list[Summary]:
    """By priority, and of all together."""
    found = []
    for name in (*PRIORITIES, "all"):
        times = [
            [each.turnaround_s for each in outcome.served if name == "all" or PRIORITIES[each.urgency] == name]
            for outcome in outcomes
        ]
        if any(times):
            figures = {key: spread([percentile(each, share) for each in times]) for key, share in SHARES.items()}
            found.append(Summary(priority=name, studies=sum(map(len, times)), **figures))
    return found


def repeat(
    scenario: Scenario,
    service: Service,
    resources: Resources,
    *,
    days: int,
    accelerate: float = 1.0,
    beside: Path | None = None,
) -> list[Outcome]:
    """The scenario on so many days, each with arrivals of its own; ``beside`` as in ``timeline.plan``."""
    outcomes = []
    for day in range(days):
        today = scenario.model_copy(update={"seed": scenario.seed + day})
        planned = timeline.plan(today, beside=beside)
        outcomes.append(simulate(today, planned, service, resources, accelerate=accelerate, seed=str(day)))
    return outcomes


def simulate_region(
    scenario: Scenario, service: Service, resources: Resources, region: Region, *, seed: int
) -> Outcome:
    """Hospitals with the scenario's mix and hours of the day, their studies in one queue.

    Independent Poisson processes add up to one, so only the number of all studies matters; scanners are left out.
    """
    studies = list(_region(scenario, service, region, seed))
    return serve(studies, resources, turnover_s=service.turnover_s, seed=str(seed))


def _region(scenario: Scenario, service: Service, region: Region, seed: int) -> Iterable[Ready]:
    """Every study of the region that a model reads, in order."""
    dice = np.random.default_rng(seed)
    count = int(dice.poisson(region.studies_per_year * region.days / YEAR_DAYS))
    hours = np.array([scenario.arrivals.at_hour(hour) for hour in range(24)])
    hours = hours / hours.sum() if hours.sum() else np.full(24, 1 / 24)
    at_s = dice.integers(0, region.days, count) * DAY_S + (dice.choice(24, count, p=hours) + dice.random(count)) * 3600
    weights = np.array([case.weight for case in scenario.cases])
    case = dice.choice(len(scenario.cases), count, p=weights / weights.sum())
    read = np.array([each.modality in READ_MODALITIES for each in scenario.cases])[case]
    at_s, case = np.sort(at_s[read]), case[read]
    shares = [scenario.priorities.get(name, 0.0) for name in PRIORITIES]  # type: ignore[call-overload] # its Literal
    urgency = dice.choice(len(PRIORITIES), at_s.size, p=shares).tolist()
    before = np.array(service.completeness_s)[dice.integers(0, len(service.completeness_s), at_s.size)]
    before = before + np.array(service.dispatch_s)[dice.integers(0, len(service.dispatch_s), at_s.size)]
    steps = [service.steps(each.name) for each in scenario.cases]
    pick = random.Random(seed)  # noqa: S311 - a simulation
    for at, which, urgent, first in zip(at_s.tolist(), case.tolist(), urgency, before.tolist(), strict=True):
        choice = steps[which]
        yield Ready(at, urgent, choice[int(pick.random() * len(choice))], service.quiet_s + first)


Run = Callable[[int, int], Outcome]
"""(workers, seed) -> an outcome."""


def plan(run: Run, objective: Objective, *, least: int, most: int, replications: int) -> tuple[int | None, list[Tried]]:
    """The smallest number of workers from ``least`` to ``most`` that keeps an objective, and all that were tried.

    It is kept where the upper end of the interval is: nobody wants to miss it every other year. None: not by ``most``.
    Raises ScenarioError where no study came that could tell.
    """
    tried: dict[int, Tried] = {}

    def keeps(workers: int) -> bool:
        if workers not in tried:
            outcomes = [run(workers, seed) for seed in range(replications)]
            found = spread([_figure(outcome, objective) for outcome in outcomes])
            if math.isnan(found.value):
                which = f"{objective.priority} study" if objective.priority else "study"
                raise ScenarioError(f"no {which} came in {replications} replications: ask for more days")
            worst = found.high if found.high is not None else found.value
            busy = sum(outcome.busy for outcome in outcomes) / len(outcomes)
            kept = worst <= objective.limit_s
            tried[workers] = Tried(workers=workers, found=found, busy=busy, keeps=kept)
        return tried[workers].keeps

    low, high = least, least
    while not keeps(high):  # double until it is kept, then between
        if high == most:
            return None, sorted(tried.values(), key=lambda each: each.workers)
        low, high = high + 1, min(most, high * 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle + 1, high)
    if low > least:
        keeps(low - 1)  # to show that one less is too few
    return low, sorted(tried.values(), key=lambda each: each.workers)


def _figure(outcome: Outcome, objective: Objective) -> float:
    times = [
        each.turnaround_s
        for each in outcome.served
        if not objective.priority or PRIORITIES[each.urgency] == objective.priority
    ]
    return percentile(times, objective.share)


def parse_objective(text: str, priority: str) -> Objective:
    """``p95=300s``, ``p99=5m``; raises ScenarioError."""
    found = _OBJECTIVE.fullmatch(text.strip())
    share, limit_s = (float(found[1]) / 100, float(found[2]) * _UNITS_S[found[3]]) if found else (0.0, 0.0)
    if not (0 < share < 1 and limit_s > 0):
        raise ScenarioError(f"--objective {text!r}: write a percentile and a limit, as in p95=300s, 5m or 1h")
    return Objective(share=share, limit_s=limit_s, priority=priority)
