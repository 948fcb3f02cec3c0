"""Sign-in at a provider that is a process of its own: in, out, and nobody in who forges a step of it."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import urllib3
from fastapi.testclient import TestClient
from servers import Server, free_port

from medai.router.console import signin
from medai.router.console.app import make_app
from medai.router.console.provider import ProviderAway
from medai.router.errors import SettingsError
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.orthanc.client import Orthanc
from medai.router.reports.story import actions
from medai.router.settings.oidc import OidcSettings
from medai.router.settings.tables import ConsoleSettings, Settings

BACK = "/login/oidc/back"
PASSWORD = "long enough"
SECRET = "the client's secret"


class Provider(Server):
    """The package's provider, and what it is told to do."""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, said: object) -> Any:
        headers = {"Content-Type": "application/json"}
        answer = urllib3.request("PUT", self.issuer + path, body=json.dumps(said), headers=headers, timeout=10.0)
        assert answer.status in (200, 204), answer.data
        return json.loads(answer.data or b"null")

    def person(self, sub: str, **claims: object) -> None:
        self.put(f"/users/{sub}", claims)

    def lie(self, **lie: object) -> str:
        """Make the next ID token another one; the last one that was given."""
        return str(self.put("/tests/next", lie)["last"])

    def agree(self, address: str, sub: str) -> str:
        """What a person does there; where their browser is sent."""
        form = urlencode({"sub": sub})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = urllib3.request("POST", address, body=form, headers=headers, redirect=False, timeout=10.0)
        assert answer.status == 302, answer.data
        return answer.headers["Location"]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    port = free_port()
    command = [sys.executable, str(Path(__file__).parents[3] / "oidc_provider.py"), str(port), SECRET]
    server = Provider(command=command, folder=tmp_path_factory.mktemp("provider"), port=port, environment={})
    server.start()
    server.person("s-ana", preferred_username="ana", realm={"roles": ["staff", "readers"]})
    server.person("s-olga", preferred_username="olga", realm={"roles": ["readers", "admins"]})
    server.person("s-guest", preferred_username="guest", realm={"roles": ["visitors"]})
    yield server
    server.kill()


class Site:
    """A console whose people sign in at the provider, and a browser."""

    def __init__(self, ledger: Ledger, provider: Provider, **console: Any) -> None:
        self.ledger, self.provider, self.late = ledger, provider, 0.0
        oidc = OidcSettings(
            issuer=provider.issuer, client_id="medai", client_secret=SECRET, console_url="http://localhost:8088",
            role_claim=("realm", "roles"), roles={"readers": "reader", "admins": "administrator"},
            **console.pop("oidc", {}),
        )  # fmt: skip
        settings = Settings(console=ConsoleSettings(oidc=oidc, **console))
        self.app = make_app(
            settings, ledger, cast(Orthanc, None), probes={}, version="1.2.3",
            clock=lambda: time.time() + self.late, timer=lambda: time.monotonic() + self.late,
        )  # fmt: skip
        self.browser = self.new_browser()

    def new_browser(self) -> TestClient:
        return TestClient(
            self.app, base_url="http://localhost:8088", follow_redirects=False, raise_server_exceptions=False
        )

    def begin(self, then: str = "/studies") -> str:
        """Where the button leads."""
        answer = self.browser.get("/login/oidc", params={"next": then})
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def returned(self, sub: str = "s-ana", then: str = "/studies") -> str:
        """Where the provider sends the browser back to."""
        address = self.provider.agree(self.begin(then), sub)
        assert address.startswith(f"http://localhost:8088{BACK}?")
        return address

    def sign_in(self, sub: str = "s-ana") -> Any:
        return self.browser.get(self.returned(sub))

    def lines(self) -> list[tuple[str, str, str]]:
        return [(row.account, row.action, row.detail) for row in actions(self.ledger)][::-1]


