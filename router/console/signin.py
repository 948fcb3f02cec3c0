"""Signing in at the hospital's own provider: there, back, and a session like any other.

What a sign-in needs is in a cookie of the browser that began it, sealed by this process: nobody else's browser can end
it, and nobody fills our memory by beginning many. Next: provider.py, auth.py.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from cachetools import LRUCache, TTLCache
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from medai.router.console.api import UNKNOWN, ledger_of, now_of, start_session
from medai.router.console.auth import address_of
from medai.router.console.hosts import answers_to
from medai.router.console.pages import OWN_PAGE, login_page, render
from medai.router.console.provider import Person, Provider, ProviderAway, SignInRefused
from medai.router.errors import SettingsError
from medai.router.ledger.accounts import AccountFault, Accounts
from medai.router.settings.tables import ConsoleSettings

signin_pages = APIRouter(include_in_schema=False)
PENDING = "medai_signin"
"""The cookie of a sign-in that is under way."""
PATH = "/login/oidc"
LASTS_S = 600.0
THEN_MAX = 1000
"""A browser keeps no cookie of more than 4 kB."""
WAITING_MOST = 32
"""Sign-ins that wait for the provider at once."""
AT_ONCE = 4
MOST_USED = 10_000
MOST_VOUCHED = 10_000
PATIENCE_S = 2.0
"""A request waits so long for what the provider says of its session."""
ERROR = re.compile(r"[a-z_]{1,40}")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A sign-in that is under way."""

    state: str
    nonce: str
    verifier: str
    then: str
    at: float


@dataclass(kw_only=True)
class Vouched:
    """A session for whose user the provider vouches."""

    person: Person
    ends_at: float
    asked_at: float
    """By this process's timer."""


