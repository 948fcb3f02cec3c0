"""A scenario in the model: the same arrivals as in a real run, the scanners before the queue, the measured times.

Each scanner serves by urgency, then arrival; a study then waits for its quiet period, a worker (serving.py) and its
delivery. Left out: the radiologists, retries that no fault of the scenario explains, the archive's own limits.
Next: serving.py, service_times.py (times), capacity.py, validate.py.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Generator, Sequence

from medai.trials.hospital.site import READ_MODALITIES
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scanner.sender import Settings
from medai.trials.scenario import PRIORITIES, Fault, Scenario
from medai.trials.simulation.service_times import WORKERS_LOST, Service
from medai.trials.simulation.serving import Outage, Outcome, Ready, Resources, serve

IMAGES = 36
"""Images of a study for the pace of a scanner, where none of its case were counted."""


def simulate(
    scenario: Scenario,
    planned: Sequence[PlannedStudy],
    service: Service,
    resources: Resources,
    *,
    accelerate: float = 1.0,
    seed: str = "0",
) -> Outcome:
    """One replication of a scenario; ``accelerate``: as in a real run (1: a hospital's own pace)."""
    dice = random.Random(f"{scenario.name}|{seed}")  # noqa: S311 - a simulation
    ready = list(_ready(scenario, planned, service, accelerate, dice))
    scale = 1.0 / accelerate
    outages = [
        Outage(began_s=fault.at_s * scale, ended_s=(fault.at_s + fault.for_s) * scale + service.restart_s)
        for fault in scenario.faults
        if fault.name in WORKERS_LOST
    ]
    away = [
        (fault.at_s * scale, (fault.at_s + fault.for_s) * scale)
        for fault in scenario.faults
        if _takes_the_ris_away(fault)
    ]
    return serve(ready, resources, turnover_s=service.turnover_s, outages=outages, ris_away=away, seed=seed)


def left_out(scenario: Scenario) -> list[str]:
    """The faults of a scenario that the model does not play."""
    return [each.name for each in scenario.faults if each.name not in WORKERS_LOST and not _takes_the_ris_away(each)]


def _takes_the_ris_away(fault: Fault) -> bool:
    return fault.name.startswith("ris-") and fault.for_s > 0


def _ready(
    scenario: Scenario, planned: Sequence[PlannedStudy], service: Service, accelerate: float, dice: random.Random
) -> Generator[Ready, None, None]:
    for study, at_s in scanned(scenario, planned, service, accelerate):
        if scenario.case(study.case).modality not in READ_MODALITIES or "wrong_body_part" in study.habits:
            continue
        urgency = 0 if "order_changed" in study.habits else PRIORITIES.index(study.priority)
        first = service.quiet_s + dice.choice(service.completeness_s) + dice.choice(service.dispatch_s)
        yield Ready(at_s, urgency, dice.choice(service.steps(study.case)), first)
        if "late_slices" in study.habits:
            late = at_s + Settings.late_s / accelerate
            yield Ready(late, urgency, dice.choice(service.steps(study.case)), first, counts=False)


def scanned(
    scenario: Scenario, planned: Sequence[PlannedStudy], service: Service, accelerate: float
) -> Generator[tuple[PlannedStudy, float], None, None]:
    """Each study with the time of its last image, real seconds: a queue before each scanner, STAT first.

    How many images a study has is drawn by its own seed, so that it is the same in every replication.
    """
    for scanner in scenario.scanners:
        cases = {case.name for case in scenario.cases if case.scanner == scanner.name}
        mine = [study for study in planned if study.case in cases and "order_cancelled" not in study.habits]
        waiting: list[tuple[int, int, PlannedStudy]] = []
        arrivals, free_s = iter(sorted(mine, key=lambda s: s.at_s)), 0.0
        following = next(arrivals, None)
        while following is not None or waiting:
            if not waiting and following is not None:
                free_s = max(free_s, following.at_s / accelerate)
            while following is not None and following.at_s / accelerate <= free_s:
                urgency = 0 if following.priority == "stat" else 1
                heapq.heappush(waiting, (urgency, following.number, following))
                following = next(arrivals, None)
            study = heapq.heappop(waiting)[2]
            images = _images(study, service, 1 if scanner.modality == "CR" else IMAGES)
            image_s = max(service.image_s, 1.0 / (scanner.images_per_s * accelerate))
            pauses = ("localizer" in study.habits) + ("repeated_series" in study.habits)
            free_s += service.setup_s + images * image_s + pauses * scanner.pause_s / accelerate
            yield study, free_s


def _images(study: PlannedStudy, service: Service, otherwise: int) -> int:
    counts = service.images.get(study.case, (otherwise,))
    return random.Random(f"{study.seed}|images").choice(counts)  # noqa: S311 - a simulation


def percentile(values: Sequence[float], share: float) -> float:
    """Of values that need not be sorted, linear between them; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
