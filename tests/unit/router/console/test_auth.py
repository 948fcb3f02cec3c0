"""Logins, attacked: guesses cost no memory, keep nobody else out, and hold up no other request."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
from console_cases import PASSWORDS, World

from medai.router.console.auth import HASHES_AT_ONCE, WAITING_MOST
from medai.router.ledger.accounts import Role

RIGHT = {"name": "admin", "password": PASSWORDS[Role.ADMIN]}


def wrong(number: int = 0, name: str = "admin") -> dict[str, str]:
    return {"name": name, "password": f"wrong-{number}"}


def test_guesses_at_a_name_lock_out_the_guesser_and_nobody_else(world: World) -> None:
    guesser, admin = world.client(None, "192.0.2.66"), world.client(None, "192.0.2.7")
    assert [guesser.post("/api/login", json=wrong(n)).status_code for n in range(8)] == [401] * 5 + [429] * 3
    assert guesser.post("/api/login", json=RIGHT).status_code == 429
    assert admin.post("/api/login", json=RIGHT).status_code == 200, "from another address"
    assert guesser.post("/api/login", json={"name": "viewer", "password": PASSWORDS[Role.VIEWER]}).status_code == 200
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
