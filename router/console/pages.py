"""The console's pages: made here from the ledger, kept fresh and acted on by static/console.js through the API.

No page holds a patient's name: it is asked for, and the asking is written down. Next: api.py, router/waterfall.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from medai.router.console.api import (
    Behind,
    JobName,
    StudyNumber,
    ledger_of,
    now_of,
    now_page_of,
    settings_of,
    tally_of,
)
from medai.router.console.api import key_image as key_image_of
from medai.router.console.auth import account_of
from medai.router.console.looks import looked
from medai.router.console.permissions import needed_by_page
from medai.router.console.requests import NO_NUL
from medai.router.contract import JobState, Priority
from medai.router.ledger.accounts import Account, Role
from medai.router.reports import held, search
from medai.router.reports.status import known_models
from medai.router.reports.story import actions, story
from medai.router.waterfall import bars
from medai.router.words import ago, clock, counted, lasted

FOLDER = Path(__file__).parent
pages = APIRouter(include_in_schema=False)
_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"), autoescape=select_autoescape(), undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
OWN_PAGE = re.compile(r"/(?:[A-Za-z0-9?][A-Za-z0-9/_.~%?&=+:,-]*)?")
"""An address that a browser takes for one of this console: browsers read "//", a backslash or a tab after the first
stroke as the beginning of another site."""
PAGE_SIZE = 50
HOURS = {"1": "last hour", "24": "last day", "168": "last week", "": "any time"}


class LoginFirst(Exception):
    """A page was asked for by nobody that is known."""


def to_login(request: Request, _error: Exception) -> Response:
    """Where to log in, and then back."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(here)}", status_code=303)


def someone(request: Request) -> Account:
    """Who looks, if they may by the table (permissions.py); LoginFirst for nobody."""
    account = account_of(request)
    if account is None:
        raise LoginFirst
    least = needed_by_page(request.scope["route"].path_format)
    if least is None:
        raise HTTPException(403, "no role may see this page")
    if not account.role.may(least):
        raise HTTPException(403, f"this needs the role {least.value}; yours is {account.role.value}")
    return account


Someone = Annotated[Account, Depends(someone)]


def render(request: Request, name: str, who: Account | None, **content: Any) -> HTMLResponse:
    """A page of the templates."""
    now = now_of(request)
    page = _templates.get_template(name).render(
        who=who, acts=bool(who and who.role.may(Role.OPERATOR)), admin=bool(who and who.role.may(Role.ADMINISTRATOR)),
        now=now, path=request.url.path, version=request.app.version, **content,
    )  # fmt: skip
    return HTMLResponse(page)


def fault_page(request: Request, status: int, detail: str) -> str:
    """Why a page is not there, on a page that needs nothing of the ledger."""
    return _templates.get_template("fault.html").render(
        who=None, now=0.0, path=request.url.path, version=request.app.version, status=status, detail=detail,
    )  # fmt: skip


_templates.filters.update(lasted=lasted, moment=clock, ago=ago, counted=counted)