@pytest.fixture
def site(ledger: Ledger, provider: Provider) -> Site:
    provider.lie()
    return Site(ledger, provider)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that every test gets a copy of."""
    file = tmp_path_factory.mktemp("empty") / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    ledger.close()
    return file


@pytest.fixture
def ledger(empty: Path, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{shutil.copy(empty, tmp_path)}")
    yield ledger
    ledger.close()


def refused(site: Site, answer: Any, words: str) -> None:
    """A page says why, nobody has a session, and a line is written."""
    assert answer.status_code == 403
    assert words in answer.text
    assert "medai_session" not in answer.headers.get("set-cookie", "")
    assert site.browser.get("/api/me").status_code == 401
    ((account, action, detail),) = site.lines()[-1:]
    assert (account, action) == ("(unknown)", "login failed")
    assert detail.startswith("by the provider, from testclient: ")


# -- in and out


def test_a_person_signs_in_with_the_role_that_the_provider_says(site: Site) -> None:
    page = site.browser.get("/login?next=/studies").text
    assert 'href="http://localhost:8088/login/oidc?next=/studies"' in page
    answer = site.sign_in()
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0;url=/studies"' in answer.text
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith("medai_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert site.browser.get("/api/me").json() == {"name": "ana", "role": "reader"}
    assert site.browser.get("/studies").status_code == 200
    assert site.lines() == [
        ("ana", "account", "ana, reader, by the provider"), ("ana", "login", "by the provider"), ("ana", "studies", "")
    ]  # fmt: skip
    assert site.ledger.verify_audit().faults == ()


def test_the_request_is_proven_by_pkce_and_names_the_consoles_own_address(site: Site) -> None:
    answer = site.browser.get("/login/oidc", headers={"Host": "localhost:9999", "X-Forwarded-Host": "evil.example"})
    asked = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert asked["redirect_uri"] == f"http://localhost:8088{BACK}"
    assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == (
        "code",
        "S256",
        "openid profile",
    )
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert SECRET not in answer.headers["Location"]


def test_of_several_roles_the_highest_counts_and_the_next_sign_in_says_it_anew(site: Site) -> None:
    site.sign_in("s-olga")
    assert site.browser.get("/api/me").json() == {"name": "olga", "role": "administrator"}
    site.provider.person("s-olga", preferred_username="olga.married", realm={"roles": "readers"})
    site.sign_in("s-olga")
    assert site.browser.get("/api/me").json() == {"name": "olga", "role": "reader"}, "an account keeps its name"
    assert ("olga", "account role", "olga, administrator to reader, by the provider") in site.lines()
    site.provider.person("s-olga", preferred_username="olga", realm={"roles": ["readers", "admins"]})


def test_a_sign_in_ends_the_session_that_the_browser_had(site: Site) -> None:
    site.sign_in()
    first = site.browser.cookies["medai_session"]
    site.sign_in()
    assert site.browser.cookies["medai_session"] != first
    old = site.new_browser()
    old.cookies.set("medai_session", first)
    assert old.get("/api/me").status_code == 401
    assert len(site.ledger.accounts.tokens(time.time())) == 1


def test_a_session_by_the_provider_ends_like_others(site: Site) -> None:
    for times in ((31,), (29,) * 26):
        site.sign_in()
        for minutes in times:
            site.late += minutes * 60
            last = site.browser.get("/api/me").status_code
        assert last == 401
        site.late = 0.0


def test_logging_out_leads_to_the_providers_own_logout(site: Site) -> None:
    site.sign_in()
    answer = site.browser.post("/api/logout", headers={"Sec-Fetch-Site": "same-origin"})
    then = urlsplit(answer.json()["then"])
    asked = {name: values[0] for name, values in parse_qs(then.query).items()}
    assert f"{then.scheme}://{then.netloc}{then.path}" == f"{site.provider.issuer}/oauth2/end_session"
    assert asked["post_logout_redirect_uri"] == "http://localhost:8088/login"
    assert asked["client_id"] == "medai"
    assert asked["id_token_hint"].count(".") == 2
    assert site.browser.get("/api/me").status_code == 401
    assert site.lines()[-1] == ("ana", "logout", "")


def test_a_sign_in_leads_nowhere_but_to_a_page_of_the_console(site: Site) -> None:
    for then in ("//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = site.browser.get(site.returned(then=then))
        assert 'content="0;url=/"' in answer.text, then
        assert "evil" not in answer.text


def test_a_new_key_of_the_provider_is_fetched_when_a_token_names_it(site: Site) -> None:
    site.sign_in()
    site.provider.put("/tests/key", {})
    site.late += 31
    assert site.sign_in().status_code == 200


# -- who is not let in


def test_a_person_without_a_role_is_told_so(site: Site) -> None:
    refused(site, site.sign_in("s-guest"), "your account at the provider has no role here")
    site.provider.person("s-guest", preferred_username="guest")
    refused(site, site.sign_in("s-guest"), "your account at the provider has no role here")
    assert site.ledger.accounts.listed() == []


def test_a_name_that_is_none_is_refused(site: Site) -> None:
    for name in ("<b>", "", "a" * 65, None, 7):
        site.provider.person("s-odd", preferred_username=name, realm={"roles": ["readers"]})
        refused(site, site.sign_in("s-odd"), "is no name for an account here")


def test_nobody_takes_over_an_account_by_its_name(site: Site) -> None:
    site.ledger.accounts.add("ana", PASSWORD, Role.ADMINISTRATOR, 1.0)
    refused(site, site.sign_in(), "somebody else has the name ana here")


def test_a_disabled_account_is_not_let_in_again(site: Site) -> None:
    site.sign_in()
    site.ledger.accounts.disable("ana")
    assert site.browser.get("/api/me").status_code == 401
    refused(site, site.sign_in(), "your account is disabled here")


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "another client's": ({"claims": {"aud": "another"}}, "InvalidClaimError"),
    "several clients' without azp": ({"claims": {"aud": ["medai", "another"]}}, "MissingClaimError"),
    "another party's": ({"claims": {"azp": "another"}}, "InvalidClaimError"),
    "another issuer's": ({"claims": {"iss": "https://evil.example"}}, "InvalidClaimError"),
    "expired": ({"claims": {"exp": 1_000_000_000}}, "ExpiredTokenError"),
    "of the future": ({"claims": {"iat": 4_000_000_000}}, "InvalidClaimError"),
    "without an end": ({"claims": {"exp": None}}, "InvalidClaimError"),
    "of another sign-in": ({"claims": {"nonce": "another"}}, "InvalidClaimError"),
    "without a nonce": ({"claims": {"nonce": None}}, "InvalidClaimError"),
    "for another access token": ({"claims": {"at_hash": "another"}}, "InvalidClaimError"),
    "without a signature": ({"alg": "none"}, "UnsupportedAlgorithmError"),
    "sealed with the public key": ({"alg": "HS256"}, "UnsupportedAlgorithmError"),
    "signed by another key": ({"by": "another key"}, "BadSignatureError"),
    "none at all": ({"token": "x"}, "DecodeError"),
    "JSON of something else": ({"token": "e30.W10.e30"}, "does not hold"),
    "no text": ({"token": ["x"]}, "no ID token"),
}


def test_an_id_token_that_does_not_hold_lets_nobody_in(site: Site) -> None:
    for lie, (told, why) in FORGED.items():
        address = site.returned()
        site.provider.lie(**told)
        answer = site.browser.get(address)
        assert answer.status_code == 403, lie
        refused(site, answer, why)


def test_the_id_token_of_an_earlier_sign_in_lets_nobody_in(site: Site) -> None:
    site.sign_in()
    earlier = site.provider.lie()
    site.browser.cookies.clear()
    address = site.returned()
    site.provider.lie(token=earlier)
    refused(site, site.browser.get(address), "ID token does not hold")


def test_a_forged_or_foreign_state_lets_nobody_in(site: Site) -> None:
    address = site.returned()
    state = parse_qs(urlsplit(address).query)["state"][0]
    refused(site, site.browser.get(address.replace(state, "forged")), "not that of the sign-in that this browser began")
    refused(site, site.browser.get(address), "this browser began no sign-in")
    victim = site.new_browser()
    site.begin()
    answer = victim.get(site.returned("s-olga"))
    assert (answer.status_code, victim.get("/api/me").status_code) == (403, 401), "a sign-in ends where it began"


def test_a_cookie_that_was_not_sealed_here_lets_nobody_in(site: Site) -> None:
    address = site.returned()
    site.browser.cookies.clear()
    for cookie in ("x", "e30=.x", "é.é", ".", "e30=." + "0" * 64):
        refused(
            site, site.browser.get(address, headers={"Cookie": f"medai_signin={cookie}".encode()}), "began no sign-in"
        )


def test_an_answer_is_taken_once_and_not_too_late(site: Site) -> None:
    address, cookie = site.returned(), site.browser.cookies["medai_signin"]
    assert site.browser.get(address).status_code == 200
    again = site.new_browser()
    again.cookies.set("medai_signin", cookie)
    assert again.get(address).status_code == 403
    site.browser.cookies.clear()
    late = site.returned()
    site.late += 601
    refused(site, site.browser.get(late), "the sign-in took too long")


def test_a_code_that_was_redeemed_before_lets_nobody_in(site: Site) -> None:
    code = parse_qs(urlsplit(site.returned()).query)["code"][0]
    site.sign_in()
    site.browser.cookies.clear()
    state = parse_qs(urlsplit(site.begin()).query)["state"][0]
    refused(site, site.browser.get(BACK, params={"code": code, "state": state}), "took the code for nothing")


def test_an_answer_without_a_code_or_of_another_provider_lets_nobody_in(site: Site) -> None:
    foreign = {"code": "x", "iss": "https://evil.example"}
    for said, words in (
        ({"error": "access_denied"}, "(access_denied)"), ({"error": "<b>x"}, "(no code)"), ({}, "(no code)"), (foreign, "another provider"),
    ):  # fmt: skip
        state = parse_qs(urlsplit(site.begin()).query)["state"][0]
        refused(site, site.browser.get(BACK, params={"state": state, **said}), words)


def test_tries_without_end_are_no_flood_of_lines(site: Site) -> None:
    for _ in range(60):
        assert site.browser.get(BACK).status_code == 403
    assert len(site.lines()) == 20


# -- the provider away, and accounts of the console


def test_while_the_provider_is_away_a_page_says_so_and_local_accounts_get_in(ledger: Ledger) -> None:
    nobody = Provider(command=[], folder=Path(), port=free_port(), environment={})
    site = Site(ledger, nobody)
    answer = site.browser.get("/login/oidc?next=/studies")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    ledger.accounts.add("local", PASSWORD, Role.READER, 1.0)
    assert site.browser.post("/api/login", json={"name": "local", "password": PASSWORD}).status_code == 200
    assert site.browser.get("/api/me").json() == {"name": "local", "role": "reader"}
    assert site.browser.post("/api/logout", headers={"Sec-Fetch-Site": "same-origin"}).json() == {"then": "/login"}


def test_without_local_accounts_no_password_and_no_session_of_one_counts(ledger: Ledger, provider: Provider) -> None:
    ledger.accounts.add("local", PASSWORD, Role.ADMINISTRATOR, 1.0)
    ledger.accounts.add("dashboard", None, Role.SERVICE, 1.0)
    session = ledger.accounts.issue_token("local", time.time(), kind="session", label="", lasts_s=60)
    program = ledger.accounts.issue_token("dashboard", time.time(), kind="api", label="", lasts_s=60)
    site = Site(ledger, provider, local_accounts=False)
    assert site.browser.post("/api/login", json={"name": "local", "password": PASSWORD}).status_code == 403
    assert 'name="password"' not in site.browser.get("/login").text
    statuses = [
        site.browser.get("/api/me", headers={"Authorization": f"Bearer {t}"}).status_code for t in (session, program)
    ]
    assert statuses == [401, 200]
    assert site.sign_in().status_code == 200


def test_a_program_of_somebody_who_signs_in_no_more_is_refused(site: Site) -> None:
    site.sign_in()
    body = {"label": "script", "days": 90}
    made = site.browser.post("/api/tokens", json=body, headers={"Sec-Fetch-Site": "same-origin"}).json()["token"]
    program = {"Authorization": f"Bearer {made}"}
    site.late += 13 * 86_400
    assert site.new_browser().get("/api/me", headers=program).status_code == 200
    site.late += 2 * 86_400
    assert site.new_browser().get("/api/me", headers=program).status_code == 401


def test_a_site_without_a_provider_has_no_such_pages(ledger: Ledger) -> None:
    app = make_app(Settings(), ledger, cast(Orthanc, None), probes={}, version="1.2.3")
    client = TestClient(app, base_url="http://localhost")
    assert [client.get(path).status_code for path in ("/login/oidc", BACK)] == [404, 404]
    assert "/login/oidc" not in client.get("/login").text


def test_a_console_that_does_not_go_by_the_name_that_it_gives_the_provider_does_not_start(
    ledger: Ledger, provider: Provider
) -> None:
    oidc = OidcSettings(
        issuer=provider.issuer, client_id="medai", console_url="https://other.example", roles={"x": "reader"}
    )
    with pytest.raises(SettingsError, match="allowed_hosts"):
        make_app(Settings(console=ConsoleSettings(oidc=oidc)), ledger, cast(Orthanc, None), probes={}, version="1.2.3")


# -- whether the provider still vouches


def role(site: Site) -> str:
    answer = site.browser.get("/api/me")
    return str(answer.json()["role"]) if answer.status_code == 200 else str(answer.status_code)


@pytest.fixture
def person(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Somebody whose role the provider changes."""
    monkeypatch.setattr(signin, "PATIENCE_S", 60.0)
    sub = f"s-{secrets.token_hex(4)}"
    provider.person(sub, preferred_username=sub, realm={"roles": ["admins"]})
    yield sub
    provider.put("/tests/refreshes", True)


