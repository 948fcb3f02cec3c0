"""The relay before an archive that a test plays itself: who gets there, what passes, and when it ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from dicom_front import fronted
from servers import free_port, wait_for

from medai.router.dicom_front.pdu import Rejection, Why, abort, reject

REQUEST = b"\x01\x00\x00\x00\x00\x44\x00\x01\x00\x00" + b"ORTHANC".ljust(16) + b"CT1".ljust(16) + bytes(32)
"""An A-ASSOCIATE-RQ that proposes nothing."""


@pytest.fixture
def archive() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        server.settimeout(5.0)
        yield server


def port_of(archive: socket.socket) -> int:
    return int(archive.getsockname()[1])


def reached(archive: socket.socket) -> bool:
    """Whether a connection waits there; it is ended."""
    archive.settimeout(0.2)
    try:
        archive.accept()[0].close()
    except TimeoutError:
        return False
    return True


@contextmanager
def caller(port: int, *said: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        for data in said:
            connection.sendall(data)
        yield connection


def word(connection: socket.socket, size: int = 10) -> bytes:
    return connection.recv(size, socket.MSG_WAITALL)


def rest(connection: socket.socket) -> bytes:
    """What comes until the other end closes."""
    data = b""
    try:
        while part := connection.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


def test_who_says_nothing_or_not_all_never_reaches_the_archive(archive: socket.socket) -> None:
    with fronted(port_of(archive)) as (port, _), caller(port), caller(port, REQUEST[:-1]), caller(port, REQUEST[:3]):
        assert not reached(archive)


@pytest.mark.parametrize(("said", "why"), [
    (b"GET / HTTP/1.1\r\n\r\n", Why.UNRECOGNIZED_PDU), (b"\x04" + REQUEST[1:], Why.UNEXPECTED_PDU),
    (b"\x01\x00\x7f\xff\xff\xff", Why.INVALID_PARAMETER), (REQUEST[:5] + b"\x45" + REQUEST[6:] + b"\x10", Why.INVALID_PARAMETER),
])  # fmt: skip
def test_what_is_no_request_is_aborted_by_the_relay(archive: socket.socket, said: bytes, why: Why) -> None:
    with fronted(port_of(archive)) as (port, _), caller(port, said) as connection:
        assert connection.recv(10) == abort(why)
        assert not reached(archive)


def test_a_request_must_be_whole_in_time_however_steadily_it_drips(archive: socket.socket) -> None:
    with fronted(port_of(archive), request_s=0.3) as (port, turned_away), caller(port) as connection:
        with suppress(OSError):  # it is ended before
            for number in range(len(REQUEST) - 1):
                connection.sendall(REQUEST[number : number + 1])
                time.sleep(0.02)
        assert rest(connection) == b""
        assert turned_away == {"too_long": 1}


def test_every_byte_passes_both_ways_and_an_end_is_passed_on(archive: socket.socket) -> None:
    large = bytes(range(256)) * 20_000
    with fronted(port_of(archive)) as (port, _), caller(port, REQUEST) as connection, archive.accept()[0] as behind:
        behind.settimeout(5.0)
        assert word(behind, len(REQUEST)) == REQUEST
        for sender, receiver in ((connection, behind), (behind, connection)):
            sender.sendall(b"begin")
            assert word(receiver, 5) == b"begin"
        behind.setblocking(False)
        came = 0
        connection.setblocking(False)
        sent = 0
        while came < len(large):
            if sent < len(large):
                with suppress(BlockingIOError):
                    sent += connection.send(large[sent : sent + 65_536])
            try:
                part = behind.recv(65_536)
            except BlockingIOError:
                continue
            assert part == large[came : came + len(part)]
            came += len(part)
        behind.sendall(b"the last word")
        behind.close()
        connection.settimeout(5.0)
        assert rest(connection) == b"the last word"


def test_no_more_is_taken_than_the_archive_takes(archive: socket.socket) -> None:
    with fronted(port_of(archive)) as (port, _), caller(port, REQUEST) as connection, archive.accept()[0]:
        connection.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64_000_000:
                sent += connection.send(bytes(1_000_000))
        assert sent < 64_000_000, "the rest waits at its sender"


def test_who_waits_for_a_place_in_vain_is_refused_for_the_moment(archive: socket.socket) -> None:
    with fronted(port_of(archive), associations=1, wait_s=0.3) as (port, turned_away), caller(port, REQUEST):
        behind, _ = archive.accept()
        with behind, caller(port, REQUEST) as second:
            assert word(second) == reject(Rejection.LOCAL_LIMIT_EXCEEDED)
            assert turned_away == {"limit": 1}
            assert not reached(archive)


def test_who_waits_gets_the_place_of_who_goes(archive: socket.socket) -> None:
    with fronted(port_of(archive), associations=1) as (port, _), caller(port, REQUEST) as first:
        behind, _ = archive.accept()
        with caller(port, REQUEST):
            first.close()
            behind.close()
            following, _ = archive.accept()
            assert word(following, len(REQUEST)) == REQUEST
            following.close()


def test_an_association_in_which_nothing_moves_ends_while_another_waits(archive: socket.socket) -> None:
    with fronted(port_of(archive), associations=1, spare_after_s=0.2) as (port, turned_away), ExitStack() as stack:
        first = stack.enter_context(caller(port, REQUEST))
        behind = stack.enter_context(archive.accept()[0])
        behind.settimeout(5.0)
        stack.enter_context(caller(port, REQUEST))
        assert word(first) == abort()
        assert word(behind, len(REQUEST) + 10) == REQUEST + abort()
        stack.enter_context(archive.accept()[0])
        assert turned_away == {"silent": 1}


def test_an_association_that_is_silent_for_too_long_is_aborted(archive: socket.socket) -> None:
    with fronted(port_of(archive), idle_s=0.3) as (port, turned_away), caller(port, REQUEST) as connection:
        behind, _ = archive.accept()
        behind.settimeout(5.0)
        with behind:
            assert (word(connection), word(behind, len(REQUEST) + 10)) == (abort(), REQUEST + abort())
        assert turned_away == {"idle": 1}


def test_an_archive_that_is_away_is_told_as_congestion() -> None:
    with fronted(free_port()) as (port, _), caller(port, REQUEST) as connection:
        assert word(connection) == reject(Rejection.TEMPORARY_CONGESTION)


def test_who_may_not_connect_is_not_heard(archive: socket.socket) -> None:
    with fronted(port_of(archive), allowed_peers=["10.0.0.0/8"]) as (port, turned_away), caller(port) as connection:
        assert rest(connection) == b""
        wait_for(lambda: turned_away["peer"], what="the count")


def test_a_full_port_ends_who_said_nothing_and_takes_the_next(archive: socket.socket) -> None:
    with fronted(port_of(archive), connections=3, connections_of_peer=3) as (port, turned_away), ExitStack() as stack:
        stack.enter_context(caller(port, REQUEST))
        stack.enter_context(archive.accept()[0])
        silent = [stack.enter_context(caller(port)) for _ in range(2)]
        stack.enter_context(caller(port, REQUEST))
        stack.enter_context(archive.accept()[0])
        assert rest(silent[0]) == b""
        assert turned_away == {"limit": 1}
