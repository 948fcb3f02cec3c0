"""The way back of a reading outside: kept before anything leaves, the same again, gone with the reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, make, seen
from sqlalchemy import delete, select

from medai.router.ledger import Ledger
from medai.router.ledger import schema as t


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.migrate()
    yield made
    made.close()


def test_it_is_kept_once_however_often_it_is_begun(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    assert ledger.outside.exchange(job_id) is None
    for _ in range(2):
        ledger.outside.begin(job_id, "2.25.1", {"2.25.1": "1.2.3", "2.25.2": "1.2.3.1"})
    found = ledger.outside.exchange(job_id)
    assert found is not None
    assert (found.study_uid, found.sent_at, found.seen) == ("2.25.1", None, "")
    assert ledger.outside.originals(job_id) == {"2.25.1": "1.2.3", "2.25.2": "1.2.3.1"}
    assert ledger.outside.key() == ledger.outside.key()


def test_that_it_left_is_in_the_audit_trail(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    ledger.outside.begin(job_id, "2.25.1", {})
    ledger.outside.sent(job_id, "theirs", T0)
    ledger.outside.saw(job_id, "digest")
    found = ledger.outside.exchange(job_id)
    assert found is not None
    assert (found.sent_at, found.seen) == (T0, "digest")
    with ledger.begin(reads_only=True) as db:
        (line,) = db.execute(select(t.audit).where(t.audit.c.action == "sent outside")).mappings()
    assert (line["job_id"], line["detail"]) == (job_id, "theirs")
    assert not ledger.verify_audit().faults


def test_it_goes_with_its_reading(ledger: Ledger) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    ledger.outside.begin(job_id, "2.25.1", {"2.25.1": "1.2.3"})
    with ledger.begin() as db:
        db.execute(delete(t.decisions))
        db.execute(delete(t.jobs).where(t.jobs.c.id == job_id))
    assert ledger.outside.exchange(job_id) is None
    assert not ledger.outside.originals(job_id)
