"""Roles and calls: each call of the description, by each role, answers whom the table names and nobody else."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from console_cases import PASSWORDS, World, filled
from fastapi.testclient import TestClient

from medai.router.console import permissions
from medai.router.console.permissions import ANYBODY, CALLS, needed
from medai.router.ledger.accounts import Role

BODIES = {
    "POST /api/login": {"name": "viewer", "password": PASSWORDS[Role.VIEWER]},
    "POST /api/accounts": {"name": "somebody", "password": "long enough"},
    "POST /api/accounts/{name}/password": {"password": "long enough"},
    "POST /api/tokens": {"label": "program"},
    "POST /api/rules/test": {"study": {}},
    "POST /api/readings/{job_id}/again": {"model": "m"},
    "POST /api/surveys/sus": {f"q{number}": 3 for number in range(1, 11)},
}


def described(world: World) -> list[str]:
    paths = world.app.openapi()["paths"]
    return sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods)


def asked(world: World, call: str, role: Role | None, *, kind: str = "session", most: Role | None = None) -> int:
    """What becomes of a call by somebody of this role; each time with a token of its own, as some calls end theirs."""
    method, path = call.split(" ")
    client = TestClient(world.app, base_url="http://localhost", raise_server_exceptions=False)
    if role is not None:
        token = world.ledger.accounts.issue_token(role.value, world.now, kind=kind, label="", lasts_s=60, role=most)
        client.headers["Authorization"] = f"Bearer {token}"
    body = BODIES.get(call, {"reason": "because"})
    if call == "POST /api/me/password" and role is not None:
        body = {"old": PASSWORDS[role], "password": PASSWORDS[role]}
    return client.request(method, filled(path), json=None if method == "GET" else body).status_code


def test_the_table_names_the_calls_of_the_description_and_no_others(world: World) -> None:
    named = [call for calls in (ANYBODY, *CALLS.values()) for call in calls]
    assert sorted(named) == sorted([*described(world), "GET /api/openapi.json"])
    assert list(CALLS) == list(Role)


@pytest.mark.parametrize("role", [None, *Role])
def test_each_call_answers_whom_the_table_names_and_nobody_else(world: World, role: Role | None) -> None:
    for call in [*described(world), "GET /api/openapi.json"]:
        status = asked(world, call, role)
        least = needed(call)
        if call in ANYBODY:
            assert status < 300, call
        elif role is None:
            assert status == 401, call
        elif least is None or not role.may(least):
            assert status == 403, (call, role)
        else:
            assert status not in (401, 403, 405, 500), (call, role, status)


@pytest.mark.parametrize("most", [Role.VIEWER, Role.OPERATOR])
def test_a_token_of_an_admin_that_is_made_for_less_may_what_it_was_made_for(world: World, most: Role) -> None:
    for call in described(world):
        least = needed(call)
        if least is not None and not most.may(least):
            assert asked(world, call, Role.ADMIN, kind="api", most=most) == 403, call


def test_a_call_that_the_table_does_not_name_answers_nobody(world: World) -> None:
    without = {role: calls - {"GET /api/status", "GET /api/accounts"} for role, calls in CALLS.items()}
    with patch.object(permissions, "CALLS", without):
        for call in ("GET /api/status", "GET /api/accounts"):
            assert [asked(world, call, role) for role in Role] == [403] * 3


def test_every_page_asks_who_looks(world: World) -> None:
    client = TestClient(world.app, base_url="http://localhost", follow_redirects=False)
    for path in ("/", "/studies", "/studies/1", "/rules", "/models", "/agreement", "/surveys", "/audit"):
        assert client.get(path).headers["Location"].startswith("/login"), path
    for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 403), (Role.ADMIN, 200)):
        token = world.ledger.accounts.issue_token(role.value, world.now, kind="session", label="", lasts_s=60)
        client.cookies.set("medai_session", token)
        assert client.get("/audit").status_code == status
