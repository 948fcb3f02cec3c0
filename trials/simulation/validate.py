"""Is the simulation right? Against the real run that its times come from, and queueing theory. Next: simulate.py."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medai.trials.hospital import timeline
from medai.trials.hospital.readers import plans
from medai.trials.hospital.record import WITH_AI, StudyRow, TrialRun
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scenario import PRIORITIES
from medai.trials.simulation import queueing
from medai.trials.simulation.capacity import Spread, spread
from medai.trials.simulation.service_times import WORKERS_LOST, Steps, measure, own_steps
from medai.trials.simulation.serving import Outage, Outcome, Ready, Resources, serve
from medai.trials.simulation.simulate import left_out, percentile, simulate

TOLERANCE = 0.15
REPLICATIONS = 20
STUDIES = 20_000
FEWEST = 8
"""A real percentile of fewer studies is no measure of anything: shown, not judged."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Real against simulated, seconds."""

    what: str
    studies: int
    real: float
    simulated: Spread
    judged: bool

    @property
    def ratio(self) -> float:
        """Simulated over real."""
        return self.simulated.value / self.real

    @property
    def ok(self) -> bool:
        """Within the tolerance, or not judged."""
        return not self.judged or abs(self.ratio - 1) <= TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Theory against simulated: mean wait, seconds."""

    what: str
    theory: float
    simulated: Spread

    @property
    def ok(self) -> bool:
        """The theory lies in the simulation's interval."""
        low, high = self.simulated.low, self.simulated.high
        return low is not None and high is not None and low <= self.theory <= high


def against_run(run: TrialRun) -> list[Compared]:
    """The arm with AI, and the same arrivals simulated with the times measured in it."""
    service, resources = measure(run), Resources(workers=run.scenario.system.workers)
    planned = planned_of(run)
    outcomes = [
        simulate(run.scenario, planned, service, resources, accelerate=run.accelerate, seed=f"validate {number}")
        for number in range(REPLICATIONS)
    ]
    found = []
    for name in (*PRIORITIES, "all"):
        rows = [row for row in run.of(WITH_AI) if row.expected and not math.isnan(row.turnaround_s)]
        real = [row.turnaround_s for row in rows if name in ("all", _urgency(row.habits, row.priority))]
        for share in (0.50, 0.95):
            if real:
                found.append(_compared(name, share, real, outcomes))
    return found


def planned_of(run: TrialRun) -> list[PlannedStudy]:
    """The plan out of the record, so that it needs neither the scenario's CSV nor this release's dice."""
    rows = sorted(run.of(WITH_AI), key=lambda row: row.number)
    return [
        replace(study, at_s=row.scheduled_s * run.accelerate, seed=timeline.seed_of(run.scenario, row.number))
        for study, row in zip(plans(rows), rows, strict=True)
    ]


def replayed(run: TrialRun) -> list[Compared]:
    """The queue alone: each study as it came and with its own times, nothing drawn."""
    rows = [row for row in run.of(WITH_AI) if row.jobs and row.expected and not math.isnan(row.turnaround_s)]
    studies = [
        Ready(row.last_image_s, PRIORITIES.index(_urgency(row.habits, row.priority)), own_steps(row), _ready_s(row))
        for row in rows
    ]
    service = measure(run)
    outages = [
        Outage(began_s=fault.began_s, ended_s=fault.ended_s + service.restart_s)
        for fault in run.faults
        if fault.arm == WITH_AI and fault.name in WORKERS_LOST
    ]
    workers = Resources(workers=run.scenario.system.workers)
    outcome = serve(studies, workers, turnover_s=service.turnover_s, outages=outages, seed="replayed")
    real = [row.turnaround_s for row in rows]
    return [_compared("all", share, real, [outcome]) for share in (0.50, 0.95)] if rows else []


def _ready_s(row: StudyRow) -> float:
    return max(0.0, row.enqueued_s - row.last_image_s)


def _urgency(habits: str, priority: str) -> str:
    return "stat" if "order_changed" in habits.split() else priority


def _compared(name: str, share: float, real: Sequence[float], outcomes: Sequence[Outcome]) -> Compared:
    simulated = [
        percentile([e.turnaround_s for e in outcome.served if name in ("all", PRIORITIES[e.urgency])], share)
        for outcome in outcomes
    ]
    judged = len(real) >= FEWEST
    what = f"{name}, p{round(100 * share)}"
    found = percentile(real, share)
    return Compared(what=what, studies=len(real), real=found, simulated=spread(simulated), judged=judged)


