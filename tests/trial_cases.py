"""Trials that nobody ran, for tests of what reads them: small, believable, the same for the same seed."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any, cast

from medai.trials.box import Box
from medai.trials.hospital.record import WITH_AI, WITHOUT_AI, EventRow, FaultRow, SampleRow, StudyRow, TrialRun
from medai.trials.scenario import Scenario, parse

SCENARIO = """
name = "some-hours"
title = "Some hours <of a Monday> & more"
about = "For tests."
seed = 5
starts = "08:00"
duration_s = 7200
accelerate = 60
[arrivals]
kind = "constant"
per_hour = 40.0
[priorities]
stat = 0.1
urgent = 0.2
routine = 0.7
[[cases]]
name = "chest-ct"
weight = 2
modality = "CT"
scanner = "CT1"
source = ""
procedure = "CT of the chest"
positive = 0.2
reading = { median_s = 300, sigma = 0.3 }
[[cases]]
name = "chest-xray"
modality = "CR"
scanner = "CR1"
source = ""
procedure = "Chest X-ray"
positive = 0.1
[[scanners]]
name = "CT1"
modality = "CT"
[[scanners]]
name = "CR1"
modality = "CR"
[habits]
localizer = 0.5
late_slices = 0.1
[staffing]
shifts = [{ to_s = 3600, readers = 1 }, { from_s = 3600, to_s = 14400, readers = 3 }]
[short]
duration_s = 600
accelerate = 120
"""


def scenario(**changes: object) -> Scenario:
    """The scenario above, with changes."""
    return parse(SCENARIO, "test").model_copy(update=changes)


def trial(
    *,
    studies: int = 60,
    arms: tuple[str, ...] = (WITH_AI,),
    positives: bool = True,
    samples: bool = True,
    seed: int = 1,
) -> TrialRun:
    """A trial in which everything went well."""
    rows: list[StudyRow] = []
    for arm in arms:
        dice = random.Random(seed)  # noqa: S311 - both arms have the same patients
        rows += [_row(arm, number, dice, positives=positives) for number in range(studies)]
    looks = [_sample(arm, second) for arm in arms for second in range(120)] if samples else []
    return TrialRun(
        scenario=scenario(),
        accelerate=60.0,
        began="2026-11-26T08:00:00+00:00",
        arms=arms,
        length_s=dict.fromkeys(arms, 125.0),
        studies=tuple(rows),
        events=(EventRow(arm=arms[0], at_s=1.0, hospital_s=60.0, name="ordered", study=0),),
        samples=tuple(looks),
        faults=(FaultRow(arm=arms[0], name="ris-away", began_s=30.0, ended_s=40.0),),
        machine={"cores": 2, "memory_gb": 8.0, "made_from": {"chest-ct": "a CT", "chest-xray": "its projection"}},
    )


def _row(arm: str, number: int, dice: random.Random, *, positives: bool) -> StudyRow:
    at_s, read = 2.0 * number, dice.random() < 0.7
    positive, delay_s, waits_s = positives and dice.random() < 0.25, dice.uniform(2.0, 6.0), dice.uniform(0.0, 20.0)
    priority = dice.choices(("stat", "urgent", "routine"), (1, 2, 7))[0]
    row = StudyRow(
        arm=arm, number=number, case="chest-ct" if read else "chest-xray", modality="CT" if read else "CR",
        priority=priority, positive=positive, flagged=positive, migrated=False,
        habits="localizer" if number % 2 else "", images=36 if read else 1, resent=0, scheduled_s=at_s,
        ordered_s=max(0.0, at_s - 1), first_image_s=at_s + 0.1, last_image_s=at_s + 0.5,
        first_look_s=at_s + 0.5 + waits_s, report_s=at_s + 5.5 + waits_s, reader=number % 3,
        reading_hospital_s=300.0, expected=read and arm == WITH_AI, state="skipped",
    )  # fmt: skip
    if not row.expected:
        return row
    last = row.last_image_s
    return replace(
        row, complete_s=last + 2.0, enqueued_s=last + 2.01, started_s=last + delay_s, fetched_s=last + delay_s + 0.05,
        prepared_s=last + delay_s + 0.1, inferred_s=last + delay_s + 0.3, encoded_s=last + delay_s + 0.6,
        stored_s=last + delay_s + 0.7, result_s=last + delay_s + 0.8, route="trial-ct", model="trial_ct",
        state="done", attempts=1, jobs=1, results_at_ris=1, objects=3,
    )  # fmt: skip


def _sample(arm: str, second: int) -> SampleRow:
    waiting = max(0, int(5 * math.sin(second / 10)))
    return SampleRow(
        arm=arm, at_s=float(second), waiting_routine=waiting, running=int(waiting > 0), unread=waiting, readers=2,
        readers_busy=min(2, waiting), cpu=0.5,
    )  # fmt: skip


__all__ = ["WITHOUT_AI", "WITH_AI", "scenario", "trial"]


class Ris:
    """A RIS that keeps what it is asked and answers what it was given."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[str, str, dict[str, Any] | None]] = []
        self.answer = answer

    def ask_ris(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self.asked.append((method, path, body))
        return self.answer

    @property
    def box(self) -> Box:
        """A site that has no other part."""
        return cast(Box, self)
