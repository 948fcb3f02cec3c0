"""The REST API: everything that the console shows and does, for programs. Described at /api/docs.

Answers hold what the ledger holds; patients' names are not among it, and asking for one is written down.
Next: auth.py, reports/search.py, ledger/actions.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from medai.router.console import rule_test
from medai.router.console.auth import (
    COOKIE,
    Administrator,
    Caller,
    Operator,
    Reader,
    address_of,
    is_https,
    require,
    require_own_page,
    token_of,
)
from medai.router.console.looks import looked
from medai.router.console.requests import NO_NUL, Again, Login, Reason, RuleTest
from medai.router.console.responses import (
    ActionPage,
    DeadLetterPage,
    Fault,
    Health,
    HeldModel,
    LoggedOut,
    MadeReading,
    Me,
    RouteEntry,
    RouteVerdict,
    StatusPage,
    Token,
    Told,
)
from medai.router.console.study_responses import Patient
from medai.router.contract import JobState, Priority
from medai.router.delivery.withdrawals import withdrawals
from medai.router.ledger import Ledger
from medai.router.ledger.deadletters import MARK, DeadLetter, mark_of
from medai.router.ledger.held_orders import HoldState
from medai.router.reports import held, letters, search, story
from medai.router.reports.held import HeldMergeEntry, HeldOrderEntry
from medai.router.reports.search import StudyPage
from medai.router.reports.status import NowPage, Tally, known_model, known_models, now_page
from medai.router.reports.story import Story
from medai.router.reports.turnaround import Group, TurnaroundGroup
from medai.router.reports.turnaround import turnaround as turnaround_of
from medai.router.settings.tables import Settings

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The request can't be read."},
    401: {"model": Fault, "description": "No token, or one that is not valid."},
    403: {"model": Fault, "description": "The account may not do this."},
    404: {"model": Fault, "description": "There is nothing at this address."},
    409: {"model": Fault, "description": "It can't be done in the present state; the detail says why."},
    422: {"model": Fault, "description": "A malformed request; the detail names each faulty part and its fault."},
    503: {"model": Fault, "description": "The ledger or the archive does not answer."},
}
TOO_MANY: dict[int | str, dict[str, Any]] = {
    429: {"model": Fault, "description": "Too many wrong passwords: try again in a minute."}
}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "The picture."}}
open_api = APIRouter(prefix="/api", tags=["session"])
api = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(require())])
UNKNOWN = "(unknown)"
"""Who tried to log in by a name that no account has."""

JobName = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$", description="A reading's job id.")]
LetterName = Annotated[
    str, Path(pattern=r"^[0-9a-f-]{36}(/[^/\x00]{1,40}){0,2}$", description="A dead letter's id, as /api/dead says it.")
]
StudyNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="A study's number in the ledger.")]
Moment = Annotated[float | None, Query(ge=0, le=1e11, description="Seconds since the epoch.")]
Behind = Annotated[
    str | None,
    Query(pattern=search.MARK.pattern, max_length=200, description="The `next` of the previous page."),
]
LettersBehind = Annotated[
    str | None, Query(pattern=MARK.pattern, max_length=200, description="The `next` of the previous page.")
]
Limit = Annotated[int, Query(ge=1, le=500)]


def ledger_of(request: Request) -> Ledger:
    """The ledger that the application was made with."""
    ledger: Ledger = request.app.state.ledger
    return ledger


def settings_of(request: Request) -> Settings:
    """The settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


def now_of(request: Request) -> float:
    """The moment by the application's clock."""
    clock: Callable[[], float] = request.app.state.clock
    return clock()


def tally_of(request: Request) -> Tally:
    """Counts over the whole ledger, some moments old."""
    tally: Tally = request.app.state.tally.look()
    return tally


# -- session


@open_api.get("/health")
async def health() -> Health:
    """Whether this process answers. The only page that needs no token."""
    return Health(status="ok")


@open_api.post("/login", responses={**{code: REFUSALS[code] for code in (400, 401, 403, 422, 503)}, **TOO_MANY})
async def login(body: Login, request: Request, response: Response) -> Token:
    """Log in: the answer holds a token, and a browser gets it as a cookie, too."""
    if "Origin" in request.headers:
        require_own_page(request)
    if not settings_of(request).console.local_accounts:
        raise HTTPException(403, "accounts of this console are off: sign in on the console's page")
    try:
        account = await request.app.state.logins.check_soon(body.name, body.password, address_of(request))
    except HTTPException as refused:
        await run_in_threadpool(_turned_away, request, body.name, refused.status_code)
        raise
    return await run_in_threadpool(start_session, request, response, account.name)


