"""A study and a job for tests of the ledger, on whatever database the test uses."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from medai.router.contract import Decision, JobId, Order, Priority
from medai.router.hl7.orders_in import Action, OrderMessage
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Claim, Ledger, NewJob
from medai.router.ledger.claims import Owed, ResultObject
from medai.router.ledger.deliveries import Delivery
from medai.router.ledger.rows import StudyRow
from medai.router.ledger.studies import KnownStudy, SeriesSeen, StudySeen

T0 = 1_800_000_000.0
MERGE = PatientMessage(
    control_id="M1", sender=("RIS", "H"), kind="merge", patient_id="B", patient_id_authority="H", prior_id="A",
    prior_id_authority="H", patient_name="Moss^Jane", birth_date="19700101", sex="F", digest="a merge", sent_at=T0,
)  # fmt: skip


def seen(
    *, images: int = 50, uid: str = "1.2.3", update: str = "u1", expected: dict[str, int] | None = None
) -> StudySeen:
    """A study with one series, as the router reads it from Orthanc."""
    series = SeriesSeen(orthanc_id=f"s-{uid}", series_uid=f"{uid}.1", instances=images, expected=expected or {})
    return StudySeen(
        study_uid=uid, orthanc_id=f"o-{uid}", accession=f"A{uid}", modality="MR", expected={}, series=(series,),
        archive_update=update, acquired_at=T0 - 600,
    )  # fmt: skip


def arrive(ledger: Ledger, study: StudySeen, at: float = T0) -> KnownStudy:
    """Record a study and return its row."""
    with ledger.begin() as db:
        ledger.studies.see(study, at=at, due_at=at, db=db)
    row = ledger.studies.find(study.orthanc_id)
    assert row is not None
    return row


def wanted(row: StudyRow, *, sources: str = "hash-1", count: int = 50, **changes: Any) -> NewJob:
    """A reading of a study."""
    new = NewJob(
        study_id=row.id, study_uid=row.study_uid, route="brain", slot="", model="mr_brain", model_version="1",
        modality="MR", series=("s",), sources_hash=sources, sources_count=count, queue="cpu",
        priority=Priority.ROUTINE, destinations=("archive", "ris"), quiet_s=3.0,
    )  # fmt: skip
    return replace(new, **changes)


def make(ledger: Ledger, row: StudyRow, at: float = T0, **changes: Any) -> tuple[JobId, Decision]:
    """Create the job of a reading."""
    return ledger.jobs.create(wanted(row, **changes), study=row, reason="because", now=at)


def store(ledger: Ledger, claim: Claim, at: float = T0 + 1, *, verdict: str = "plausible") -> None:
    """Keep a claimed job's result, store it in the archive and leave its ORU to the courier."""
    keep(ledger, claim, at, verdict=verdict)
    ledger.claims.hand_over(claim.job.job_id, claim.token, at, archived=True)


def keep(
    ledger: Ledger, claim: Claim, at: float = T0 + 1, *, verdict: str = "plausible", destinations: tuple[str, ...] = ()
) -> None:
    """Keep a claimed job's result in the ledger, with an ORU and what else is owed."""
    job_id = claim.job.job_id
    item = ResultObject(kind="sr", sop_uid="9.1", series_uid="9", orthanc_id=f"sr-{job_id}", content=b"DICM" * 50)
    owed = [Owed(destination=name) for name in ("archive", *destinations)]
    ledger.claims.keep(
        job_id, claim.token, objects=[item], measurements=[], warnings=[], now=at,
        deliveries=[*owed, Owed(destination="ris", control_id="C1", payload=b"MSH|")],
        plausibility={"verdict": verdict, "summary": "1 of 1 checks passed", "checks": []},
    )  # fmt: skip


def due(ledger: Ledger, destination: str, at: float = T0 + 5) -> list[Delivery]:
    """What may go to a destination now."""
    return ledger.deliveries.due(destination, at, longest_s=30.0)


def acknowledge(ledger: Ledger, claim: Claim, at: float) -> None:
    """The RIS took the job's ORU."""
    (owed,) = [item for item in due(ledger, "ris", at) if item.job_id == claim.job.job_id]
    assert ledger.deliveries.begin_try(owed, at)
    ledger.deliveries.delivered(owed, "AA", at)


def said(
    order: Order,
    action: Action = Action.NEW,
    *,
    digest: str = "M1",
    sent_at: float | None = None,
    sequence: int | None = None,
) -> OrderMessage:
    """An order as a message says it that speaks of all that it holds."""
    empty = Order(placer="")
    carries = frozenset(each.name for each in fields(Order) if getattr(order, each.name) != getattr(empty, each.name))
    return OrderMessage(
        control_id=digest, sender=("RIS", "H"), action=action, order=order, carries=carries, digest=digest,
        sent_at=sent_at, sequence=sequence,
    )  # fmt: skip
