"""Logins, attacked: guesses cost no memory, keep nobody else out, and hold up no other request."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
from console_cases import PASSWORDS, World
from fastapi.testclient import TestClient

from medai.router.console.auth import HASHES_AT_ONCE, WAITING_MOST
from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions

RIGHT = {"name": "administrator", "password": PASSWORDS[Role.ADMINISTRATOR]}


def wrong(number: int = 0, name: str = "administrator") -> dict[str, str]:
    return {"name": name, "password": f"wrong-{number}"}


def test_guesses_at_a_name_lock_out_the_guesser_and_nobody_else(world: World) -> None:
    guesser, admin = world.client(None, "192.0.2.66"), world.client(None, "192.0.2.7")
    assert [guesser.post("/api/login", json=wrong(n)).status_code for n in range(8)] == [401] * 5 + [429] * 3
    assert guesser.post("/api/login", json=RIGHT).status_code == 429
    assert admin.post("/api/login", json=RIGHT).status_code == 200, "from another address"
    assert guesser.post("/api/login", json={"name": "reader", "password": PASSWORDS[Role.READER]}).status_code == 200
    world.now += 61
    assert guesser.post("/api/login", json=RIGHT).status_code == 200


@pytest.mark.parametrize("addresses", [[f"2001:db8::{n:x}" for n in range(8)], [f"2001:db8::1%{n}" for n in range(8)]])
def test_the_addresses_of_one_host_count_as_one(world: World, addresses: list[str]) -> None:
    answers = [world.client(None, a).post("/api/login", json=wrong(n)).status_code for n, a in enumerate(addresses)]
    assert answers == [401] * 5 + [429] * 3


def test_of_many_guesses_at_once_two_are_hashed_and_others_are_served_meanwhile(world: World) -> None:
    running, most, lock = 0, 0, threading.Lock()
    checked = world.ledger.accounts.by_password

    def slowly(name: str, password: str) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return checked(name, password)

    def guess(number: int) -> int:
        client = world.client(None, f"198.51.100.{number % 20}")
        return client.post("/api/login", json=wrong(number, f"nobody{number}")).status_code

    with patch.object(world.ledger.accounts, "by_password", slowly), ThreadPoolExecutor(80) as pool:
        guesses = [pool.submit(guess, number) for number in range(80)]
        began = time.monotonic()
        assert world.client(None).get("/api/health").status_code == 200
        assert time.monotonic() - began < 2.0
        answers = {each.result() for each in guesses}
    assert most <= HASHES_AT_ONCE
    assert answers <= {401, 429}


def test_a_flood_from_one_address_leaves_the_queue_to_others(world: World) -> None:
    free = threading.Event()
    checked = world.ledger.accounts.by_password

    def held(name: str, password: str) -> Any:
        free.wait(10.0)
        return checked(name, password)

    def guess(number: int) -> int:
        return world.client(None, "192.0.2.66").post("/api/login", json=wrong(number, f"n{number}")).status_code

    with patch.object(world.ledger.accounts, "by_password", held), ThreadPoolExecutor(41) as pool:
        guesses = [pool.submit(guess, number) for number in range(40)]
        while sum(each.done() for each in guesses) < 40 - WAITING_MOST:
            time.sleep(0.01)
        right = pool.submit(lambda: world.client(None, "192.0.2.7").post("/api/login", json=RIGHT).status_code)
        free.set()
        assert right.result() == 200
        answers = [each.result() for each in guesses]
    assert (answers.count(429), answers.count(401)) == (40 - WAITING_MOST, WAITING_MOST)


def test_a_large_body_is_refused_before_anybody_asks_who_sent_it(world: World) -> None:
    for path in ("/api/login", "/api/rules/test", "/api/nothing", "/login"):
        answer = world.client(None).post(path, content=b'{"name": "' + b"a" * 2**20)
        assert answer.status_code == 413, path


def test_health_asks_nobody_and_waits_for_no_other_request(world: World) -> None:
    waits = threading.Event()

    def stuck(*_: object) -> None:
        waits.wait(20.0)

    with patch.object(world.ledger.accounts, "by_token", stuck), ThreadPoolExecutor(60) as pool:
        client = world.client(None)
        for _ in range(60):
            pool.submit(world.client(None).get, "/api/me", headers={"Authorization": "Bearer x"})
        time.sleep(0.3)
        began = time.monotonic()
        assert client.get("/api/health").status_code == 200
        assert time.monotonic() - began < 1.0
        waits.set()


# -- pages of other sites


def in_a_browser(world: World, role: Role = Role.ADMINISTRATOR) -> TestClient:
    """Somebody who logged in on the page."""
    client = world.client(None)
    assert client.post("/api/login", json={"name": role.value, "password": PASSWORDS[role]}).status_code == 200
    return client


FOREIGN = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    "headers",
    [
        FOREIGN, {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9"}, {}, {"Origin": "null"},
        {"Authorization": "Basic eDp5", **FOREIGN}, {"Authorization": "Bearer", **FOREIGN},
        {"Authorization": "Bearer  ", **FOREIGN}, {"Authorization": "Negotiate x", **FOREIGN}, {"Authorization": ""},
    ],
)  # fmt: skip
def test_another_sites_page_does_nothing_by_the_cookie(world: World, headers: dict[str, str]) -> None:
    client = in_a_browser(world)
    assert client.post("/api/tokens", json={"label": "csrf"}, headers=headers).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/tokens", json={"label": "own"}, headers=own).status_code == 201


def test_a_wrong_token_is_not_helped_out_by_the_cookie(world: World) -> None:
    client = in_a_browser(world)
    answer = client.post("/api/tokens", json={"label": "csrf"}, headers={"Authorization": "Bearer medai_x", **FOREIGN})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "/\\evil.example/", "/\t/evil.example/", "/\n/evil.example/", "/\r\\evil.example/", "https://evil.example",
     "javascript:alert(1)", "evil.example", "/%5Cevil.example\\", "", "///evil.example", "/ /evil.example", "/\x00/evil.example",
     '/"><script>alert(1)</script>'],
)  # fmt: skip
def test_a_login_leads_nowhere_but_to_a_page_of_the_console(world: World, target: str) -> None:
    page = world.client(None).get("/login", params={"next": target}).text
    assert 'data-then="/"' in page
    assert "evil" not in page


@pytest.mark.parametrize("target", ["/", "/studies", "/studies/12", "/studies?text=A%201&state=done", "/?x=1"])
def test_a_login_leads_back_to_where_one_was(world: World, target: str) -> None:
    page = world.client(None).get("/login", params={"next": target}).text
    assert f'data-then="{target.replace("&", "&amp;")}"' in page


def test_every_answer_tells_the_browser_to_be_careful(world: World) -> None:
    for path in ("/login", "/api/health", "/api/me", "/static/console.js", "/nothing"):
        headers = world.client(None).get(path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "base-uri 'none'" in headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in headers
    by_tls = world.client(None).get("/login", headers={"X-Forwarded-Proto": "https"}).headers
    assert by_tls["Strict-Transport-Security"] == "max-age=31536000"


# -- sessions and tokens


def test_a_session_ends_when_nobody_did_anything_and_when_its_time_is_over(world: World) -> None:
    client = in_a_browser(world)
    for _ in range(10):
        world.now += 29 * 60
        assert client.get("/api/me").status_code == 200
    world.now += 31 * 60
    assert client.get("/api/me").status_code == 401
    client = in_a_browser(world)
    for _ in range(26):
        world.now += 28 * 60
        last = client.get("/api/me").status_code
    assert last == 401, "12 hours are over, however busy one was"


def test_a_page_that_keeps_itself_fresh_keeps_no_session_alive(world: World) -> None:
    client = in_a_browser(world)
    for _ in range(40):
        world.now += 60
        last = client.get("/api/me", headers={"X-Medai-Refresh": "1"}).status_code
    assert last == 401


def test_a_token_for_a_program_may_what_it_was_made_for_and_does_not_idle(world: World) -> None:
    person = world.client(Role.ADMINISTRATOR)
    made = person.post("/api/tokens", json={"label": "dashboard", "role": "reader", "days": 30}).json()
    program = world.client(None)
    program.headers["Authorization"] = f"Bearer {made['token']}"
    assert program.get("/api/me").json() == {"name": "administrator", "role": "reader"}
    assert program.get("/api/audit").status_code == program.get("/api/accounts").status_code == 403
    assert program.post("/api/tokens", json={"label": "another"}).status_code == 403, "a token makes no tokens"
    (entry,) = [each for each in program.get("/api/tokens").json() if each["kind"] == "api"]
    assert entry["role"] == "reader"
    world.now += 29 * 86400
    assert program.get("/api/me").status_code == 200
    world.now += 86400
    assert program.get("/api/me").status_code == 401


@pytest.mark.parametrize("wanted", [{"role": "administrator"}, {"role": "operator"}])
def test_no_token_may_more_than_its_account(world: World, wanted: dict[str, str]) -> None:
    assert world.client(Role.READER).post("/api/tokens", json={"label": "x", **wanted}).status_code == 403


@pytest.mark.parametrize("days", [367, 3650])
def test_no_token_lasts_for_years(world: World, days: int) -> None:
    assert world.client(Role.ADMINISTRATOR).post("/api/tokens", json={"label": "x", "days": days}).status_code == 422


# -- what is written down


def lines(world: World) -> list[tuple[str, str, str]]:
    return [(row.account, row.action, row.detail) for row in actions(world.ledger, limit=500)][::-1]


def test_wrong_passwords_and_logouts_are_written_down(world: World) -> None:
    client = world.client(None, "192.0.2.66")
    for number in range(8):
        client.post("/api/login", json=wrong(number))
    client.post("/api/login", json={"name": "my secret password", "password": "x"})
    world.client(Role.READER).post("/api/logout")
    person = world.client(Role.OPERATOR)
    assert person.post("/api/me/password", json={"old": "wrong", "password": "long enough"}).status_code == 403
    assert lines(world) == [
        *[("administrator", "login failed", "from 192.0.2.66")] * 5,
        ("administrator", "login failed", "from 192.0.2.66"),  # once, that no more are taken
        ("(unknown)", "login failed", "from 192.0.2.66"),
        ("reader", "login", ""), ("reader", "logout", ""), ("operator", "login", ""),
        ("operator", "login failed", "password change, from 192.0.2.1"),
    ]  # fmt: skip
    assert world.ledger.verify_audit().faults == ()


def test_a_flood_of_wrong_passwords_is_no_flood_of_lines(world: World) -> None:
    client = world.client(None)
    for number in range(60):
        client.post("/api/login", json=wrong(number, f"nobody{number}"))
    assert len(lines(world)) == 20
    with ThreadPoolExecutor(40) as pool:
        other = world.client(None, "192.0.2.66")
        list(pool.map(lambda n: other.post("/api/login", json=wrong(n, f"nobody{n}")).status_code, range(80)))
    assert len(lines(world)) == 40


def test_what_one_looked_at_is_written_down_once_in_a_while(world: World) -> None:
    world.job()
    client = in_a_browser(world, Role.READER)
    for _ in range(3):
        for path in ("/api/studies", "/api/studies/1", "/studies", "/studies/1"):
            assert client.get(path).status_code == 200
        client.get("/studies/99")
    found = [(row.account, row.action, row.study_id) for row in actions(world.ledger) if row.account == "reader"][::-1]
    assert found[1:] == [("reader", "studies", None), ("reader", "study", 1)]
    world.now += 901
    client.get("/studies/1")
    assert actions(world.ledger)[0].action == "study"
