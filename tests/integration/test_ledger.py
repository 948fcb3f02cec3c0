"""The ledger's promises, on a real SQLite file and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ledger_cases as cases
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from ledger_cases import T0, arrive, make, seen, store
from servers import postgresql

from router import migrations, reports
from router.contract import JobState, Order, Priority, StampName, Verdict
from router.errors import LeaseLost, TemporaryError
from router.ledger import Ledger
from router.schema import metadata


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    else:
        ledger = Ledger(request.getfixturevalue("server"))
        with ledger.begin() as db:
            metadata.drop_all(db)
            db.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
    ledger.migrate()
    yield ledger
    ledger.close()


def claim(ledger: Ledger, job_id: str, at: float = T0, worker: str = "w1") -> Any:
    got = ledger.claim(job_id, worker=worker, lease_s=20, now=at)
    assert got is not None
    return got


def test_migrations_make_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.begin() as db:
        differences = compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), metadata)
    assert differences == []


def test_a_ledger_of_the_first_version_keeps_its_jobs_when_it_is_brought_up_to_date(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    (before,) = reports.jobs(ledger)
    move_to(ledger, "0001")
    ledger.migrate()
    assert reports.jobs(ledger) == [before]
    assert (before["job_id"], before["verdict"], before["plausibility"]) == (job_id, None, None)
    assert before["stamps"]


def move_to(ledger: Ledger, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["engine"] = ledger.engine
    command.downgrade(config, revision)


def test_several_processes_may_migrate_at_once(ledger: Ledger, tmp_path: Path) -> None:
    url = ledger.url if ledger.url.startswith("postgresql") else f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    code = f"from router.ledger import Ledger; Ledger({url!r}).migrate()"
    starts = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [start.wait(timeout=60) for start in starts] == [0, 0, 0, 0]
    other = Ledger(url)
    assert other.read_cursor("orthanc") is None
    other.close()


def test_the_cursor_moves_only_with_what_was_seen(ledger: Ledger) -> None:
    def dies_half_way() -> None:
        with ledger.begin() as db:
            ledger.see_study(seen(), at=T0, due_at=T0, db=db)
            ledger.write_cursor("orthanc", 7, T0, db)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        dies_half_way()
    assert ledger.read_cursor("orthanc") is None
    assert ledger.study_row("o-1.2.3") is None


def test_repeated_events_leave_the_clock_alone_and_new_images_restart_it(ledger: Ledger) -> None:
    assert arrive(ledger, seen(images=50))["last_instance_at"] == T0
    ledger.set_complete(ledger.study_row("o-1.2.3")["id"], T0 + 3)  # type: ignore[index]  # it was just made
    assert arrive(ledger, seen(images=50), at=T0 + 9)["last_instance_at"] == T0
    row = arrive(ledger, seen(images=51), at=T0 + 10)
    assert (row["last_instance_at"], row["instances"], row["complete_at"]) == (T0 + 10, 51, None)


def test_a_second_arrival_of_the_same_study_makes_no_second_job(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, decision = make(ledger, row)
    assert decision.verdict is Verdict.ROUTE
    second, decision = make(ledger, row, at=T0 + 60)
    assert (second, decision.verdict) == (first, Verdict.SKIP)
    assert "read before" in decision.reason
    _, decision = make(ledger, row, at=T0 + 60, model_version="2")
    assert decision.verdict is Verdict.SKIP, "a new model version does not read old studies again by itself"
    assert len(reports.jobs(ledger)) == 1


def test_only_one_of_many_workers_gets_a_job(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(ledger.claim(job_id, worker=f"w{n}", lease_s=20, now=T0)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(item is not None for item in got) == 1


def test_a_job_whose_lease_ran_out_is_read_again_and_the_old_worker_can_write_nothing(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    old = claim(ledger, job_id)
    assert ledger.reclaim(T0 + 10, max_crashes=5) == []
    assert ledger.reclaim(T0 + 21, max_crashes=5) == [(job_id, JobState.PENDING)]
    new = claim(ledger, job_id, at=T0 + 22, worker="w2")
    with pytest.raises(LeaseLost):
        ledger.begin_storing(job_id, old.token, [], T0 + 23)
    with pytest.raises(LeaseLost):
        ledger.finish(job_id, old.token, JobState.DONE, "", T0 + 23)
    ledger.finish(job_id, new.token, JobState.DONE, "", T0 + 24)
    assert [item["outcome"] for item in reports.attempts(ledger, job_id)] == ["lost", "done"]


def test_a_job_that_kills_its_workers_fails_in_the_end(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    for n in range(3):
        claim(ledger, job_id, at=T0 + 100 * n)
        ledger.reclaim(T0 + 100 * n + 50, max_crashes=3)
    (row,) = reports.jobs(ledger)
    assert row["state"] == "failed"
    assert "stopped answering (3 times)" in row["reason"]


def test_images_that_come_before_storing_replace_the_job(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    running = claim(ledger, first)
    second, decision = make(ledger, row, sources="hash-2", count=51)
    assert decision.verdict is Verdict.SUPERSEDE
    with pytest.raises(LeaseLost):
        ledger.begin_storing(first, running.token, [], T0)
    new = claim(ledger, second)
    assert (new.job.revision, new.job.predecessor) == (1, None)


def test_images_that_come_after_storing_make_a_revision_that_waits_for_the_old_one(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    old = claim(ledger, first)
    store(ledger, old)
    second, decision = make(ledger, row, sources="hash-2", count=51)
    assert decision.verdict is Verdict.SUPERSEDE
    assert ledger.claim(second, worker="w2", lease_s=20, now=T0) is None, "the old one has not ended"
    assert second not in [job["id"] for job in ledger.unsent_jobs(T0 + 5, resend_before=T0 + 5)]
    ledger.finish(first, old.token, JobState.DONE, "", T0 + 2)
    new = claim(ledger, second, at=T0 + 3)
    assert new.job.revision == 2
    assert new.job.predecessor.sr_sop_uid == "9.1"
    assert new.job.filler == old.job.filler


def test_a_retry_after_storing_owes_only_the_deliveries(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    first = claim(ledger, job_id)
    store(ledger, first)
    ledger.release(job_id, first.token, reason="RIS away", not_before=T0 + 30, crashed=False, now=T0 + 2)
    assert ledger.claim(job_id, worker="w", lease_s=20, now=T0 + 10) is None, "not before its time"
    again = claim(ledger, job_id, at=T0 + 31)
    assert again.stored
    (owed,) = again.pending_deliveries
    assert (owed.destination, bytes(owed.payload), owed.control_id) == ("ris", b"MSH|", "C1")
    ledger.delivery_ended(job_id, "ris", ok=True, text="AA", now=T0 + 32)
    assert ledger.pending_deliveries(job_id) == ()
    (row,) = reports.jobs(ledger)
    assert row["oru"]["ack"] == "AA"
    assert row["stamps"][StampName.ORU_ACKNOWLEDGED] == T0 + 32


def test_an_order_joins_its_study_by_accession_and_hurries_waiting_jobs(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    ledger.mark_sent({job_id: T0})
    order = Order(placer="P1", accession="A1.2.3", priority=Priority.STAT, procedure=("24590-2", "MR Brain", "LN"))
    assert ledger.upsert_order(order, status="active", control_id="M1", now=T0)
    assert not ledger.upsert_order(order, status="active", control_id="M1", now=T0 + 1), "a repeat is known"
    (job,) = ledger.unsent_jobs(T0, resend_before=0)
    assert (job["id"], job["priority"]) == (job_id, 0)
    assert claim(ledger, job_id).job.order == order
    ledger.upsert_order(order, status="cancelled", control_id="M2", now=T0 + 2)
    assert ledger.order_for(study_uid="1.2.3", accession="A1.2.3") is None


def test_the_same_decision_is_recorded_once(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    from router.contract import Decision

    skip = [Decision(verdict=Verdict.SKIP, reason="no route reads this study")]
    assert ledger.record(row["id"], skip, T0, outcome="x")
    assert not ledger.record(row["id"], skip, T0 + 5, outcome="x")
    assert ledger.record(row["id"], skip, T0 + 9, outcome="y")
    assert len(reports.decisions(ledger, study_uid="1.2.3")) == 2


def test_turnaround_is_a_query_over_stamps(ledger: Ledger) -> None:
    for n in range(4):
        row = arrive(ledger, seen(uid=f"1.2.{n}"), at=T0)
        job_id, _ = make(ledger, row, at=T0 + 3)
        ledger.mark_sent({job_id: T0 + 3})
        got = claim(ledger, job_id, at=T0 + 4)
        store(ledger, got, at=T0 + 10)
        ledger.delivery_ended(job_id, "ris", ok=True, text="AA", now=T0 + 11 + n)
        ledger.finish(job_id, got.token, JobState.DONE, "", T0 + 12 + n)
    (group,) = reports.turnaround(ledger, since=T0, by="route")
    assert group["group"] == "brain"
    assert group["turnaround"] == {"n": 4, "p50_s": 12.5, "p95_s": 13.85, "p99_s": 13.97}
    assert group["stages"]["queue_wait"]["p50_s"] == 1.0


def test_a_database_that_is_away_is_a_temporary_error() -> None:
    ledger = Ledger("postgresql+psycopg://medai@127.0.0.1:1/none")
    with pytest.raises(TemporaryError, match="ledger does not answer"):
        ledger.read_cursor("orthanc")
    ledger.close()


def test_our_own_results_are_known_by_their_orthanc_ids(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id))
    assert ledger.known_results([f"sr-{job_id}", "foreign"]) == {f"sr-{job_id}"}
    assert cases.T0 > 0
