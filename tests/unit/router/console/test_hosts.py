"""Under which names the console answers: its own, and none that a page of another site can take."""

from __future__ import annotations

import socket

import pytest
from console_cases import World

from medai.router.console.hosts import answers_to
from medai.router.ledger.accounts import Role
from medai.router.settings.tables import ConsoleSettings

OWN = ["localhost", "LOCALHOST:8088", "127.0.0.1:8088", "[::1]:8088"]
OTHERS = ["evil.example", "evil.example:8088", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil.example]",
          "evil.example:127.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "192.0.2.1"])
def test_loopback_names_are_always_ours_and_a_foreign_name_never(host: str) -> None:
    ours = answers_to(ConsoleSettings(host=host))
    assert all(ours(name) for name in OWN)
    assert not any(ours(name) for name in OTHERS)


@pytest.mark.parametrize("name", ["192.0.2.7:8088", "[2001:db8::7]:80", "console:8088", socket.gethostname()])
def test_a_console_for_every_address_answers_to_addresses_and_names_of_the_house(name: str) -> None:
    assert answers_to(ConsoleSettings(host="0.0.0.0"))(name)
    if name != socket.gethostname():
        assert not answers_to(ConsoleSettings(host="127.0.0.1"))(name)


def test_a_name_that_is_given_is_ours() -> None:
    ours = answers_to(ConsoleSettings(host="192.0.2.1", allowed_hosts=("AI.hospital.example",)))
    assert ours("ai.hospital.example:443")
    assert ours("192.0.2.1")
    assert not ours("hospital.example")
    assert answers_to(ConsoleSettings(allowed_hosts=("*",)))("any.example")


@pytest.mark.parametrize("path", ["/api/health", "/login", "/static/console.js", "/api/login"])
def test_nothing_is_served_to_another_name(world: World, path: str) -> None:
    client = world.client(Role.ADMINISTRATOR)
    answer = client.get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "allowed_hosts" in answer.json()["detail"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