def _turned_away(request: Request, name: str, status: int) -> None:
    """Write down a wrong password; who tries without end is written down as often as they may try."""
    address = address_of(request)
    if not request.app.state.logins.is_news(name, address, status):
        return
    accounts, now = ledger_of(request).accounts, now_of(request)
    known = name in {row.name for row in accounts.listed()}
    # A name that nobody has may be a password that was typed into the wrong field
    accounts.note_action(name if known else UNKNOWN, "login failed", now, detail=f"from {address}")


def start_session(
    request: Request, response: Response, name: str, *, detail: str = "", by_tls: bool = False,
    lasts_s: float = math.inf,
) -> Token:  # fmt: skip
    """A session of somebody who has shown who they are; the one that this browser had is over. ``by_tls``: for sure.

    ``lasts_s``: it ends sooner than others, unless it is prolonged.
    """
    accounts, now = ledger_of(request).accounts, now_of(request)
    longest_s = settings_of(request).console.session_h * 3600.0
    lasts_s = min(longest_s, lasts_s)
    if before := request.cookies.get(COOKIE):
        accounts.revoke_token(before)
    token = accounts.issue_token(name, now, kind="session", label=address_of(request)[:80], lasts_s=lasts_s)
    accounts.note_action(name, "login", now, detail=detail)
    secure = by_tls or is_https(request)
    response.set_cookie(COOKIE, token, max_age=int(longest_s), httponly=True, samesite="strict", secure=secure)
    return Token(token=token, expires_at=now + lasts_s)


@api.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """What this API takes and answers (OpenAPI 3.1)."""
    described: dict[str, Any] = request.app.openapi()
    return described


@api.post("/logout", tags=["session"])
def logout(who: Caller, request: Request, response: Response) -> LoggedOut:
    """End this session."""
    token, signins = token_of(request), request.app.state.signins
    ledger_of(request).accounts.note_action(who.name, "logout", now_of(request))
    ledger_of(request).accounts.revoke_token(token)
    response.delete_cookie(COOKIE)
    there = signins.goodbye(token) if signins is not None and who.kind == "session" and not who.is_local else ""
    return LoggedOut(then=there or "/login")


@api.get("/me", tags=["session"])
def me(who: Caller) -> Me:
    """Who asks."""
    return Me(name=who.name, role=who.role)


# -- look


@api.get("/status", tags=["look"])
def status(request: Request) -> StatusPage:
    """What waits, who works, what is away, what needs a person, how long readings took in the last day."""
    found = now_page_of(request)
    return StatusPage(**dict(found), parts=request.app.state.peers.look(found.destinations))


def now_page_of(request: Request) -> NowPage:
    """What is now, for whoever asks over the network: with counts that are some moments old."""
    objectives = settings_of(request).objectives
    return now_page(ledger_of(request), now_of(request), objectives, counted=tally_of(request))


@api.get("/turnaround", tags=["look"])
def turnaround(
    request: Request, hours: Annotated[float, Query(gt=0, le=24 * 90)] = 24.0, by: Group | None = None
) -> list[TurnaroundGroup]:
    """p50, p95 and p99 of the whole and of each stage, for each group."""
    return turnaround_of(ledger_of(request), since=now_of(request) - hours * 3600.0, by=by)


@api.get("/studies", tags=["look"])
def studies(
    request: Request,
    who: Reader,
    text: Annotated[
        str,
        Query(
            max_length=64,
            pattern=NO_NUL,
            description="Beginning of an accession number, a Study Instance UID or a job id.",
        ),
    ] = "",
    route: Annotated[str, Query(max_length=40, pattern=NO_NUL)] = "",
    state: JobState | None = None,
    priority: Annotated[str | None, Query(pattern="^(stat|urgent|routine|background)$")] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    after: Behind = None,
) -> StudyPage:
    """Find studies, newest first, each with its readings."""
    looked(request, who, "studies")
    wanted = search.Search(
        text=text,
        route=route,
        state=state,
        priority=Priority[priority.upper()] if priority else None,
        since=since,
        until=until,
    )
    return search.find(ledger_of(request), wanted, limit=limit, after=after)


@api.get("/studies/{study_id}", tags=["look"])
def study(study_id: StudyNumber, who: Reader, request: Request) -> Story:
    """All that is known of one study: decisions, readings with stages and tries, deliveries, what people did."""
    found = story.story(ledger_of(request), study_id)
    if found is None:
        raise HTTPException(404, "there is no such study")
    looked(request, who, "study", study_id)
    return found


