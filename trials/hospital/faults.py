"""What can break in a trial, at a given moment: the fault harness's names (docs/chaos.md), played on a running site.

The harness strikes at chosen instructions; a trial strikes at a time, as life does. ``workers-away`` and
``orthanc-away`` are the trial's own: a machine that is gone for a while. Next: arm.py.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from medai.trials.box import Box, BoxError, switch
from medai.trials.scenario import Scenario, ScenarioError

PROGRAMS: Mapping[str, str] = {
    "router": "medai.router.cli router",
    "workers": "medai.workers.cli worker",
    "orthanc": "orthanc.json",
    "redis": "redis-server",
    "ris": "medai.hl7_mock.cli",
}
"""Part -> what its command line holds."""
PARTS: Mapping[str, str] = {"workers": "worker"}
"""Our word -> the part's name on the site, where they differ."""
RIS_ANSWERS: Mapping[str, str] = {
    "ris-ae": "ae", "ris-ar": "ar", "ris-silent": "silent", "ris-garbage": "garbage",
    "ris-closes": "close", "ris-partial": "partial", "ris-other-ack": "wrong_msa",
}  # fmt: skip
"""Fault -> the kind of misbehaviour that the mock RIS is asked for."""

Strike = Callable[[Box], None]


@dataclass(frozen=True, kw_only=True)
class Playable:
    """A fault: ``begin`` breaks something, ``end`` (where it has a duration) mends it."""

    name: str
    about: str
    begin: Strike
    end: Strike | None = None


def playable() -> Mapping[str, Playable]:
    """Every fault by its name."""
    found = []
    for part in PROGRAMS:
        strikes = {
            name: partial(_signal, part, getattr(signal, name)) for name in ("SIGKILL", "SIGTERM", "SIGSTOP", "SIGCONT")
        }
        begin, about = strikes["SIGKILL"], "SIGKILL; it starts again by itself"
        found.append(Playable(name=f"{part}-killed", about=about, begin=begin))
        found.append(Playable(name=f"{part}-restarted", about="SIGTERM under load", begin=strikes["SIGTERM"]))
        begin, end = strikes["SIGSTOP"], strikes["SIGCONT"]
        found.append(Playable(name=f"{part}-stopped", about="SIGSTOP for a while: it hangs", begin=begin, end=end))
    for part in ("ris", "orthanc", "workers"):
        begin, end = partial(_switch, part, on=False), partial(_switch, part, on=True)
        found.append(Playable(name=f"{part}-away", about="gone for a while", begin=begin, end=end))
    for name, kind in RIS_ANSWERS.items():
        about = f"the RIS answers {kind!r} for a while"
        found.append(Playable(name=name, about=about, begin=partial(_misbehave, kind), end=_behave))
    found.append(Playable(name="redis-flushed", about="FLUSHALL while messages wait", begin=_flush))
    end = partial(_switch, "redis", on=True)
    found.append(Playable(name="redis-emptied", about="away for a while and back empty", begin=_lose_redis, end=end))
    return {fault.name: fault for fault in found}


def check(scenario: Scenario) -> None:
    """Raises ScenarioError for a fault that can't be played as it is written."""
    known = playable()
    for fault in scenario.faults:
        if fault.name not in known:
            raise ScenarioError(f"{scenario.name}: no fault is named {fault.name!r}: see 'medai trial faults'")
        if known[fault.name].end and not fault.for_s:
            raise ScenarioError(f"{scenario.name}: {fault.name} needs for_s, how long it lasts")
        if fault.for_s and not known[fault.name].end:
            raise ScenarioError(f"{scenario.name}: {fault.name} has no duration (it mends itself): leave out for_s")
        if fault.at_s >= scenario.duration_s:
            raise ScenarioError(f"{scenario.name}: {fault.name} at {fault.at_s:g} s comes after the trial's end")


def processes(site: Path, part: str) -> list[int]:
    """Process ids of a part with its children, by supervisord's children; raises BoxError where there is none."""
    mark = PROGRAMS[part]
    daemon = _daemon(site)
    found = [pid for pid in _children(daemon) if mark in _command(pid)]
    if not found:
        raise BoxError(f"{part} is not running")
    return [each for pid in found for each in (pid, *_descendants(pid))]


def _daemon(site: Path) -> int:
    try:
        return int((site / "supervisord.pid").read_text())
    except (OSError, ValueError) as error:
        raise BoxError(f"the site in {site.name} is not running: no process id in its supervisord.pid") from error


def _signal(part: str, which: signal.Signals, box: Box) -> None:
    pids = processes(box.folder, part)
    if which == signal.SIGTERM:  # its children are its own matter
        pids = [pid for pid in pids if pid in _children(_daemon(box.folder))]
    for pid in pids:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            continue  # it ended with its parent


def _switch(part: str, box: Box, *, on: bool) -> None:
    switch(box.folder, PARTS.get(part, part), on=on)


def _misbehave(kind: str, box: Box) -> None:
    box.ask_ris("POST", "/faults", {"kind": kind})


def _behave(box: Box) -> None:
    box.ask_ris("DELETE", "/faults")


def _flush(box: Box) -> None:
    where = urlsplit(str(box.facts["redis"]["url"]))
    login = f"AUTH {where.password}\r\n" if where.password else ""
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", where.port or 6379), timeout=5))
            if box.tls is not None:
                connection = stack.enter_context(box.tls.wrap_socket(connection, server_hostname="127.0.0.1"))
            connection.sendall(f"{login}FLUSHALL\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 1 + bool(login) and (more := connection.recv(64)):
                answer += more
    except OSError as error:  # away for the fault before this one
        raise BoxError(f"Redis can't be asked to empty itself: {error}") from error
    if not answer.endswith(b"+OK\r\n"):
        raise BoxError("Redis did not empty itself")


def _lose_redis(box: Box) -> None:
    _flush(box)
    _switch("redis", box, on=False)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    return [each for child in _children(pid) for each in (child, *_descendants(child))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
