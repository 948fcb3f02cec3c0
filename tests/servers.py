"""Real servers for tests: each in a directory of its own, on a free loopback port, stopped at the end."""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from certificates import Pair

PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


_GIVEN: set[int] = set()


def free_port() -> int:
    """A loopback port that nothing listens on, below those that outgoing connections get (they come and go).

    This process gets none twice: whoever asked first may listen there only later, or be down just now.
    """
    while True:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def wait_for(
    condition: Callable[[], Any], *, within_s: float = 30.0, every_s: float = 0.05, what: str = "the condition"
) -> Any:
    """Poll until a value is true; the last value is returned."""
    until = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come within {within_s:.0f} s")
        time.sleep(every_s)
    return value


def binary(name: str) -> str:
    """A program that the tests need; a missing one is a failure, not a skip."""
    found = shutil.which(name, path=PATHS)
    assert found, f"{name} is not installed: run ./medai test, which installs it"
    return found


def answers(port: int) -> bool:
    """Whether something listens."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Server:
    """A process that can be killed and started again on the same port and directory."""

    command: list[str]
    folder: Path
    port: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            self.command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **self.environment}
        )
        log.close()
        process = self.process
        wait_for(lambda: answers(self.port) or process.poll() is not None, what=self.command[0])
        assert process.poll() is None, (self.folder / "server.log").read_text()[-2000:]

    def stop(self, *, number: int = signal.SIGTERM) -> None:
        """End it with a signal and wait."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.stop(number=signal.SIGKILL)


@dataclass
class OrthancServer(Server):
    """A real Orthanc."""

    dicom_port: int = 0

    @property
    def url(self) -> str:
        """REST API."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """GET and parse JSON."""
        return urllib3.request("GET", self.url + path, timeout=10.0).json()

    def post(self, data: bytes) -> Any:
        """Store one DICOM file."""
        return urllib3.request("POST", self.url + "/instances", body=data, timeout=30.0).json()


def make_orthanc(folder: Path, **extra: Any) -> OrthancServer:
    """An Orthanc that is not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    http, dicom = free_port(), free_port()
    plugin = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
    config = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": http, "DicomPort": dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "Plugins": [plugin] if Path(plugin).exists() else [], "StableAge": 1,
        "KeepAlive": True, "TcpNoDelay": True, "UnknownSopClassAccepted": True, "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False, "SaveJobs": False, **extra,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(config))
    return OrthancServer(
        command=[binary("Orthanc"), str(folder / "orthanc.json")], folder=folder, port=http,
        environment={"TCP_NODELAY": "1"}, dicom_port=dicom,
    )  # fmt: skip


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """Start, hand over, stop."""
    server.start()
    try:
        yield server
    finally:
        server.kill()  # a graceful Orthanc takes five seconds, and nothing is kept


def make_redis(folder: Path, *, tls: Sequence[str] = ()) -> Server:
    """A Redis that keeps nothing, as after a flush; ``tls``: options with its certificates, with which it speaks no
    other."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    ports = ["--port", "0", "--tls-port", str(port), *tls] if tls else ["--port", str(port)]
    command = [binary("redis-server"), "--bind", "127.0.0.1", *ports, "--save", "", "--appendonly", "no"]
    return Server(command=command, folder=folder, port=port, environment={})


def make_postgresql(folder: Path, *, tls: Pair | None = None) -> Server:
    """A PostgreSQL cluster that is not started yet. Runs as user postgres where the tests run as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "PostgreSQL is not installed: run ./medai test, which installs it"
    folder.mkdir(parents=True, exist_ok=True)
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    # Not in the test's folder: each pytest that starts closes the folder of all of them to other users.
    data = Path(tempfile.mkdtemp(prefix="medai-postgresql-", dir="/tmp" if as_user else None))  # noqa: S108 - made anew
    atexit.register(shutil.rmtree, data, ignore_errors=True)
    if as_user:
        shutil.chown(data, "postgres", "postgres")
    port = free_port()
    initdb = [*as_user, str(programs[-1] / "initdb"), "-D", str(data), "-A", "trust", "-U", "medai", "-N", "-E", "UTF8"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    secured: list[str] = []
    if tls is not None:  # its key must be its own
        for name, file in (("server.crt", tls.certificate), ("server.key", tls.key)):
            command = [*as_user, "sh", "-c", 'umask 077; cat > "$0"', str(data / name)]
            subprocess.run(command, input=Path(file).read_bytes(), check=True, cwd="/")
        secured = ["-c", "ssl=on"]
    command = [
        *as_user, str(programs[-1] / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1",
        "-c", "fsync=off", *secured,
    ]  # fmt: skip
    return Server(command=command, folder=folder, port=port, environment={})


@contextmanager
def postgresql(folder: Path, *, tls: Pair | None = None) -> Iterator[str]:
    """A PostgreSQL cluster, which speaks TLS too where it has a certificate; yields its SQLAlchemy URL."""
    server = make_postgresql(folder, tls=tls)
    server.start()
    try:
        # Its port is open before it takes anybody: "the database system is starting up".
        wait_for(lambda: _takes_connections(server.port), within_s=60.0, what="PostgreSQL")
        yield f"postgresql+psycopg://medai@127.0.0.1:{server.port}/postgres"
    finally:
        server.stop(number=signal.SIGINT)


def _takes_connections(port: int) -> bool:
    try:
        psycopg.connect(f"postgresql://medai@127.0.0.1:{port}/postgres", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class MockRis(Server):
    """The mock RIS; ``port`` takes results by MLLP."""

    http_port: int = 0
    dicom_port: int = 0
    """Worklist and performed procedure steps."""

    def get(self, path: str) -> Any:
        """GET and parse JSON."""
        return urllib3.request("GET", f"http://127.0.0.1:{self.http_port}{path}", timeout=10.0).json()

    def post(self, path: str, value: Any) -> Any:
        """POST JSON and parse JSON."""
        return urllib3.request("POST", f"http://127.0.0.1:{self.http_port}{path}", json=value, timeout=10.0).json()


def make_ris(folder: Path, *, router_port: int = 1, options: Sequence[str] = ()) -> MockRis:
    """A mock RIS that is not started yet; orders go to ``router_port``, ``options`` to its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    mllp, http, dicom = free_port(), free_port(), free_port()
    command = [
        sys.executable, "-m", "medai.hl7_mock.cli", "--mllp-port", str(mllp), "--http-port", str(http), "--data",
        str(folder / "data"), "--router-port", str(router_port), "--dicom-port", str(dicom), *options,
    ]  # fmt: skip
    return MockRis(command=command, folder=folder, port=mllp, environment={}, http_port=http, dicom_port=dicom)
