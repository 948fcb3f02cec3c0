"""Accounts and tokens, for programs: what ``medai account`` does, and what one may do for oneself.

Next: ledger/accounts.py.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from medai.router.console.api import REFUSALS, TOO_MANY, ledger_of, now_of, settings_of
from medai.router.console.auth import Administrator, Reader, address_of, idle_limit_s, require
from medai.router.console.requests import NAMED, NewAccount, NewPassword, NewRole, NewToken, OwnPassword
from medai.router.console.responses import AccountEntry, Token, TokenEntry
from medai.router.ledger.accounts import Account, AccountRow, Role, TokenRow
from medai.router.ledger.actions import ActionRefused

account_api = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(require())])
AccountName = Annotated[str, Path(pattern=NAMED, description="An account's name.")]
TokenNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="A token's number, as /api/tokens says it.")]


# -- one's own


@account_api.post("/me/password", status_code=204, tags=["session"], responses=TOO_MANY)
def change_password(body: OwnPassword, who: Reader, request: Request) -> None:
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
def make_token(body: NewToken, who: Reader, request: Request) -> Token:
    """A token for a program, with the rights of this account or fewer; only who logged in makes one."""
    if who.kind != "session":
        raise HTTPException(403, "a token makes no tokens: log in with your password")
    account, most = _holder(request, who, body.account)
    role = body.role or most
    if not most.may(role):
        raise HTTPException(403, f"a token may what its account may: {account} has the role {most.value}")
    now, lasts_s = now_of(request), body.days * 86400.0
    token = ledger_of(request).accounts.issue_token(
        account, now, kind="api", label=body.label, lasts_s=lasts_s, role=role
    )
    whose = "" if account == who.name else f"{account}: "
    detail = f"{whose}{body.label} ({role.value}, {body.days:g} days)"
    ledger_of(request).accounts.note_action(who.name, "token", now, detail=detail)
    return Token(token=token, expires_at=now + lasts_s)


def _holder(request: Request, who: Account, account: str | None) -> tuple[str, Role]:
    """Whose token is made, and what it may at most: nobody makes one that speaks for another person."""
    if account in (None, who.name):
        return who.name, who.role
    if not who.role.may(Role.ADMINISTRATOR):
        raise HTTPException(403, "one makes tokens of one's own account")
    found = _require(request, account)
    if found.role is not Role.SERVICE:
        raise HTTPException(403, f"{account} is a person, who makes tokens for themselves: name a service")
    return found.name, found.role


@account_api.get("/tokens", tags=["session"])
def tokens(who: Reader, request: Request) -> list[TokenEntry]:
    """The tokens and sessions that hold: one's own, an administrator's everybody's; newest first."""
    return [TokenEntry.model_validate(row, from_attributes=True) for row in held_tokens(request, who)]


def held_tokens(request: Request, who: Account) -> list[TokenRow]:
    """The tokens that hold and that somebody may know of."""
    idle_s = idle_limit_s(settings_of(request).console)
    return ledger_of(request).accounts.tokens(now_of(request), account=_whose(who), idle_s=idle_s)


@account_api.delete("/tokens/{token_id}", status_code=204, tags=["session"])
def revoke_token(token_id: TokenNumber, who: Reader, request: Request) -> None:
    """End a token or a session: one's own, an administrator anybody's."""
    found = next((row for row in held_tokens(request, who) if row.id == token_id), None)
    if found is None or not ledger_of(request).accounts.revoke(token_id, account=_whose(who)):
        raise HTTPException(404, "there is no such token")
    detail = f"{token_id}, {'session' if found.kind == 'session' else found.label} of {found.account}"
    ledger_of(request).accounts.note_action(who.name, "revoke token", now_of(request), detail=detail)


def _whose(who: Account) -> str | None:
    return None if who.role.may(Role.ADMINISTRATOR) else who.name


# -- everybody's


@account_api.get("/accounts", tags=["accounts"], dependencies=[Depends(require(Role.ADMINISTRATOR))])
def accounts(request: Request) -> list[AccountEntry]:
    """Every account."""
    return [AccountEntry.model_validate(row, from_attributes=True) for row in ledger_of(request).accounts.listed()]


@account_api.post("/accounts", status_code=201, tags=["accounts"])
def add_account(body: NewAccount, who: Administrator, request: Request) -> AccountEntry:
    """Make an account."""
    now = now_of(request)
    ledger_of(request).accounts.add(body.name, body.password, body.role, now)
    ledger_of(request).accounts.note_action(who.name, "account", now, detail=f"{body.name}, {body.role.value}")
    return AccountEntry.model_validate(ledger_of(request).accounts.named(body.name), from_attributes=True)


@account_api.post("/accounts/{name}/password", status_code=204, tags=["accounts"])
def set_password(name: AccountName, body: NewPassword, who: Administrator, request: Request) -> None:
    """Give an account another password; every session and token of it ends."""
    _require(request, name)
    ledger_of(request).accounts.set_password(name, body.password)
    ledger_of(request).accounts.note_action(who.name, "account password", now_of(request), detail=name)


@account_api.post("/accounts/{name}/role", status_code=204, tags=["accounts"])
def set_role(name: AccountName, body: NewRole, who: Administrator, request: Request) -> None:
    """Give an account another role, from its next request on."""
    before = _require(request, name)
    if name == who.name:
        raise ActionRefused("you can't change your own role: somebody must be left who can undo it")
    ledger_of(request).accounts.set_role(name, body.role)
    detail = f"{name}, {before.role.value} to {body.role.value}"
    ledger_of(request).accounts.note_action(who.name, "account role", now_of(request), detail=detail)


@account_api.post("/accounts/{name}/disable", status_code=204, tags=["accounts"])
def disable_account(name: AccountName, who: Administrator, request: Request) -> None:
    """Let an account in no more; every session and token of it ends."""
    _require(request, name)
    if name == who.name:
        raise ActionRefused("you can't disable your own account: somebody must be left who can undo it")
    ledger_of(request).accounts.disable(name)
    ledger_of(request).accounts.note_action(who.name, "account disable", now_of(request), detail=name)


@account_api.post("/accounts/{name}/enable", status_code=204, tags=["accounts"])
def enable_account(name: AccountName, who: Administrator, request: Request) -> None:
    """Let an account in again."""
    _require(request, name)
    ledger_of(request).accounts.disable(name, disabled=False)
    ledger_of(request).accounts.note_action(who.name, "account enable", now_of(request), detail=name)


def _require(request: Request, name: str) -> AccountRow:
    found = next((row for row in ledger_of(request).accounts.listed() if row.name == name), None)
    if found is None:
        raise HTTPException(404, "there is no such account")
    return found
