"""deploy/proxy/nginx.conf before the console: a browser gets TLS alone, and the console knows who asks."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from browser import PASSWORD, add_people, console_of
from servers import Server, binary, free_port, running

from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions
from medai.router.settings.tables import ConsoleSettings, Settings

NAME = "medai.hospital.example"
BROWSER = "127.0.0.7"
ELSEWHERE = "203.0.113.9"


@dataclass
class Behind:
    """The console behind nginx."""

    tls: int
    plain: int
    console: str
    certificate: Path
    ledger: Ledger

    def ask(
        self, method: str, path: str, *, name: str = NAME, body: object = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        """As a browser on this machine does, for which the name leads here."""
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1", self.tls, ca_certs=str(self.certificate), server_hostname=name, assert_hostname=NAME, retries=False,
            timeout=10.0, source_address=(BROWSER, 0),
        ) as pool:  # fmt: skip
            return pool.request(method, path, json=body, headers={"Host": name} | (headers or {}))


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("proxy")
    key, certificate, tls, plain = folder / "console.key", folder / "console.pem", free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.migrate()
    add_people(ledger, 0.0)
    settings = Settings(console=ConsoleSettings(allowed_hosts=(NAME,), trusted_proxies=("127.0.0.1",)))
    with console_of(settings, ledger) as console:
        text = (project_root / "deploy" / "proxy" / "nginx.conf").read_text(encoding="utf-8")
        for old, new in {
            "listen 80;": f"listen 127.0.0.1:{plain};", "listen 443 ": f"listen 127.0.0.1:{tls} ",
            "/etc/ssl/medai": str(folder), "/var/log/nginx": str(folder), "http://127.0.0.1:8088": console,
        }.items():  # fmt: skip
            assert old in text
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n"
            + "".join(
                f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + text
            + "}\n"
        )
        command = [binary("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with running(Server(command=command, folder=folder, port=tls, environment={})):
            yield Behind(tls, plain, console, certificate, ledger)
    ledger.close()


def test_a_person_logs_in_and_the_cookie_is_for_tls_alone(behind: Behind) -> None:
    answer = behind.ask("POST", "/api/login", body={"name": Role.OPERATOR.value, "password": PASSWORD})
    assert answer.status == 200
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_who_fails_to_log_in_is_known_by_the_proxys_word_and_not_by_the_browsers(behind: Behind) -> None:
    behind.ask(
        "POST",
        "/api/login",
        body={"name": Role.OPERATOR.value, "password": "wrong"},
        headers={"X-Forwarded-For": ELSEWHERE},
    )
    told = [(row.detail, row.address) for row in actions(behind.ledger, limit=50) if row.action == "login failed"]
    assert told == [(f"from {BROWSER}", BROWSER)]


def test_plain_http_leads_to_tls_under_the_one_name(behind: Behind) -> None:
    with urllib3.HTTPConnectionPool("127.0.0.1", behind.plain, retries=False) as pool:
        answer = pool.request("GET", "/studies?x=1", headers={"Host": "elsewhere.example"}, redirect=False)
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{NAME}/studies?x=1")


def test_another_name_gets_no_certificate(behind: Behind) -> None:
    with pytest.raises(urllib3.exceptions.SSLError):
        behind.ask("GET", "/", name="elsewhere.example")


@pytest.mark.parametrize("suites", ["AES128-SHA", "ECDHE-RSA-AES128-SHA"])
def test_a_client_without_a_suite_of_rfc_9325_is_refused(behind: Behind, suites: str) -> None:
    context = ssl.create_default_context(cafile=str(behind.certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suites}:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", behind.tls), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=NAME)


def test_a_body_beyond_the_consoles_limit_ends_at_the_proxy(behind: Behind) -> None:
    answer = behind.ask("POST", "/api/login", body={"name": "x" * 1_100_000, "password": "x"})
    assert answer.status == 413


def test_no_address_of_a_page_is_written_down(behind: Behind) -> None:
    behind.ask("GET", "/studies/2.25.99")
    folder = behind.certificate.parent
    assert not any("2.25.99" in file.read_text(errors="replace") for file in folder.glob("*.log"))
