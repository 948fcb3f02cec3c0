"""The site that a trial runs: made by ``medai up --prepare``, its routes and models changed, then started.

Only what a person with an editor could change is changed. Next: arm.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medai.trials.box import Box, BoxError, prepare, up
from medai.trials.hospital.light_model import MODELS
from medai.trials.hospital.record import WITHOUT_AI
from medai.trials.scenario import Scenario

RECENT_DAYS = 30
"""Studies that are older are not read: what an archive migration brings is no new question."""
SLICES_MIN = 8
READ_MODALITIES = frozenset(MODELS)
"""What the routes of a trial read; a radiograph is kept and decided on, and no model reads it."""

ROUTE = """
[[routes]]
name = "trial-{kind}"
when = '''
study.Modality == "{modality}"
&& (!has(study.StudyDate) || study.StudyDate >= "{since}")
'''
model = "{model}"
[routes.series]
where = '!has(s.BodyPartExamined) || s.BodyPartExamined in {parts}'
modality = ["{modality}"]
slices_min = {slices_min}
image_type_excludes = ["LOCALIZER"]
[routes.completeness]
quiet_s = {quiet_s}
max_wait_s = {max_wait_s}
"""
NO_ROUTE = """
# The arm without AI: nothing is read.
[[routes]]
name = "none"
when = 'study.Modality == "NONE"'
model = "mr_hippocampus"
"""


def start(
    folder: Path, scenario: Scenario, arm: str, *, body_parts: Iterable[tuple[str, str]], tls: bool = False
) -> Box:
    """A running system for one arm; ``body_parts`` are (modality, BodyPartExamined) that the scenario's cases have.

    Raises BoxError.
    """
    facts = prepare(folder, workers=scenario.system.workers, tls=tls)
    config = Path(str(facts["config"]))
    config.write_text(configured(config.read_text(encoding="utf-8"), folder, scenario, arm, body_parts))
    if scenario.system.models == "light" and arm != WITHOUT_AI:
        _make_models(folder / "models")
    return up(folder)


def configured(text: str, folder: Path, scenario: Scenario, arm: str, body_parts: Iterable[tuple[str, str]]) -> str:
    """The site's medai.toml with the trial's routes, models and objectives in place of the shipped ones."""
    head, mark, routes = text.partition("[[routes]]")
    # Its scanners and its old archive are one address here, which alone would leave a place to others.
    head = head.rstrip("\n").replace("[dicom_in.front]\n", "[dicom_in.front]\nassociations_of_peer = 4\n")
    while head.rpartition("\n")[2].startswith("#"):  # what introduced the first route
        head = head.rpartition("\n")[0].rstrip("\n")
    goals = scenario.objectives
    parts = [head, f"[objectives]\nstat_s = {goals.stat_s}\nurgent_s = {goals.urgent_s}\nroutine_s = {goals.routine_s}"]
    if arm == WITHOUT_AI:
        return "\n\n".join([*parts, NO_ROUTE])
    if scenario.system.models == "shipped":
        return "\n\n".join([*parts, mark + routes])
    parts.append(f"[models]\nfolders = [{json.dumps(str(folder / 'models'))}]")
    parts.append("[worker]\ntorch_threads = 1")
    since = (datetime.now(UTC) - timedelta(days=RECENT_DAYS)).strftime("%Y%m%d")
    for modality in sorted({case.modality for case in scenario.cases} & MODELS.keys()):
        allowed = sorted({part for kind, part in body_parts if kind == modality and part} | {""})
        parts.append(
            ROUTE.format(
                kind=modality.lower(),
                modality=modality,
                since=since,
                model=MODELS[modality],
                parts=json.dumps(allowed),
                slices_min=SLICES_MIN,
                quiet_s=scenario.system.quiet_s,
                max_wait_s=max(60.0, 10 * scenario.system.quiet_s),
            )
        )
    return "\n\n".join(parts)


def _make_models(folder: Path) -> None:
    """In a process of its own: torch would stay in this one's memory."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "medai.trials.hospital.light_model", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode != 0:
        raise BoxError(f"the trial's models were not made: {done.stderr.strip()[-500:]}")
