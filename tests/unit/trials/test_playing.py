"""The parts that a trial plays with: clock, agenda, people at the desk, faults, looks, and the verdict."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from trial_cases import SCENARIO, scenario, trial

from medai.router.contract import filler_number
from medai.trials.box import Box, BoxError
from medai.trials.clock import Clock
from medai.trials.hospital import faults, light_model, messages, reception, watch
from medai.trials.hospital import site as tried_site
from medai.trials.hospital.agenda import Agenda
from medai.trials.hospital.collect import Findings, judged, judged_old
from medai.trials.hospital.record import WITH_AI, WITHOUT_AI
from medai.trials.hospital.timeline import plan
from medai.trials.scenario import Fault, ScenarioError, parse


def test_the_hospitals_clock_is_so_many_times_as_fast_and_stops_when_told() -> None:
    clock = Clock(accelerate=1000.0)
    clock.sleep(20.0)
    assert clock.now_s() >= 0.02
    assert clock.hospital_s() >= 20.0
    clock.stopped.set()
    clock.sleep(1e9)  # returns at once
    assert clock.pause_s(1e9)


def wait_until_idle(agenda: Agenda) -> None:
    until = time.monotonic() + 10
    while not agenda.idle:
        agenda.tick()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_is_due_is_done_and_what_is_not_waits() -> None:
    agenda, done = Agenda(Clock(accelerate=60.0)), []
    agenda.at(0.0, lambda: done.append("now"))
    agenda.at(1e9, lambda: done.append("later"))
    agenda.tick()
    agenda.close()
    assert done == ["now"]
    assert not agenda.idle


def test_what_fails_because_a_part_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medai.trials.hospital.agenda.AGAIN_S", 0.01)
    agenda, tries = Agenda(Clock(accelerate=60.0)), []

    def act() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise BoxError("away")

    agenda.at(0.0, act)
    wait_until_idle(agenda)
    assert len(tries) == 3


def test_any_other_mistake_ends_the_trial() -> None:
    agenda = Agenda(Clock(accelerate=60.0))
    agenda.at(0.0, lambda: cast(dict[str, int], {})["x"].bit_length())
    with pytest.raises(KeyError):
        wait_until_idle(agenda)


def test_who_is_merged_comes_under_another_number_and_keeps_the_study() -> None:
    study = plan(scenario())[0]
    who, unknown = reception.identity(study), reception.temporary(study)
    assert who == reception.identity(study)
    assert unknown.patient.patient_id != who.patient.patient_id
    assert (unknown.accession, unknown.study_uid) == (who.accession, who.study_uid)
    assert len(who.accession) <= 16
    assert len({reception.identity(each).study_uid for each in plan(scenario())}) == len(plan(scenario()))


def test_birth_dates_are_dates() -> None:
    for study in plan(scenario()):
        time.strptime(reception.identity(study).patient.birth_date, "%Y%m%d")


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(name="flood", at_s=1), "no fault is named 'flood'"),
        (Fault(name="ris-away", at_s=1), "ris-away needs for_s"),
        (Fault(name="workers-killed", at_s=1e6), "comes after the trial's end"),
        (Fault(name="workers-killed", at_s=1, for_s=60), "workers-killed has no duration"),
    ],
)
def test_a_fault_that_cannot_be_played_is_told_before_the_trial(fault: Fault, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        faults.check(scenario(faults=(fault,)))


def test_faults_have_the_harness_names() -> None:
    from chaos.faults import FAULTS

    own = {"workers-away", "orthanc-away", "workers-stopped"}
    known = {*FAULTS, *own}
    assert {name for name in faults.playable() if name not in known} == set()


def test_the_routers_own_metrics_are_understood() -> None:
    text = (
        "medai_ledger_up 1.0\n"
        'medai_queue_depth{priority="stat",queue="cpu"} 2.0\nmedai_queue_depth{priority="stat",queue="gpu"} 1.0\n'
        'medai_queue_depth{priority="routine",queue="cpu"} 7.0\n'
        'medai_queue_oldest_seconds{priority="stat",queue="cpu"} 3.5\n'
        'medai_queue_oldest_seconds{priority="routine",queue="cpu"} 9.5\n'
        'medai_jobs{state="running"} 2.0\nmedai_jobs{state="delivering"} 4.0\nmedai_studies_arriving 5.0\n'
        'medai_dead_letters{kind="job"} 1.0\nmedai_dead_letters{kind="delivery"} 2.0\n'
    )
    look = watch.parse(text)
    assert look is not None
    assert (look.waiting["stat"], look.waiting["routine"], look.waiting["urgent"]) == (3, 7, 0)
    assert (look.oldest_s, look.running, look.delivering, look.parked, look.arriving) == (9.5, 2, 4, 3, 5)
    assert watch.parse(text.replace("medai_ledger_up 1.0", "medai_ledger_up 0.0")) is None
    assert watch.parse(text + 'medai_jobs{state="do') is None, "a page that is cut off is a gap"


def test_the_cores_share_is_between_none_and_all() -> None:
    watcher = watch.Watcher(box=cast(Box, None))
    assert watcher.cpu() == 0.0
    threading.Event().wait(0.05)
    assert 0.0 <= watcher.cpu() <= 1.0
    assert watch.machine()["cores"]


UID = "1.2.3"


def findings(**changes: Any) -> Findings:
    filler = filler_number(UID, "trial-ct")
    job = {"route": "trial-ct", "model": "m", "state": "done", "attempt": 1, "stamps": {"study_complete": 1002.0}}
    result = {"filler": filler, "withdrawn": False, "history": [{"control_id": "C1"}]}
    good: dict[str, Any] = {"jobs": {UID: [job]}, "results": {UID: [result]}, "objects": {UID: 3}, "images": {UID: 36}}
    return Findings(**{**good, **changes})


def verdict(**changes: Any) -> tuple[bool, bool]:
    row = next(row for row in trial().studies if row.expected)
    found = judged(row, UID, findings(**changes), began=1000.0)
    return found.lost, found.duplicate


def test_one_result_with_its_three_objects_and_all_images_is_right() -> None:
    assert verdict() == (False, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"results": {}}, (True, False)),
        ({"objects": {UID: 2}}, (True, False)),
        ({"images": {UID: 35}}, (True, False)),
        ({"results": {UID: [{"filler": "x", "withdrawn": True, "history": []}]}}, (True, False)),
        ({"objects": {UID: 6}}, (False, True)),
        ({"results": {UID: [{"filler": "another", "withdrawn": False, "history": []}]}}, (False, True)),
        (
            {"results": {UID: [{"filler": filler_number(UID, "trial-ct"), "withdrawn": False,
                                "history": [{"control_id": "C1"}, {"control_id": "C1"}]}]}},
            (False, True),
        ),
    ],
)  # fmt: skip
def test_what_is_lost_or_told_twice_is_found(changes: dict[str, Any], expected: tuple[bool, bool]) -> None:
    assert verdict(**changes) == expected


def test_a_correction_is_no_duplicate() -> None:
    good = findings()
    twice = {UID: [*good.jobs[UID], *good.jobs[UID]]}
    history = [{"control_id": "C1"}, {"control_id": "C2"}]
    results = {UID: [{**good.results[UID][0], "history": history}]}
    assert verdict(jobs=twice, results=results, objects={UID: 6}) == (False, False)


def test_a_reading_that_was_overtaken_before_its_answer_does_not_tell_when() -> None:
    row = next(row for row in trial().studies if row.expected)
    job = findings().jobs[UID][0]
    jobs = {
        UID: [
            {**job, "stamps": {"started": 1003.0}},
            {**job, "stamps": {"started": 1009.0, "oru_acknowledged": 1010.0}},
        ]
    }
    found = judged(row, UID, findings(jobs=jobs), began=1000.0)
    assert (found.started_s, found.result_s, found.jobs) == (9.0, 10.0, 2)


def test_an_old_study_must_be_kept_and_not_read() -> None:
    row = next(row for row in trial().studies if not row.expected)
    kept = judged_old(row, UID, findings(jobs={}, images={UID: row.images}))
    assert (kept.lost, kept.duplicate) == (False, False)
    assert judged_old(row, UID, findings(images={UID: row.images})).duplicate, "it was read"
    assert judged_old(row, UID, findings(jobs={}, images={})).lost


def test_the_site_reads_what_the_trial_reads(tmp_path: Path) -> None:
    first = '[orthanc]\nurl = "x"\n\n# A comment on the route.\n[[routes]]\nname = "old"\n'
    text = tried_site.configured(first, tmp_path, scenario(), WITH_AI, [("CT", "CHEST"), ("CR", "CHEST")])
    assert 'name = "trial-ct"' in text
    assert 'in ["", "CHEST"]' in text
    assert '"old"' not in text
    assert "A comment" not in text
    assert "trial-cr" not in text, "radiographs are kept and not read"
    none = tried_site.configured(first, tmp_path, scenario(), WITHOUT_AI, [])
    assert 'study.Modality == "NONE"' in none
    shipped = parse(SCENARIO + '[system]\nmodels = "shipped"\n', "x")
    assert '"old"' in tried_site.configured(first, tmp_path, shipped, WITH_AI, []), "the site's own routes"


def test_the_small_models_are_what_the_registry_loads(tmp_path: Path) -> None:
    from medai.models.registry import Registry

    light_model.write_models(tmp_path)
    found = Registry([tmp_path]).describe()
    assert [(each.name, each.available) for each in found] == [("trial_ct", True), ("trial_mr", True)]


def test_every_message_is_kept_under_its_kind(tmp_path: Path) -> None:
    text = "MSH|^~\\&|A|B|C|D|2026||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1\r"
    answers = {
        "/orders": [{"messages": [{"text": text}]}],
        "/patients": [],
        "/reports": [],
        "/results": [{"raw": text}],
    }
    box = cast(Box, SimpleNamespace(ask_ris=lambda _method, path: answers[path]))
    assert messages.keep(box, tmp_path / "m") == 2
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["00001-ORU-R01.hl7", "00002-ORU-R01.hl7"]
    assert (tmp_path / "m" / "00001-ORU-R01.hl7").read_bytes() == text.encode()
