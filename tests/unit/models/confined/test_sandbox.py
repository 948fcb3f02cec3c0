"""Code that has broken out of a model, in a process that was confined: it reads and writes nothing, and reaches nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medai.models.confined import sandbox

ATTACKS = {
    "reads a file of the site": "open(secret).read()",
    "lists the site": "os.listdir(os.path.dirname(secret))",
    "writes into the site": "open(secret + '.new', 'w')",
    "overwrites a file by mapping it, as torch.from_file does": "os.open(secret, os.O_RDWR)",
    "truncates": "os.truncate(secret, 0)",
    "deletes": "os.unlink(secret)",
    "changes the model that was checked": "open(os.path.join(bundle, 'model'), 'w')",
    "makes a folder": "os.mkdir('/tmp/medai-sandbox-attack-%d' % os.getpid())",
    "reads the machine's accounts": "open('/etc/passwd').read()",
    "calls a server": "socket.create_connection(('127.0.0.1', port), timeout=2)",
    "asks a name": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', port))",
    "reads a program's memory": "os.open('/proc/%d/mem' % os.getppid(), os.O_RDWR)",
    "ends a process": "os.kill(os.getppid(), 9)",
    "reads the worker's environment": "open('/proc/%d/environ' % os.getppid()).read()",
    "ends a thread of the worker": "call('tgkill', os.getppid(), os.getppid(), 9)",
    "bounds what the worker may write": "resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, 0))",
    "holds the worker to one core": "os.sched_setaffinity(os.getppid(), {0})",
    "starts a program": "subprocess.run(['/bin/true'], check=True)",
    "forks": "os.fork() or os._exit(0)",
    "forks by the kernel's newer call": "call('clone3', 0, 88)",
    "outlives its worker": "call('prctl', 1, 0)",
    "writes into a folder for everyone": "open('/tmp/medai-sandbox-attack-%d' % os.getpid(), 'w')",
    "writes into shared memory": "open('/dev/shm/medai-sandbox-attack-%d' % os.getpid(), 'w')",
    "fills memory": "bytearray(3 << 30)",
    "fills memory that has the form of a file": "os.truncate(os.memfd_create('x'), 2 << 20)",
}
CHILD = """
import ctypes, json, os, platform, resource, signal, socket, subprocess, sys, threading
from pathlib import Path
from medai.models.confined import sandbox
bundle, secret, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
numbers = sandbox.MACHINES[platform.machine()]
sandbox.end_with_parent(os.getppid())
held = sandbox.confine([Path(bundle)], memory_bytes=2 << 30)
import numpy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def call(name, *arguments):
    number = sandbox.CLONE3 if name == "clone3" else getattr(numbers, name)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
got = {}
for name, attack in json.loads(sys.argv[4]).items():
    try:
        eval(attack)
        got[name] = "got through"
    except (OSError, MemoryError, subprocess.SubprocessError) as error:
        got[name] = "refused"
thread = threading.Thread(target=lambda: got.update(own=Path(bundle, "model").read_text()))
thread.start()
thread.join()
print(json.dumps([held, got, os.environ.get("MEDAI_ORTHANC__PASSWORD", "")]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], str]:
    site, bundle = (tmp_path_factory.mktemp(name) for name in ("site", "bundle"))
    secret = site / "ledger.sqlite"
    secret.write_text("patients")
    (bundle / "model").write_text("weights")
    os.environ["MEDAI_ORTHANC__PASSWORD"] = "secret"
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHILD, str(bundle), str(secret), str(server.getsockname()[1]),
             json.dumps(ATTACKS)],
            capture_output=True, text=True, check=False, timeout=60, env=sandbox.environment(),
        )  # fmt: skip
    del os.environ["MEDAI_ORTHANC__PASSWORD"]
    assert done.returncode == 0, done.stderr[-2000:]
    assert secret.read_text() == "patients"
    held, got, password = json.loads(done.stdout)
    assert got.pop("own") == "weights", "its own model it reads, in a thread, too"
    return held, got, password


def test_what_holds_it_is_said(told: tuple[str, dict[str, str], str]) -> None:
    assert told[0] == sandbox.available()
    assert "Landlock" in told[0]
    assert "seccomp" in told[0]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_gets_through(attack: str, told: tuple[str, dict[str, str], str]) -> None:
    assert told[1][attack] == "refused"


def test_no_password_of_the_environment_comes_along(told: tuple[str, dict[str, str], str]) -> None:
    assert told[2] == ""


def test_libraries_that_lie_elsewhere_are_read_and_what_lies_beside_them_is_not(tmp_path: Path) -> None:
    """Those of a user who installed without an environment, say; the folder of a checkout is on the path, too."""
    for folder in ("site-packages", "checkout"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"of_{folder.replace('-', '_')}.py").write_text("")
    child = (
        f"import sys; sys.path += [{str(tmp_path / 'site-packages')!r}, {str(tmp_path / 'checkout')!r}]\n"
        "from medai.models.confined import sandbox; sandbox.confine([])\n"
        "import of_site_packages\n"
        "try:\n    import of_checkout\nexcept PermissionError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", child], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_kernel_that_has_neither_is_not_said_to_hold_anything() -> None:
    assert sandbox.describe(0, filtered=False).startswith("a process of its own alone")
