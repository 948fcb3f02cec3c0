"""Held orders as people are told of them: which order, which study, and what differs; not what either says.

Next: ledger/held_orders.py (where a decision goes).
"""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

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


class Holds(Protocol):
    """Whoever has the held orders."""

    held: HeldOrders


def waiting(ledger: Holds, *, limit: int = 1000) -> list[HeldOrderEntry]:
    """Those that wait for a person, oldest first."""
    return [
        HeldOrderEntry(
            id=each.id, study_id=each.study_id, placer=each.placer, accession=each.accession, differs=each.differs,
            seen_at=each.seen_at,
        )
        for each in ledger.held.waiting(limit=limit)
    ]  # fmt: skip
