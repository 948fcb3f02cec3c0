"""What each move of a job or a delivery writes beside the state: these columns, and no others, of this row alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledger_cases import T0, arrive, make, seen
from sqlalchemy import ColumnElement, Connection, insert, select, update

from medai.router.contract import DeliveryState, Failure, JobState
from medai.router.ledger import Ledger, transitions
from medai.router.ledger import schema as t

TOKEN = "11111111-1111-1111-1111-111111111111"
JOB = JobState
OWED = DeliveryState
BEFORE = {
    "reason": "as it was", "failure": "images", "attempts": 2, "crashes": 1, "not_before": 5.0, "sent_at": 6.0,
    "lease_token": TOKEN, "lease_until": 8.0, "finished_at": 7.0, "verdict": "check", "created_at": 4.0,
}  # fmt: skip
DELIVERY_BEFORE = {
    "attempts": 3, "refusals": 2, "receipt": "AE", "error": "as it was", "next_try_at": 5.0, "done_at": 6.0,
}  # fmt: skip
FREE = {"lease_token": None, "lease_until": None}
Move = Callable[[Connection, str], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, str, str]]:
    """A ledger with two jobs."""
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}")
    ledger.migrate()
    one, _ = make(ledger, arrive(ledger, seen()))
    other, _ = make(ledger, arrive(ledger, seen(uid="4.5.6")))
    yield ledger, one, other
    ledger.close()


@pytest.fixture
def db(made: tuple[Ledger, str, str]) -> Iterator[Connection]:
    """A transaction that is undone after the test."""
    with made[0].database.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@pytest.fixture
def job_id(made: tuple[Ledger, str, str]) -> str:
    return made[1]


@pytest.fixture
def other_id(made: tuple[Ledger, str, str]) -> str:
    return made[2]


def rows(db: Connection, table: Any) -> dict[Any, dict[str, Any]]:
    return {row["id"]: dict(row) for row in db.execute(select(table)).mappings()}


def written(db: Connection, table: Any, change: Callable[[], object]) -> dict[Any, dict[str, Any]]:
    """Row -> column -> new value, of all that the change made different."""
    before = rows(db, table)
    change()
    after = rows(db, table)
    assert before.keys() == after.keys()
    found = {key: {name: value for name, value in after[key].items() if value != before[key][name]} for key in after}
    return {key: columns for key, columns in found.items() if columns}


def put(db: Connection, state: JobState, **values: Any) -> None:
    """Both jobs stand there."""
    db.execute(update(t.jobs).values(**{**BEFORE, "state": state.value, **values}))


def mine(job_id: str) -> ColumnElement[bool]:
    return transitions.in_hand(job_id, TOKEN)


NEW = {"lease_token": "new", "lease_owner": "w1"}
WRITES: dict[str, tuple[JobState, Move, dict[str, Any]]] = {
    "take": (
        JOB.PENDING, lambda db, job: transitions.take(db, t.jobs.c.id == job, NEW),
        {"state": "running", "attempts": 3, **NEW},
    ),
    "hand over": (
        JOB.RUNNING, lambda db, job: transitions.hand_over(db, mine(job)),
        {"state": "delivering", "reason": "", **FREE},
    ),
    "fail": (
        JOB.RUNNING, lambda db, job: transitions.fail(db, mine(job), Failure.CRASH, "it fell", T0, crashes=2),
        {"state": "failed", "failure": "crash", "reason": "it fell", "finished_at": T0, "crashes": 2, **FREE},
    ),
    "give back": (
        JOB.RUNNING, lambda db, job: transitions.give_back(db, mine(job), to=JOB.PENDING, reason="later", not_before=9.0),
        {"state": "pending", "reason": "later", "not_before": 9.0, "sent_at": None, **FREE},
    ),
    "supersede": (
        JOB.RUNNING, lambda db, job: transitions.supersede(db, job, T0),
        {"state": "superseded", "reason": "other images of the study arrived before anything was stored", "finished_at": T0, **FREE},
    ),
    "supersede failed": (
        JOB.FAILED, lambda db, job: transitions.supersede_failed(db, job), {"state": "superseded", "failure": ""},
    ),
    "outdate": (
        JOB.PENDING, lambda db, job: transitions.outdate(db, job, T0),
        {"state": "superseded", "failure": "version", "finished_at": T0,
         "reason": "no worker has this version of the model any more: read by the newer one"},
    ),
    "cancel": (
        JOB.RUNNING, lambda db, job: transitions.cancel(db, job, "not wanted", T0),
        {"state": "cancelled", "failure": "cancelled", "reason": "not wanted", "finished_at": T0, **FREE},
    ),
    "study deleted": (
        JOB.RUNNING, lambda db, job: transitions.cancel_deleted(db, job, T0),
        {"state": "cancelled", "failure": "deleted", "reason": "the study was deleted from Orthanc", "finished_at": T0, **FREE},
    ),
    "deliver again": (
        JOB.FAILED, lambda db, job: transitions.deliver_again(db, job, "goes again"),
        {"state": "delivering", "failure": "", "reason": "goes again", "finished_at": None},
    ),
    "deliver again without a word": (
        JOB.FAILED, lambda db, job: transitions.deliver_again(db, job),
        {"state": "delivering", "failure": "", "reason": "", "finished_at": None},
    ),
    "retry": (
        JOB.FAILED, lambda db, job: transitions.retry(db, job),
        {"state": "pending", "failure": "", "reason": "tried again by a person", "crashes": 0, "not_before": 0.0,
         "sent_at": None, "finished_at": None, "verdict": None},
    ),
    "drop": (
        JOB.FAILED, lambda db, job: transitions.drop(db, job, "settled"),
        {"state": "cancelled", "failure": "dropped", "reason": "settled"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_move_of_a_job_writes_these_columns_of_this_job_and_says_that_it_did(
    db: Connection, job_id: str, name: str
) -> None:
    state, move, expected = WRITES[name]
    put(db, state)
    said: list[object] = []
    assert written(db, t.jobs, lambda: said.append(move(db, job_id))) == {job_id: expected}
    assert said == [True]
    assert written(db, t.jobs, lambda: said.append(move(db, job_id))) == {}, "the second comes too late"
    assert said == [True, False]


def test_a_job_that_is_revived_begins_anew_at_its_place_among_the_revisions(
    db: Connection, job_id: str, other_id: str
) -> None:
    put(db, JOB.SUPERSEDED)

    def revive() -> None:
        assert transitions.revive(db, job_id, revision=3, predecessor=other_id, created_at=T0)

    assert written(db, t.jobs, revive) == {
        job_id: {
            "state": "pending", "failure": "", "reason": "", "not_before": 0.0, "finished_at": None, "sent_at": None,
            "created_at": T0, "revision": 3, "predecessor": other_id,
        }
    }  # fmt: skip
    assert not transitions.revive(db, job_id, revision=4, predecessor=None, created_at=T0)


def test_a_result_that_is_taken_back_says_why_and_only_a_dead_letter_leaves_its_place(
    db: Connection, job_id: str
) -> None:
    words = {"failure": "withdrawn", "reason": "wrong patient"}
    put(db, JOB.DONE)
    assert written(db, t.jobs, lambda: transitions.withdraw(db, job_id, "wrong patient")) == {job_id: words}
    put(db, JOB.FAILED)
    changed = written(db, t.jobs, lambda: transitions.withdraw(db, job_id, "wrong patient"))
    assert changed == {job_id: {**words, "state": "cancelled"}}


def test_a_new_job_waits(db: Connection, job_id: str) -> None:
    row = {name: value for name, value in rows(db, t.jobs)[job_id].items() if name != "state"}
    transitions.add_job(db, {**row, "id": "new"})
    assert rows(db, t.jobs)["new"] == {**row, "id": "new", "state": "pending"}


# -- how a job ends


def owed(db: Connection, job_id: str, destination: str, state: DeliveryState, kind: str = "result") -> int:
    row = {**DELIVERY_BEFORE, "job_id": job_id, "destination": destination, "kind": kind, "state": state.value}
    key = db.execute(insert(t.deliveries).values(**row, created_at=T0)).inserted_primary_key
    assert key is not None
    return int(key[0])


@pytest.fixture
def bare(db: Connection) -> Connection:
    """Nothing is owed yet, and both jobs are being delivered."""
    db.execute(t.deliveries.delete())
    put(db, JOB.DELIVERING)
    return db


def test_a_job_whose_results_are_all_received_is_done(bare: Connection, job_id: str, other_id: str) -> None:
    owed(bare, job_id, "archive", OWED.DONE)
    owed(bare, job_id, "ris", OWED.CANCELLED)
    owed(bare, job_id, "fhir", OWED.PENDING, kind="withdrawal")
    owed(bare, other_id, "ris", OWED.PARKED)
    assert written(bare, t.jobs, lambda: transitions.settle(bare, job_id, T0)) == {
        job_id: {"state": "done", "finished_at": T0}
    }


def test_a_job_of_which_something_is_parked_fails_by_the_first_that_was(bare: Connection, job_id: str) -> None:
    owed(bare, job_id, "ris", OWED.DONE)
    first = owed(bare, job_id, "pacs", OWED.PARKED)
    bare.execute(update(t.deliveries).where(t.deliveries.c.id == first).values(error="refused: 0xA700"))
    owed(bare, job_id, "fhir", OWED.PARKED)
    assert written(bare, t.jobs, lambda: transitions.settle(bare, job_id, T0)) == {
        job_id: {"state": "failed", "failure": "delivery", "reason": "pacs: refused: 0xA700", "finished_at": T0}
    }


def test_a_job_of_which_something_still_waits_stays_as_it_is(bare: Connection, job_id: str) -> None:
    owed(bare, job_id, "pacs", OWED.PARKED)
    owed(bare, job_id, "ris", OWED.PENDING)
    said: list[object] = []
    assert written(bare, t.jobs, lambda: said.append(transitions.settle(bare, job_id, T0))) == {}
    assert said == [JOB.DELIVERING]


def test_what_the_archive_has_the_ledger_keeps_no_longer(db: Connection, job_id: str, other_id: str) -> None:
    for number, owner in enumerate((job_id, other_id)):
        row = {"job_id": owner, "kind": "sr", "sop_uid": f"9.{number}", "series_uid": "9", "orthanc_id": f"sr-{number}"}
        db.execute(insert(t.result_objects).values(**row, content=b"DICM"))
    assert written(db, t.jobs, lambda: transitions.archived_now(db, job_id, T0)) == {job_id: {"stored_at": T0}}
    kept = db.execute(select(t.result_objects.c.job_id, t.result_objects.c.content)).all()
    assert dict(tuple(row) for row in kept) == {job_id: None, other_id: b"DICM"}
    transitions.archived_now(db, job_id, T0 + 5)
    stamps = db.execute(select(t.stamps.c.name, t.stamps.c.at).where(t.stamps.c.job_id == job_id)).all()
    assert ("stored", T0) in [tuple(row) for row in stamps], "the first moment stays"


# -- deliveries

This = ColumnElement[bool]
DELIVERY_WRITES: dict[str, tuple[DeliveryState, Callable[[Connection, This], object], dict[str, Any]]] = {
    "delivered": (
        OWED.PENDING, lambda db, this: transitions.delivered(db, this, T0, "AA", refusals=0),
        {"state": "done", "done_at": T0, "receipt": "AA", "error": "", "refusals": 0},
    ),
    "park": (
        OWED.PENDING, lambda db, this: transitions.park(db, this, T0, "AR"),
        {"state": "parked", "done_at": T0, "error": "AR"},
    ),
    "unpark": (
        OWED.PARKED, lambda db, this: transitions.unpark(db, this),
        {"state": "pending", "next_try_at": 0.0, "refusals": 0, "done_at": None},
    ),
    "drop": (
        OWED.PARKED, lambda db, this: transitions.drop_delivery(db, this, "by hand"),
        {"state": "dropped", "receipt": "by hand"},
    ),
    "call off": (
        OWED.PARKED, lambda db, this: transitions.call_off(db, this, "taken back", now=T0),
        {"state": "cancelled", "error": "taken back", "done_at": T0},
    ),
    "call off without a moment": (
        OWED.PENDING, lambda db, this: transitions.call_off(db, this, "taken back"),
        {"state": "cancelled", "error": "taken back"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DELIVERY_WRITES)
def test_a_move_of_a_delivery_writes_these_columns_of_this_delivery_and_says_that_it_did(
    bare: Connection, job_id: str, name: str
) -> None:
    state, move, expected = DELIVERY_WRITES[name]
    number, _ = owed(bare, job_id, "ris", state), owed(bare, job_id, "fhir", state)
    said: list[object] = []

    def change() -> None:
        said.append(move(bare, t.deliveries.c.id == number))

    assert written(bare, t.deliveries, change) == {number: expected}
    assert written(bare, t.deliveries, change) == {}, "the second comes too late"
    assert said == [True, False], "or 1 and 0"


def test_only_what_is_named_is_called_off(bare: Connection, job_id: str) -> None:
    waits, parked = owed(bare, job_id, "ris", OWED.PENDING), owed(bare, job_id, "fhir", OWED.PARKED)
    this = t.deliveries.c.job_id == job_id
    assert transitions.call_off(bare, this, "", since=(OWED.PARKED,)) == 1
    assert {key: row["state"] for key, row in rows(bare, t.deliveries).items()} == {
        waits: "pending", parked: "cancelled",
    }  # fmt: skip
    assert transitions.call_off(bare, this, "") == 1


def test_several_that_one_answer_receives_are_delivered_together(bare: Connection, job_id: str) -> None:
    for name in ("ris", "fhir"):
        owed(bare, job_id, name, OWED.PENDING)
    assert transitions.delivered(bare, t.deliveries.c.job_id == job_id, T0, "AA")


def test_what_is_owed_waits_from_the_start(bare: Connection, job_id: str) -> None:
    transitions.owe(bare, {"job_id": job_id, "destination": "ris", "control_id": "C1"})
    (row,) = rows(bare, t.deliveries).values()
    assert (row["state"], row["destination"], row["control_id"]) == ("pending", "ris", "C1")


# -- messages of the table


def test_a_forbidden_move_is_named(db: Connection, job_id: str) -> None:
    everywhere = t.jobs.c.id == job_id
    with pytest.raises(ValueError, match="^no job goes from done to running$"):
        transitions.move_jobs(db, JOB.RUNNING, since=(JOB.PENDING, JOB.DONE, JOB.FAILED), where=everywhere, values={})
    with pytest.raises(ValueError, match="^no delivery goes from done to pending$"):
        transitions.move_deliveries(
            db, OWED.PENDING, since=(OWED.PARKED, OWED.DONE), where=t.deliveries.c.job_id == job_id, values={}
        )


def test_a_failure_after_which_the_next_reading_starts_afresh_says_why() -> None:
    assert transitions.GONE == {
        "deleted": "the study had been deleted and is back",
        "withdrawn": "the previous result was withdrawn by a person",
    }
