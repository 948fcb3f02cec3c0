"""A port for HTTP, attacked: idle, half, slow, endless and many connections keep nobody else waiting."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import urllib3
import uvicorn
from certificates import Authority
from console_cases import World
from starlette.exceptions import HTTPException

from medai.router import serving, tls
from medai.router.ledger import Ledger
from medai.router.serving import Bounded, Impatient, most_connections
from medai.router.settings.tls import ClientTls, WebTls


@contextmanager
def served(app: Any, http: type[Impatient] = Impatient) -> Iterator[int]:
    """The application on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        app, http=http, ws="none", lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says how long a body was."""
    size, more = 0, True
    try:
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        status, body = 200, str(size).encode()
    except HTTPException as fault:
        status, body = fault.status_code, b""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


bounded = Bounded(echo, refused=HTTPException, limit=1000)


def said(connection: socket.socket, sent: bytes = b"") -> bytes:
    """A whole answer; nothing where the other side closes without one."""
    connection.sendall(sent)
    connection.settimeout(10.0)
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer) < _length(answer):
        part = connection.recv(65536)
        if not part:
            break
        answer += part
    return answer


def _length(answer: bytes) -> int:
    head, _, _ = answer.partition(b"\r\n\r\n")
    told = [line.partition(b":")[2] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return len(head) + 4 + int(told[0])


def sent_all(connection: socket.socket, parts: Iterator[bytes], pause_s: float = 0.0) -> bool:
    """Whether all parts could be sent."""
    try:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
    except OSError:
        return False
    return True


def health(port: int, path: str = "/health") -> float:
    """How long it takes to be told that all is well, in seconds."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        answer = said(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return time.monotonic() - began


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.5)
    monkeypatch.setattr(serving, "BODY_S", 0.5)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["idle", "half a request"])
def test_a_request_that_does_not_come_is_not_waited_for(hurried: None, begun: bytes) -> None:
    with served(bounded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        assert said(connection, begun) == b"", "closed"


def test_a_request_that_comes_byte_by_byte_has_no_more_time(hurried: None) -> None:
    with served(bounded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        assert not sent_all(connection, (b"G" for _ in range(80)), 0.1)
        assert time.monotonic() - began < 5.0


def test_a_connection_that_is_used_again_gets_its_time_anew(hurried: None) -> None:
    with served(bounded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(4):
            assert said(connection, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
            time.sleep(0.25)
        assert said(connection, b"GET / HT") == b""


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: 419430400", b"", b"413"),
        (b"Content-Length: 1001", b"", b"413"),
        (b"Content-Length: 1000", b"a" * 1000, b"200"),
        (b"Transfer-Encoding: chunked", b"3e8\r\n" + b"a" * 1000 + b"\r\n0\r\n\r\n", b"200"),
        (b"Transfer-Encoding: chunked", (b"1f4\r\n" + b"a" * 500 + b"\r\n") * 3, b"413"),
        (b"Content-Length: 1000", b"a" * 999, b"408"),
    ],
)
def test_a_body_is_bounded_in_size_and_time(hurried: None, head: bytes, body: bytes, status: bytes) -> None:
    with served(bounded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        answer = said(connection, b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body)
        assert answer.split()[1] == status


def test_who_says_that_a_body_is_too_large_is_not_read_further(hurried: None) -> None:
    with served(bounded) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        said(connection, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 419430400\r\n\r\n")
        assert not sent_all(connection, (b"a" * 2**20 for _ in range(400)))


@contextmanager
def idle(port: int, count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count + 500)), hard))
    try:
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_console_is_well_within_a_second_through_a_thousand_idle_connections(ledger: Ledger) -> None:
    with served(World(ledger).app) as port, idle(port, 1000):
        assert max(health(port, "/api/health") for _ in range(5)) < 1.0


def test_beyond_the_most_connections_the_one_that_was_idle_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Impatient, "most", 20)
    with served(bounded) as port, ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(30)]
        assert health(port) < 1.0
        for connection in held[:5]:
            connection.settimeout(5.0)
            assert connection.recv(1) == b"", "closed"
        assert said(held[-1], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_an_answer_that_is_not_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "TAKEN_S", 0.5)
    ended = threading.Event()

    async def endless(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(2000):
                await send({"type": "http.response.body", "body": b"a" * 2**18, "more_body": True})
        finally:
            ended.set()

    with served(endless) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(10.0)


def test_a_process_may_have_as_many_files_as_it_is_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = most_connections()
        assert serving.SPARE_FILES <= most <= serving.MOST_CONNECTIONS
        assert most + serving.SPARE_FILES <= max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 400)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("serving"))


@contextmanager
def secured(site: Authority, name: str, app: Any = bounded) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The application behind TLS, and what a client that trusts the site connects with."""
    pair = site.pair(name)
    files = WebTls(certificate_file=pair.certificate, key_file=pair.key)
    with served(app, http=serving.over(tls.server_context(files, where="test"))) as port:
        yield port, tls.client_context(ClientTls(ca_file=site.ca_file), where="test")


def asked(port: int, context: ssl.SSLContext) -> bytes:
    asking = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    plain = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        return said(connection, asking)


def test_behind_tls_a_request_is_answered_and_who_speaks_plainly_is_not(site: Authority) -> None:
    with secured(site, "console") as (port, context):
        assert asked(port, context).endswith(b"\r\n\r\n3")
        with socket.create_connection(("127.0.0.1", port), timeout=10.0) as plain, suppress(ConnectionError):
            assert b"HTTP" not in said(plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_the_console_behind_its_own_tls_knows_that_it_is(site: Authority, ledger: Ledger) -> None:
    with secured(site, "own", World(ledger).app) as (port, context), urllib3.PoolManager(ssl_context=context) as pool:
        answer = pool.request("GET", f"https://localhost:{port}/api/health", timeout=10.0)
    assert (answer.status, "max-age" in answer.headers["Strict-Transport-Security"]) == (200, True)


def test_who_never_ends_a_handshake_keeps_nobody_waiting(site: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 1.0)
    monkeypatch.setattr(Impatient, "most", 20)
    with secured(site, "busy") as (port, context), ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(60)]
        for half in idle[1::2]:
            half.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        assert asked(port, context).endswith(b"3")
        assert time.monotonic() - began < 0.9
        for connection in idle:  # for lack of places at once, or when their time is over
            connection.settimeout(5.0)
            with suppress(ConnectionError):
                connection.recv(100)
        assert asked(port, context).endswith(b"3")