@api.get("/studies/{study_id}/patient", tags=["look"])
def patient(study_id: StudyNumber, who: Operator, request: Request) -> Patient:
    """Whose study it is, as the archive says. Asking is written down."""
    known = story.study(ledger_of(request), study_id)
    if known is None:
        raise HTTPException(404, "there is no such study")
    ledger_of(request).accounts.note_action(who.name, "patient", now_of(request), study_id=study_id)
    tags = request.app.state.orthanc.study(known.orthanc_id).get("PatientMainDicomTags", {})
    named = {"name": "PatientName", "id": "PatientID", "birth_date": "PatientBirthDate", "sex": "PatientSex"}
    return Patient(**{key: str(tags.get(tag, "")) for key, tag in named.items()})


@api.get("/readings/{job_id}/key-image", tags=["look"], response_class=Response, responses=PNG)
def key_image(job_id: JobName, who: Reader, request: Request) -> Response:
    """The key image, as the archive draws it."""
    found = story.read_objects(ledger_of(request), job_id)
    picture = found.results.get("sc") if found else None
    if found is None or picture is None:
        raise HTTPException(404, "there is no key image")
    looked(request, who, "images", found.study_id, job_id)
    return Response(request.app.state.orthanc.rendered(picture.orthanc_id), media_type="image/png")


@api.get("/dead", tags=["look"])
def dead(request: Request, limit: Limit = 100, after: LettersBehind = None) -> DeadLetterPage:
    """What needs a person, and why; newest first."""
    found = ledger_of(request).dead.letters(limit=limit + 1, behind=mark_of(after) if after else None)
    more = f"{found[limit - 1].parked_at!r}:{found[limit - 1].id}" if len(found) > limit else None
    return DeadLetterPage(letters=tuple(letters.entry(letter) for letter in found[:limit]), next=more)


@api.get("/held", tags=["look"])
def held_orders(request: Request, who: Operator, limit: Limit = 100) -> list[HeldOrderEntry]:
    """Orders that say otherwise of the patient than the images they name, and wait for a person; oldest first.

    Looking is written down: an accession number names somebody.
    """
    found = held.waiting(ledger_of(request), limit=limit)
    ledger_of(request).accounts.note_action(who.name, "held orders", now_of(request), detail=f"{len(found)} shown")
    return found


@api.get("/held/merges", tags=["look"])
def held_merges(request: Request, who: Operator, limit: Limit = 100) -> list[HeldMergeEntry]:
    """Merges of patients that contradict what is known of them, and wait for a person; oldest first. Looking is written
    down."""
    found = held.waiting_merges(ledger_of(request), limit=limit)
    ledger_of(request).accounts.note_action(who.name, "held merges", now_of(request), detail=f"{len(found)} shown")
    return found


@api.get("/models", tags=["look"])
def models(request: Request) -> list[HeldModel]:
    """The models that workers announced, and the versions that living workers hold."""
    ledger = ledger_of(request)
    held = ledger.fleet.held_models(now_of(request))
    known = known_models(ledger)
    return [HeldModel(**dict(model), held=tuple(sorted(held.get(model.name, ())))) for model in known]


@api.get("/audit", tags=["look"])
def audit(
    request: Request,
    who: Administrator,
    after: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    limit: Limit = 100,
) -> ActionPage:
    """What people did, newest first. Asking is written down."""
    looked(request, who, "audit")
    found = story.actions(ledger_of(request), before=after, limit=limit + 1)
    return ActionPage(actions=tuple(found[:limit]), next=found[limit - 1].id if len(found) > limit else None)


@api.get("/routes", tags=["look"])
def routes(request: Request) -> list[RouteEntry]:
    """The routes that are in force."""
    names = list(RouteEntry.model_fields)
    return [RouteEntry(**each.model_dump(include=set(names))) for each in settings_of(request).routes]


@api.post("/rules/test", tags=["look"])
def test_rules(body: RuleTest, who: Reader, request: Request) -> list[RouteVerdict]:
    """Which routes would read a study, series by series, and why. Asking is written down."""
    detail = "routes in force" if body.routes is None else "routes of one's own"
    known = body.study_id if body.study_id and story.study(ledger_of(request), body.study_id) else None
    ledger_of(request).accounts.note_action(who.name, "rule test", now_of(request), study_id=known, detail=detail)
    return rule_test.run(body, settings_of(request), ledger_of(request), request.app.state.orthanc)


# -- act


