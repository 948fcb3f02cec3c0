"""The console's web application: the API and the pages on one port, safe by default.

``make_app`` builds it, ``run_console`` serves it. Nothing is loaded from elsewhere (Content-Security-Policy).
Next: api.py, auth.py.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from medai.router import tls
from medai.router.console import pictures, viewer
from medai.router.console.account_api import account_api
from medai.router.console.api import api, open_api
from medai.router.console.auth import Logins, address_of, is_https
from medai.router.console.caches import Fresh, Shelf
from medai.router.console.deployed import deployed_api, deployed_pages
from medai.router.console.feedback import feedback_api, feedback_pages
from medai.router.console.hosts import answers_to
from medai.router.console.looks import Looks
from medai.router.console.pages import FOLDER, LoginFirst, fault_page, pages, to_login
from medai.router.console.peers import Peers
from medai.router.console.people_pages import people_pages
from medai.router.console.rule_test import RuleTestBusy, RuleTestFault
from medai.router.console.signin import signin_pages, signins_of
from medai.router.console.surveys import survey_api, survey_pages
from medai.router.errors import MedaiError, PermanentError, SettingsError, TemporaryError
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import AccountExists, AccountFault, Role
from medai.router.ledger.actions import ActionRefused
from medai.router.ledger.history import acting_from
from medai.router.ledger.surveys import SurveyFault
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.reports.search import SearchFault
from medai.router.reports.status import tally
from medai.router.serving import Bounded, Impatient, most_connections, over
from medai.router.settings.tables import Settings

FAULTS: dict[type[MedaiError], int] = {
    ActionRefused: 409, AccountExists: 409, AccountFault: 422, SearchFault: 422, RuleTestFault: 422, SettingsError: 422,
    SurveyFault: 422, RuleTestBusy: 503, TemporaryError: 503, PermanentError: 409,
}  # fmt: skip
"""What a fault means to whoever asked."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
HTTPS_ALONE = "max-age=31536000"
"""Strict-Transport-Security: what was reached by TLS once is reached by nothing else for a year."""
TALLY_S = 5.0
"""Counts over the whole ledger are so old at most, however many look."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
log = structlog.get_logger(__name__)
Next = Callable[[Request], Awaitable[Response]]


def make_app(
    settings: Settings,
    ledger: Ledger,
    orthanc: Orthanc,
    *,
    probes: Mapping[str, Callable[[], object]],
    version: str,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The ASGI application on a ledger that has been migrated; ``probes``: see peers.py.

    ``clock`` says what the time is, ``timer`` how old something kept is: a clock may be set back.
    """
    app = FastAPI(
        title="Med-AI", version=version, docs_url=None, redoc_url=None, openapi_url=None,
        description="What waits, what was read, why, and what a person may do about it.",
    )  # fmt: skip
    app.state.settings, app.state.ledger, app.state.orthanc, app.state.clock = settings, ledger, orthanc, clock
    app.state.peers = Peers(probes, timer)
    app.state.tally = Fresh(lambda: tally(ledger), fresh_s=TALLY_S, timer=timer)
    app.state.logins = Logins(ledger.accounts, timer)
    app.state.shelf = Shelf(pictures.KEPT)
    app.state.bits = viewer.Bits()
    app.state.looks = Looks(timer)
    app.state.opened = viewer.Opened(timer)
    app.state.viewer = viewer.folder(settings.console)
    app.include_router(open_api)
    app.include_router(feedback_api)
    app.include_router(api)
    app.include_router(pictures.pictures)
    app.include_router(viewer.viewer_api)
    app.include_router(feedback_pages)
    app.include_router(account_api)
    app.include_router(deployed_api)
    app.include_router(deployed_pages)
    app.include_router(pages)
    app.include_router(viewer.viewer_pages)
    app.include_router(signin_pages)
    app.include_router(people_pages)
    app.include_router(survey_api)
    app.include_router(survey_pages)
    app.add_route("/api/{rest:path}", _no_such, methods=METHODS, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.include_router(viewer.viewer_files)
    app.state.answers_to = answers_to(settings.console)
    app.state.signins = signins_of(settings.console, clock, timer) if settings.console.oidc.is_on else None
    app.add_middleware(Bounded, refused=StarletteHTTPException)
    app.middleware("http")(_headers)  # the last one added is the first one asked
    app.add_exception_handler(MedaiError, _explain)
    app.add_exception_handler(StarletteHTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(LoginFirst, to_login)
    return app


async def _headers(request: Request, call_next: Next) -> Response:
    if request.app.state.answers_to(request.headers.get("Host", "")):
        with acting_from(address_of(request)):
            response = await call_next(request)
    else:
        said = "this console does not go by that name: name it in [console] allowed_hosts"
        response = JSONResponse({"detail": said}, status_code=400)
    if is_https(request):
        response.headers.setdefault("Strict-Transport-Security", HTTPS_ALONE)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _explain(request: Request, error: Exception) -> Response:
    """A fault as whoever asked can read it: a page for a person, JSON for a program."""
    headers = None
    if isinstance(error, StarletteHTTPException):
        status, detail, headers = error.status_code, str(error.detail), error.headers
    else:
        status, detail = next((code for kind, code in FAULTS.items() if isinstance(error, kind)), 500), str(error)
    person = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if person and not request.url.path.startswith("/api"):
        return HTMLResponse(fault_page(request, status, detail), status_code=status, headers=headers)
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


def _no_such(request: Request) -> Response:
    """405 with what may be done to this path, or 404: no page and no file of the viewer is below /api."""
    ours = list(itertools.takewhile(lambda r: getattr(r, "endpoint", None) is not _no_such, request.app.routes))
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    allowed = [m for m, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in ours)]
    if not allowed:
        return JSONResponse({"detail": "there is no such path"}, status_code=404)
    allow = {"Allow": ", ".join(allowed)}
    return JSONResponse({"detail": f"{request.method} is not allowed here"}, status_code=405, headers=allow)


def _wrong(_request: Request, error: Exception) -> Response:
    """What is wrong with which part of a request; what it held, maybe a password, is not repeated."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    places = (".".join(str(part) for part in each["loc"]) for each in found)
    detail = "; ".join(f"{place}: {each['msg']}" for place, each in zip(places, found, strict=True))
    return JSONResponse({"detail": detail.encode(errors="replace").decode()}, status_code=422)


def first_account(ledger: Ledger, now: float) -> str | None:
    """Make the account "admin" where there is none yet; its random password, to be shown this once."""
    if ledger.accounts.has_any():
        return None
    password = secrets.token_urlsafe(12)
    ledger.accounts.add("admin", password, Role.ADMINISTRATOR, now)
    return password


def run_console(settings: Settings, ledger: Ledger, *, version: str) -> None:
    """Serve until told to stop."""
    secured = tls.server_context(settings.console.tls, where="console.tls")
    orthanc, broker = Orthanc(settings.orthanc), Dispatcher(settings.broker)
    probes = {"Ledger": ledger.accounts.has_any, "Orthanc": orthanc.system, "Redis": broker.ping}
    app = make_app(settings, ledger, orthanc, probes=probes, version=version)
    log.info("console_started", port=settings.console.port)
    Impatient.most = most_connections()
    ledger.database.trail.in_log = True
    proxies = list(settings.console.trusted_proxies)
    try:
        uvicorn.run(
            app, host=settings.console.host, port=settings.console.port, log_config=None, access_log=False,
            server_header=False, http=over(secured), ws="none",
            proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
        )  # fmt: skip
    finally:
        orthanc.close()
        broker.close()