class SignIns:
    """Sign-ins that are under way, and what is to be remembered of those that ended well."""

    def __init__(self, provider: Provider, timer: Callable[[], float] = time.monotonic) -> None:
        self.provider = provider
        self._key = secrets.token_bytes(32)
        self._timer = timer
        self._threads = ThreadPoolExecutor(AT_ONCE, "provider")
        self._waiting = 0
        self._lock = threading.Lock()
        self._used: TTLCache[str, bool] = TTLCache(MOST_USED, LASTS_S, timer)
        self._vouched: LRUCache[str, Vouched] = LRUCache(MOST_VOUCHED)

    async def wait(self, ask: Callable[[], Answer]) -> Answer:
        """Ask the provider, holding no thread of others. Raises ProviderAway where too many wait already."""
        if self._waiting >= WAITING_MOST:
            raise ProviderAway("too many people sign in at once: try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(ask))
        finally:
            self._waiting -= 1

    def new(self, then: str) -> Pending:
        """A sign-in that nobody can guess."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return Pending(state=state, nonce=nonce, verifier=verifier, then=then, at=self._timer())

    def sealed(self, pending: Pending) -> str:
        """As a cookie."""
        text = base64.urlsafe_b64encode(json.dumps(asdict(pending)).encode()).decode()
        return f"{text}.{self._seal(text)}"

    def opened(self, cookie: str, state: str) -> Pending:
        """The sign-in that this browser began and that was not ended yet. Raises SignInRefused."""
        text, _, seal = cookie.partition(".")
        if not cookie or not hmac.compare_digest(seal.encode(), self._seal(text).encode()):
            raise SignInRefused("this browser began no sign-in, or too long ago: try again")
        pending = Pending(**json.loads(base64.urlsafe_b64decode(text)))
        if not hmac.compare_digest(pending.state.encode(), state.encode()):
            raise SignInRefused("this answer is not that of the sign-in that this browser began: try again")
        if not 0 <= self._timer() - pending.at <= LASTS_S:
            raise SignInRefused("the sign-in took too long: try again")
        with self._lock:
            if pending.state in self._used:
                raise SignInRefused("this sign-in has ended: begin another")
            self._used[pending.state] = True
        return pending

    def _seal(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def remember(self, session: str, person: Person, ends_at: float) -> None:
        """What the provider knows a session by when it is asked again, or when it ends; ``ends_at``: at the latest."""
        with self._lock:
            self._vouched[_digest(session)] = Vouched(person=person, ends_at=ends_at, asked_at=self._timer())

    def ask_again(self, session: str, name: str, accounts: Accounts, now: float) -> bool:
        """Ask whether the provider still vouches for a session, where it is time to; whether it has answered.

        Nobody waits long for it: what it says later counts from the next request on. A session holds as long as the
        provider has last vouched for it (``vouched_h``), so one that is away keeps nobody in.
        """
        with self._lock:
            vouched = self._vouched.get(_digest(session))
            due_s = self.provider.settings.check_min * 60.0
            if vouched is None or not vouched.person.refresh_token or self._timer() - vouched.asked_at < due_s:
                return False
            vouched.asked_at = self._timer()  # nobody else asks meanwhile: some providers take a token once
        asked = self._threads.submit(self._asked_again, session, vouched, name, accounts, now)
        try:
            asked.result(timeout=PATIENCE_S)
        except TimeoutError:
            return False
        return True

    def _asked_again(self, session: str, vouched: Vouched, name: str, accounts: Accounts, now: float) -> None:
        settings = self.provider.settings
        try:
            person = self.provider.again(vouched.person)
            accounts.signed_in(settings.issuer, person.subject, name, person.role, now)
        except ProviderAway:
            return
        except (SignInRefused, AccountFault) as refused:
            accounts.note_action(name, "logout", now, detail=f"by the provider: {refused}")
            accounts.revoke_token(session)
            return
        vouched.person = person
        accounts.prolong(session, min(vouched.ends_at, now + settings.vouched_h * 3600.0))

    def goodbye(self, session: str) -> str:
        """Where the browser of a session ends that with the provider, too; empty where it can't."""
        with self._lock:
            vouched = self._vouched.pop(_digest(session), None)
        return self.provider.goodbye(vouched.person.id_token if vouched else None)


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()


def signins_of(settings: ConsoleSettings, clock: Callable[[], float], timer: Callable[[], float]) -> SignIns:
    """Sign-ins as the settings want them. Raises SettingsError."""
    if not answers_to(settings)(urlsplit(settings.oidc.console_url).netloc):
        raise SettingsError("[console.oidc] console_url: name its host in [console] allowed_hosts")
    return SignIns(Provider(settings.oidc, clock, timer), timer)


def _signins(request: Request) -> SignIns:
    """404 where people do not sign in so."""
    found: SignIns | None = request.app.state.signins
    if found is None:
        raise HTTPException(404, "there is no such page: [console.oidc] is not set")
    return found


@signin_pages.get(PATH)
async def begin(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """To the provider."""
    signins = _signins(request)
    pending = signins.new(next if len(next) <= THEN_MAX and OWN_PAGE.fullmatch(next) else "/")
    try:
        target = await signins.wait(lambda: signins.provider.begin(pending.state, pending.nonce, pending.verifier))
    except ProviderAway as away:
        return login_page(request, pending.then, str(away), 503)
    answer = RedirectResponse(target, status_code=303)
    answer.set_cookie(
        PENDING, signins.sealed(pending), max_age=int(LASTS_S), path=PATH, httponly=True, samesite="lax",
        secure=signins.provider.base.startswith("https:"),
    )  # fmt: skip
    return answer


@signin_pages.get(f"{PATH}/back")
async def back(
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4096)] = "",
    iss: Annotated[str | None, Query(max_length=255)] = None,
    error: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """From the provider: a session, or the login page with the reason why not."""
    signins = _signins(request)
    then = "/"
    try:
        pending = signins.opened(request.cookies.get(PENDING, ""), state)
        then = pending.then
        person = await _person(signins, pending, code, iss, error)
        answer = await run_in_threadpool(_let_in, request, signins, person, then)
    except SignInRefused as refused:
        await run_in_threadpool(_turned_away, request, str(refused))
        answer = login_page(request, then, str(refused), 403)
    except ProviderAway as away:
        answer = login_page(request, then, str(away), 503)
    answer.delete_cookie(PENDING, path=PATH)
    return answer


async def _person(signins: SignIns, pending: Pending, code: str, iss: str | None, error: str) -> Person:
    if iss is not None and iss != signins.provider.settings.issuer:
        raise SignInRefused("the answer is another provider's")  # RFC 9207
    if error or not code:
        said = error if ERROR.fullmatch(error) else "no code"
        raise SignInRefused(f"the provider did not let you in ({said})")
    return await signins.wait(lambda: signins.provider.finish(code, pending.nonce, pending.verifier))


def _let_in(request: Request, signins: SignIns, person: Person, then: str) -> HTMLResponse:
    """A session. The page leads on by itself: a redirect from the provider's site would come without its cookie."""
    accounts, now = ledger_of(request).accounts, now_of(request)
    issuer = signins.provider.settings.issuer
    try:
        name = accounts.signed_in(issuer, person.subject, person.name, person.role, now)
    except AccountFault as fault:
        raise SignInRefused(str(fault)) from fault
    answer = render(request, "signed_in.html", None, then=then)
    by_tls = signins.provider.base.startswith("https:")
    lasts_s = signins.provider.settings.vouched_h * 3600.0
    session = start_session(request, answer, name, detail="by the provider", by_tls=by_tls, lasts_s=lasts_s)
    ends_at = now + request.app.state.settings.console.session_h * 3600.0
    signins.remember(session.token, person, ends_at)
    return answer


def _turned_away(request: Request, reason: str) -> None:
    """Write down who was not let in; who tries without end is written down as often as with a wrong password."""
    address = address_of(request)
    if request.app.state.logins.is_news(UNKNOWN, address, 403):
        detail = f"by the provider, from {address}: {reason}"
        ledger_of(request).accounts.note_action(UNKNOWN, "login failed", now_of(request), detail=detail)
