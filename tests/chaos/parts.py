"""One part of the system: a process that can be killed, stopped, and is started again by a supervisor, as by systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from servers import answers

from chaos.nursery import Born, Nurseries

RESTART_S = 1.0
"""How long the supervisor waits before it starts a part again (systemd's RestartSec)."""
Scope = Literal["all", "parent", "child"]


@dataclass(kw_only=True)
class Part:
    """A process with its children; ``scope`` says which of them a signal meets (a cgroup, or one of them)."""

    name: str
    command: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    """Where it listens; 0: nowhere."""
    wanted: bool = False
    """The supervisor keeps it running."""
    ready: Callable[[], bool] | None = None
    nurseries: Nurseries | None = None
    """Where it is born, ``command`` being arguments for part.py; None: ``command`` is a program."""
    process: subprocess.Popen[bytes] | Born | None = None
    starts: int = 0
    doomed: bool = False
    """Its end was asked for by a signal of ours."""
    falls: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        """Everything it said."""
        return self.folder / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        """Whether its (first) process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it once; the supervisor keeps it up from now on."""
        with self.lock:
            self.wanted = True
            if self.alive:
                return
            self.starts += 1
            self.doomed = False
            self.process = self._born()

    def _born(self) -> subprocess.Popen[bytes] | Born:
        if self.nurseries is not None:
            return self.nurseries.start(self.command, folder=self.folder, log=self.log, environment=self.environment)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.folder, stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment}, start_new_session=True,
            )  # fmt: skip

    def is_up(self) -> bool:
        """Whether it serves."""
        if not self.alive or (self.port and not answers(self.port)):
            return False
        return self.ready is None or self.ready()

    def pids(self) -> list[int]:
        """Its process and those it started."""
        if self.process is None:
            return []
        return [self.process.pid, *_descendants(self.process.pid)]

    def kill(self, scope: Scope = "all") -> None:
        """SIGKILL: no goodbye. The supervisor starts it again."""
        self._signal(signal.SIGKILL, scope)

    def stop(self) -> None:
        """SIGSTOP: it stands still, its connections stay open."""
        self._signal(signal.SIGSTOP, "all")

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, "all")

    def terminate(self) -> None:
        """SIGTERM to its first process, as systemd and Kubernetes do; the supervisor starts it again."""
        self._signal(signal.SIGTERM, "parent")

    def _signal(self, number: int, scope: Scope) -> None:
        with self.lock:
            family = self.pids()
            self.doomed = self.doomed or number in (signal.SIGKILL, signal.SIGTERM)
            chosen = {"all": family, "parent": family[:1], "child": family[1:]}[scope]
            for pid in chosen:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue  # it ended by itself

    def take_falls(self) -> list[str]:
        """Its name, once for each time that it ended by itself since this was asked last."""
        falls, self.falls = self.falls, 0
        return [self.name] * falls

    def hold_down(self) -> None:
        """Kill it and keep it down until ``start``."""
        with self.lock:
            self.wanted = False
            self.kill()

    def shut_down(self, *, within_s: float = 10.0) -> None:
        """For good: SIGTERM, then SIGKILL for whatever is left."""
        with self.lock:
            self.wanted = False
            family = self.pids()
            self.go_on()
            self.terminate()
            if self.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # killed below
                    self.process.wait(timeout=within_s)
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if self.process is not None:
                self.process.wait()
                self.process = None


class Supervisor:
    """Starts again what died, until it is stopped."""

    def __init__(self, parts: Callable[[], Iterable[Part]]) -> None:
        self._parts = parts
        self._stop = threading.Event()
        self._died: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more starts."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for part in list(self._parts()):
                self._look(part)

    def _look(self, part: Part) -> None:
        if not part.lock.acquire(blocking=False):
            return  # somebody is starting or ending it just now
        try:
            self._keep_up(part)
        finally:
            part.lock.release()

    def _keep_up(self, part: Part) -> None:
        if part.alive or not part.wanted:
            self._died.pop(part.name, None)
            return
        if part.name not in self._died and not part.doomed:
            part.falls += 1
        died = self._died.setdefault(part.name, time.monotonic())
        if time.monotonic() - died >= RESTART_S:
            part.start()
            self._died.pop(part.name, None)


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]
