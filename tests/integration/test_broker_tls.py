"""A Redis behind TLS: its certificate is verified by every client, or nothing is said to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError
from servers import Server, binary, free_port, running

from medai.router.errors import BrokerUnreachable
from medai.router.queue.broker import make_celery
from medai.router.queue.dispatch import Dispatcher
from medai.router.settings.tables import BrokerSettings

pytestmark = pytest.mark.slow


@dataclass
class Behind:
    """A Redis that speaks TLS alone."""

    port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"rediss://:pw@localhost:{self.port}/0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("redis-tls")
    key, certificate, port = folder / "key.pem", folder / "certificate.pem", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    command = [binary("redis-server"), "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--save", "",
               "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no",
               "--requirepass", "pw"]  # fmt: skip
    with running(Server(command=command, folder=folder, port=port, environment={})):
        yield Behind(port, certificate)


def test_a_server_whose_certificate_nobody_vouches_for_hears_nothing(server: Behind) -> None:
    dispatcher = Dispatcher(BrokerSettings(url=server.url))
    with pytest.raises(BrokerUnreachable):
        dispatcher.ping()
    with pytest.raises(BrokerUnreachable):
        dispatcher.send("x" * 8, queue="cpu", priority=6)
    dispatcher.close()


def test_the_workers_own_connection_verifies_too(server: Behind) -> None:
    app = make_celery(BrokerSettings(url=server.url))
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"), app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=0)


def test_a_certificate_authority_of_ones_own_is_enough(server: Behind) -> None:
    url = server.url.replace("/0", "/1")  # kombu keeps one pool of connections for each address in a process
    dispatcher = Dispatcher(BrokerSettings(url=url, ca_file=str(server.certificate)))
    dispatcher.ping()
    dispatcher.send("x" * 8, queue="cpu", priority=6)
    dispatcher.close()


def test_a_certificate_for_another_name_is_refused(server: Behind) -> None:
    url = server.url.replace("localhost", "127.0.0.1")
    dispatcher = Dispatcher(BrokerSettings(url=url, ca_file=str(server.certificate)))
    with pytest.raises(BrokerUnreachable):
        dispatcher.send("x" * 8, queue="cpu", priority=6)
    dispatcher.close()


def test_verification_is_not_switched_off_in_the_address() -> None:
    with pytest.raises(ValidationError, match="ca_file"):
        BrokerSettings(url="rediss://localhost/0?ssl_cert_reqs=none")
