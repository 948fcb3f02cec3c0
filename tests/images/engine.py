"""A container engine of our own: podman with a store, networks and a socket apart from any other on this machine.

``Engine.podman`` runs one command. ``serve`` offers Docker's API on a socket, for docker-compose. What belongs to a run
(containers, networks, volumes, images but the stand-ins) ``clear`` removes, at the end and before the next run, should
this one be killed. Next: stand_ins.py, compose.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
compat_api_enforce_docker_hub = false
"""
"""runc and cgroupfs: they also work where no systemd runs. The last: a short name is an image of this store."""
REGISTRIES_CONF = 'unqualified-search-registries = []\nshort-name-mode = "permissive"\n'
SHARED = (Path("/run/containers/networks"), Path("/run/netns"))
"""Folders that podman shares between all its users."""
NEW_NETWORK, NEW_MOUNTS = 0x40000000, 0x00020000  # CLONE_NEWNET and CLONE_NEWNS of <sched.h>


class EngineError(Exception):
    """A command of the engine failed; the text is its last words."""


@dataclass(frozen=True)
class Engine:
    """Where things are: ``cache`` is kept between runs, ``state`` is gone with one."""

    cache: Path
    state: Path
    driver: str

    @property
    def store(self) -> Path:
        """Images, containers and volumes."""
        return self.cache / "store"

    @property
    def work(self) -> Path:
        """For what is big and passing."""
        return self.cache / "work"

    @property
    def logs(self) -> Path:
        """What builds and servers said, of the last run."""
        return self.cache / "logs"

    @property
    def socket(self) -> Path:
        """Where Docker's API is served."""
        return self.state / "docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """For podman and for what asks it."""
        return {
            **_with_sbin(os.environ),
            "CONTAINERS_CONF": str(self.state / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.state / "registries.conf"),
            "DOCKER_HOST": f"unix://{self.socket}",
        }

    def command(self, *arguments: str) -> list[str]:
        """A command line of podman on this store."""
        return [
            "podman", "--root", str(self.store), "--runroot", str(self.state / "run"), "--tmpdir", str(self.state / "tmp"),
            "--network-config-dir", str(self.state / "network-files"), "--storage-driver", self.driver,
            "--log-level", "error", *arguments,
        ]  # fmt: skip

    def podman(self, *arguments: str) -> str:
        """What a command prints; raises EngineError."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(
                f"podman {' '.join(arguments[:3])} failed: {(done.stderr or done.stdout).strip()[-1500:]}"
            )
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.podman(*arguments) or "null")

    def build(self, arguments: Sequence[str], log: Path) -> None:
        """Build an image; all that is said goes to ``log``. Raises EngineError with its end."""
        command = self.command("build", "--isolation", "chroot", "--network", "host", "--pull=never", *arguments)
        with log.open("ab") as told, _ended(self._started(command, told)) as building:
            code = building.wait()
        if code:
            end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise EngineError(f"a build failed (exit {code}); the end of {log}:\n{end}")

    def _started(self, command: Sequence[str], told: IO[bytes]) -> subprocess.Popen[bytes]:
        """In a session of its own: a Ctrl-C is for us, who then stop it. Where we are killed, it goes with us."""
        command = ["setpriv", "--pdeathsig", "TERM", *command]
        return subprocess.Popen(command, env=self.environment, stdout=told, stderr=told, start_new_session=True)

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Docker's API on the socket, until the block ends."""
        command = self.command("system", "service", "--time=0", f"unix://{self.socket}")
        with (self.logs / "service.log").open("ab") as told, _ended(self._started(command, told)) as service:
            until = time.monotonic() + 30
            while not self.socket.exists():
                if service.poll() is not None or time.monotonic() > until:
                    raise EngineError(f"podman's API did not start: see {self.logs / 'service.log'}")
                time.sleep(0.1)
            yield

    def clear(self, keep: frozenset[str] | None = frozenset()) -> None:
        """Remove every container, network and volume, and every image but those named in ``keep`` (None: keep all)."""
        self._remove_containers()
        self.podman("volume", "prune", "--force")
        self.podman("network", "prune", "--force")
        if keep is None:
            return
        for image in self.ask("images", "--format", "json") or []:
            for name in image.get("Names") or []:
                if name not in keep:
                    self.podman("untag", image["Id"], name)
        self.podman("image", "prune", "--force")

    def _remove_containers(self) -> None:
        """Also those of a build that was cut off; one that is just being started again by its policy takes a second try."""
        for left in range(3, -1, -1):
            try:
                self.podman("rm", "--all", "--force", "--volumes", "--time", "0")
                for each in self.podman("ps", "--all", "--external", "--quiet").split():
                    self.podman("rm", "--force", each)
            except EngineError:
                if not left:
                    raise
                time.sleep(2.0)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session; it and what it started are gone at the end."""
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)


@contextlib.contextmanager
def opened(cache: Path) -> Iterator[Engine]:
    """The engine whose store lies in ``cache``; one run at a time. Raises EngineError."""
    if os.geteuid() != 0:
        raise EngineError("containers with networks of their own take root here: run it as root")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError("another run is under way (it holds the store)") from error
        # The store remembers where its state was: the same place for each run.
        state = Path("/run") / f"medai-images-{hashlib.sha256(str(cache).encode()).hexdigest()[:8]}"
        state.mkdir(mode=0o700, exist_ok=True)
        _stop_name_server(state)
        _leave_the_mounts(state)
        (state / "containers.conf").write_text(CONTAINERS_CONF, encoding="utf-8")
        (state / "registries.conf").write_text(REGISTRIES_CONF, encoding="utf-8")
        engine = Engine(cache=cache, state=state, driver=_driver(cache, state))
        for folder in (engine.work, engine.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        try:
            yield engine
        finally:
            _stop_name_server(state)
            _unmount(cache)
            shutil.rmtree(engine.work, ignore_errors=True)
            shutil.rmtree(state, ignore_errors=True)


def _unmount(place: Path) -> None:
    """The store mounts its own folder; nothing of it shall be busy."""
    points = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for point in sorted((point for point in points if point.is_relative_to(place)), reverse=True):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


def _driver(cache: Path, state: Path) -> str:
    """overlay where it works; else vfs, which copies each layer whole."""
    chosen = cache / "driver"
    if not chosen.exists():
        probe = Engine(cache=cache / "probe", state=state / "probe", driver="overlay")
        done = subprocess.run(probe.command("info"), capture_output=True, check=False)
        _unmount(probe.cache)
        shutil.rmtree(probe.cache, ignore_errors=True)
        shutil.rmtree(probe.state, ignore_errors=True)
        chosen.write_text("vfs" if done.returncode else "overlay", encoding="utf-8")
    return chosen.read_text(encoding="utf-8")


def leave_the_network() -> None:
    """Move this process, and what it starts from now on, into a network of its own, with nothing but loopback.

    There docker-compose.yml has its usual ports to itself, and nothing is left in this machine's network. The system
    gets by without the internet, as it must in a hospital.
    """
    _unshare(NEW_NETWORK)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, env=_with_sbin(os.environ))


def _stop_name_server(state: Path) -> None:
    """That of a run that was killed or interrupted: it has no network any more, and may not have noticed."""
    with contextlib.suppress(OSError, ValueError):
        number = int((state / SHARED[0].name / "aardvark-dns" / "aardvark.pid").read_text(encoding="utf-8"))
        if "aardvark" in Path(f"/proc/{number}/comm").read_text(encoding="utf-8"):
            os.kill(number, signal.SIGTERM)


def _leave_the_mounts(state: Path) -> None:
    """What is mounted from now on, only this process and its children see, and it goes with them.

    SHARED is ours alone, too: the name server of other users of podman can't be reached in our network.
    """
    _unshare(NEW_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for shared in SHARED:
        ours = state / shared.name
        for folder in (ours, shared):
            folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(ours), str(shared)], check=True)


def _unshare(what: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(what):
        raise EngineError(f"this machine gives no namespaces: {os.strerror(ctypes.get_errno())}")


def _with_sbin(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PATH": f"{environment.get('PATH', '')}:/usr/sbin:/sbin"}


def say(text: str) -> None:
    """One line on standard error, with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


_BEGAN = time.monotonic()
