"""The surveys in the console: a form for each reading, the System Usability Scale, what both came to, and exports.

Whoever may look may answer, and sees their own answers. Figures and exports are for operators; the names behind the
numbers are for administrators, and asking for them is written down. Next: router/ledger/surveys.py,
reports/survey_summary.py, reports/survey_csv.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import Field

from medai.router.console.api import REFUSALS, JobName, ledger_of, now_of
from medai.router.console.auth import Operator, Reader, require
from medai.router.console.pages import Someone, render
from medai.router.console.requests import Body
from medai.router.console.survey_responses import OwnSus, OwnUsefulness, Score
from medai.router.ledger.accounts import Account, Role
from medai.router.ledger.surveys import COMMENT_MAX, SUS, USEFULNESS
from medai.router.reports import survey_csv, survey_summary
from medai.router.reports.survey_summary import SurveySummary

survey_api = APIRouter(prefix="/api/surveys", tags=["surveys"], responses=REFUSALS, dependencies=[Depends(require())])
survey_pages = APIRouter(include_in_schema=False)

Likert = Annotated[int, Field(ge=1, le=5, strict=True)]
Names = Annotated[bool, Query(description="Accounts beside the readers' numbers: for administrators, and recorded.")]


class Usefulness(Body):
    """What somebody says of one reading; null: can't say."""

    correct: Likert | None = Field(default=None, description=USEFULNESS[0].text)
    time: Likert | None = Field(default=None, description=USEFULNESS[1].text)
    changed: Likert | None = Field(default=None, description=USEFULNESS[2].text)
    contours: Likert | None = Field(default=None, description=USEFULNESS[3].text)
    again: Likert | None = Field(default=None, description=USEFULNESS[4].text)
    comment: str = Field(default="", max_length=COMMENT_MAX, description="No patient data.")


class Usability(Body):
    """The System Usability Scale: 1 strongly disagree, 5 strongly agree; 3 where one can't say."""

    q1: Likert = Field(description=SUS[0].text)
    q2: Likert = Field(description=SUS[1].text)
    q3: Likert = Field(description=SUS[2].text)
    q4: Likert = Field(description=SUS[3].text)
    q5: Likert = Field(description=SUS[4].text)
    q6: Likert = Field(description=SUS[5].text)
    q7: Likert = Field(description=SUS[6].text)
    q8: Likert = Field(description=SUS[7].text)
    q9: Likert = Field(description=SUS[8].text)
    q10: Likert = Field(description=SUS[9].text)


# -- answer


@survey_api.post("/usefulness/{job_id}", status_code=204)
def answer_usefulness(job_id: JobName, body: Usefulness, who: Reader, request: Request) -> None:
    """Say how useful a reading was; replaces what this account said of it before."""
    answers = body.model_dump(exclude={"comment"})
    ledger_of(request).surveys.answer_usefulness(who.name, job_id, answers, body.comment, now_of(request))


@survey_api.get("/usefulness/{job_id}")
def my_usefulness(job_id: JobName, who: Reader, request: Request) -> OwnUsefulness:
    """What this account said of a reading; 404 where it said nothing."""
    found = ledger_of(request).surveys.usefulness_of(who.name, job_id)
    if found is None:
        raise HTTPException(404, "you have not answered for this reading")
    return OwnUsefulness.model_validate(found, from_attributes=True)


@survey_api.post("/sus", status_code=201)
def answer_sus(body: Usability, who: Reader, request: Request) -> Score:
    """Answer the System Usability Scale; earlier answers are kept, the newest counts."""
    answers = [getattr(body, question.key) for question in SUS]
    return Score(score=ledger_of(request).surveys.answer_sus(who.name, answers, now_of(request)))


@survey_api.get("/sus")
def my_sus(who: Reader, request: Request) -> list[OwnSus]:
    """This account's answers to the System Usability Scale, newest first."""
    answers = ledger_of(request).surveys.sus_answers(account=who.name)
    return [OwnSus.model_validate(row, from_attributes=True) for row in answers]


# -- what they came to


@survey_api.get("/summary")
def summary(_who: Operator, request: Request) -> SurveySummary:
    """Both surveys: usefulness by model and route, usability of each account's newest answer, with 95% intervals."""
    return survey_summary.summary(ledger_of(request))


@survey_api.get("/usefulness.csv", response_class=StreamingResponse)
def export_usefulness(who: Operator, request: Request, names: Names = False) -> StreamingResponse:
    """Every answer about a reading, as CSV."""
    return _export(request, who, "usefulness", names=names)


@survey_api.get("/sus.csv", response_class=StreamingResponse)
def export_sus(who: Operator, request: Request, names: Names = False) -> StreamingResponse:
    """Every answer to the System Usability Scale, as CSV."""
    return _export(request, who, "sus", names=names)


def _export(request: Request, who: Account, what: str, *, names: bool) -> StreamingResponse:
    if names and not who.role.may(Role.ADMINISTRATOR):
        raise HTTPException(403, f"names need the role {Role.ADMINISTRATOR.value}; without names=true you get numbers")
    ledger = ledger_of(request)
    ledger.accounts.note_action(
        who.name, "survey export", now_of(request), detail=f"{what}, {'with' if names else 'no'} names"
    )
    return StreamingResponse(
        survey_csv.text(ledger, what, names=names), media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{what}.csv"'},
    )  # fmt: skip


# -- pages


@survey_pages.get("/readings/{job_id}/usefulness")
def usefulness_page(request: Request, job_id: JobName, who: Someone) -> HTMLResponse:
    """Five questions about one reading."""
    ledger = ledger_of(request)
    reading = ledger.surveys.reading_to_judge(job_id)
    if reading is None:
        raise HTTPException(404, "there is no such reading")
    before = ledger.surveys.usefulness_of(who.name, job_id)
    return render(
        request, "usefulness.html", who, reading=reading, before=before, questions=USEFULNESS, comment_max=COMMENT_MAX
    )


@survey_pages.get("/surveys")
def surveys_page(request: Request, who: Someone, saved: bool = False) -> HTMLResponse:
    """The System Usability Scale, one's own answers, and for operators what all came to."""
    ledger = ledger_of(request)
    return render(
        request, "surveys.html", who, statements=SUS, questions=USEFULNESS, saved=saved,
        scales=ledger.surveys.sus_answers(account=who.name), judged=ledger.surveys.usefulness_by(who.name),
        summary=survey_summary.summary(ledger) if who.role.may(Role.OPERATOR) else None,
    )  # fmt: skip
