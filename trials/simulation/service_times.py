"""How long each step takes, out of a real run: the only thing that the simulation knows of the system.

Empirical values, kept as they were measured and drawn from again; no distribution is assumed. A worker is taken from
``started`` until it has stored its objects in the archive (workers/deliver.py); the RIS is served by the router.
Next: simulate.py.
"""

from __future__ import annotations

import bisect
import json
import math
import statistics
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medai.trials.hospital.record import WITH_AI, StudyRow, TrialRun
from medai.trials.scenario import ScenarioError

SHIPPED = resources.files("medai.trials") / "service"
DEFAULT = "light"
WORKERS_LOST = frozenset({"workers-away", "workers-killed", "workers-stopped"})
"""Faults that take the workers away."""
UNUSUAL = frozenset({"repeated_series", "discontinued"})
"""Habits with which a study has many more or fewer images."""
FEW = 5
"""Fewer readings of a case than that are no basis."""
TURNOVER_S = 0.02
"""Where no queue was seen."""
RESTART_S = 5.0
"""Where no worker was seen to start again: two busy cores, light models."""


class Steps(BaseModel):
    """One reading, seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    before_s: float
    """Fetched and prepared."""
    inference_s: float
    after_s: float
    """Encoded, kept, and stored in the archive."""
    delivery_s: float
    """From the archive to the RIS's acknowledgement."""

    @property
    def busy_s(self) -> float:
        """How long the worker is taken."""
        return self.before_s + self.inference_s + self.after_s


class Service(BaseModel):
    """Everything that was measured. Lists are values to draw from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    measured_on: str
    """Scenario, date, cores, models."""
    quiet_s: float
    completeness_s: tuple[float, ...] = Field(min_length=1)
    """From the end of the quiet period until the study was called complete."""
    dispatch_s: tuple[float, ...] = Field(min_length=1)
    """From complete to started where a worker was free."""
    turnover_s: float
    """Between two readings of a worker that has more to do."""
    image_s: float
    """The archive's time for an image, and a scanner's for what comes before its first."""
    setup_s: float
    restart_s: float = RESTART_S
    """From the end of an outage of the workers until one reads again."""
    images: dict[str, Annotated[tuple[int, ...], Field(min_length=1)]] = {}
    """Case -> images of its studies, to draw from."""
    cases: dict[str, Annotated[tuple[Steps, ...], Field(min_length=1)]] = Field(min_length=1)

    def steps(self, case: str) -> tuple[Steps, ...]:
        """The readings of a case; of all cases where this one was not measured."""
        return self.cases.get(case) or tuple(each for steps in self.cases.values() for each in steps)


def measure(run: TrialRun) -> Service:
    """The service times of a run's arm with AI. Raises ScenarioError where it has too few readings."""
    if WITH_AI not in run.arms:
        raise ScenarioError("this trial has no arm with AI: there are no service times in it")
    rows = [row for row in run.of(WITH_AI) if row.jobs and _has_every_stamp(row)]
    if len(rows) < FEW:
        raise ScenarioError(f"this trial has {len(rows)} readings; at least {FEW} are needed")
    quiet_s = run.scenario.system.quiet_s
    calm = [row for row in rows if not _in_a_fault(run, row)]
    if len(calm) < FEW:
        raise ScenarioError(f"only {len(calm)} readings of this trial were not touched by its faults: {FEW} are needed")
    machine = run.machine
    told = f"{run.scenario.name}, {run.began[:10]}, {machine.get('cores')} cores, {run.scenario.system.models} models"
    cases: dict[str, list[Steps]] = {}
    for row in calm:
        cases.setdefault(row.case, []).append(own_steps(row))
    return Service(
        measured_on=told,
        quiet_s=quiet_s,
        completeness_s=tuple(round(max(0.0, row.complete_s - row.last_image_s - quiet_s), 4) for row in calm),
        dispatch_s=_dispatch_s(calm, run.scenario.system.workers),
        turnover_s=_turnover_s(calm),
        image_s=_image_s(run),
        setup_s=_setup_s(run),
        restart_s=_restart_s(run),
        images=_images(run),
        cases={name: tuple(steps) for name, steps in sorted(cases.items())},
    )


def own_steps(row: StudyRow) -> Steps:
    """As one study was read."""
    return Steps(
        before_s=_span(row.started_s, row.prepared_s),
        inference_s=_span(row.prepared_s, row.inferred_s),
        after_s=_span(row.inferred_s, row.stored_s),
        delivery_s=_span(row.stored_s, row.result_s),
    )


