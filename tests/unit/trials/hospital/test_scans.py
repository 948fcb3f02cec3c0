"""The radiology department of a trial knows what a route reads."""

from __future__ import annotations

from datetime import UTC, datetime

from trial_cases import scenario

from medai.trials.hospital.reception import identity
from medai.trials.hospital.scans import Imaging
from medai.trials.hospital.timeline import plan
from medai.trials.scanner.sources import Sources
from medai.trials.scanner.volumes import (
    Request,
    make_study,
)
from medai.trials.scenario import Habits
from medai.trials.study import Patient, derive


def request(seed: str = "s", **changes: str) -> Request:
    words = {"requested_procedure_id": "RP1", "scheduled_step_id": "SPS1", "procedure": "A study", **changes}
    return Request(
        patient=Patient(patient_id="P1", name="A^B", birth_date="19700131", sex="F"), accession="A1",
        study_uid=derive(seed, "study"), seed=seed, acquired_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC), **words,
    )  # fmt: skip


def test_what_a_route_reads_is_known_before_it_is_sent() -> None:
    of = scenario(habits=Habits())
    imaging = Imaging(scenario=of, sources=Sources(data=None))
    assert imaging.told()["chest-ct"].startswith("pydicom")
    verdicts = {}
    for study in plan(of)[:12]:
        made = make_study(imaging.template(study.case), request(study.seed), habits=study.habits)
        verdicts[study.case] = imaging.readable(study, made)
        assert identity(study).study_uid == derive(study.seed, "study")
    assert verdicts == {"chest-ct": True, "chest-xray": False}
