"""One trial: the plan, the arms one after the other, the record. Next: arm.py, record.py, report/page.py."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from medai.router.words import counted
from medai.trials.hospital import faults, timeline
from medai.trials.hospital.arm import ArmOutcome, Options, Say, run_arm
from medai.trials.hospital.record import TrialRun
from medai.trials.hospital.scans import Imaging
from medai.trials.hospital.watch import machine
from medai.trials.scanner.sources import Sources
from medai.trials.scenario import Scenario


def run_trial(
    scenario: Scenario, arms: Sequence[str], options: Options, *, data: Path | None, beside: Path | None, say: Say
) -> TrialRun:
    """Run every arm and write the record into ``options.folder``; raises BoxError, ScenarioError.

    ``data``: folder of the ``data:`` sources; ``beside``: folder of a scenario's CSV (None: of the shipped ones).
    """
    faults.check(scenario)
    planned = timeline.plan(scenario, beside=beside)
    imaging = Imaging(scenario=scenario, sources=Sources(data=data))
    say(
        f"{scenario.title}: {counted(len(planned), 'study', 'studies')} in {scenario.duration_s / 3600:g} h; "
        "reading the volumes ..."
    )
    told = imaging.told()
    for line in imaging.sources.told:
        say(line)
    began = datetime.now(UTC).astimezone()
    facts = machine()
    outcomes: list[ArmOutcome] = []
    for arm in arms:
        outcomes.append(run_arm(scenario, planned, arm, imaging, options, say))
        if outcomes[-1].interrupted:
            break
    arms = arms[: len(outcomes)]
    run = TrialRun(
        scenario=scenario,
        accelerate=options.accelerate,
        began=began.isoformat(timespec="seconds"),
        arms=tuple(arms),
        length_s={arm: outcome.length_s for arm, outcome in zip(arms, outcomes, strict=True)},
        studies=tuple(row for outcome in outcomes for row in outcome.studies),
        events=tuple(row for outcome in outcomes for row in outcome.events),
        samples=tuple(row for outcome in outcomes for row in outcome.samples),
        faults=tuple(row for outcome in outcomes for row in outcome.faults),
        machine={
            **facts,
            "interrupted": outcomes[-1].interrupted,
            "system": platform.platform(),
            "med_ai": metadata.version("med-ai"),
            "made_from": told,
            "tls": options.tls,
        },
    )
    run.write(options.folder)
    return run