def test_a_role_that_is_taken_away_at_the_provider_is_gone_within_minutes(
    site: Site, provider: Provider, person: str
) -> None:
    site.sign_in(person)
    provider.person(person, preferred_username=person, realm={"roles": ["readers"]})
    site.late = 4 * 60.0
    assert role(site) == "administrator"
    site.late = 6 * 60.0
    assert role(site) == "reader"
    provider.person(person, preferred_username=person, realm={"roles": ["visitors"]})
    site.late = 12 * 60.0
    assert role(site) == "401"
    assert [line[1:] for line in site.lines()][-2:] == [
        ("account role", f"{person}, administrator to reader, by the provider"),
        ("logout", "by the provider: your account at the provider has no role here: ask whoever gives out roles there"),
    ]


def test_who_is_shut_out_at_the_provider_is_shut_out_here(site: Site, provider: Provider, person: str) -> None:
    site.sign_in(person)
    answer = urllib3.request("POST", f"{provider.issuer}/users/{person}/revoke-tokens", timeout=10.0)
    assert answer.status < 300, answer.data
    site.late = 6 * 60.0
    assert role(site) == "401"
    assert site.lines()[-1][1:] == ("logout", "by the provider: the provider no longer vouches for this session")


def test_a_session_lasts_for_as_long_as_it_is_vouched_for(site: Site, person: str) -> None:
    site.sign_in(person)
    for minutes in range(25, 150, 25):
        site.late = minutes * 60.0
        assert role(site) == "administrator", minutes
    site.late = 12.1 * 3600.0
    assert role(site) == "401"


def test_without_a_refresh_token_a_session_is_short(site: Site, provider: Provider, person: str) -> None:
    provider.put("/tests/refreshes", False)
    site.sign_in(person)
    for minutes, expected in ((25, "administrator"), (50, "administrator"), (61, "401")):
        site.late = minutes * 60.0
        assert role(site) == expected


def test_a_provider_that_is_away_lets_nobody_out_before_the_session_ends(
    site: Site, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sign_in(person)

    def away(_known: object) -> None:
        raise ProviderAway("not there")

    monkeypatch.setattr(site.app.state.signins.provider, "again", away)
    for minutes, expected in ((25, "administrator"), (50, "administrator"), (61, "401")):
        site.late = minutes * 60.0
        assert role(site) == expected
