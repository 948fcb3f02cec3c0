"""docker-compose.yml as it is: which images it takes and builds, bringing it up, and the clock of its health checks.

A Docker engine runs health checks by itself; podman leaves that to systemd, which need not run here. ``HealthChecks`` does
it, at each container's own interval, and the engine judges (retries, start period). Next: system.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from images import host
from images.engine import Engine, EngineError, say

PROJECT = "medai-images"
DIGEST = re.compile(r"\$\{[A-Z]+_DIGEST(?::-)?\}")
"""Where deploy/docker/digests.sh pins an image; here nothing is, for stand-ins are made."""


@dataclass(frozen=True)
class Compose:
    """The Compose of this machine, on the file of a checkout, asking an engine of ours."""

    engine: Engine
    root: Path

    def run(self, *arguments: str) -> str:
        """What a command prints; what it says goes to a log. Raises EngineError with the end of it."""
        log = self.engine.logs / "compose.log"
        secrets = self.engine.work / "made.env"
        subprocess.run(["sh", "deploy/docker/secrets.sh", str(secrets)], cwd=self.root, check=True)
        with log.open("ab") as told:
            done = subprocess.run(
                [*_command(), "--project-name", PROJECT, "--env-file", str(secrets), "--file", "docker-compose.yml", *arguments],
                cwd=self.root, env=self._environment(), stdout=subprocess.PIPE, stderr=told, check=False,
            )  # fmt: skip
        if done.returncode:
            end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise EngineError(f"docker-compose {arguments[0]} failed (exit {done.returncode}):\n{end}")
        return done.stdout.decode()

    def _environment(self) -> dict[str, str]:
        """Only what it needs: a password or a port in this shell's variables would make it another file."""
        passed = ("PATH", "HOME", "TORCH_INDEX_URL", "TORCH_SHA256")
        kept = {name: os.environ[name] for name in passed if name in os.environ}
        if not kept.keys() & {"TORCH_INDEX_URL", "TORCH_SHA256"}:
            kept["TORCH_SHA256"] = " ".join(host.torch_sums())
        return kept | {"DOCKER_HOST": self.engine.environment["DOCKER_HOST"], "COMPOSE_HTTP_TIMEOUT": "300"}

    def services(self) -> dict[str, Any]:
        """Those that start by default, as Compose understands them."""
        every: dict[str, Any] = yaml.safe_load(self.run("config"))["services"]
        return {name: service for name, service in every.items() if not service.get("profiles")}


def _command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"]


def base_images(services: dict[str, Any], root: Path) -> list[str]:
    """Published images that the services and the Dockerfiles of those that are built start from, without digests."""
    found = [DIGEST.sub("", service["image"]) for service in services.values() if "build" not in service]
    for file in {root / service["build"]["dockerfile"] for service in services.values() if "build" in service}:
        stages: set[str] = set()
        for base, stage in re.findall(
            r"(?m)^FROM (\S+)(?: AS (\S+))?$", DIGEST.sub("", file.read_text(encoding="utf-8"))
        ):
            if base not in stages:
                found.append(base)
            stages.add(stage)
    return list(dict.fromkeys(found))


def build_all(engine: Engine, services: dict[str, Any], root: Path, volumes: Sequence[str]) -> list[str]:
    """Build each image as its service says, once; their names."""
    built: list[str] = []
    for service in services.values():
        name = service["image"]
        if "build" not in service or name in built:
            continue
        said = service["build"]
        arguments = [
            word for key, value in (said.get("args") or {}).items() for word in ("--build-arg", f"{key}={value}")
        ]
        mounts = [word for volume in volumes for word in ("--volume", volume)]
        say(f"building {name} ...")
        file = root / said["dockerfile"]
        engine.build(
            [
                "--target",
                said["target"],
                "--tag",
                f"localhost/{name}",
                *arguments,
                *mounts,
                "--file",
                str(file),
                said["context"],
            ],
            engine.logs / "build.log",
        )
        built.append(name)
        (facts,) = engine.ask("image", "inspect", name)
        say(f"{name} is built, {facts['Size'] / 1e6:.0f} MB")
    return built


@dataclass
class HealthChecks:
    """Runs each container's health check at its interval, while the block lasts."""

    engine: Engine
    _due: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> HealthChecks:
        self._thread = threading.Thread(target=self._watch, name="health checks")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with ThreadPoolExecutor(max_workers=3) as pool:
            while not self._stop.wait(1.0):
                for name, interval_s in self._running().items():
                    now = time.monotonic()
                    if now >= self._due.setdefault(name, now + interval_s):
                        self._due[name] = now + interval_s
                        pool.submit(self._check, name)

    def _running(self) -> dict[str, float]:
        """Container -> interval; a container without a check is left out. Nothing while the engine can't say."""
        try:
            names = self.engine.podman("ps", "--format", "{{.Names}}").split()
            found = self.engine.ask("inspect", *names) if names else []
        except EngineError:  # one of them has just gone
            return {}
        checks = {facts["Name"]: facts["Config"].get("Healthcheck") for facts in found}
        return {name: check["Interval"] / 1e9 for name, check in checks.items() if check}

    def _check(self, name: str) -> None:
        command = self.engine.command("healthcheck", "run", name)
        subprocess.run(command, env=self.engine.environment, capture_output=True, check=False)


def health(engine: Engine) -> dict[str, str]:
    """Service -> starting, healthy or unhealthy, of what runs; a container that doesn't run is called by its state."""
    names = engine.podman("ps", "--all", "--format", "{{.Names}}").split()
    found = engine.ask("inspect", *names) if names else []
    return {facts["Config"]["Labels"]["com.docker.compose.service"]: _state(facts["State"]) for facts in found}


def _state(state: dict[str, Any]) -> str:
    checked = (state.get("Health") or state.get("Healthcheck") or {}).get("Status", "")
    return str(checked if state["Status"] == "running" else state["Status"])


def wait_until_healthy(engine: Engine, services: Sequence[str], within_s: float) -> None:
    """Until all are; raises EngineError with what is not, and the ends of its log."""
    until = time.monotonic() + within_s
    told: dict[str, str] = {}
    while True:
        now = health(engine)
        for name, state in sorted(now.items()):
            if told.get(name) != state:
                say(f"  {name}: {state}")
        told = now
        ill = [name for name in services if now.get(name) != "healthy"]
        if not ill:
            return
        if time.monotonic() > until or any(now.get(name) == "unhealthy" for name in ill):
            states = ", ".join(f"{name} ({now.get(name, 'absent')})" for name in ill)
            raise EngineError(f"not healthy: {states}")
        time.sleep(2.0)


def keep_logs(engine: Engine) -> list[Path]:
    """What each container said, as files; where they are."""
    kept = []
    for name in engine.podman("ps", "--all", "--format", "{{.Names}}").split():
        kept.append(engine.logs / f"{name}.log")
        with kept[-1].open("wb") as told:
            subprocess.run(engine.command("logs", name), env=engine.environment, stdout=told, stderr=told, check=False)
    return kept
