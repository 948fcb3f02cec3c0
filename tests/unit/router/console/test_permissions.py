"""Roles and calls: each call of the description, by each role, answers whom the table names and nobody else."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from console_cases import PASSWORDS, World, filled, walk
from fastapi.testclient import TestClient

from medai.router.console import permissions
from medai.router.console.permissions import ANYBODY, CALLS, OPEN_PAGES, PAGES, needed, needed_by_page
from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions

BODIES = {
    "POST /api/login": {"name": "reader", "password": PASSWORDS[Role.READER]},
    "POST /api/accounts": {"name": "somebody", "password": "long enough"},
    "POST /api/accounts/{name}/password": {"password": "long enough"},
    "POST /api/accounts/{name}/role": {"role": "operator"},
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
        kind = "api" if role is Role.SERVICE else kind
        token = world.ledger.accounts.issue_token(role.value, world.now, kind=kind, label="", lasts_s=60, role=most)
        client.headers["Authorization"] = f"Bearer {token}"
    body = BODIES.get(call, {"reason": "because"})
    if call == "POST /api/me/password" and role in PASSWORDS:
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


@pytest.mark.parametrize("most", [Role.SERVICE, Role.READER, Role.OPERATOR])
def test_a_token_of_an_admin_that_is_made_for_less_may_what_it_was_made_for(world: World, most: Role) -> None:
    for call in described(world):
        least = needed(call)
        if least is not None and not most.may(least):
            assert asked(world, call, Role.ADMINISTRATOR, kind="api", most=most) == 403, call


def test_a_call_that_the_table_does_not_name_answers_nobody(world: World) -> None:
    without = {role: calls - {"GET /api/status", "GET /api/accounts"} for role, calls in CALLS.items()}
    with patch.object(permissions, "CALLS", without):
        for call in ("GET /api/status", "GET /api/accounts"):
            assert [asked(world, call, role) for role in Role] == [403] * 4


FILES = {"/app-config.js", "/{name:path}"}
"""Of the viewer: there is no secret among them."""


def test_the_table_names_the_pages_and_no_others(world: World) -> None:
    pages = {route.path for route in walk(world.app.routes) if not route.include_in_schema}
    named = set().union(OPEN_PAGES, *PAGES.values())
    assert named == pages - FILES - {"/api/openapi.json"}
    assert list(PAGES) == list(Role)


@pytest.mark.parametrize("role", [None, *Role])
def test_each_page_is_shown_to_whom_the_table_names_and_nobody_else(world: World, role: Role | None) -> None:
    world.app.state.viewer = Path(__file__).parent
    client = TestClient(world.app, base_url="http://localhost", follow_redirects=False, raise_server_exceptions=False)
    if role is not None:
        token = world.ledger.accounts.issue_token(role.value, world.now, kind="session", label="", lasts_s=60)
        client.cookies.set("medai_session", token)
    for path in sorted(set().union(*PAGES.values())):
        answer, least = client.get(filled(path)), needed_by_page(path)
        if role is None:
            assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, "/login"), path
        elif least is None or not role.may(least):
            assert answer.status_code == 403, (path, role)
        else:
            assert answer.status_code not in (401, 403, 405), (path, role)


def test_a_page_that_the_table_does_not_name_is_shown_to_nobody(world: World) -> None:
    client = TestClient(world.app, base_url="http://localhost")
    token = world.ledger.accounts.issue_token("administrator", world.now, kind="session", label="", lasts_s=60)
    client.cookies.set("medai_session", token)
    with patch.object(permissions, "PAGES", {role: frozenset() for role in Role}):
        assert client.get("/studies").status_code == 403


def test_the_documentation_shows_the_table_as_it_is() -> None:
    page = (Path(permissions.__file__).resolve().parents[2] / "docs/security.md").read_text(encoding="utf-8")
    assert permissions.MARKED.search(page)
    assert permissions.filled(page) == page, "python -m medai.router.console.permissions docs/security.md"


def test_an_administrator_makes_a_services_token_and_nobody_anothers(world: World) -> None:
    administrator, operator = world.client(Role.ADMINISTRATOR), world.client(Role.OPERATOR)
    for_service = {"label": "dashboard", "account": "service"}
    token = administrator.post("/api/tokens", json=for_service).json()["token"]
    program = world.client(None)
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/me").json() == {"name": "service", "role": "service"}
    assert operator.post("/api/tokens", json=for_service).status_code == 403
    assert administrator.post("/api/tokens", json={"label": "x", "account": "reader"}).status_code == 403
    assert administrator.post("/api/tokens", json={"label": "x", "account": "nobody"}).status_code == 404
    assert administrator.post("/api/tokens", json={**for_service, "role": "reader"}).status_code == 403


def test_an_account_gets_another_role_from_somebody_else_alone(world: World) -> None:
    administrator, reader = world.client(Role.ADMINISTRATOR), world.client(Role.READER)
    assert administrator.post("/api/accounts/reader/role", json={"role": "operator"}).status_code == 204
    assert reader.get("/api/me").json()["role"] == "operator"
    assert administrator.post("/api/accounts/administrator/role", json={"role": "reader"}).status_code == 409
    assert administrator.post("/api/accounts/reader/role", json={"role": "service"}).status_code == 422
    assert actions(world.ledger)[0].detail == "reader, reader to operator"