def load(source: str) -> Service:
    """Of a trial's folder, a file, or by the name of one that ships. Raises ScenarioError."""
    path = Path(source).expanduser()
    if (path / "trial.json").exists():
        return measure(TrialRun.read(path))
    try:
        if path.suffix == ".json":
            return Service.model_validate_json(path.read_text(encoding="utf-8"))
        return Service.model_validate_json((SHIPPED / f"{source}.json").read_text(encoding="utf-8"))
    except OSError as error:
        names = sorted(each.name.removesuffix(".json") for each in SHIPPED.iterdir() if each.name.endswith(".json"))
        text = f"{source}: no service times: give the folder of a trial, a file, or one of {', '.join(names)}"
        raise ScenarioError(text) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ScenarioError(f"{source}: {where}: {first['msg']}") from error


def write(service: Service, path: Path) -> None:
    """One file, small enough to be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(service.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def _span(since_s: float, until_s: float) -> float:
    return round(max(0.0, until_s - since_s), 4)


def _has_every_stamp(row: StudyRow) -> bool:
    """A stamp that is missing would count as a step that took no time."""
    steps = (row.last_image_s, row.complete_s, row.started_s, row.prepared_s, row.inferred_s, row.stored_s)
    return not any(map(math.isnan, (*steps, row.result_s)))


def _in_a_fault(run: TrialRun, row: StudyRow) -> bool:
    """Whether something was broken while this study was on its way: its times are not the system's own."""
    return row.attempts > 1 or any(
        fault.began_s - 1 <= row.result_s and row.last_image_s <= fault.ended_s + 30
        for fault in run.faults
        if fault.arm == WITH_AI
    )


def _free_before(rows: Sequence[StudyRow], row: StudyRow, workers: int) -> bool:
    """Whether a worker was free when this study was called complete."""
    taken = sum(other.started_s <= row.complete_s < other.stored_s for other in rows if other is not row)
    return taken < workers


def _dispatch_s(rows: Sequence[StudyRow], workers: int) -> tuple[float, ...]:
    free = [_span(row.complete_s, row.started_s) for row in rows if _free_before(rows, row, workers)]
    return tuple(free) or (0.05,)


def _turnover_s(rows: Sequence[StudyRow]) -> float:
    """Median pause of a worker that has more to do.

    A study that waited in the queue begins when some worker has just ended another: the last end before its beginning.
    """
    ends = sorted(row.stored_s for row in rows)
    gaps = []
    for row in rows:
        before = bisect.bisect_right(ends, row.started_s)
        if before and row.enqueued_s < ends[before - 1]:
            gaps.append(_span(ends[before - 1], row.started_s))
    return round(statistics.median(gaps), 4) if gaps else TURNOVER_S


def _restart_s(run: TrialRun) -> float:
    """Median time from the end of an outage of the workers to the next reading, where one waited for it."""
    pauses = []
    for fault in run.faults:
        if fault.arm == WITH_AI and fault.name in WORKERS_LOST:
            later = [row for row in run.of(WITH_AI) if row.started_s > fault.ended_s]
            if any(row.enqueued_s < fault.ended_s for row in later):
                pauses.append(_span(fault.ended_s, min(row.started_s for row in later)))
    return round(statistics.median(pauses), 2) if pauses else RESTART_S


def _images(run: TrialRun) -> dict[str, tuple[int, ...]]:
    """Of the studies that were neither repeated in part nor broken off."""
    found: dict[str, list[int]] = {}
    for row in run.of(WITH_AI):
        if row.images and not UNUSUAL & set(row.habits.split()):
            found.setdefault(row.case, []).append(row.images)
    return {name: tuple(sorted(counts)) for name, counts in sorted(found.items())}


def _image_s(run: TrialRun) -> float:
    spans = [
        (row.last_image_s - row.first_image_s) / (row.images - 1)
        for row in run.of(WITH_AI)
        if row.images > FEW and not math.isnan(row.last_image_s) and not row.resent
    ]
    return round(statistics.median(spans), 5) if spans else 0.02


def _setup_s(run: TrialRun) -> float:
    """From the patient's arrival at a free scanner to the first image."""
    spans = [row.first_image_s - row.scheduled_s for row in run.of(WITH_AI) if not math.isnan(row.first_image_s)]
    return round(max(0.0, statistics.quantiles(spans, n=4)[0]), 4) if len(spans) > 1 else 0.1
