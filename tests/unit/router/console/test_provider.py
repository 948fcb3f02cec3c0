"""The provider's answers, where they are none: too long, too slow, elsewhere, or of another; nobody waits for them for long."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medai.router.cli.check import _sign_in
from medai.router.console.provider import ANSWER_MAX, AWAY_S, Provider, ProviderAway, SignInRefused
from medai.router.ledger.accounts import Role
from medai.router.settings.oidc import OidcSettings
from medai.router.settings.tables import ConsoleSettings, Settings

FOUND = "/.well-known/openid-configuration"


class Fake(ThreadingHTTPServer):
    """Says what it is told, and counts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.slow = False
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
        self.said: dict[str, Any] = {
            FOUND: {"issuer": self.issuer, **{name: f"{self.issuer}/{name}" for name in names}}
        }


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        said = self.server.said.get(self.path)
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(302 if said is None else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        try:
            for byte in body if self.server.slow else ():
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
            self.wfile.write(b"" if self.server.slow else body)
        except OSError:
            pass

    do_POST = do_GET  # noqa: N815 - the base class names it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Now:
    late = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.late


def provider_of(fake: Fake, now: Now | None = None, **more: Any) -> Provider:
    settings = OidcSettings(
        issuer=fake.issuer, client_id="medai", console_url="https://medai.example", roles={"a": "reader"},
        **{"timeout_s": 0.2, **more},
    )  # fmt: skip
    return Provider(settings, time.time, now or Now())


def test_check_tells_whether_people_could_sign_in(fake: Fake) -> None:
    provider = {"issuer": fake.issuer, "client_id": "medai", "roles": {"a": "reader"}, "timeout_s": 0.5}
    told = []
    for address in ("https://other.example", "http://localhost:8088"):
        console = ConsoleSettings(oidc=OidcSettings.model_validate({**provider, "console_url": address}))
        told += [(each.level, each.text) for each in _sign_in(Settings(console=console))]
    fake.said[FOUND] = b"[]"
    told += [(each.level, each.text) for each in _sign_in(Settings(console=console))]
    assert [level for level, _ in told] == ["error", "ok", "error"]
    assert "allowed_hosts" in told[0][1]
    assert "http://localhost:8088/login/oidc/back" in told[1][1]
    assert list(_sign_in(Settings())) == []


WRONG: dict[str, Any] = {
    "no object": b"[]",
    "no JSON": b"<html>",
    "no text": b"\xff\xfe",
    "too long": b'{"a": "' + b"a" * (ANSWER_MAX + 1),
    "elsewhere": None,
    "of another issuer": {"issuer": "https://evil.example"},
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG)
def test_a_provider_that_says_something_else_is_away_and_not_asked_again_at_once(fake: Fake, said: Any) -> None:
    fake.said[FOUND] = said
    now = Now()
    provider = provider_of(fake, now)
    for _ in range(3):
        with pytest.raises(ProviderAway):
            provider.begin("s", "n", "v" * 43)
    assert fake.asked == [FOUND]
    assert provider.goodbye(None) == ""
    now.late += AWAY_S + 1
    with pytest.raises(ProviderAway):
        provider.begin("s", "n", "v" * 43)
    assert fake.asked == [FOUND] * 2


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize("address", ["http://id.example/x", "javascript:alert(1)", ["x"], "/x"])
def test_an_address_that_others_could_hear_is_not_taken(fake: Fake, name: str, address: object) -> None:
    fake.said[FOUND][name] = address
    with pytest.raises(ProviderAway, match=f"{name} is no https address"):
        provider_of(fake).begin("s", "n", "v" * 43)


def test_an_answer_that_comes_byte_by_byte_holds_nobody_up(fake: Fake) -> None:
    fake.slow = True
    began = time.monotonic()
    with pytest.raises(ProviderAway, match="does not answer"):
        provider_of(fake).begin("s", "n", "v" * 43)
    assert time.monotonic() - began < 5.0


def test_keys_that_seal_and_keys_for_other_uses_are_none(fake: Fake) -> None:
    keys = [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "use": "enc", "n": "x", "e": "AQAB"}, {"kty": "RSA"}, "x"]
    fake.said["/jwks_uri"] = {"keys": keys}
    fake.said["/token_endpoint"] = {"id_token": "x.y.z", "access_token": "a"}
    with pytest.raises(ProviderAway, match="no key"):
        provider_of(fake).finish("c", "n", "v" * 43)


def test_roles_and_names_that_the_id_token_lacks_are_asked_for(fake: Fake) -> None:
    provider = provider_of(fake, role_claim=("realm", "roles"))
    fake.said["/userinfo_endpoint"] = {"sub": "1", "preferred_username": "ana", "realm": {"roles": ["x", "a"]}}
    claims = provider._with_userinfo({"sub": "1"}, "access")
    assert (provider._name(claims), provider._role(claims)) == ("ana", Role.READER)
    with pytest.raises(SignInRefused, match="two people"):
        provider._with_userinfo({"sub": "2"}, "access")
    whole = {"sub": "1", "preferred_username": "bob", "realm": {"roles": "a"}}
    assert provider._with_userinfo(whole, "access") == whole
    assert fake.asked.count("/userinfo_endpoint") == 2