@api.post("/readings/{job_id}/stat", status_code=204, tags=["act"])
def hurry(job_id: JobName, who: Operator, request: Request) -> None:
    """Raise a reading that waits to STAT."""
    ledger_of(request).actions.hurry(job_id, now_of(request), by=who.name)


@api.post("/readings/{job_id}/cancel", status_code=204, tags=["act"])
def cancel(job_id: JobName, body: Reason, who: Operator, request: Request) -> None:
    """Take a reading that has no result yet out of the queue, or out of a worker's hands."""
    ledger_of(request).actions.cancel(job_id, body.reason, now_of(request), by=who.name)


@api.post("/readings/{job_id}/again", status_code=201, tags=["act"])
def read_again(job_id: JobName, body: Again, who: Operator, request: Request) -> MadeReading:
    """Read the same images by another model, as a result of its own."""
    ledger = ledger_of(request)
    known = known_model(ledger, body.model)
    if known is None or not known.available:
        raise HTTPException(409, f"no worker can run a model named {body.model!r}")
    made = ledger.actions.read_again(job_id, body.model, known.version, now_of(request), by=who.name)
    return MadeReading(job_id=made)


@api.post("/readings/{job_id}/withdraw", tags=["act"])
def withdraw(job_id: JobName, body: Reason, who: Operator, request: Request) -> Told:
    """Take a result back: out of the archive, and told to the RIS (status X) and to FHIR servers."""
    words = f"The AI result was withdrawn: {body.reason} Do not use its values."
    makers = withdrawals(settings_of(request), time.time, words=words)
    told = ledger_of(request).actions.withdraw(job_id, body.reason, now_of(request), withdrawn=makers, by=who.name)
    return Told(told=tuple(told))


@api.post("/dead/{letter_id:path}/retry", status_code=204, tags=["act"])
def retry(letter_id: LetterName, who: Operator, request: Request) -> None:
    """Try a dead letter again."""
    letter = _letter_named(request, letter_id)
    if not ledger_of(request).dead.retry(letter, now_of(request), by=who.name):
        raise HTTPException(409, "it is no longer a dead letter")


@api.post("/dead/{letter_id:path}/drop", status_code=204, tags=["act"])
def drop(letter_id: LetterName, body: Reason, who: Operator, request: Request) -> None:
    """Settle a dead letter without a result."""
    letter = _letter_named(request, letter_id)
    if not ledger_of(request).dead.drop(letter, body.reason, now_of(request), by=who.name):
        raise HTTPException(409, "it is no longer a dead letter")


@api.post("/held/{hold_id}/release", status_code=204, tags=["act"])
def release(hold_id: StudyNumber, body: Reason, who: Operator, request: Request) -> None:
    """Join a held order to its study all the same."""
    _decide(request, hold_id, HoldState.RELEASED, body.reason, who.name)


@api.post("/held/{hold_id}/reject", status_code=204, tags=["act"])
def reject(hold_id: StudyNumber, body: Reason, who: Operator, request: Request) -> None:
    """Never join a held order to its study."""
    _decide(request, hold_id, HoldState.REJECTED, body.reason, who.name)


@api.post("/held/merges/{hold_id}/release", status_code=204, tags=["act"])
def release_merge(hold_id: StudyNumber, body: Reason, who: Operator, request: Request) -> None:
    """Follow a held merge all the same: orders, results that wait and later ones get the other identifier."""
    _decide_merge(request, hold_id, HoldState.RELEASED, body.reason, who.name)


@api.post("/held/merges/{hold_id}/reject", status_code=204, tags=["act"])
def reject_merge(hold_id: StudyNumber, body: Reason, who: Operator, request: Request) -> None:
    """Never follow a held merge."""
    _decide_merge(request, hold_id, HoldState.REJECTED, body.reason, who.name)


def _decide_merge(request: Request, hold_id: int, state: HoldState, reason: str, by: str) -> None:
    if not ledger_of(request).held_merges.decide(hold_id, state, reason, now_of(request), by=by):
        raise HTTPException(404, "no merge is held under this number")


def _decide(request: Request, hold_id: int, state: HoldState, reason: str, by: str) -> None:
    if not ledger_of(request).held.decide(hold_id, state, reason, now_of(request), by=by):
        raise HTTPException(404, "no order is held under this number")


def _letter_named(request: Request, name: str) -> DeadLetter:
    found = [letter for letter in ledger_of(request).dead.letters(prefix=name) if letter.id == name]
    if not found:
        raise HTTPException(404, "there is no such dead letter")
    return found[0]
