"""A fault strikes the part that it names with all its children, and nothing else; played on real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from trial_cases import Ris, scenario

from medai.trials.box import Box, BoxError
from medai.trials.hospital import faults
from medai.trials.scenario import Fault, ScenarioError

SLEEPS = "import time; time.sleep(120)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-SEc', {SLEEPS!r}]).wait()"
DAEMON = f"""
import subprocess, sys
parts = [subprocess.Popen([sys.executable, "-SEc", {PARENT!r}, name]) for name in ("redis-server", "orthanc.json")]
for part in parts:
    part.wait()
{SLEEPS}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A site whose supervisor has two parts, each with a child of its own."""
    daemon = subprocess.Popen([sys.executable, "-SEc", DAEMON], start_new_session=True)
    (tmp_path / "supervisord.pid").write_text(f"{daemon.pid}\n")
    try:
        soon(lambda: all(len(running(tmp_path, part)) == 2 for part in ("redis", "orthanc")))
        # A parent that is just forking can't be stopped until its child has begun its own program.
        soon(lambda: {state(pid) for part in ("redis", "orthanc") for pid in running(tmp_path, part)} == {"S"})
        yield tmp_path
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def soon(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def running(site: Path, part: str) -> list[int]:
    try:
        return faults.processes(site, part)
    except BoxError:
        return []


def state(pid: int) -> str:
    """As the kernel says: S sleeps, T is stopped, Z is dead and not buried; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


NOBODY = 1
"""A port at which nobody listens."""


def box(site: Path, redis_port: int = NOBODY) -> Box:
    facts = {"redis": {"url": f"redis://127.0.0.1:{redis_port}/0"}}
    return cast(Box, SimpleNamespace(folder=site, facts=facts, tls=None))


def test_a_part_that_hangs_hangs_with_its_children_and_goes_on_afterwards(site: Path) -> None:
    hung, other = faults.processes(site, "redis"), faults.processes(site, "orthanc")
    fault = faults.playable()["redis-stopped"]
    fault.begin(box(site))
    soon(lambda: {state(pid) for pid in hung} == {"T"})
    assert "T" not in {state(pid) for pid in other}
    assert fault.end is not None
    fault.end(box(site))
    soon(lambda: "T" not in {state(pid) for pid in hung})


def test_a_part_that_is_killed_is_killed_with_its_children_and_no_other_is(site: Path) -> None:
    killed, other = faults.processes(site, "redis"), faults.processes(site, "orthanc")
    faults.playable()["redis-killed"].begin(box(site))
    soon(lambda: {state(pid) for pid in killed} <= {"", "Z"})
    soon(lambda: {state(pid) for pid in other} == {"S"})


def test_a_part_that_is_asked_to_end_ends_its_children_itself(site: Path) -> None:
    parent, child = faults.processes(site, "redis")
    faults.playable()["redis-restarted"].begin(box(site))
    soon(lambda: state(parent) in ("", "Z"))
    soon(lambda: state(child) == "S")  # SIGTERM went to the part alone


def test_what_does_not_run_is_told_and_tried_again_by_the_trial(site: Path, tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="ris is not running"):
        faults.playable()["ris-killed"].begin(box(site))
    with pytest.raises(BoxError, match="is not running: no process id"):
        faults.processes(tmp_path / "elsewhere", "redis")


def answering(answer: bytes) -> tuple[int, list[bytes]]:
    """A port that takes one message and answers it; what it took."""
    listener, took = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            took.append(connection.recv(64))
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], took


def test_redis_is_asked_to_forget(tmp_path: Path) -> None:
    port, took = answering(b"+OK\r\n")
    faults.playable()["redis-flushed"].begin(box(tmp_path, port))
    assert took == [b"FLUSHALL\r\n"]


def test_redis_that_refuses_or_is_away_is_tried_again_by_the_trial(tmp_path: Path) -> None:
    flushed = faults.playable()["redis-flushed"]
    port, _ = answering(b"-NOAUTH\r\n")
    with pytest.raises(BoxError, match="did not empty itself"):
        flushed.begin(box(tmp_path, port))
    with pytest.raises(BoxError, match="can't be asked"):
        flushed.begin(box(tmp_path))


@pytest.mark.parametrize(("name", "kind"), sorted(faults.RIS_ANSWERS.items()))
def test_a_ris_is_asked_to_misbehave_and_to_stop(name: str, kind: str) -> None:
    ris, fault = Ris(), faults.playable()[name]
    fault.begin(ris.box)
    assert fault.end is not None
    fault.end(ris.box)
    assert ris.asked == [("POST", "/faults", {"kind": kind}), ("DELETE", "/faults", None)]


def test_what_is_away_is_switched_off_and_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[tuple[str, bool]] = []
    monkeypatch.setattr(faults, "switch", lambda _folder, part, *, on: done.append((part, on)))
    box = cast(Box, SimpleNamespace(folder=tmp_path))
    for part in ("ris", "orthanc", "workers"):
        fault = faults.playable()[f"{part}-away"]
        fault.begin(box)
        assert fault.end is not None
        fault.end(box)
    assert done == [(part, on) for part in ("ris", "orthanc", "worker") for on in (False, True)]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(name="flood", at_s=1), "no fault is named 'flood'"),
        (Fault(name="ris-away", at_s=1), "ris-away needs for_s"),
        (Fault(name="workers-killed", at_s=1e6), "comes after the trial's end"),
        (Fault(name="workers-killed", at_s=1, for_s=60), "workers-killed has no duration"),
    ],
)
def test_a_fault_that_cannot_be_played_is_told_before_the_trial(fault: Fault, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        faults.check(scenario(faults=(fault,)))


def test_faults_have_the_harness_names() -> None:
    from chaos.faults import FAULTS

    own = {"workers-away", "orthanc-away", "workers-stopped"}
    known = {*FAULTS, *own}
    assert {name for name in faults.playable() if name not in known} == set()
