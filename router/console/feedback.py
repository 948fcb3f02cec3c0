"""What readers made of our results: the page /agreement, and the same for programs.

Next: router/reports/agreement.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from medai.router.console.api import REFUSALS, Moment, ledger_of, now_of
from medai.router.console.auth import require
from medai.router.console.pages import Someone, render
from medai.router.ledger.edits import EditState
from medai.router.reports import agreement
from medai.router.reports.agreement import EditEntry, ModelAgreement
from medai.router.reports.report import Report

feedback_api = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(require())], tags=["feedback"])
feedback_pages = APIRouter(include_in_schema=False)
DAYS = {"7": "last week", "30": "last 30 days", "365": "last year", "": "any time"}


class EditPage(Report):
    """Edits, newest first."""

    edits: tuple[EditEntry, ...]
    next: int | None = Field(description="Give this as after for the next page; null: this is the last one.")


@feedback_api.get("/edits")
def edits(
    request: Request,
    state: EditState | None = None,
    model: Annotated[str, Query(max_length=64)] = "",
    since: Moment = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> EditPage:
    """The SEG and SR that readers stored on what was read, newest first, each with its comparisons with ours."""
    found = agreement.edits(
        ledger_of(request), state=state, model=model or None, since=since, after=after, limit=limit + 1
    )
    return EditPage(edits=tuple(found[:limit]), next=found[limit - 1].id if len(found) > limit else None)


@feedback_api.get("/models/agreement")
def models_agreement(request: Request, since: Moment = None) -> list[ModelAgreement]:
    """For each model how often readers edited its results, and for each structure how far from ours they are."""
    return agreement.agreement(ledger_of(request), since)


@feedback_pages.get("/agreement")
def agreement_page(request: Request, who: Someone, days: str = "") -> HTMLResponse:
    """How far readers' drawings are from ours, by model and structure."""
    days = days if days in DAYS else ""
    since = now_of(request) - float(days) * 86_400.0 if days else None
    found = agreement.agreement(ledger_of(request), since)
    return render(request, "agreement.html", who, models=found, days=days, spans=DAYS)
