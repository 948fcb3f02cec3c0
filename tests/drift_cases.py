"""A model with a reference of its training set, and readings of it, for the tests of drift."""

from __future__ import annotations

from typing import Any

from ledger_cases import T0, arrive, make, seen

from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced, OwnCard

REFERENCE: dict[str, Any] = {
    "form": 1, "dataset": "heads", "cases": 40, "notes": ["Crops."], "kinds": {},
    "quantities": {"output.1.volume_ml": {
        "title": "Hippocampus: volume", "unit": "ml", "n": 40, "edges": [2.0, 3.0], "counts": [10, 20, 10],
        "quantiles": [1.5, 2.0, 2.5, 3.0, 3.5],
    }},
}  # fmt: skip


def announce(ledger: Ledger, **own: Any) -> None:
    """A worker tells of mr_brain, with this card."""
    told = {
        "text": "# Card\n\n<script>alert(1)</script>",
        "figures": "| Dice |\n|---|\n| 0.9 |",
        "reference": REFERENCE,
        "missing": "",
    }
    card = OwnCard(**{**told, **own})
    model = Announced(name="mr_brain", version="1", available=True, reason="", own=card)
    ledger.fleet.announce([model], T0)


def read(ledger: Ledger, number: int, volume_ml: float) -> None:
    """One reading of mr_brain that found so much."""
    job_id = make(ledger, arrive(ledger, seen(uid=f"1.2.{number}")), at=T0)[0]
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    ledger.claims.keep(
        job_id, claim.token, objects=[], measurements=[], warnings=[], deliveries=[], now=T0 + 2,
        figures={"output.1.volume_ml": volume_ml, "input.manufacturer": "Test"},
    )  # fmt: skip
