"""Whether a process is dead: certain on this machine, never guessed elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import wait_for

from medai.router import processes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_process_that_runs_is_not_dead(child: subprocess.Popen[bytes]) -> None:
    assert not processes.is_dead(processes.identity())
    assert not processes.is_dead(processes.identity(child.pid))


def test_a_frozen_process_is_not_dead(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGSTOP)
    assert not processes.is_dead(processes.identity(child.pid))


def test_a_process_that_was_killed_is_dead_once_it_is_a_zombie_and_after(child: subprocess.Popen[bytes]) -> None:
    name = processes.identity(child.pid)
    child.kill()
    wait_for(lambda: " Z " in Path(f"/proc/{child.pid}/stat").read_text(), within_s=5)
    assert processes.is_dead(name), "a zombie does nothing any more"
    child.wait()
    assert processes.is_dead(name)


def test_another_process_with_the_same_number_is_not_taken_for_the_dead_one(child: subprocess.Popen[bytes]) -> None:
    place, _, started = processes.identity(child.pid).rpartition("|")
    assert processes.is_dead(f"{place}|{int(started) - 1}")


def test_a_process_of_another_machine_container_or_boot_is_never_taken_for_dead() -> None:
    host, _, rest = processes.identity().partition("/")
    boot, namespace, _, _ = rest.split("|")
    gone = "4194999|1"  # no such process here
    assert processes.is_dead(f"{host}/{boot}|{namespace}|{gone}")
    assert not processes.is_dead(f"other/{boot}|{namespace}|{gone}")
    assert not processes.is_dead(f"{host}/{boot}|pid:[1]|{gone}")
    assert not processes.is_dead(f"{host}/5275-b074|{namespace}|{gone}"), "two machines may have one name"


@pytest.mark.parametrize("text", ["", "|", "|||", "w1", "host|pid:[1]|x|y", "host|pid:[1]|12|"])
def test_what_is_no_identity_is_never_taken_for_dead(text: str) -> None:
    assert not processes.is_dead(text)


def test_an_identity_without_a_start_is_never_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_started", lambda _pid: None)
    assert not processes.is_dead(processes.identity())


def test_a_living_process_that_proc_does_not_show_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    name = processes.identity()

    def not_yours(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(processes, "_started", lambda _pid: None)
    monkeypatch.setattr(os, "kill", not_yours)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not processes.is_dead(name)


def test_the_same_process_has_one_name_whoever_asks_and_it_fits_the_ledger(child: subprocess.Popen[bytes]) -> None:
    code = f"from router import processes; print(processes.identity({child.pid}), end='')"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert asked == processes.identity(child.pid)
    assert len(f"{'h' * 80}{processes.identity()[processes.identity().index('/') :]}") + 7 <= 160
