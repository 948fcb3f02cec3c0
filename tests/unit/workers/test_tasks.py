"""What a worker does with a doorbell: claim or leave it, and what each way of going wrong costs the job."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import ledger_cases as cases
import pytest
from ball_model import BallModels
from ledger_cases import T0, arrive, make, seen
from reading_cases import told
from structlog.testing import capture_logs

from medai.models.errors import ModelRefused
from medai.router.contract import JobState
from medai.router.errors import (
    LedgerUnreachable,
    MedaiError,
    OrthancUnreachable,
    PermanentError,
    ReadingBroke,
    TemporaryError,
)
from medai.router.ledger import Ledger
from medai.router.orthanc.client import Orthanc
from medai.router.reports import readings
from medai.router.settings.tables import Settings
from medai.workers import pipeline
from medai.workers.tasks import JobRunner, ServerPorts

SECRET = "DOE^JANE"


class Archive:
    """Answers, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def system(self) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise OrthancUnreachable("away")
        return {}


class Desk:
    """A worker whose pipeline does what the test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **worker: Any) -> None:
        settings = Settings(
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            worker={"max_attempts": 2, "retry_s": 5.0, **worker},
        )
        self.now = T0
        self.ledger = Ledger(settings.ledger.url)
        self.ledger.migrate()
        self.archive = Archive()
        self.work: Callable[[], None] = lambda: None
        self.began = 0
        self.runner = JobRunner(
            settings,
            orthanc=cast(Orthanc, self.archive),
            ledger=self.ledger,
            models=BallModels(),
            worker="w",
            versions={"mr_brain": "1"},
            clock=lambda: self.now,
        )
        monkeypatch.setattr(pipeline, "run", self._run)
        monkeypatch.setattr(ServerPorts, "hand_over", lambda ports: self._hand_over(ports))

    def _run(self, _job: Any, ports: Any, *, created_at: Any) -> None:
        self.began += 1
        self.claim = ports._claim
        self.work()

    def _hand_over(self, ports: Any) -> JobState:
        cases.keep(self.ledger, ports._claim, self.now)
        return self.ledger.claims.hand_over(ports._claim.job.job_id, ports._claim.token, self.now, archived=True)

    def job(self, **changes: Any) -> str:
        return make(self.ledger, arrive(self.ledger, seen()), **changes)[0]

    def row(self, job_id: str) -> dict[str, Any]:
        (found,) = readings.jobs(self.ledger, job_id=job_id)
        return told(found)

    def outcomes(self, job_id: str) -> list[str]:
        return [item.outcome for item in readings.attempts(self.ledger, job_id)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path, monkeypatch)
    yield desk
    desk.ledger.close()


def raises(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


# -- the claim


def test_a_job_is_read_once_however_often_the_bell_rings(desk: Desk) -> None:
    job_id = desk.job()
    assert desk.runner.read(job_id) is JobState.DELIVERING
    assert desk.runner.read(job_id) is None
    assert desk.runner.read("no-such-job") is None
    assert desk.began == 1
    assert desk.runner.current is None


def test_a_job_for_another_version_than_this_worker_holds_is_left_for_another_worker(desk: Desk) -> None:
    job_id = desk.job(model_version="2")
    assert desk.runner.read(job_id) is None
    assert (desk.row(job_id)["state"], desk.outcomes(job_id)) == ("pending", [])


def test_a_worker_that_is_told_to_stop_begins_nothing(desk: Desk) -> None:
    job_id = desk.job()
    desk.runner.stopping.set()
    assert desk.runner.read(job_id) is None
    assert desk.row(job_id)["state"] == "pending"


def test_a_worker_of_another_version_than_the_ledger_claims_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = desk.job()
    with monkeypatch.context() as older:
        older.setattr("medai.router.ledger.fleet.newest_revision", lambda: "0001")
        with capture_logs() as logs:
            assert desk.runner.read(job_id) is None
        assert [line["event"] for line in logs] == ["other_version"]
    assert desk.outcomes(job_id) == []
    assert desk.runner.read(job_id) is JobState.DELIVERING


def test_while_the_archive_is_away_no_job_is_claimed_until_it_answers(desk: Desk) -> None:
    first, second = desk.job(), make(desk.ledger, arrive(desk.ledger, seen(uid="1.9")))[0]
    desk.work = raises(OrthancUnreachable("Orthanc does not answer"))
    assert desk.runner.read(first) is JobState.PENDING
    desk.archive.away = True
    for _ in range(5):
        desk.now += 100
        assert desk.runner.read(first) is None
        assert desk.runner.read(second) is None
    assert (desk.outcomes(first), desk.outcomes(second), desk.began) == (["retry"], [], 1)
    desk.archive.away, desk.work = False, lambda: None
    assert desk.runner.read(second) is JobState.DELIVERING
    assert desk.runner.read(first) is JobState.DELIVERING
    assert desk.archive.asked == 11, "once it is back nobody asks any more"


# -- what goes wrong


def test_what_is_away_costs_a_retry_at_a_distance_and_no_crash(desk: Desk) -> None:
    job_id = desk.job()
    desk.work = raises(TemporaryError("the model's server is away"))
    assert desk.runner.read(job_id) is JobState.PENDING
    assert desk.runner.read(job_id) is None, "not before its time"
    desk.now += 5
    assert desk.runner.read(job_id) is JobState.PENDING
    assert desk.ledger.claims.crashes(job_id) == 0
    assert desk.row(job_id)["reason"] == "the model's server is away"


def test_a_pause_that_was_asked_for_is_kept_within_the_longest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch, retry_max_s=20.0)
    job_id = desk.job()
    desk.work = raises(TemporaryError("no such model here", retry_after_s=300.0))
    desk.runner.read(job_id)
    for later, count in ((1, 1), (18, 1), (2, 2)):
        desk.now += later
        desk.ledger.jobs.unsent(desk.now, resend_before=0, longest_s=20.0)
        desk.runner.read(job_id)
        assert desk.began == count
    desk.ledger.close()


def test_what_stays_away_for_days_is_given_up_in_words(desk: Desk) -> None:
    job_id = desk.job()
    desk.work = raises(TemporaryError("the series is not complete"))
    desk.now += 73 * 3600
    assert desk.runner.read(job_id) is JobState.FAILED
    assert desk.row(job_id)["reason"] == "given up after 72 h: the series is not complete"


def test_images_that_can_not_be_read_end_the_job_with_the_reason(desk: Desk) -> None:
    job_id = desk.job()
    desk.work = raises(PermanentError("slices are missing"))
    assert desk.runner.read(job_id) is JobState.FAILED
    row = desk.row(job_id)
    assert (row["failure"], row["reason"], row["verdict"]) == ("images", "slices are missing", None)


def test_a_refusal_of_the_model_is_counted_as_one(desk: Desk) -> None:
    job_id = desk.job()
    error = PermanentError("this is no brain")
    error.__cause__ = ModelRefused("this is no brain")
    desk.work = raises(error)
    desk.runner.read(job_id)
    assert desk.row(job_id)["verdict"] == "refused"


def test_an_unexpected_error_costs_a_retry_and_a_second_one_the_job_and_neither_is_quoted(desk: Desk) -> None:
    job_id = desk.job()
    desk.work = raises(ValueError(SECRET))
    assert desk.runner.read(job_id) is JobState.PENDING
    assert desk.ledger.claims.crashes(job_id) == 1
    desk.now += 100
    assert desk.runner.read(job_id) is JobState.FAILED
    row = desk.row(job_id)
    assert row["failure"] == "crash"
    assert row["reason"].startswith("an unexpected error stopped the reading (ValueError at")
    assert SECRET not in str(row) + str(readings.attempts(desk.ledger, job_id))


def test_a_model_whose_process_broke_costs_an_attempt_and_says_why(desk: Desk) -> None:
    job_id = desk.job()
    desk.work = raises(ReadingBroke("lungs: its process did not answer within 3600 s"))
    assert desk.runner.read(job_id) is JobState.PENDING
    assert desk.ledger.claims.crashes(job_id) == 1
    assert "(lungs: its process did not answer within 3600 s)" in str(desk.row(job_id))
    desk.now += 100
    desk.work = lambda: None
    assert desk.runner.read(job_id) is JobState.DELIVERING


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def blamed_on_the_images() -> Exception:
    error = PermanentError("the images can't be unpacked")
    error.__cause__ = no_space()
    return error


@pytest.mark.parametrize("make_error", [no_space, blamed_on_the_images])
def test_a_full_disk_raises_an_alarm_and_costs_time_only(desk: Desk, make_error: Callable[[], Exception]) -> None:
    job_id = desk.job()
    desk.work = raises(make_error())
    with capture_logs() as logs:
        for _ in range(5):
            assert desk.runner.read(job_id) is JobState.PENDING
            desk.now += 100
    assert "disk_full" in [line["event"] for line in logs if line["log_level"] == "error"]
    assert (desk.ledger.claims.crashes(job_id), desk.runner.alarm) == (0, "the worker's disk is full: free some space")
    desk.work = lambda: None
    assert desk.runner.read(job_id) is JobState.DELIVERING
    assert desk.runner.alarm == "", "a job that went well takes the alarm back"


def test_a_result_that_was_kept_goes_on_whatever_happens_after_it(desk: Desk) -> None:
    job_id = desk.job()

    def keeps_and_breaks() -> None:
        cases.keep(desk.ledger, desk.claim, desk.now)
        raise ValueError("after it was kept")

    desk.work = keeps_and_breaks
    desk.runner.settings.worker.__dict__["max_attempts"] = 1
    assert desk.runner.read(job_id) is JobState.DELIVERING
    assert [item.job_id for item in cases.due(desk.ledger, "archive", T0 + 9)] == [job_id]
    assert desk.ledger.dead.letters() == []


def test_a_job_that_was_taken_back_meanwhile_is_left_without_a_word_in_the_ledger(desk: Desk) -> None:
    job_id = desk.job()

    def taken() -> None:
        (held,) = desk.ledger.jobs.held()
        desk.ledger.jobs.reclaim(held, "silent", max_crashes=5, now=T0)
        assert desk.ledger.claims.take(job_id, worker="w2", lease_s=20, now=T0) is not None

    desk.work = taken
    assert desk.runner.read(job_id) is None
    assert (desk.row(job_id)["state"], desk.outcomes(job_id)) == ("running", ["lost", "running"])


def test_a_ledger_that_is_away_leaves_the_job_to_the_sweeper(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = desk.job()

    def away(*_arguments: object, **_more: object) -> None:
        raise LedgerUnreachable("away")

    desk.work = lambda: monkeypatch.setattr(desk.ledger.claims, "hand_over", away)
    monkeypatch.setattr(desk.ledger.claims, "release", away)
    with pytest.raises(MedaiError):
        desk.runner.read(job_id)
    assert desk.runner.current is None
    (held,) = desk.ledger.jobs.held()
    assert desk.ledger.jobs.reclaim(held, "silent", max_crashes=5, now=T0) is JobState.DELIVERING


# -- handing back


def test_a_job_that_is_handed_back_is_another_workers_at_once_and_nobody_failed(desk: Desk) -> None:
    job_id = desk.job()

    def stopped() -> None:
        desk.runner.stopping.set()
        desk.runner.hand_back()
        assert [job.id for job in desk.ledger.jobs.unsent(desk.now, resend_before=0)] == [job_id]
        assert desk.ledger.claims.take(job_id, worker="w2", lease_s=20, now=desk.now) is not None

    desk.work = stopped
    assert desk.runner.read(job_id) is None
    assert desk.ledger.claims.crashes(job_id) == 0
    assert desk.outcomes(job_id) == ["retry", "running"]


def test_a_job_that_was_kept_is_handed_back_to_be_delivered(desk: Desk) -> None:
    job_id = desk.job()

    def stopped() -> None:
        cases.keep(desk.ledger, desk.claim, desk.now)
        desk.runner.hand_back()

    desk.work = stopped
    assert desk.runner.read(job_id) is None
    assert desk.row(job_id)["state"] == "delivering"


def test_without_a_job_nothing_is_handed_back(desk: Desk) -> None:
    desk.runner.hand_back()


def test_handing_back_never_raises(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = desk.job()

    def away(*_arguments: object, **_more: object) -> None:
        raise LedgerUnreachable("away")

    def stopped() -> None:
        with monkeypatch.context() as outage:
            outage.setattr(desk.ledger.claims, "release", away)
            desk.runner.hand_back()

    desk.work = stopped
    assert desk.runner.read(job_id) is JobState.DELIVERING
