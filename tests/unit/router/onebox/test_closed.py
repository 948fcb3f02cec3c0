"""A server that listens on every interface is reached from 127.0.0.1 alone, and is started as it would be without."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port, wait_for

SERVER = """
import json, os, socket, sys
listeners = [socket.create_server(("0.0.0.0", int(port))) for port in sys.argv[1:]]
print(json.dumps([os.getpid(), os.environ.get("ASKED"), len(os.listdir("/proc/self/fd"))]), flush=True)
while True:
    for listener in listeners:
        listener.setblocking(False)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        connection.sendall(b"here")
        connection.close()
"""


@pytest.fixture
def ports() -> list[int]:
    return [free_port(), free_port(), free_port()]


@pytest.fixture
def server(ports: list[int]) -> Iterator[subprocess.Popen[str]]:
    """Two of its three ports are closed to others."""
    command = [sys.executable, "-P", "-m", "medai.router.onebox.closed", f"{ports[0]},{ports[1]}",
               sys.executable, "-c", SERVER, *map(str, ports)]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "ASKED": "for"}, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def reached(port: int, by: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2, source_address=(by, 0)) as connection:
            return connection.recv(4) == b"here"
    except OSError:
        return False


def test_the_ports_that_are_named_are_closed_to_all_but_this_machine(
    server: subprocess.Popen[str], ports: list[int]
) -> None:
    assert server.stdout
    pid, asked, descriptors = json.loads(server.stdout.readline())
    assert (pid, asked) == (server.pid, "for"), "the process is the server, with its environment"
    assert descriptors == 3 + len(ports) + 1, "and with nothing of ours open"
    wait_for(lambda: not reached(ports[0], "127.0.0.9") and not reached(ports[1], "127.0.0.9"), what="the filters")
    assert [reached(port, "127.0.0.1") for port in ports] == [True, True, True]
    assert reached(ports[2], "127.0.0.9"), "which nobody asked to close"
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children == []
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == -signal.SIGTERM


def test_a_command_that_is_not_there_ends_at_once() -> None:
    command = [sys.executable, "-P", "-m", "medai.router.onebox.closed", str(free_port()), "/no/such/program"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=20)
    assert done.returncode != 0
    assert b"/no/such/program" in done.stderr or b"No such file" in done.stderr
