"""Where routers and workers are born: a process that has loaded the libraries and forks for each start.

Of the seconds of a processor that a start costs, nine in ten load torch and its like, and a run starts a hundred parts.
Our own modules are forgotten before the first fork, so each part imports them anew, after whatever part.py changes.
Next: part.py (what a child runs), parts.py (who asks for it).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

OURS = (
    "medai.router.cli.main",
    "medai.router.daemon.service",
    "medai.workers.app",
    "medai.workers.cli",
    "medai.workers.feedback.runner",
    "medai.workers.load",
    "medai.workers.tasks",
)
"""Imported for what they import."""
THEIRS = ("celery.apps.worker", "celery.bin.worker", "celery.concurrency.prefork", "kombu.transport.redis")
"""What Celery itself loads by name when a worker starts."""
CLOCK = "clock"
"""The stepped clock's file, in the folder where a part runs: the libraries are loaded before it is known which."""


class Born:
    """A process that the nursery started: not our child, so it is watched by a descriptor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor: int | None = None
        with contextlib.suppress(ProcessLookupError):  # it is over already
            self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """None while it runs; its exit code is the nursery's to know, and nobody asks."""
        return 0 if self._over(0.0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Until it ended; raises subprocess.TimeoutExpired."""
        if not self._over(timeout):
            raise subprocess.TimeoutExpired("a part", timeout or 0.0)
        return 0

    def _over(self, within_s: float | None) -> bool:
        if self._descriptor is None:
            return True
        watch = select.poll()
        watch.register(self._descriptor, select.POLLIN)
        if not watch.poll(None if within_s is None else within_s * 1000):
            return False
        os.close(self._descriptor)
        self._descriptor = None
        return True


class Nursery:
    """The process that forks, seen from the harness; ``clock``: whoever is born there can have its clock stepped."""

    def __init__(self, environment: Mapping[str, str], *, clock: bool = False) -> None:
        command = [sys.executable, "-m", "chaos.nursery", *(["--clock"] if clock else [])]
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment},
            start_new_session=True, cwd="/",
        )  # fmt: skip

    def start(self, arguments: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str]) -> Born:
        """Have one born."""
        wish = {"arguments": [*arguments], "folder": str(folder), "log": str(log), "environment": dict(environment)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(wish).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that starts routers and workers has ended")
        return Born(int(answer))

    def close(self) -> None:
        """No more; who was born lives on."""
        self._process.kill()
        self._process.communicate()


class Nurseries:
    """One for ordinary parts, and one, once it is needed, for those whose clock is stepped."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._made: dict[bool, Nursery] = {}
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str]) -> Born:
        """Start part.py with these arguments; ``--clock`` among them is the nursery's own affair."""
        clock = "--clock" in arguments
        with self._lock:
            if clock not in self._made:
                self._made[clock] = Nursery(self._environment, clock=clock)
            nursery = self._made[clock]
        rest = [each for each in arguments if each != "--clock"]
        return nursery.start(rest, folder=folder, log=log, environment=environment)

    def close(self) -> None:
        """End them."""
        with self._lock:
            for nursery in self._made.values():
                nursery.close()
            self._made.clear()


# -- in the nursery itself


def load_libraries() -> None:
    """Everything that routers and workers load, but for our own code."""
    for name in (*THEIRS, *OURS):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "medai"]:
        del sys.modules[name]
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"a library started threads: what forks beside {threads - 1} threads may stand still"
    gc.freeze()  # what is shared with the children stays shared


def serve() -> Sequence[str]:
    """Fork for every wish; returns in each child, with its arguments."""
    wishes = os.fdopen(os.dup(0), "rb")
    for line in wishes:
        wish = json.loads(line)
        pid = os.fork()
        if pid == 0:
            wishes.close()
            _settle(wish)
            arguments: list[str] = wish["arguments"]
            return arguments
        os.write(1, f"{pid}\n".encode())
    os._exit(0)


def _settle(wish: Mapping[str, object]) -> None:
    """A child becomes a process of its own, with its folder, its log and its environment."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(str(wish["folder"]))
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(str(wish["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    environment = wish["environment"]
    assert isinstance(environment, dict)
    os.environ.update(environment)
    tempfile.tempdir = None  # a library may have asked for it, in another environment


def main() -> int:
    """``python -m chaos.nursery [--clock]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clock", action="store_true")
    from chaos import part

    if parser.parse_args().clock:
        part.step_clock(Path(CLOCK))
    load_libraries()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children here
    arguments = serve()
    sys.argv[1:] = arguments
    return part.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
