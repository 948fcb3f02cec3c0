"""The rows that the ledger gives out hold every column of their tables, and nothing else."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import arrive, make, seen
from sqlalchemy import Table, select

from medai.router.ledger import Ledger, rows
from medai.router.ledger import schema as t


@pytest.mark.parametrize(
    ("row", "table"), [(rows.StudyRow, t.studies), (rows.SeriesRow, t.series), (rows.JobRow, t.jobs)]
)
def test_a_row_has_the_columns_of_its_table(row: Any, table: Table) -> None:
    assert [field.name for field in fields(row)] == [column.name for column in table.columns]


def test_a_row_can_not_be_written_to(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    study = arrive(ledger, seen())
    job_id, _ = make(ledger, study)
    with ledger.begin(reads_only=True) as db:
        job = rows.job(db, job_id)
        assert job is not None
        assert rows.job(db, "another") is None
        assert rows.study(db, study.id).study_uid == study.study_uid
        assert rows.first(db, select(t.studies).where(t.studies.c.id == 0), rows.StudyRow) is None
    with pytest.raises(FrozenInstanceError):
        job.state = "done"  # type: ignore[misc]  # that is the matter
    ledger.close()