@pages.get("/login")
def login(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002 - the name in the address
    """Name and password; then on to ``next``, if that is a page of this console."""
    return login_page(request, next if OWN_PAGE.fullmatch(next) else "/")


def login_page(request: Request, then: str, fault: str = "", status: int = 200) -> HTMLResponse:
    """The ways in, and why one of them led nowhere."""
    console = settings_of(request).console
    address = f"{console.oidc.console_url.rstrip('/')}/login/oidc?next={quote(then)}"
    oidc = {"address": address, "button": console.oidc.button} if console.oidc.is_on else None
    page = render(request, "login.html", None, then=then, fault=fault, oidc=oidc, local=console.local_accounts)
    page.status_code = status
    return page


@pages.get("/")
def now(request: Request, who: Someone) -> HTMLResponse:
    """What waits, who works, what is away."""
    content = now_page_of(request)
    letters = ledger_of(request).dead.letters(limit=20)
    peak = max([hour.studies for hour in content.arrivals] + [1])
    return render(
        request, "now.html", who, status=content, letters=letters, peak=peak, priorities=list(Priority),
        parts_up=request.app.state.peers.look(content.destinations),
    )  # fmt: skip


@pages.get("/studies")
def studies(
    request: Request,
    who: Someone,
    text: Annotated[str, Query(max_length=64, pattern=NO_NUL)] = "",
    route: Annotated[str, Query(max_length=40, pattern=NO_NUL)] = "",
    state: str = "",
    priority: str = "",
    hours: str = "",
    after: Behind = None,
) -> HTMLResponse:
    """Search, and the newest studies."""
    chosen = {"text": text, "route": route, "state": state, "priority": priority, "hours": hours}
    try:
        wanted = search.Search(
            text=text,
            route=route,
            state=JobState(state) if state else None,
            priority=Priority[priority.upper()] if priority else None,
            since=now_of(request) - float(hours) * 3600.0 if hours in HOURS and hours else None,
        )
    except (KeyError, ValueError) as error:
        raise HTTPException(422, "there is no such state or priority") from error
    looked(request, who, "studies")
    page = search.find(ledger_of(request), wanted, limit=PAGE_SIZE, after=after)
    rest = "&".join(f"{key}={quote(value)}" for key, value in chosen.items() if value)
    routes = [each.name for each in settings_of(request).routes]
    return render(
        request, "studies.html", who, page=page, chosen=chosen, rest=rest, routes=routes, hours=HOURS,
        states=[each.value for each in JobState], priorities=[each.name.lower() for each in Priority], after=after,
    )  # fmt: skip


@pages.get("/studies/{study_id}")
def study(request: Request, study_id: StudyNumber, who: Someone) -> HTMLResponse:
    """One study's journey."""
    found = story(ledger_of(request), study_id)
    if found is None:
        raise HTTPException(404, "there is no such study")
    looked(request, who, "study", study_id)
    models = [each for each in known_models(ledger_of(request)) if each.available]
    letters = [
        letter for reading in found.readings for letter in ledger_of(request).dead.letters(prefix=reading.job_id)
    ]
    now = now_of(request)
    drawn = {each.job_id: bars(each.stamps, each.finished_at or now) for each in found.readings}
    judged = {row.job_id for row in ledger_of(request).surveys.usefulness_by(who.name, study_id=study_id, limit=200)}
    return render(
        request, "study.html", who, study=found, models=models, letters=letters, drawn=drawn, judged=judged,
        has_viewer=request.app.state.viewer is not None,
    )  # fmt: skip


@pages.get("/readings/{job_id}/key-image")
def key_image(request: Request, job_id: JobName, who: Someone) -> Response:
    """The key image as the archive draws it."""
    return key_image_of(job_id, who, request)


@pages.get("/rules")
def rules(request: Request, who: Someone) -> HTMLResponse:
    """The rule tester."""
    looked(request, who, "studies")
    page = search.find(ledger_of(request), search.Search(), limit=20)
    return render(request, "rules.html", who, routes=settings_of(request).routes, recent=page.studies)


@pages.get("/models")
def models(request: Request, who: Someone) -> HTMLResponse:
    """What is deployed, and what its readings came to."""
    ledger = ledger_of(request)
    there = ledger.fleet.held_models(now_of(request))
    counted = tally_of(request).verdicts
    return render(request, "models.html", who, models=known_models(ledger), held=there, verdicts=counted)


@pages.get("/held")
def held_orders(request: Request, who: Someone) -> HTMLResponse:
    """Orders that contradict the images they name, and wait for a person; looking is written down."""
    looked(request, who, "held orders")
    ledger = ledger_of(request)
    orders, merges = held.waiting(ledger, limit=PAGE_SIZE), held.waiting_merges(ledger, limit=PAGE_SIZE)
    return render(request, "held.html", who, orders=orders, merges=merges)


@pages.get("/audit")
def audit(
    request: Request, who: Someone, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> HTMLResponse:
    """Who did what."""
    looked(request, who, "audit")
    return render(request, "audit.html", who, rows=actions(ledger_of(request), before=before))
