"""The pages of accounts, sessions and tokens: made from the ledger, acted on through the API (account_api.py).

Next: templates/accounts.html, templates/sessions.html, templates/tokens.html.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from medai.router.console.account_api import held_tokens
from medai.router.console.api import ledger_of, settings_of
from medai.router.console.pages import Someone, render
from medai.router.ledger.accounts import Role

people_pages = APIRouter(include_in_schema=False)
PEOPLE = tuple(role for role in Role if role is not Role.SERVICE)
"""What people may be; a service stays one."""


@people_pages.get("/accounts")
def accounts(request: Request, who: Someone) -> HTMLResponse:
    """Who may sign in, as what."""
    rows, console = ledger_of(request).accounts.listed(), settings_of(request).console
    return render(
        request, "accounts.html", who, rows=rows, roles=list(Role), people=PEOPLE, local=console.local_accounts,
        oidc=console.oidc.is_on,
    )  # fmt: skip


@people_pages.get("/sessions")
def sessions(request: Request, who: Someone) -> HTMLResponse:
    """Which browsers are signed in: one's own, an administrator's everybody's."""
    rows = [row for row in held_tokens(request, who) if row.kind == "session"]
    return render(request, "sessions.html", who, rows=rows)


@people_pages.get("/tokens")
def tokens(request: Request, who: Someone) -> HTMLResponse:
    """Which programs have a token: one's own, an administrator's everybody's; and one more."""
    rows = [row for row in held_tokens(request, who) if row.kind != "session"]
    services = []
    if who.role.may(Role.ADMINISTRATOR):
        listed = ledger_of(request).accounts.listed()
        services = [row.name for row in listed if row.role is Role.SERVICE and not row.disabled]
    roles = [role for role in Role if who.role.may(role)]
    return render(request, "tokens.html", who, rows=rows, services=services, roles=roles)
