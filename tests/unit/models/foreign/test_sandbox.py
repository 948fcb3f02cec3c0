"""Code that has broken out of a model, in a process that was confined: it reads and writes nothing, and reaches nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medai.models.foreign import sandbox

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
    "hides in a child": "subprocess.run(['/bin/sh', '-c', 'cat ' + secret], check=True, capture_output=True)",
}
CHILD = """
import json, os, socket, subprocess, sys
from pathlib import Path
from medai.models.foreign import sandbox
bundle, scratch, secret, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
held = sandbox.confine([Path(bundle)], Path(scratch))
import numpy
got = {}
for name, attack in json.loads(sys.argv[5]).items():
    try:
        eval(attack)
        got[name] = "got through"
    except (OSError, subprocess.SubprocessError) as error:
        got[name] = "refused"
Path(scratch, "own").write_text(Path(bundle, "model").read_text())
print(json.dumps([held, got, os.environ.get("MEDAI_ORTHANC__PASSWORD", "")]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], str]:
    site, bundle, scratch = (tmp_path_factory.mktemp(name) for name in ("site", "bundle", "scratch"))
    secret = site / "ledger.sqlite"
    secret.write_text("patients")
    (bundle / "model").write_text("weights")
    os.environ["MEDAI_ORTHANC__PASSWORD"] = "secret"
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHILD, str(bundle), str(scratch), str(secret), str(server.getsockname()[1]),
             json.dumps(ATTACKS)],
            capture_output=True, text=True, check=False, timeout=60, env=sandbox.environment(scratch),
        )  # fmt: skip
    del os.environ["MEDAI_ORTHANC__PASSWORD"]
    assert done.returncode == 0, done.stderr[-2000:]
    assert secret.read_text() == "patients"
    assert (scratch / "own").read_text() == "weights", "its own it reads and writes"
    held, got, password = json.loads(done.stdout)
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
    (tmp_path / "scratch").mkdir()
    child = (
        f"import sys; sys.path += [{str(tmp_path / 'site-packages')!r}, {str(tmp_path / 'checkout')!r}]\n"
        "from pathlib import Path; from medai.models.foreign import sandbox\n"
        f"sandbox.confine([], Path({str(tmp_path / 'scratch')!r}))\n"
        "import of_site_packages\n"
        "try:\n    import of_checkout\nexcept PermissionError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", child], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_kernel_that_has_neither_is_not_said_to_hold_anything() -> None:
    assert sandbox.describe(0, filtered=False).startswith("a process of its own alone")
