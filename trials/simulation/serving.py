"""Workers, GPUs and the queue before them as a discrete-event model (SimPy). A queue alone: scanners are before it.

The most urgent first, then first come, first served; a reading that has begun is finished. About three events a study,
so that a region's year takes seconds. Next: simulate.py (a scenario), queueing.py (what it is checked against).
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from medai.trials.simulation.service_times import Steps

NOTICED_S = (10.0, 30.0)
"""After how long a dead worker's reading begins again: measured, docs/reliability.md."""
RIS_AGAIN_S = 30.0
"""The longest pause between two tries of a destination that is away."""
Process = Generator[simpy.Event, Any, None]
Stages = Generator[simpy.Event, Any, bool]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What reads. ``gpus``: 0 means that inference takes the worker's own time; else a GPU does it ``speedup`` times as
    fast, one inference at a time."""

    workers: int
    gpus: int = 0
    speedup: float = 10.0


@dataclass(frozen=True)
class Ready:
    """A study whose last image is in the archive at ``at_s``; ``urgency`` 0 is the most urgent."""

    at_s: float
    urgency: int
    steps: Steps
    first_s: float = 0.0
    """Quiet period, decision and message, before a worker can begin."""
    counts: bool = True
    """Its turnaround counts (a correction's does not)."""


@dataclass(slots=True)
class Served:
    """When a study was begun, and its result at the RIS."""

    at_s: float
    urgency: int
    started_s: float
    result_s: float
    ready_s: float = math.nan
    """When it was in the queue."""

    @property
    def turnaround_s(self) -> float:
        """Last image to result."""
        return self.result_s - self.at_s


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One replication."""

    served: list[Served]
    busy: float
    """Share of the workers' time in use."""
    length_s: float
    longest_queue: int


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Workers are away; they are killed at ``began_s`` where both are the same."""

    began_s: float
    ended_s: float


def serve(
    studies: Sequence[Ready],
    resources: Resources,
    *,
    turnover_s: float = 0.0,
    outages: Sequence[Outage] = (),
    ris_away: Sequence[tuple[float, float]] = (),
    seed: str = "",
) -> Outcome:
    """Let workers read ``studies``; returns when all are read. ``turnover_s``: a worker's pause after each."""
    floor = _Floor(resources, turnover_s, outages, ris_away, random.Random(seed))  # noqa: S311 - a simulation
    return floor.run(sorted(studies, key=lambda study: study.at_s + study.first_s))


class _Floor:
    def __init__(
        self,
        resources: Resources,
        turnover_s: float,
        outages: Sequence[Outage],
        ris_away: Sequence[tuple[float, float]],
        dice: random.Random,
    ) -> None:
        self._env = simpy.Environment()
        self._resources, self._turnover_s = resources, turnover_s
        self._outages, self._ris_away, self._dice = outages, ris_away, dice
        shared = 0 < resources.gpus < resources.workers
        self._gpus = simpy.PriorityResource(self._env, resources.gpus) if shared else None
        self._waiting: list[tuple[int, int, Ready]] = []
        self._idle: list[simpy.Event] = []
        self._served: list[Served] = []
        self._busy_s, self._longest = 0.0, 0

    def run(self, studies: Sequence[Ready]) -> Outcome:
        self._env.process(self._arrive(studies))
        for _ in range(self._resources.workers):
            self._env.process(self._work())
        self._env.run()
        length = max((each.result_s for each in self._served), default=0.0)
        busy = self._busy_s / (self._resources.workers * length) if length else 0.0
        return Outcome(served=self._served, busy=busy, length_s=length, longest_queue=self._longest)

    def _arrive(self, studies: Sequence[Ready]) -> Process:
        for order, study in enumerate(studies):
            wait = study.at_s + study.first_s - self._env.now
            if wait > 0:
                yield self._env.timeout(wait)
            self._put(order, study)

    def _put(self, order: int, study: Ready) -> None:
        heapq.heappush(self._waiting, (study.urgency, order, study))
        self._longest = max(self._longest, len(self._waiting))
        if self._idle:
            self._idle.pop().succeed()

    def _work(self) -> Process:
        env = self._env
        while True:
            back = max((each.ended_s for each in self._outages if each.began_s <= env.now < each.ended_s), default=0.0)
            if back > env.now:
                yield env.timeout(back - env.now)
            if self._waiting:
                _, order, study = heapq.heappop(self._waiting)
                yield from self._read(order, study)
            else:
                event = env.event()
                self._idle.append(event)
                yield event

    def _read(self, order: int, study: Ready) -> Process:
        started = self._env.now
        struck_s = min((each.began_s for each in self._outages if each.began_s > started), default=math.inf)
        stages = self._alone(study, struck_s) if self._gpus is None else self._with_shared_gpu(study, struck_s)
        if not (yield from stages):
            self._env.process(self._again(order, study))
            return
        done = self._env.now
        yield self._env.timeout(self._turnover_s)
        self._busy_s += self._env.now - started
        if study.counts:
            result = self._told(done, study.steps.delivery_s)
            ready = study.at_s + study.first_s
            self._served.append(Served(study.at_s, study.urgency, started, result, ready))

    def _alone(self, study: Ready, struck_s: float) -> Stages:
        """False where the worker was lost at ``struck_s``, before it was done."""
        quicker = self._resources.speedup if self._resources.gpus else 1.0
        steps = study.steps
        return (yield from self._spend(steps.before_s + steps.inference_s / quicker + steps.after_s, struck_s))

    def _with_shared_gpu(self, study: Ready, struck_s: float) -> Stages:
        assert self._gpus is not None
        if not (yield from self._spend(study.steps.before_s, struck_s)):
            return False
        with self._gpus.request(priority=study.urgency) as request:
            lost = [] if math.isinf(struck_s) else [self._env.timeout(struck_s - self._env.now)]
            yield self._env.any_of([request, *lost])
            if not request.triggered:
                return False
            if not (yield from self._spend(study.steps.inference_s / self._resources.speedup, struck_s)):
                return False
        return (yield from self._spend(study.steps.after_s, struck_s))

    def _spend(self, seconds: float, struck_s: float) -> Stages:
        left_s = struck_s - self._env.now
        yield self._env.timeout(min(seconds, max(0.0, left_s)))
        return seconds <= left_s

    def _again(self, order: int, study: Ready) -> Process:
        """A worker died with this study: it waits until that is noticed, then for the next worker."""
        yield self._env.timeout(self._dice.uniform(*NOTICED_S))
        self._put(order, study)

    def _told(self, kept_s: float, delivery_s: float) -> float:
        """When the RIS has the result: after the delivery, or a try after the RIS is back."""
        at = kept_s + delivery_s
        for began, ended in self._ris_away:
            if began <= at < ended:
                at = ended + self._dice.uniform(0.0, min(RIS_AGAIN_S, max(1.0, (ended - at) / 2)))
        return at
