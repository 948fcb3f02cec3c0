"""A reading that ends as a test wants it to, and what is told of it."""

from __future__ import annotations

from typing import Any

from ledger_cases import acknowledge, store

from medai.router.contract import Failure, JobId, JobState
from medai.router.ledger import Ledger
from medai.router.reports.report import Report


def told(report: Report) -> dict[str, Any]:
    """A report as ``--json`` shows it."""
    return report.model_dump(mode="json", by_alias=True)


def read(ledger: Ledger, job_id: JobId, state: JobState, *, at: float) -> None:
    """Claim a job and end it; a job that is done also stores its results."""
    claim = ledger.claims.take(job_id, worker="w", lease_s=100, now=at)
    assert claim is not None
    if state is JobState.DONE:
        store(ledger, claim, at + 1)
        acknowledge(ledger, claim, at + 2)
    else:
        ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "because", at + 3)
