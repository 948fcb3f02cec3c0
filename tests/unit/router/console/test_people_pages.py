"""The pages of accounts, sessions and tokens: one's own for each, all for an administrator, and nothing that may not be done."""

from __future__ import annotations

from console_cases import World
from fastapi.testclient import TestClient

from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions


def in_a_browser(world: World, role: Role) -> TestClient:
    """Somebody who is signed in by a browser."""
    client = TestClient(world.app, base_url="http://localhost", headers={"Sec-Fetch-Site": "same-origin"})
    session = world.ledger.accounts.issue_token(
        role.value, world.now, kind="session", label="192.0.2.9", lasts_s=86_400
    )
    client.cookies.set("medai_session", session)
    return client


def test_an_administrator_sees_every_account_and_changes_any_but_their_own(world: World) -> None:
    page = in_a_browser(world, Role.ADMINISTRATOR).get("/accounts").text
    for name in ("reader", "operator"):
        for act in ("role", "disable", "password"):
            assert f"/api/accounts/{name}/{act}" in page, (name, act)
    assert "/api/accounts/administrator/" not in page
    assert "/api/accounts/service/disable" in page
    assert "/api/accounts/service/role" not in page
    assert "/api/accounts/service/password" not in page


def test_who_came_by_the_provider_has_neither_a_password_nor_a_role_to_change_here(world: World) -> None:
    world.ledger.accounts.signed_in("https://id.example", "1", "ana", Role.READER, world.now)
    page = in_a_browser(world, Role.ADMINISTRATOR).get("/accounts").text
    assert "/api/accounts/ana/disable" in page
    assert "/api/accounts/ana/role" not in page
    assert "/api/accounts/ana/password" not in page
    client = world.client(Role.ADMINISTRATOR)
    assert client.post("/api/accounts/ana/role", json={"role": "operator"}).status_code == 422
    assert client.post("/api/accounts/ana/password", json={"password": "long enough"}).status_code == 422


def test_sessions_and_tokens_are_ones_own_and_an_administrators_everybodys(world: World) -> None:
    browsers = {role: in_a_browser(world, role) for role in (Role.READER, Role.OPERATOR, Role.ADMINISTRATOR)}
    for role, browser in browsers.items():
        made = browser.post("/api/tokens", json={"label": f"<b>{role.value}s", "role": "service"})
        assert made.status_code == 201
    for role, browser in browsers.items():
        sessions, tokens = browser.get("/sessions").text, browser.get("/tokens").text
        others = 2 if role is Role.ADMINISTRATOR else 0
        assert sessions.count('data-method="DELETE"') == others, "one's own session ends by logging out"
        assert tokens.count('data-method="DELETE"') == others + 1
        assert "this browser" in sessions
        assert "192.0.2.9" in sessions
        assert f"&lt;b&gt;{role.value}s" in tokens
        assert "medai_" not in sessions + tokens.replace("medai_session", "")


def test_a_token_is_offered_for_no_more_than_one_may(world: World) -> None:
    pages = {role: in_a_browser(world, role).get("/tokens").text for role in (Role.READER, Role.ADMINISTRATOR)}
    assert 'value="service"' in pages[Role.READER]
    assert 'value="operator"' not in pages[Role.READER]
    assert 'name="account"' not in pages[Role.READER]
    assert 'value="administrator"' in pages[Role.ADMINISTRATOR]
    assert "<option>service</option>" in pages[Role.ADMINISTRATOR]


def test_an_administrator_ends_somebodys_session_and_that_is_written_down(world: World) -> None:
    reader, administrator = in_a_browser(world, Role.READER), in_a_browser(world, Role.ADMINISTRATOR)
    (number,) = [row.id for row in world.ledger.accounts.tokens(world.now) if row.account == "reader"]
    assert reader.get("/api/me").status_code == 200
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert administrator.delete(f"/api/tokens/{number}", headers=foreign).status_code == 403
    assert administrator.delete(f"/api/tokens/{number}").status_code == 204
    assert reader.get("/api/me").status_code == 401
    line = actions(world.ledger)[0]
    assert (line.account, line.action, line.detail) == ("administrator", "revoke token", f"{number}, session of reader")


def test_a_session_that_was_idle_for_too_long_is_listed_no_more(world: World) -> None:
    in_a_browser(world, Role.READER)
    world.now += 31 * 60
    page = in_a_browser(world, Role.ADMINISTRATOR).get("/sessions").text
    assert "<b>reader</b>" not in page
    assert "<b>administrator</b>" in page
