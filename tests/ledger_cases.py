"""A study and a job for tests of the ledger, on whatever database the test uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from router.contract import Decision, JobId, Priority
from router.ledger import Claim, Ledger, NewJob
from router.studies import SeriesSeen, StudySeen

T0 = 1_800_000_000.0


def seen(
    *, images: int = 50, uid: str = "1.2.3", update: str = "u1", expected: dict[str, int] | None = None
) -> StudySeen:
    """A study with one series, as the router reads it from Orthanc."""
    series = SeriesSeen(orthanc_id=f"s-{uid}", series_uid=f"{uid}.1", instances=images, expected=expected or {})
    return StudySeen(
        study_uid=uid, orthanc_id=f"o-{uid}", accession=f"A{uid}", modality="MR", expected={}, series=(series,),
        archive_update=update, acquired_at=T0 - 600,
    )  # fmt: skip


def arrive(ledger: Ledger, study: StudySeen, at: float = T0) -> dict[str, Any]:
    """Record a study and return its row."""
    with ledger.begin() as db:
        ledger.see_study(study, at=at, due_at=at, db=db)
    row = ledger.study_row(study.orthanc_id)
    assert row is not None
    return row


def wanted(row: dict[str, Any], *, sources: str = "hash-1", count: int = 50, **changes: Any) -> NewJob:
    """A reading of a study."""
    new = NewJob(
        study_id=row["id"], study_uid=row["study_uid"], route="brain", slot="", model="mr_brain", model_version="1",
        modality="MR", series=("s",), sources_hash=sources, sources_count=count, queue="cpu",
        priority=Priority.ROUTINE, destinations=("archive", "ris"), quiet_s=3.0,
    )  # fmt: skip
    return replace(new, **changes)


def make(ledger: Ledger, row: dict[str, Any], at: float = T0, **changes: Any) -> tuple[JobId, Decision]:
    """Create the job of a reading."""
    return ledger.create_job(wanted(row, **changes), study=row, reason="because", now=at)


def store(ledger: Ledger, claim: Claim, at: float = T0 + 1, *, verdict: str = "plausible") -> None:
    """Record that a claimed job's objects are in the archive."""
    job_id = claim.job.job_id
    item = {"kind": "sr", "sop_uid": "9.1", "series_uid": "9", "orthanc_id": f"sr-{job_id}"}
    ledger.begin_storing(job_id, claim.token, [item], at)
    ledger.end_storing(
        job_id, claim.token, results={"sr": item}, measurements=[], warnings=[],
        deliveries=[{"destination": "ris", "control_id": "C1", "payload": b"MSH|"}], now=at,
        plausibility={"verdict": verdict, "summary": "1 of 1 checks passed", "checks": []},
    )  # fmt: skip
