"""What waits for a person, as people are told of it: which order and study, which identifiers, and what differs.

Next: ledger/held_orders.py, ledger/held_merges.py (where a decision goes).
"""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from medai.router.ledger.held_merges import HeldMerges
from medai.router.ledger.held_orders import HeldOrders
from medai.router.reports.report import Report


class HeldOrderEntry(Report):
    """An order that says otherwise of the patient than the images it names."""

    id: int
    study_id: int | None = Field(description="The study's number in the ledger.")
    placer: str = Field(description="The order's placer number, else its filler number.")
    accession: str
    differs: tuple[str, ...] = Field(description="What differs: identifier, name, birth date, sex.")
    seen_at: float


class HeldMergeEntry(Report):
    """A merge of patients that contradicts what is known of them."""

    id: int
    prior_id: str = Field(description="The identifier that is to be given up (MRG-1).")
    patient_id: str = Field(description="The identifier whose patient it is to be (PID-3).")
    differs: tuple[str, ...] = Field(
        description="What speaks against it: name, birth date, sex; nothing in common; circle; merged before."
    )
    seen_at: float


class Holds(Protocol):
    """Whoever has what is held."""

    held: HeldOrders
    held_merges: HeldMerges


def waiting(ledger: Holds, *, limit: int = 1000) -> list[HeldOrderEntry]:
    """Those that wait for a person, oldest first."""
    return [
        HeldOrderEntry(
            id=each.id, study_id=each.study_id, placer=each.placer, accession=each.accession, differs=each.differs,
            seen_at=each.seen_at,
        )
        for each in ledger.held.waiting(limit=limit)
    ]  # fmt: skip


def waiting_merges(ledger: Holds, *, limit: int = 1000) -> list[HeldMergeEntry]:
    """Merges that wait for a person, oldest first."""
    return [
        HeldMergeEntry(
            id=each.id, prior_id=each.prior_id, patient_id=each.patient_id, differs=each.differs, seen_at=each.seen_at
        )
        for each in ledger.held_merges.waiting(limit=limit)
    ]
