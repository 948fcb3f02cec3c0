"""A patient of whom the ledger holds something in every table that can, beside another patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as replace

import edit_rows
from ledger_cases import T0, acknowledge, arrive, make, said, seen
from sqlalchemy import select

from medai.router.announcements.read import Notice, Series
from medai.router.contract import Decision, Order, Verdict, orthanc_id
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Claim, Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.claims import Owed, ResultObject

PLANTED = ("PAT4711", "PAT0815", "Quiller", "1.2.77", "ACC77", "PLACER77")
"""Of the patient: identifiers, name, UIDs and numbers."""


def adt(patient_id: str, *, prior_id: str = "", name: str = "", issuer: str = "H") -> PatientMessage:
    return PatientMessage(
        control_id="C", sender=("RIS", "H"), kind="merge" if prior_id else "update", patient_id=patient_id,
        patient_id_authority=issuer, prior_id=prior_id, prior_id_authority=issuer if prior_id else "",
        patient_name=name, birth_date="", sex="", digest=f"{patient_id}{prior_id}{name}", sent_at=T0,
    )  # fmt: skip


def order(ledger: Ledger, patient_id: str, number: str, *, issuer: str = "H", **changes: str) -> None:
    new = Order(
        placer=f"PLACER{number}", accession=f"ACC{number}", patient_id=patient_id, patient_id_authority=issuer,
        patient_identifiers=(f"{patient_id}^^^{issuer}^MR",), patient_name="Quiller^Ann",
    )  # fmt: skip
    ledger.orders.take([said(replace(new, **changes), digest=number)], T0)  # type: ignore[arg-type]


def keep(ledger: Ledger, job_id: str, patient_id: str) -> Claim:
    """A result that is in the archive, and whose message waits for the RIS."""
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0)
    assert claim is not None
    name = "Roe^Joan" if patient_id == "PAT99" else "Quiller^Ann"
    head = "MSH|^~\\&|MEDAI|AI|RIS|H|20260101000000+0000||ORU^R01^ORU_R01|C1|P|2.5.1"
    text = f"{head}\rPID|1||{patient_id}^^^H^MR||{name}\r".encode()
    item = ResultObject(kind="sr", sop_uid=f"{job_id}.1", series_uid="9", orthanc_id=f"sr-{job_id}", content=b"DICM")
    owed = [Owed(destination="archive"), Owed(destination="ris", control_id="C1", payload=text)]
    ledger.claims.keep(job_id, claim.token, objects=[item], measurements=[], warnings=[], now=T0 + 1, deliveries=owed)
    ledger.claims.hand_over(job_id, claim.token, T0 + 1, archived=True)
    return claim


def read(
    ledger: Ledger, patient_id: str, uid: str, *, answer: str = "", until: Callable[[str], object] | None = None
) -> str:  # fmt: skip
    """A study of the patient that was read; ``until`` ends it half way, given its job."""
    study = replace(seen(uid=uid), orthanc_id=orthanc_id(patient_id, uid), accession=f"ACC{uid.rpartition('.')[2]}")
    row = arrive(ledger, study)
    job_id, _ = make(ledger, row, sources=uid)
    if until is not None:
        until(job_id)
        return str(job_id)
    acknowledge(ledger, keep(ledger, job_id, patient_id), T0 + 2)
    ledger.studies.set_due(row.id, None)
    ledger.studies.record(row.id, [Decision(verdict=Verdict.ROUTE, reason="because")], T0, outcome=uid)
    if answer:
        edit = replace(edit_rows.edit_of(job_id, uid), study_orthanc_id=study.orthanc_id)
        assert edit_rows.see(ledger, edit)
        (edit_id,) = [each.id for each in ledger.edits.unsent(T0 + 10, resend_before=0.0)]
        taken = ledger.edits.claim(edit_id, T0 + 10)
        assert taken is not None
        assert ledger.edits.compared(taken, job_id, [edit_rows.brain(0.9)], T0 + 11)
        ledger.surveys.answer_usefulness("ana", job_id, {"correct": 4}, answer, T0)
    return str(job_id)


def patient(ledger: Ledger) -> None:
    """PAT4711, who was PAT0815 once, with two studies; and PAT99, who has one of everything, too."""
    for name, other, number in (("PAT4711", "PAT0815", "77"), ("PAT99", "PAT98", "55")):
        order(ledger, name, number, patient_name="Quiller^Ann" if number == "77" else "Roe^Joan")
        doubt = Doubt(key=number, placer=f"PLACER{number}", accession=f"ACC{number}", differs=("name",))
        assert not ledger.held.released(f"1.2.{number}", doubt, T0)
        read(ledger, name, f"1.2.{number}", answer="Mrs Quiller again" if number == "77" else "fine")
        ledger.identities.patient_changed([adt(name, name="Quiller^Ann" if number == "77" else "Roe^Joan")], T0)
        ledger.identities.patient_changed([adt(name, prior_id=other)], T0)
        assert ledger.identities.patient_changed([adt("PAT1", name="Else^Al", prior_id=name)], T0).held == 1
        there = (Series(uid=f"1.2.{number}.5", instances=("6",)),)
        notice = Notice(uid=f"1.2.{number}.9", study=f"1.2.{number}", online=there, away=())
        ledger.announcements.notice(notice, T0, keep_s=1e9)
        item = {
            "uid": f"1.2.{number}.8",
            "lock_uid": "1.9",
            "study_uid": f"1.2.{number}",
            "route": "brain",
            "codes": [],
        }
        with ledger.begin() as db:
            db.execute(t.workitems.insert().values(**item, state="completed", seen_at=T0, ended_at=T0))
    read(ledger, "PAT0815", "1.2.77.2")


def tables(ledger: Ledger, *, but: tuple[str, ...] = ("audit",)) -> str:
    """All that is in the ledger, as text."""
    with ledger.begin(reads_only=True) as db:
        return "\n".join(
            f"{name} {tuple(row)}" for name, table in t.metadata.tables.items() if name not in but
            for row in db.execute(select(table))
        )  # fmt: skip
