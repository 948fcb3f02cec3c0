"""The ledger's promises, on a real SQLite file and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import edit_rows
import keeping_cases
import ledger_cases as cases
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from certificates import Authority
from ledger_cases import T0, arrive, due, make, said, seen, store
from servers import postgresql
from sqlalchemy import delete, inspect, text
from sqlalchemy.exc import DatabaseError

from medai.router.announcements.read import Notice, Refused, Series, StepBegun, StepChange, StepState
from medai.router.cli import main as cli
from medai.router.contract import Failure, JobState, Order, Priority, StampName, Verdict
from medai.router.errors import LeaseLost, TemporaryError
from medai.router.hl7.orders_in import Action
from medai.router.hl7.patients import Patient
from medai.router.ledger import Ledger, accounts, migrations
from medai.router.ledger import schema as t
from medai.router.ledger.accounts import Role
from medai.router.ledger.database import Database
from medai.router.ledger.deliveries import Gate
from medai.router.ledger.erasure import ErasureRefused
from medai.router.ledger.retention import KINDS, Limits
from medai.router.ledger.schema import metadata
from medai.router.ledger.workitems import Seen, State
from medai.router.reports import agreement, readings
from medai.router.reports.turnaround import turnaround
from medai.router.settings.retention import DAY_S, RetentionSettings
from medai.router.stages import Percentiles


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pg-tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("pg"), tls=authority.pair()) as url:
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
    got = ledger.claims.take(job_id, worker=worker, lease_s=20, now=at)
    assert got is not None
    return got


def test_migrations_make_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.begin() as db:
        differences = compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), metadata)
    assert differences == []


def test_a_guess_at_a_password_costs_19_mebibytes_twice_over() -> None:
    assert (accounts.HASHER.memory_cost, accounts.HASHER.time_cost) == (19_456, 2)


def test_a_ledger_of_the_first_version_keeps_its_jobs_when_it_is_brought_up_to_date(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    (before,) = readings.jobs(ledger)
    move_to(ledger, "0001")
    ledger.migrate()
    assert readings.jobs(ledger) == [before]
    assert (before.job_id, before.verdict, before.plausibility) == (job_id, None, None)
    assert before.stamps


def test_roles_are_renamed_with_the_ledger_and_who_has_no_password_is_gone_before(ledger: Ledger) -> None:
    people = {"ana": Role.READER, "bob": Role.OPERATOR, "eve": Role.ADMINISTRATOR}
    for name, role in people.items():
        ledger.accounts.add(name, "long enough", role, T0)
    token = ledger.accounts.issue_token("eve", T0, kind="api", label="", lasts_s=99.0, role=Role.READER)
    ledger.accounts.add("dashboard", None, Role.SERVICE, T0)
    ledger.accounts.signed_in("https://id.example", "1", "olga", Role.ADMINISTRATOR, T0)
    for name in ("dashboard", "olga", "eve"):
        ledger.accounts.issue_token(name, T0, kind="api", label="", lasts_s=99.0, role=Role.SERVICE)
    move_to(ledger, "0015")
    with ledger.database.engine.begin() as db:
        roles = dict(db.exec_driver_sql("SELECT name, role FROM account").all())
        tokens = db.exec_driver_sql("SELECT account, role FROM access_token").all()
    assert roles == {"ana": "viewer", "bob": "operator", "eve": "admin"}
    assert tokens == [("eve", "viewer")]
    ledger.migrate()
    assert {row.name: row.role for row in ledger.accounts.listed()} == people
    found = ledger.accounts.by_token(token, T0 + 1)
    assert found is not None
    assert found.role is Role.READER


def test_a_migration_that_fails_half_way_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    make(ledger, arrive(ledger, seen()))
    move_to(ledger, "0001")
    in_the_way = "CREATE TABLE lease (id INTEGER)"  # the third revision makes this table, the second none
    with ledger.database.engine.begin() as db:
        db.exec_driver_sql(in_the_way)
    with pytest.raises(DatabaseError, match="exists"):
        ledger.migrate()
    with ledger.database.engine.begin() as db:
        assert db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "0001"
        assert "verdict" not in {column["name"] for column in inspect(db).get_columns("job")}
        db.exec_driver_sql("DROP TABLE lease")
    ledger.migrate()
    assert len(readings.jobs(ledger)) == 1


def move_to(ledger: Ledger, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["engine"] = ledger.database.engine
    command.downgrade(config, revision)


def test_several_processes_may_migrate_at_once(ledger: Ledger, tmp_path: Path) -> None:
    url = (
        ledger.database.url
        if ledger.database.url.startswith("postgresql")
        else f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    )
    code = f"from medai.router.ledger import Ledger; Ledger({url!r}).migrate()"
    starts = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [start.wait(timeout=60) for start in starts] == [0, 0, 0, 0]
    other = Ledger(url)
    assert other.studies.read_cursor("orthanc") is None
    other.close()


def test_the_cursor_moves_only_with_what_was_seen(ledger: Ledger) -> None:
    def dies_half_way() -> None:
        with ledger.begin() as db:
            ledger.studies.see(seen(), at=T0, due_at=T0, db=db)
            ledger.studies.write_cursor("orthanc", 7, T0, db)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        dies_half_way()
    assert ledger.studies.read_cursor("orthanc") is None
    assert ledger.studies.find("o-1.2.3") is None


def test_repeated_events_leave_the_clock_alone_and_new_images_restart_it(ledger: Ledger) -> None:
    assert arrive(ledger, seen(images=50)).last_instance_at == T0
    ledger.studies.set_complete(ledger.studies.find("o-1.2.3").id, T0 + 3)  # type: ignore[union-attr]  # it was just made
    assert arrive(ledger, seen(images=50), at=T0 + 9).last_instance_at == T0
    row = arrive(ledger, seen(images=51), at=T0 + 10)
    assert (row.last_instance_at, row.instances, row.complete_at) == (T0 + 10, 51, None)


def test_a_second_arrival_of_the_same_study_makes_no_second_job(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, decision = make(ledger, row)
    assert decision.verdict is Verdict.ROUTE
    second, decision = make(ledger, row, at=T0 + 60)
    assert (second, decision.verdict) == (first, Verdict.SKIP)
    assert "read before" in decision.reason
    _, decision = make(ledger, row, at=T0 + 60, model_version="2")
    assert decision.verdict is Verdict.SKIP, "a new model version does not read old studies again by itself"
    assert len(readings.jobs(ledger)) == 1


def test_only_one_of_many_workers_gets_a_job(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(ledger.claims.take(job_id, worker=f"w{n}", lease_s=20, now=T0)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(item is not None for item in got) == 1


def test_a_job_that_was_taken_back_is_read_again_and_the_old_worker_can_write_nothing(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    old = claim(ledger, job_id)
    (held,) = ledger.jobs.held()
    ledger.claims.renew(job_id, old.token, lease_s=20, now=T0 + 5)
    assert ledger.jobs.reclaim(held, "silent", max_crashes=5, now=T0 + 10) is None, "it was renewed after that look"
    (held,) = ledger.jobs.held()
    assert ledger.jobs.reclaim(held, "silent", max_crashes=5, now=T0 + 21) is JobState.PENDING
    assert ledger.jobs.reclaim(held, "silent", max_crashes=5, now=T0 + 21) is None, "once"
    new = claim(ledger, job_id, at=T0 + 22, worker="w2")
    with pytest.raises(LeaseLost):
        cases.keep(ledger, old, T0 + 23)
    with pytest.raises(LeaseLost):
        ledger.claims.fail(job_id, old.token, Failure.IMAGES, "", T0 + 23)
    store(ledger, new, T0 + 24)
    assert [item.outcome for item in readings.attempts(ledger, job_id)] == ["lost", "read"]


def test_a_result_that_was_kept_is_delivered_when_its_worker_dies_and_not_read_again(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    cases.keep(ledger, claim(ledger, job_id))
    (held,) = ledger.jobs.held()
    assert ledger.jobs.reclaim(held, "silent", max_crashes=1, now=T0 + 30) is JobState.DELIVERING
    assert ledger.deliveries.kept_objects(job_id) == [("sr", b"DICM" * 50)]
    assert due(ledger, "ris") == [], "the archive comes first"
    (owed,) = due(ledger, "archive")
    assert ledger.deliveries.begin_try(owed, T0 + 31)
    assert not ledger.deliveries.begin_try(owed, T0 + 31), "another courier has it"
    ledger.deliveries.delivered(owed, "stored", T0 + 32)
    assert ledger.deliveries.kept_objects(job_id) == [], "the archive has it"
    assert [item.control_id for item in due(ledger, "ris", T0 + 33)] == ["C1"]


def test_a_job_for_a_version_that_this_worker_does_not_hold_is_left_for_another(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    for versions in ({}, {"mr_brain": "2"}, {"other": "1"}):
        assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0, versions=versions) is None
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0, versions={"mr_brain": "1"}) is not None


def test_a_job_for_a_version_that_nobody_holds_any_more_makes_room_for_the_newer_one(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    job_id, _ = make(ledger, row)
    assert ledger.jobs.replace_outdated({}, T0) == [], "without workers it waits"
    assert ledger.jobs.replace_outdated({"mr_brain": {"1", "2"}}, T0) == [], "an older worker still reads it"
    assert ledger.jobs.replace_outdated({"mr_brain": {"2"}}, T0) == [job_id]
    newer, decision = make(ledger, row, model_version="2")
    assert newer != job_id
    assert decision.verdict is Verdict.ROUTE
    assert ledger.jobs.replace_outdated({"mr_brain": {"1"}}, T0) == [newer]
    again, decision = make(ledger, row, model_version="1")
    assert (again, decision.verdict) == (job_id, Verdict.ROUTE), "the older one is back: its job is taken up again"
    assert [job.id for job in ledger.jobs.unsent(T0, resend_before=0)] == [job_id]


def test_images_under_the_same_uids_with_other_content_make_a_revision(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    held = claim(ledger, first)
    ledger.claims.read_content(first, "content-1")
    store(ledger, held)
    assert make(ledger, row, content_hash="content-1")[1].verdict is Verdict.SKIP
    second, decision = make(ledger, row, content_hash="content-2")
    assert second != first
    assert decision.verdict is Verdict.SUPERSEDE
    assert claim(ledger, second).job.revision == 2


def test_every_wait_moves_with_a_stepped_clock(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    ledger.studies.set_due(row.id, T0 + 3)
    job_id, _ = make(ledger, row)
    held = claim(ledger, job_id)
    ledger.claims.release(job_id, held.token, reason="away", not_before=T0 + 40, crashed=False, now=T0)
    ledger.studies.shift_waits(-3600.0)
    moved = ledger.studies.find("o-1.2.3")
    assert moved is not None
    assert (moved.due_at, moved.last_instance_at) == (T0 - 3597, T0 - 3600)
    assert moved.series[0].last_instance_at == T0 - 3600
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 - 3600 + 39) is None
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 - 3600 + 41) is not None


def test_a_moment_further_ahead_than_any_back_off_counts_as_past(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    held = claim(ledger, job_id, at=T0)
    ledger.claims.release(job_id, held.token, reason="away", not_before=T0 + 5, crashed=False, now=T0)
    back = T0 - 3600  # another machine's clock, or this one put back while nobody looked
    assert [j.id for j in ledger.jobs.unsent(back, resend_before=0, longest_s=60)] == [job_id]
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=back, longest_s=60) is not None


def test_a_program_that_does_not_know_the_tables_sees_that_it_must_not_write(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.fleet.fits()
    monkeypatch.setattr("medai.router.ledger.fleet.newest_revision", lambda: "0001")
    assert not ledger.fleet.fits()


def test_the_lead_is_taken_by_compare_and_set(ledger: Ledger) -> None:
    first = ledger.fleet.take_lease("router", "a", T0, seen=None)
    assert first is not None
    assert ledger.fleet.take_lease("router", "b", T0, seen=None) is None
    seen_once = ledger.fleet.lease("router")
    assert ledger.fleet.renew_lease("router", first, T0 + 1)
    assert ledger.fleet.take_lease("router", "b", T0 + 2, seen=seen_once) is None, "it was renewed after that look"
    second = ledger.fleet.take_lease("router", "b", T0 + 9, seen=ledger.fleet.lease("router"))
    assert second is not None
    assert not ledger.fleet.renew_lease("router", first, T0 + 10), "the old leader learns that it lost the lead"


def test_a_job_that_kills_its_workers_fails_in_the_end(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    for n in range(3):
        claim(ledger, job_id, at=T0 + 100 * n)
        (held,) = ledger.jobs.held()
        ledger.jobs.reclaim(held, "the worker stopped answering", max_crashes=3, now=T0 + 100 * n + 50)
    (row,) = readings.jobs(ledger)
    assert (row.state, row.failure) == ("failed", "crash")
    assert "stopped answering (3 times)" in row.reason
    assert readings.decisions(ledger, job_id=job_id)[-1].verdict == "fail"


def test_images_that_come_before_storing_replace_the_job(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    running = claim(ledger, first)
    second, decision = make(ledger, row, sources="hash-2", count=51)
    assert decision.verdict is Verdict.SUPERSEDE
    with pytest.raises(LeaseLost):
        cases.keep(ledger, running, T0)
    new = claim(ledger, second)
    assert (new.job.revision, new.job.predecessor) == (1, None)


def test_images_that_come_after_a_reading_make_a_revision_that_is_told_after_the_old_one(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    old = claim(ledger, first)
    cases.keep(ledger, old)
    second, decision = make(ledger, row, sources="hash-2", count=51)
    assert decision.verdict is Verdict.SUPERSEDE
    assert ledger.claims.take(second, worker="w2", lease_s=20, now=T0) is None, (
        "the old one is still in a worker's hands"
    )
    assert second not in [job.id for job in ledger.jobs.unsent(T0 + 5, resend_before=T0 + 5)]
    ledger.claims.hand_over(first, old.token, T0 + 2, archived=True)
    new = claim(ledger, second, at=T0 + 3)
    assert new.job.revision == 2
    assert new.job.predecessor.sr_sop_uid == "9.1"
    assert new.job.filler == old.job.filler
    store(ledger, new, T0 + 4)
    (owed,) = due(ledger, "ris")
    assert owed.job_id == first, "a RIS hears of a result before it hears of its correction"
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.delivered(owed, "AA", T0 + 6)
    assert [item.job_id for item in due(ledger, "ris", T0 + 7)] == [second]


def test_what_a_ris_refused_for_good_does_not_hold_up_its_correction(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    store(ledger, claim(ledger, first))
    second, _ = make(ledger, row, sources="hash-2", count=51)
    store(ledger, claim(ledger, second, at=T0 + 3), T0 + 4)
    (owed,) = due(ledger, "ris")
    ledger.deliveries.park(owed, "the RIS answered AE", T0 + 5)
    (newer,) = due(ledger, "ris", T0 + 6)
    assert newer.job_id == second
    assert [letter.job_id for letter in ledger.dead.letters()] == [first]
    ledger.deliveries.begin_try(newer, T0 + 6)
    ledger.deliveries.delivered(newer, "AA", T0 + 7)
    assert ledger.dead.letters() == [], "an older result must not follow its correction"
    states = {job.job_id: (job.state, job.reason) for job in readings.jobs(ledger)}
    assert states == {first: ("done", "overtaken: revision 2 was delivered"), second: ("done", "")}


def test_a_job_whose_last_two_deliveries_end_at_once_ends(ledger: Ledger) -> None:
    for n in range(12):
        job_id, _ = make(ledger, arrive(ledger, seen(uid=f"1.2.{n}")))
        held = claim(ledger, job_id)
        cases.keep(ledger, held, destinations=("pacs",))
        ledger.claims.hand_over(job_id, held.token, T0 + 2, archived=True)
        owed = [*due(ledger, "ris"), *due(ledger, "pacs")]
        start = threading.Barrier(2)

        def deliver(item: Any, start: threading.Barrier = start) -> None:
            start.wait()
            ledger.deliveries.delivered(item, "taken", T0 + 6)

        threads = [threading.Thread(target=deliver, args=(item,)) for item in owed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {job.state for job in readings.jobs(ledger)} == {"done"}
    assert ledger.jobs.settle_idle(T0 + 7) == []


def test_a_job_that_nobody_ended_is_ended_by_the_router(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id))
    assert ledger.jobs.settle_idle(T0 + 5) == []
    with ledger.begin() as db:
        db.exec_driver_sql("UPDATE delivery SET state = 'done'")
    assert ledger.jobs.settle_idle(T0 + 5) == [job_id]
    assert readings.jobs(ledger)[0].state == "done"


def test_a_delivery_that_is_put_off_keeps_its_message_and_costs_no_reading(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id), T0 + 1)
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 10) is None, "it is read"
    (owed,) = due(ledger, "ris", T0 + 2)
    assert ledger.deliveries.begin_try(owed, T0 + 2)
    ledger.deliveries.put_off(owed, "RIS away", next_try_at=T0 + 30, refused=False, now=T0 + 2)
    assert due(ledger, "ris", T0 + 10) == [], "not before its time"
    (again,) = due(ledger, "ris", T0 + 31)
    assert (again.destination, bytes(again.payload or b""), again.control_id) == ("ris", b"MSH|", "C1")
    assert again.attempts == 1
    ledger.deliveries.begin_try(again, T0 + 31)
    ledger.deliveries.delivered(again, "AA", T0 + 32)
    (row,) = readings.jobs(ledger)
    assert (row.state, row.oru and row.oru.ack) == ("done", "AA")
    assert row.stamps[StampName.ORU_ACKNOWLEDGED] == T0 + 32
    assert [(each.outcome, each.text) for each in readings.delivery_tries(ledger, job_id)] == [
        ("retry", "RIS away"),
        ("done", "AA"),
    ]


def test_an_order_joins_its_study_by_accession_and_has_it_looked_at_again(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    job_id, _ = make(ledger, study)
    ledger.studies.set_due(study.id, None)
    ledger.jobs.mark_sent({job_id: T0})
    order = Order(placer="P1", accession="A1.2.3", priority=Priority.STAT, procedure=("24590-2", "MR Brain", "LN"))
    assert ledger.orders.take([said(order)], T0) == 1
    assert ledger.orders.take([said(order)], T0 + 1) == 0, "a repeat is known"
    assert [due.id for due in ledger.studies.due(T0, longest_s=60.0)] == [study.id]
    assert ledger.jobs.hurry(study.id, "brain", Priority.STAT) == 1
    assert ledger.jobs.hurry(study.id, "brain", Priority.URGENT) == 0, "nothing becomes less urgent"
    (job,) = ledger.jobs.unsent(T0, resend_before=0)
    assert (job.id, job.priority) == (job_id, 0)
    assert claim(ledger, job_id).job.order == order
    ledger.orders.take([said(order, Action.CANCEL, digest="M2")], T0 + 2)
    assert ledger.orders.of_study(study_uid="1.2.3", accession="A1.2.3") == ()


def test_the_same_decision_is_recorded_once(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    from medai.router.contract import Decision

    skip = [Decision(verdict=Verdict.SKIP, reason="no route reads this study")]
    assert ledger.studies.record(row.id, skip, T0, outcome="x")
    assert not ledger.studies.record(row.id, skip, T0 + 5, outcome="x")
    assert ledger.studies.record(row.id, skip, T0 + 9, outcome="y")
    assert len(readings.decisions(ledger, study_uid="1.2.3")) == 2


def test_turnaround_is_a_query_over_stamps(ledger: Ledger) -> None:
    for n in range(4):
        row = arrive(ledger, seen(uid=f"1.2.{n}"), at=T0)
        job_id, _ = make(ledger, row, at=T0 + 3)
        ledger.jobs.mark_sent({job_id: T0 + 3})
        got = claim(ledger, job_id, at=T0 + 4)
        store(ledger, got, at=T0 + 10)
        cases.acknowledge(ledger, got, T0 + 11 + n)
    (group,) = turnaround(ledger, since=T0, by="route")
    assert group.group == "brain"
    assert group.turnaround == Percentiles(n=4, p50_s=12.5, p95_s=13.85, p99_s=13.97)
    assert group.stages["queue_wait"].p50_s == 1.0


def test_a_database_that_is_away_is_a_temporary_error() -> None:
    ledger = Ledger("postgresql+psycopg://medai@127.0.0.1:1/none")
    with pytest.raises(TemporaryError, match="ledger does not answer"):
        ledger.studies.read_cursor("orthanc")
    ledger.close()


def test_our_own_results_are_known_by_their_orthanc_ids(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id))
    assert ledger.deliveries.known_results([f"sr-{job_id}", "foreign"]) == {f"sr-{job_id}"}
    assert cases.T0 > 0


# -- what depends on the dialect of SQL


def test_images_that_come_and_go_again_are_read_as_they_are_now(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    first, _ = make(ledger, row)
    second, decision = make(ledger, row, at=T0 + 1, sources="hash-2", count=51)
    assert decision.verdict is Verdict.SUPERSEDE
    back, decision = make(ledger, row, at=T0 + 2)
    assert (back, decision.verdict) == (first, Verdict.SUPERSEDE), "set aside unread, and wanted after all"
    assert [job.id for job in ledger.jobs.unsent(T0 + 3, resend_before=0)] == [first]
    again, _ = make(ledger, row, at=T0 + 4, sources="hash-2", count=51)
    assert again == second
    assert [job.id for job in ledger.jobs.unsent(T0 + 5, resend_before=0)] == [second]
    store(ledger, claim(ledger, second, at=T0 + 6), T0 + 7)
    last, decision = make(ledger, row, at=T0 + 8)
    assert (last, decision.verdict) == (first, Verdict.SUPERSEDE)
    assert (claim(ledger, first, at=T0 + 9).job.revision, len(readings.jobs(ledger))) == (2, 2)


def test_a_ledger_of_a_newer_program_is_waited_for_and_not_written(ledger: Ledger) -> None:
    with ledger.begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(TemporaryError, match="newer Med-AI"):
        ledger.migrate()
    assert not ledger.fleet.fits()


def test_only_one_of_many_couriers_may_try_a_delivery(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id))
    (owed,) = due(ledger, "ris")
    got: list[bool] = []
    threads = [threading.Thread(target=lambda: got.append(ledger.deliveries.begin_try(owed, T0 + 5))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 5 + [True]


def test_only_one_of_many_routers_takes_a_free_lease(ledger: Ledger) -> None:
    got: list[str | None] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(ledger.fleet.take_lease("router", f"r{n}", T0, seen=None)))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(token is not None for token in got) == 1
    held = ledger.fleet.lease("router")
    assert held is not None
    assert held.token in got


def test_what_was_put_off_is_due_at_once_when_its_destination_is_back(ledger: Ledger) -> None:
    for n in range(3):
        job_id, _ = make(ledger, arrive(ledger, seen(uid=f"1.2.{n}")))
        store(ledger, claim(ledger, job_id))
    away, refused, fresh = due(ledger, "ris")
    for owed, was_refused in ((away, False), (refused, True)):
        assert ledger.deliveries.begin_try(owed, T0 + 5)
        ledger.deliveries.put_off(owed, "later", next_try_at=T0 + 30, refused=was_refused, now=T0 + 5)
    assert ledger.deliveries.hurry("ris") == 1
    assert [item.id for item in due(ledger, "ris", T0 + 6)] == [away.id, fresh.id], "a refused one keeps its own pace"
    assert ledger.deliveries.owed_to() == ["ris"]


def test_patience_counts_from_the_later_of_making_and_asking_again(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id), T0 + 1)
    (owed,) = due(ledger, "ris")
    assert owed.since == T0 + 1
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.park(owed, "AE", T0 + 5)
    (letter,) = ledger.dead.letters()
    assert ledger.dead.retry(letter, T0 + 50)
    (owed,) = due(ledger, "ris", T0 + 51)
    assert owed.since == T0 + 50


def test_dead_letters_are_paged_without_gaps_or_repeats_also_where_several_were_parked_at_one_moment(
    ledger: Ledger,
) -> None:
    for n in range(4):
        row = arrive(ledger, seen(uid=f"1.2.{n}"))
        broken, _ = make(ledger, row, route="second")
        ledger.claims.fail(broken, claim(ledger, broken).token, Failure.CRASH, "it broke", T0 + 5)
        job_id, _ = make(ledger, row)
        store(ledger, claim(ledger, job_id), T0 + 1)
    for owed in due(ledger, "ris"):
        ledger.deliveries.begin_try(owed, T0 + 5)
        ledger.deliveries.park(owed, "AE", T0 + 5)
    whole = ledger.dead.letters()
    paged: list[str] = []
    behind = None
    while page := ledger.dead.letters(limit=3, behind=behind):
        paged += [letter.id for letter in page]
        behind = (page[-1].parked_at, page[-1].id)
    assert (paged, len(paged)) == ([letter.id for letter in whole], 8)


def test_dead_letters_are_found_by_prefix_tried_again_and_dropped(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    broken, _ = make(ledger, row, route="second")
    ledger.claims.fail(broken, claim(ledger, broken).token, Failure.CRASH, "it broke", T0 + 1)
    job_id, _ = make(ledger, row)
    store(ledger, claim(ledger, job_id), T0 + 1)
    (owed,) = due(ledger, "ris")
    ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.park(owed, "AE", T0 + 5)
    assert [item.id for item in ledger.dead.letters()] == [f"{job_id}/ris", broken]
    assert ledger.dead.letters(prefix="%") == []
    (reading,) = ledger.dead.letters(prefix=broken[:8])
    (delivery,) = ledger.dead.letters(prefix=f"{job_id[:8]}/ris")
    assert ledger.dead.retry(reading, T0 + 9)
    assert not ledger.dead.retry(reading, T0 + 9)
    assert ledger.dead.drop(delivery, "entered by hand", T0 + 9)
    states = {item.job_id: item.state for item in readings.jobs(ledger)}
    assert states == {broken: "pending", job_id: "done"}
    assert readings.delivery_tries(ledger, job_id)[-1].count == 1


def test_a_deleted_study_is_withdrawn_once_and_its_next_result_waits_for_that(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    job_id, _ = make(ledger, row)
    got = claim(ledger, job_id)
    store(ledger, got)
    cases.acknowledge(ledger, got, T0 + 6)
    told = {"ris": lambda data, number: data + number.encode()}
    removed = ledger.removals.study_removed("o-1.2.3", T0 + 50, within_s=100, withdrawn=told)
    assert removed is not None
    assert (removed.cancelled, removed.withdrawn) == (0, 1)
    assert ledger.removals.study_removed("o-1.2.3", T0 + 51, within_s=100, withdrawn=told) is None
    again, _ = make(ledger, arrive(ledger, seen(), at=T0 + 60), at=T0 + 61)
    store(ledger, claim(ledger, again, at=T0 + 62), T0 + 63)
    (first,) = due(ledger, "ris", T0 + 64)
    assert (first.job_id, first.kind, bytes(first.payload or b"")[:4]) == (job_id, "withdrawal", b"MSH|")
    assert ledger.deliveries.begin_try(first, T0 + 65)
    ledger.deliveries.delivered(first, "AA", T0 + 65)
    assert [item.job_id for item in due(ledger, "ris", T0 + 66)] == [again]


def test_a_gate_is_written_over_and_a_worker_tells_its_models_and_alarm(ledger: Ledger) -> None:
    for failures in (3, 0):
        gate = Gate(name="ris", open=failures > 0, failures=failures, since=T0, next_try_at=T0 + 1, reason="away")
        ledger.deliveries.set_gate(gate)
        assert ledger.deliveries.gate("ris") == gate
    for alarm in ("the disk is full", ""):
        ledger.fleet.worker_seen(
            "w1", queues=["cpu"], device="CPU", started_at=T0, job_id=None, now=T0, models={"m": "1"}, alarm=alarm
        )
    assert ledger.fleet.held_models(T0 + 1) == {"m": {"1"}}
    assert ledger.fleet.held_models(T0 + 999) == {}


def test_one_account_that_answers_many_times_at_once_has_one_answer_and_one_number(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    store(ledger, claim(ledger, job_id))
    ledger.surveys.answer_usefulness("bob", job_id, {"correct": 2, "contours": 5}, "", T0)

    def answer(n: int) -> None:
        ledger.surveys.answer_usefulness("ana", job_id, {"correct": n % 5 + 1, "time": None}, "once more", T0 + n)
        ledger.surveys.answer_sus("ana", [3] * 10, T0 + n)

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.account for row in ledger.surveys.usefulness_answers()} == {"ana", "bob"}
    assert len(ledger.surveys.usefulness_answers()) == 2
    scales = ledger.surveys.sus_answers(account="ana")
    assert (len(scales), sum(row.newest for row in scales), scales[0].answered_at) == (8, 1, T0 + 7)
    (counted,) = ledger.surveys.usefulness_counts()
    assert (counted.readers, counted.readings, sum(counted.counts["correct"])) == (2, 1, 2)
    assert counted.counts["contours"] == [0, 0, 0, 0, 1]
    assert counted.counts["time"] == [0] * 5


def test_what_a_reader_made_of_a_result_is_kept_and_summed(ledger: Ledger) -> None:
    job_id = edit_rows.read(ledger)
    edit_rows.compared(ledger, job_id, [edit_rows.brain(0.9)])
    assert not edit_rows.see(ledger, edit_rows.edit_of(job_id))
    (model,) = agreement.agreement(ledger)
    assert (model.edited, [row.dice and row.dice.median for row in model.structures]) == (1, [0.9])
    assert [row.count for row in agreement.counts(ledger).dice] == [1]
    assert [row.state for row in agreement.edits(ledger)] == ["compared"]
    assert edit_rows.see(ledger, edit_rows.edit_of(job_id), digest="d2")
    assert agreement.agreement(ledger)[0].structures == ()


def test_what_is_announced_of_a_study_is_kept_in_its_newest_form(ledger: Ledger) -> None:
    step = StepBegun(uid="1.5", studies=("1.2.3", "1.2.4"), series=())
    made = (Series(uid="1.8", instances=("1.9.1", "1.9.2")),)
    ledger.announcements.step_begun(step, T0, keep_s=3600.0)
    with pytest.raises(Refused):
        ledger.announcements.step_begun(step, T0, keep_s=3600.0)
    row = arrive(ledger, seen())
    assert row.due_at == T0
    ledger.studies.set_due_as_seen(row, T0 + 600)
    ended = StepChange(uid="1.5", state=StepState.COMPLETED, series=made)
    assert ledger.announcements.step_changed(ended, T0 + 1) is StepState.COMPLETED
    ledger.studies.set_due_as_seen(row, T0 + 600)
    assert [study.id for study in ledger.studies.due(T0 + 1)] == [row.id]
    away = (Series(uid="1.8", instances=("1.9.3",)),)
    ledger.announcements.notice(Notice(uid="1.5", study="1.2.3", online=(*made, *away), away=()), T0, keep_s=3600.0)
    ledger.announcements.notice(Notice(uid="1.6", study="1.2.3", online=(), away=away), T0 + 2, keep_s=3600.0)
    found = ledger.announcements.of_study("1.2.3")
    assert found.instances == {"mpps": {"1.9.1", "1.9.2"}, "ian": {"1.9.1", "1.9.2"}}
    assert (found.open_steps, found.said_at) == (0, T0 + 2)
    assert ledger.announcements.of_study("1.2.4").instances["mpps"] == {"1.9.1", "1.9.2"}


def test_a_workitem_is_claimed_once_and_has_its_study_read(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    ledger.studies.set_due(study.id, None)
    new = Seen(uid="1.5", lock_uid="2.25.1", study_uid="1.2.3", route="brain", codes={"work": ("A", "L", "Ä")})
    waiting = ledger.workitems.see(new, T0)
    assert ledger.workitems.see(replace(new, route="other"), T0 + 1).route == "other"
    assert ledger.workitems.see(new, T0 + 2).seen_at == T0
    claiming = ledger.workitems.begin_claim(waiting, study_id=study.id)
    assert claiming is not None
    ledger.workitems.claimed(claiming, T0 + 3)
    assert ledger.workitems.begin_claim(waiting) is None
    assert [due.id for due in ledger.studies.due(T0 + 3)] == [study.id]
    assert ledger.workitems.routes_asked(study.id) == {"brain"}
    ledger.studies.set_complete(study.id, T0 + 3)
    job, _ = make(ledger, study)
    claim = ledger.claims.take(job, worker="w", lease_s=60.0, now=T0 + 4)
    assert claim is not None
    store(ledger, claim, T0 + 5)
    standing = ledger.workitems.standing(claiming)
    assert (standing.ended, standing.began, standing.until) == (True, T0 + 4, T0 + 5)
    assert [made.sop_uid for made in standing.objects] == ["9.1"]
    ending = ledger.workitems.ending(claiming, standing)
    assert ending is not None
    ledger.workitems.ended(ending, State.COMPLETED, T0 + 6)
    ledger.workitems.forget(T0 + 7)
    assert ledger.workitems.routes_asked(study.id) == frozenset()


def test_lines_of_the_audit_trail_follow_each_other_whoever_writes_them(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ledger.accounts.note_action(f"ana{number}", "study", T0), range(60)))
    assert (ledger.verify_audit().lines, ledger.verify_audit().faults) == (60, ())
    with ledger.begin() as db:
        db.execute(delete(t.audit).where(t.audit.c.id == 30))
    assert len(ledger.verify_audit().faults) == 1 + (ledger.database.engine.dialect.name == "sqlite")


def test_what_is_old_goes_and_the_trail_proves_what_is_left(ledger: Ledger) -> None:
    job_id = edit_rows.read(ledger)
    edit_rows.compared(ledger, job_id, [edit_rows.brain(0.9)])
    other = edit_rows.read(ledger, "1.2.4")
    for number in range(3):
        ledger.accounts.note_action("ana", "study", T0 + number)
    order = Order(placer="P1", accession="X1", patient_id="7", patient_name="Doe^Jane")
    ledger.orders.take([said(order)], T0)
    key = {"key": "patient:1", "value": f'{{"sex": {T0}}}'}
    with ledger.begin() as db:
        db.execute(t.meta.insert().values(**key))
        db.execute(t.studies.update().values(deleted_at=T0, due_at=None))
    keep = RetentionSettings(messages_d=1, orders_d=1, merges_d=1, history_d=1, readings_d=1, audit_d=1)
    now = T0 + 10 * DAY_S
    went: Counter[str] = Counter()
    for kind in KINDS:
        went.update(ledger.retention.page(kind, None, Limits.of(keep, now), now).pruned)
    assert {what: went[what] for what in ("orders", "patient_updates", "messages", "studies", "audit")} == {
        "orders": 1, "patient_updates": 1, "messages": 2, "studies": 1, "audit": 6,
    }  # fmt: skip
    assert [job.job_id for job in readings.jobs(ledger)] == [other]
    assert ledger.verify_audit().faults == ()


def test_a_patient_is_erased_and_nobody_else(ledger: Ledger) -> None:
    keeping_cases.patient(ledger)
    patient = Patient("PAT4711", "H")
    found = ledger.erasure.erase(patient, {}, T0 + 100, updates={}, by="ana", pseudonym="p")
    assert (found.counts["studies"], found.counts["readings"], found.counts["orders"]) == (2, 2, 1)
    assert [word for word in keeping_cases.PLANTED if word in keeping_cases.tables(ledger)] == []
    assert [job.study_uid for job in readings.jobs(ledger)] == ["1.2.55"]
    assert ledger.erasure.erase(patient, {}, T0 + 100, updates={}, by="ana", pseudonym="p").counts == {}
    keeping_cases.read(ledger, "PAT99", "1.2.56", until=lambda _job: None)
    with pytest.raises(ErasureRefused, match="not over"):
        ledger.erasure.erase(Patient("PAT99"), {}, T0 + 100, updates={}, by="ana", pseudonym="p")
    assert ledger.verify_audit().faults == ()


def test_a_ledger_in_postgresql_is_backed_up_and_comes_back_in_an_empty_database_alone(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [server.rpartition("/")[0] + f"/{name}" for name in ("first", "second")]
    bare = Database(server)
    with bare.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        for name in ("first", "second"):
            db.exec_driver_sql(f"CREATE DATABASE {name}")
    bare.close()
    configs = []
    for url in urls:
        folder = tmp_path / url.rpartition("/")[2]
        folder.mkdir()
        (folder / "medai.toml").write_text(f'[ledger]\nurl = "{url}"\naudit_folder = "{folder}"\n')
        configs.append(str(folder / "medai.toml"))
    first = Ledger(urls[0], audit_folder=str(tmp_path / "first"))
    first.migrate()
    keeping_cases.patient(first)
    file = str(tmp_path / "a.backup")
    assert cli.main(["backup", file, "--config", configs[0]]) == 0
    assert cli.main(["restore", file, "--config", configs[0]]) == 2
    assert cli.main(["restore", file, "--config", configs[1]]) == 0
    second = Ledger(urls[1], audit_folder=str(tmp_path / "second"))
    both = [sorted(keeping_cases.tables(each, but=("audit", "meta")).splitlines()) for each in (first, second)]
    assert both[0] == both[1]
    assert second.verify_audit().faults == ()
    assert second.verify_audit().lines == first.verify_audit().lines + 1
    for each in (tmp_path / "second").glob("*.audit-*"):
        each.unlink()
    assert cli.main(["restore", file, "--config", configs[1]]) == 2
    assert "nothing is restored over" in capsys.readouterr().err
    first.close()
    second.close()


def test_a_postgresql_over_tls_is_verified_by_authority_and_name(server: str, authority: Authority) -> None:
    verified = f"?sslmode=verify-full&sslrootcert={authority.ca_file}"
    ledger = Ledger(server + verified)
    with ledger.database.engine.connect() as connection:
        assert connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar()
    ledger.close()
    for other in (verified.replace("ca.pem", "localhost.pem"), "?sslmode=verify-full&sslrootcert=/none"):
        ledger = Ledger(server + other)
        with pytest.raises(TemporaryError):
            ledger.accounts.has_any()
        ledger.close()
    elsewhere = server.replace("127.0.0.1", "elsewhere")
    ledger = Ledger(f"{elsewhere}{verified}&hostaddr=127.0.0.1")  # the same server by a name that is not its own
    with pytest.raises(TemporaryError):
        ledger.accounts.has_any()
    ledger.close()