def against_theory() -> list[Closed]:
    """M/M/c, M/G/1 and priorities, each by several long replications of the very same queue."""
    found = []
    for servers, load in ((1, 0.5), (1, 0.8), (4, 0.8), (16, 0.9)):
        theory = queueing.mmc_wait_s(load * servers, 1.0, servers)
        found.append(_closed(f"M/M/{servers}, load {load:g}", theory, servers, load * servers, None))
    sigma = 1.0
    mean, variance = math.exp(sigma**2 / 2), (math.exp(sigma**2) - 1) * math.exp(sigma**2)
    theory = queueing.mg1_wait_s(0.7 / mean, mean, variance)
    found.append(_closed("M/G/1, log-normal, load 0.7", theory, 1, 0.7 / mean, sigma))
    rates = [0.1, 0.2, 0.5]
    for urgency, wait in enumerate(queueing.priority_waits_s(rates, 1.0, 1.0)):
        what = f"M/M/1 with priorities, {PRIORITIES[urgency]}"
        found.append(_closed(what, wait, 1, sum(rates), None, shares=rates, urgency=urgency))
    return found


def _closed(
    what: str,
    theory: float,
    servers: int,
    rate: float,
    sigma: float | None,
    *,
    shares: Sequence[float] = (1.0,),
    urgency: int = 0,
) -> Closed:
    waits = []
    for number in range(REPLICATIONS):
        outcome = serve(_studies(f"{what} {number}", rate, sigma, shares), Resources(workers=servers))
        settled = sorted(outcome.served, key=lambda each: each.at_s)[STUDIES // 10 :]  # it begins empty
        waits.append(statistics.fmean(e.started_s - e.at_s for e in settled if e.urgency == urgency))
    return Closed(what=what, theory=theory, simulated=spread(waits))


def _studies(seed: str, rate: float, sigma: float | None, shares: Sequence[float]) -> list[Ready]:
    dice, at_s, made = random.Random(seed), 0.0, []  # noqa: S311 - a simulation
    for _ in range(STUDIES):
        at_s += dice.expovariate(rate)
        takes = dice.expovariate(1.0) if sigma is None else dice.lognormvariate(0.0, sigma)
        urgency = dice.choices(range(len(shares)), shares)[0]
        made.append(Ready(at_s, urgency, Steps(before_s=0.0, inference_s=takes, after_s=0.0, delivery_s=0.0)))
    return made


def markdown(run: TrialRun, real: Sequence[Compared], theory: Sequence[Closed], replay: Sequence[Compared] = ()) -> str:
    """The tables, as docs/trials.md shows them."""
    where = (
        f"{run.scenario.name}, {run.accelerate:g} times as fast, {len(run.of(WITH_AI))} studies, "
        f"{run.machine.get('cores')} cores"
    )
    lines = [
        f"Against a real run ({where}), last image to result at the RIS, {REPLICATIONS} replications:",
        "",
        *_rows(real),
    ]
    missed = left_out(run.scenario)
    if missed:
        lines += ["", f"Faults of this scenario that the model does not play: {', '.join(missed)}."]
    if replay:
        lines += ["", "The queue alone, each study as it came and with its own measured times:", "", *_rows(replay)]
    lines += [
        "",
        f"Against closed forms, mean wait, {REPLICATIONS} replications of {STUDIES:,} studies:",
        "",
        "| | theory, s | simulated, s (95 % CI) | in the interval |",
        "|---|---|---|---|",
    ]
    for one in theory:
        lines.append(f"| {one.what} | {one.theory:.3f} | {_told(one.simulated)} | {'yes' if one.ok else 'no'} |")
    return "\n".join(lines)


def _rows(compared: Sequence[Compared]) -> list[str]:
    lines = ["| | studies | real, s | simulated, s (95 % CI) | ratio | within 15 % |", "|---|---|---|---|---|---|"]
    for each in compared:
        verdict = ("yes" if each.ok else "no") if each.judged else "too few to judge"
        figures = f"{each.real:.2f} | {_told(each.simulated)} | {each.ratio:.2f}"
        lines.append(f"| {each.what} | {each.studies} | {figures} | {verdict} |")
    return lines


def _told(found: Spread) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
