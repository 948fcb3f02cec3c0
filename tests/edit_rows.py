"""Rows of what readers made of our results, for tests of the ledger and of what reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ledger_cases import T0, acknowledge, arrive, make, seen, store

from medai.router.ledger import Ledger
from medai.router.ledger.edits import Compared, EditSeen


def read(ledger: Ledger, uid: str = "1.2.3", *, model: str = "mr_brain", at: float = T0) -> str:
    """A reading that is done; returns its job."""
    row = arrive(ledger, seen(uid=uid), at)
    job_id, _ = make(ledger, row, at, model=model, route=model, series=(f"s-{uid}",), sources=f"{uid}-{model}")
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=at + 1)
    assert claim is not None
    store(ledger, claim, at + 2)
    acknowledge(ledger, claim, at + 3)
    return str(job_id)


def edit_of(job_id: str, uid: str = "1.2.3", *, number: int = 1, kind: str = "seg") -> EditSeen:
    """What the router sees of a reader's object."""
    return EditSeen(
        study_orthanc_id=f"o-{uid}", job_id=job_id, orthanc_id=f"{kind}-{uid}-{number}", series_uid=f"{uid}.50",
        sop_uid=f"{uid}.50.{number}", kind=kind, named=False, digest="d1", tool="Reading Room Tools Contour Desk",
    )  # fmt: skip


def see(ledger: Ledger, edit: EditSeen, at: float = T0 + 10, **changes: str) -> bool:
    """Record it."""
    with ledger.begin() as db:
        return ledger.edits.see(replace(edit, **changes), at, db)  # type: ignore[arg-type]


def brain(dice: float | None, ours: float = 1000.0, theirs: float = 1100.0) -> Compared:
    """A structure of both sides."""
    return Compared(structure="Brain", outcome="matched", ours=ours, theirs=theirs, dice=dice, segment=1)


def compared(
    ledger: Ledger,
    job_id: str,
    rows: Sequence[Compared],
    uid: str = "1.2.3",
    *,
    number: int = 1,
    kind: str = "seg",
    at: float = T0 + 10,
    verdict: str = "",
) -> int:
    """A reader's object that was compared; returns its number."""
    assert see(ledger, edit_of(job_id, uid, number=number, kind=kind), at)
    (edit_id,) = [row.id for row in ledger.edits.unsent(at, resend_before=0.0)]
    claim = ledger.edits.claim(edit_id, at)
    assert claim is not None
    assert ledger.edits.compared(claim, job_id, rows, at + 1, verdict=verdict)
    return int(edit_id)
