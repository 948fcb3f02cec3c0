"""Who asks: a token in the Authorization header (programs) or in a cookie (browsers), and what they may do.

A cookie alone lets nobody act: a request that changes something must come from our own page (its Origin or
Sec-Fetch-Site says so), beside SameSite=Strict. Wrong passwords slow down
whoever sends them, and nobody else. Next: permissions.py, ledger/accounts.py.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated

from cachetools import TTLCache
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from medai.router.console.permissions import needed
from medai.router.ledger.accounts import Account, Accounts, Role
from medai.router.settings.tables import ConsoleSettings

COOKIE = "medai_session"
REFRESH = "X-Medai-Refresh"
"""In the requests of a page that keeps itself fresh: nobody is at it for that."""
FREE_TRIES = 5
LOCK_S = 60.0
MOST_NAMES = 10_000
"""Names that are remembered; of more, the first are forgotten. Nobody can try so many within a minute."""
TOLD_MOST = 20
"""Wrong passwords of one address that are written down in a minute."""
HASHES_AT_ONCE = 2
WAITING_MOST = 6
"""Logins of one address that wait for their turn."""
_bearer = HTTPBearer(auto_error=False, description="A token from POST /api/login or POST /api/tokens.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The session of a browser.")


class Logins:
    """Checks passwords. Guessing is slow, costs no more memory than two guesses, and locks out nobody but the guesser.

    After five wrong passwords for a name from one address, that address waits a minute with that name. Two passwords
    are hashed at once (each takes 19 MB); few wait for each address, so that a flood from one keeps no other waiting.
    """

    def __init__(self, accounts: Accounts, timer: Callable[[], float] = time.monotonic) -> None:
        self._accounts = accounts
        self._wrong: TTLCache[tuple[str, str], int] = TTLCache(MOST_NAMES, LOCK_S, timer)
        self._told: TTLCache[tuple[str, str], int] = TTLCache(MOST_NAMES, LOCK_S, timer)
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._hashing = ThreadPoolExecutor(HASHES_AT_ONCE, "passwords")

    def check(self, name: str, password: str, address: str = "") -> Account:
        """Raises 401 for a wrong password, 429 after too many."""
        with self._trying(name, address):
            account = self._hashing.submit(self._accounts.by_password, name, password).result()
        return self._judged(account, name, address)

    async def check_soon(self, name: str, password: str, address: str) -> Account:
        """The same, holding no thread while it waits for its turn."""
        with self._trying(name, address):
            hashed = self._hashing.submit(self._accounts.by_password, name, password)
            account = await asyncio.wrap_future(hashed)
        return self._judged(account, name, address)

    @contextmanager
    def _trying(self, name: str, address: str) -> Iterator[None]:
        where = _network(address)
        with self._lock:
            count = self._wrong.get((where, name), 0)
            if count >= FREE_TRIES:
                raise HTTPException(429, "too many wrong passwords: try again in a minute", {"Retry-After": "60"})
            if self._waiting[where] >= WAITING_MOST:
                raise HTTPException(429, "too many logins at once: try again in a few seconds", {"Retry-After": "5"})
            self._wrong[(where, name)] = count + 1  # wrong until shown right: many may try at once
            self._waiting[where] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[where] -= 1
                if not self._waiting[where]:
                    del self._waiting[where]

    def is_news(self, name: str, address: str, status: int) -> bool:
        """Whether a try that failed is to be written down: each wrong password, and once that no more are taken."""
        where = _network(address)
        with self._lock:
            told = self._told.get((where, ""), 0)
            again = status == 429 and (where, name) in self._told
            if told >= TOLD_MOST or again:
                return False
            self._told[(where, "")] = told + 1
            if status == 429:
                self._told[(where, name)] = 1
        return True

    def _judged(self, account: Account | None, name: str, address: str) -> Account:
        if account is None:
            raise HTTPException(401, "wrong name or password")
        with self._lock:
            self._wrong.pop((_network(address), name), None)
        return account


def _network(address: str) -> str:
    """Whose an address is: of IPv6 the first 64 bits, as one host has all of the others."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address


def address_of(request: Request) -> str:
    """Where a request comes from; behind a trusted proxy ([console] trusted_proxies) what that says."""
    return request.client.host if request.client else ""


def token_of(request: Request) -> str:
    """The token that a request shows; empty without one."""
    return _bearer_token(request) or request.cookies.get(COOKIE, "")


def _bearer_token(request: Request) -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def is_https(request: Request) -> bool:
    """Whether the browser came by TLS; a proxy may say so, as it harms only who says it."""
    return "https" in (request.url.scheme, request.headers.get("X-Forwarded-Proto", ""))


def idle_limit_s(console: ConsoleSettings) -> float:
    """After so long a session that nobody used is over."""
    return console.session_idle_min * 60.0 or math.inf


def account_of(request: Request) -> Account | None:
    """Who asks; None for nobody that is known."""
    token = token_of(request)
    if not token:
        return None
    state = request.app.state
    console: ConsoleSettings = state.settings.console
    accounts: Accounts = state.ledger.accounts

    def known() -> Account | None:
        return accounts.by_token(
            token, state.clock(), idle_s=idle_limit_s(console),
            away_s=console.oidc.tokens_days * 86_400.0, in_use=REFRESH not in request.headers,
        )  # fmt: skip

    found = known()
    if found is not None and found.kind == "session" and not found.is_local:
        has_said = state.signins is not None and state.signins.ask_again(token, found.name, accounts, state.clock())
        found = known() if has_said else found
    if found is not None and found.kind == "session" and found.is_local and not console.local_accounts:
        return None
    return found


def require(role: Role = Role.SERVICE) -> Callable[..., Account]:
    """A dependency: whoever asks, if they may by the table (permissions.py) and by this call's own word."""

    def guard(
        request: Request,
        _token: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
        _session: Annotated[str | None, Security(_cookie)] = None,
    ) -> Account:
        account = account_of(request)
        if account is None:
            raise HTTPException(401, "log in first, or send a token", {"WWW-Authenticate": "Bearer"})
        named = needed(f"{request.method} {request.scope['route'].path_format}")
        if named is None:
            raise HTTPException(403, "no role may make this call")
        least = named if named.may(role) else role
        if not account.role.may(least):
            raise HTTPException(403, f"this needs the role {least.value}; yours is {account.role.value}")
        require_own_page(request)
        return account

    return guard


def require_own_page(request: Request) -> None:
    """A change that a cookie allows must come from our own page; a token was sent on purpose.

    Another Authorization header is no token: a browser may send one by itself.
    """
    if request.method in ("GET", "HEAD") or _bearer_token(request):
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    own = site == "same-origin" if site else origin.partition("://")[2] == request.headers.get("Host", "")
    if not own:
        raise HTTPException(403, "this request comes from another site's page")


Caller = Annotated[Account, Depends(require())]
"""Anybody with an account, whom the table names for this call."""
Reader = Annotated[Account, Depends(require(Role.READER))]
Operator = Annotated[Account, Depends(require(Role.OPERATOR))]
Administrator = Annotated[Account, Depends(require(Role.ADMINISTRATOR))]
