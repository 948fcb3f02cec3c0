"""Accounts and tokens, for programs: what ``medai account`` does, and what one may do for oneself.

Next: ledger/accounts.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from medai.router.console.api import REFUSALS, TOO_MANY, admin, ledger_of, now_of
from medai.router.console.auth import Admin, Viewer, address_of, require
from medai.router.console.requests import NAMED, NewAccount, NewPassword, NewToken, OwnPassword
from medai.router.console.responses import AccountEntry, Token, TokenEntry
from medai.router.ledger.accounts import Role
from medai.router.ledger.actions import ActionRefused

account_api = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(require(Role.VIEWER))])
AccountName = Annotated[str, Path(pattern=NAMED, description="An account's name.")]
TokenNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="A token's number, as /api/tokens says it.")]


# -- one's own


@account_api.post("/me/password", status_code=204, tags=["session"], responses=TOO_MANY)
def change_password(body: OwnPassword, who: Viewer, request: Request) -> None:
    """Change one's password; every session and token of the account ends."""
    try:
        request.app.state.logins.check(who.name, body.old, address_of(request))
    except HTTPException as error:
        if error.status_code != 401:
            raise
        where = f"password change, from {address_of(request)}"
        ledger_of(request).accounts.note_action(who.name, "login failed", now_of(request), detail=where)
        raise HTTPException(403, "the old password is wrong") from error
    ledger_of(request).accounts.set_password(who.name, body.password)
    ledger_of(request).accounts.note_action(who.name, "account password", now_of(request), detail=who.name)


@account_api.post("/tokens", status_code=201, tags=["session"])
def make_token(body: NewToken, who: Viewer, request: Request) -> Token:
    """A token for a program, with the rights of this account or fewer; only who logged in makes one."""
    if who.kind != "session":
        raise HTTPException(403, "a token makes no tokens: log in with your password")
    role = body.role or who.role
    if not who.role.may(role):
        raise HTTPException(403, f"a token may what its account may: yours has the role {who.role.value}")
    now, lasts_s = now_of(request), body.days * 86400.0
    token = ledger_of(request).accounts.issue_token(
        who.name, now, kind="api", label=body.label, lasts_s=lasts_s, role=role
    )
    detail = f"{body.label} ({role.value}, {body.days:g} days)"
    ledger_of(request).accounts.note_action(who.name, "token", now, detail=detail)
    return Token(token=token, expires_at=now + lasts_s)


@account_api.get("/tokens", tags=["session"])
def tokens(who: Viewer, request: Request) -> list[TokenEntry]:
    """The tokens and sessions that hold: one's own, an admin's everybody's; newest first."""
    held = ledger_of(request).accounts.tokens(now_of(request), account=_whose(who))
    return [TokenEntry.model_validate(row, from_attributes=True) for row in held]


@account_api.delete("/tokens/{token_id}", status_code=204, tags=["session"])
def revoke_token(token_id: TokenNumber, who: Viewer, request: Request) -> None:
    """End a token or a session: one's own, an admin anybody's."""
    if not ledger_of(request).accounts.revoke(token_id, account=_whose(who)):
        raise HTTPException(404, "there is no such token")
    ledger_of(request).accounts.note_action(who.name, "revoke token", now_of(request), detail=str(token_id))


def _whose(who: Viewer) -> str | None:
    return None if who.role.may(Role.ADMIN) else who.name


# -- everybody's


@account_api.get("/accounts", tags=["accounts"], dependencies=[admin])
def accounts(request: Request) -> list[AccountEntry]:
    """Every account."""
    return [AccountEntry.model_validate(row, from_attributes=True) for row in ledger_of(request).accounts.listed()]


@account_api.post("/accounts", status_code=201, tags=["accounts"])
def add_account(body: NewAccount, who: Admin, request: Request) -> AccountEntry:
    """Make an account."""
    now = now_of(request)
    ledger_of(request).accounts.add(body.name, body.password, body.role, now)
    ledger_of(request).accounts.note_action(who.name, "account", now, detail=f"{body.name}, {body.role.value}")
    return AccountEntry(name=body.name, role=body.role, created_at=now, disabled=False)


@account_api.post("/accounts/{name}/password", status_code=204, tags=["accounts"])
def set_password(name: AccountName, body: NewPassword, who: Admin, request: Request) -> None:
    """Give an account another password; every session and token of it ends."""
    _require(request, name)
    ledger_of(request).accounts.set_password(name, body.password)
    ledger_of(request).accounts.note_action(who.name, "account password", now_of(request), detail=name)


@account_api.post("/accounts/{name}/disable", status_code=204, tags=["accounts"])
def disable_account(name: AccountName, who: Admin, request: Request) -> None:
    """Let an account in no more; every session and token of it ends."""
    _require(request, name)
    if name == who.name:
        raise ActionRefused("you can't disable your own account: somebody must be left who can undo it")
    ledger_of(request).accounts.disable(name)
    ledger_of(request).accounts.note_action(who.name, "account disable", now_of(request), detail=name)


@account_api.post("/accounts/{name}/enable", status_code=204, tags=["accounts"])
def enable_account(name: AccountName, who: Admin, request: Request) -> None:
    """Let an account in again."""
    _require(request, name)
    ledger_of(request).accounts.disable(name, disabled=False)
    ledger_of(request).accounts.note_action(who.name, "account enable", now_of(request), detail=name)


def _require(request: Request, name: str) -> None:
    if name not in {row.name for row in ledger_of(request).accounts.listed()}:
        raise HTTPException(404, "there is no such account")
