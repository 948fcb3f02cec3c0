"""A study counts as done only when the archive and the RIS themselves hold its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medai.trials.box import Teller
from medai.trials.demo.follow import Outcome, follow
from medai.trials.study import Patient, StudyFolder

STUDY = StudyFolder(
    folder=Path(),
    files=(Path("a"),),
    study_uid="1.2.3",
    accession="A1",
    patient=Patient(patient_id="P", name="N"),
    modality="MR",
)
CLASSES = {
    "seg": "1.2.840.10008.5.1.4.1.1.66.4",
    "sr": "1.2.840.10008.5.1.4.1.1.88.34",
    "sc": "1.2.840.10008.5.1.4.1.1.7",
}


def job(state: str = "done", **changes: Any) -> dict[str, Any]:
    return {
        "job_id": "j1",
        "study_uid": "1.2.3",
        "route": "mr-brain",
        "model": "mr_brain",
        "state": state,
        "reason": None,
        "stamps": {"first_instance": 1.0, "last_instance": 2.0, "started": 5.0},
        "stages": {"segment": 3.0},
        "turnaround_s": 9.0,
        "quiet_s": 3.0,
        "results": {kind: {"sop_uid": f"9.{kind}"} for kind in CLASSES},
        "oru": {"control_id": "C1", "ack": "AA"},
        "measurements": [],
    } | changes


class FakeBox:
    """A system that gives one prepared answer after the other."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.stored = {f"9.{kind}": {"SOPClassUID": uid, "StudyInstanceUID": "1.2.3"} for kind, uid in CLASSES.items()}
        self.results = [
            {"control_id": "C1", "placer": "O1", "order": "O1", "accession": "A1", "study_uid": "1.2.3", "raw": "MSH|"}
        ]

    def jobs(self, study_uid: str) -> dict[str, Any]:
        assert study_uid == "1.2.3"
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def instance(self, sop_uid: str) -> tuple[str, dict[str, Any]] | None:
        return (f"orthanc-{sop_uid}", self.stored[sop_uid]) if sop_uid in self.stored else None

    def results_at_ris(self, study_uid: str) -> list[dict[str, Any]]:
        return self.results


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medai.trials.demo.follow.POLL_S", 0)
    monkeypatch.setattr("medai.trials.demo.follow.SETTLE_S", 0)


def followed(box: FakeBox, *, timeout_s: float = 10) -> list[Outcome]:
    return follow(box, STUDY, timeout_s=timeout_s, teller=Teller())  # type: ignore[arg-type]  # a fake of a dataclass


def answer(*jobs: dict[str, Any], decisions: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"jobs": list(jobs), "decisions": list(decisions)}


def test_a_job_whose_results_are_all_there_is_good() -> None:
    box = FakeBox(answer(), answer(job("running")), answer(job()))
    (outcome,) = followed(box)
    assert outcome.ok
    assert outcome.oru == "MSH|"
    assert outcome.as_json() == {
        "study_uid": "1.2.3",
        "route": "mr-brain",
        "state": "done",
        "seg": "9.seg",
        "sr": "9.sr",
        "sc": "9.sc",
        "oru_ack": "AA",
        "stages": {"segment": 3.0},
        "turnaround_s": 9.0,
        "quiet_s": 3.0,
    }


@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
def test_an_object_that_the_archive_lacks_is_missed_whatever_the_ledger_says(kind: str) -> None:
    box = FakeBox(answer(job()))
    del box.stored[f"9.{kind}"]
    (outcome,) = followed(box)
    assert not outcome.ok
    assert outcome.as_json()[kind] is None


def test_an_object_of_another_study_does_not_count() -> None:
    box = FakeBox(answer(job()))
    box.stored["9.seg"]["StudyInstanceUID"] = "1.2.4"
    assert not followed(box)[0].ok


@pytest.mark.parametrize(
    "changes", [{"control_id": "other"}, {"placer": "", "order": None}, {"order": "O2"}, {"accession": "A2"}]
)
def test_a_result_that_does_not_answer_the_order_is_missed(changes: dict[str, Any]) -> None:
    box = FakeBox(answer(job()))
    box.results[0] |= changes
    assert not followed(box)[0].ok


def test_a_failed_job_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    box = FakeBox(answer(job("failed", reason="slices 12 and 13 are 10 mm apart", results={}, oru={})))
    (outcome,) = followed(box)
    assert not outcome.ok
    assert "slices 12 and 13" in outcome.checks[0].text


def test_a_study_that_no_route_takes_ends_with_the_routers_reason(capsys: pytest.CaptureFixture[str]) -> None:
    skip = {"at": 1.0, "verdict": "skip", "route": None, "reason": "no route matches"}
    (outcome,) = followed(FakeBox(answer(decisions=(skip,))))
    assert outcome.job is None
    assert not outcome.ok
    assert "no route matches" in capsys.readouterr().out


def test_a_done_job_is_followed_until_the_ris_has_answered() -> None:
    box = FakeBox(answer(job(oru={"control_id": "C1", "ack": None, "error": None})), answer(job()))
    assert followed(box)[0].ok


def test_a_superseded_job_gives_way_to_its_successor() -> None:
    old = job("superseded", job_id="j0", results={})
    (outcome,) = followed(FakeBox(answer(job(), old)))
    assert outcome.ok


def test_waiting_ends_at_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    (outcome,) = followed(FakeBox(answer(job("running", results={}, oru={}))), timeout_s=0)
    assert not outcome.ok
    assert "gave up" in capsys.readouterr().out
