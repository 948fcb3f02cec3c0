"""Who asks: a token in the Authorization header (programs) or in a cookie (browsers), and what they may do.

A cookie alone lets nobody act: a request that changes something must come from our own page (its Origin or
Sec-Fetch-Site says so), beside SameSite=Strict. Wrong passwords slow their own name down. Next: ledger/accounts.py,
api.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated

from cachetools import TTLCache
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from medai.router.ledger.accounts import Account, Accounts, Role

COOKIE = "medai_session"
FREE_TRIES = 5
LOCK_S = 60.0
MOST_NAMES = 10_000
"""Names that are remembered; of more, the first are forgotten."""
_bearer = HTTPBearer(auto_error=False, description="A token from POST /api/login or POST /api/tokens.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The session of a browser.")


class Logins:
    """Checks passwords, and makes guessing slow: after five wrong ones a name waits for a minute."""

    def __init__(self, accounts: Accounts, timer: Callable[[], float] = time.monotonic) -> None:
        self._accounts = accounts
        self._wrong: TTLCache[str, int] = TTLCache(MOST_NAMES, LOCK_S, timer)
        self._lock = threading.Lock()

    def check(self, name: str, password: str) -> Account:
        """Raises 401 for a wrong password, 429 after too many."""
        with self._lock:
            count = self._wrong.get(name, 0)
            if count >= FREE_TRIES:
                raise HTTPException(429, "too many wrong passwords: try again in a minute", {"Retry-After": "60"})
            self._wrong[name] = count + 1  # wrong until shown right: many may try at once
        account = self._accounts.by_password(name, password)
        if account is not None:
            with self._lock:
                self._wrong.pop(name, None)
        else:
            raise HTTPException(401, "wrong name or password")
        return account


def token_of(request: Request) -> str:
    """The token that a request shows; empty without one."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")


def account_of(request: Request) -> Account | None:
    """Who asks; None for nobody that is known."""
    token = token_of(request)
    state = request.app.state
    found: Account | None = state.ledger.accounts.by_token(token, state.clock()) if token else None
    return found


def require(role: Role) -> Callable[..., Account]:
    """A dependency: whoever asks, if they may."""

    def guard(
        request: Request,
        _token: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
        _session: Annotated[str | None, Security(_cookie)] = None,
    ) -> Account:
        account = account_of(request)
        if account is None:
            raise HTTPException(401, "log in first, or send a token", {"WWW-Authenticate": "Bearer"})
        if not account.role.may(role):
            raise HTTPException(403, f"this needs the role {role.value}; yours is {account.role.value}")
        require_own_page(request)
        return account

    return guard


def require_own_page(request: Request) -> None:
    """A change that a cookie allows must come from our own page; a token was sent on purpose."""
    if request.method in ("GET", "HEAD") or "Authorization" in request.headers:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    own = site == "same-origin" if site else origin.partition("://")[2] == request.headers.get("Host", "")
    if not own:
        raise HTTPException(403, "this request comes from another site's page")


Viewer = Annotated[Account, Depends(require(Role.VIEWER))]
Operator = Annotated[Account, Depends(require(Role.OPERATOR))]
Admin = Annotated[Account, Depends(require(Role.ADMIN))]
