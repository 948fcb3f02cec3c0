"""deploy/docker/digests.sh: every image of others gets the digest that the engine fetched, and Compose then asks for it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "deploy" / "docker" / "digests.sh"
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
ENGINE = """\
#!/bin/sh
# Pretends to be an engine whose registry holds every image; REGISTRY's text makes its contents.
for image in "$@"; do :; done
case $1 in
version) [ -z "$AWAY" ] ;;
pull) [ "$image" != "$MISSING" ] || { echo "no such image: $image" >&2; exit 1; }; echo "$image" >>"$PULLED" ;;
image) printf '%s@sha256:%s\\n\\n' "${image%:*}" "$(printf '%s' "$image $REGISTRY" | sha256sum | cut -d ' ' -f 1)" ;;
esac
"""


class Machine:
    """An engine that pretends, and a file in place of .env."""

    def __init__(self, place: Path) -> None:
        self.file = place / "made.env"
        self.pulled = place / "pulled"
        self._tools = place / "tools"
        self._tools.mkdir()
        self.docker = self._tools / "docker"
        self.docker.write_text(ENGINE)
        self.docker.chmod(0o755)

    def run(
        self, *arguments: str, registry: str = "first", missing: str = "", away: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self._tools}:/usr/bin:/bin", "PULLED": str(self.pulled)}
        return subprocess.run(
            ["sh", SCRIPT, *arguments, self.file], capture_output=True, text=True, check=False,
            env=environment | {"REGISTRY": registry, "MISSING": missing, "AWAY": away},
        )  # fmt: skip

    def lines(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.file.read_text().splitlines())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def digest(image: str, registry: str = "first") -> str:
    return "@sha256:" + hashlib.sha256(f"{image} {registry}".encode()).hexdigest()


def test_every_image_of_others_can_be_pinned() -> None:
    """Compose's own, and those that ours start from."""
    images = re.findall(r"(?m)^ +image: (\S+)$", COMPOSE)
    others = [image for image in images if not re.fullmatch(r"medai-[a-z]+", image)]
    stages = re.findall(r"(?m)^FROM \S+ AS (\S+)$", DOCKERFILE)
    bases = [base for base in re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) if base not in stages]
    assert len(others) == 5
    assert all(re.fullmatch(r"[^$@]+:[^$@]+\$\{[A-Z]+_DIGEST:-\}", image) for image in others), others
    assert all(re.fullmatch(r"[^$@]+:[^$@]+\$\{[A-Z]+_DIGEST\}", base) for base in bases), bases


def test_what_the_builder_is_told_is_what_its_bases_ask_for() -> None:
    for name in re.findall(r"(?m)^ARG ([A-Z]+_DIGEST)=$", DOCKERFILE):
        assert f"{name}: ${{{name}:-}}" in COMPOSE
        assert f"${{{name}}}" in DOCKERFILE


def test_each_gets_the_digest_that_was_fetched_and_other_lines_stay(machine: Machine) -> None:
    machine.file.write_text("REDIS_PASSWORD=abc\nREDIS_DIGEST=@sha256:old\n")
    done = machine.run()
    assert done.returncode == 0, done.stderr
    found = machine.lines()
    assert found["REDIS_PASSWORD"] == "abc"
    assert found["REDIS_DIGEST"] == digest("redis:7")
    assert found["PYTHON_DIGEST"] == digest("python:3.12-slim-bookworm")
    assert len(found) == 8
    assert len(machine.pulled.read_text().splitlines()) == 7
    assert machine.file.stat().st_mode & 0o777 == 0o600
    assert machine.run("--check").returncode == 0


def test_a_tag_that_became_something_else_is_taken_when_asked_for_and_not_before(machine: Machine) -> None:
    machine.run()
    assert machine.run("--check", registry="second").returncode == 0
    assert machine.lines()["REDIS_DIGEST"] == digest("redis:7")
    machine.run(registry="second")
    assert machine.lines()["REDIS_DIGEST"] == digest("redis:7", "second")


def test_what_is_not_pinned_is_named(machine: Machine) -> None:
    machine.run()
    machine.file.write_text(
        re.sub(r"(?m)^POSTGRES_DIGEST=.*\n", "POSTGRES_DIGEST=@sha256:short\n", machine.file.read_text())
    )
    done = machine.run("--check")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["postgres:16"]


def test_an_image_that_cannot_be_had_is_an_error_and_nothing_is_invented(machine: Machine) -> None:
    done = machine.run(missing="redis:7")
    assert done.returncode != 0
    assert "redis:7" in done.stderr
    assert "REDIS_DIGEST" not in machine.lines()


def test_a_command_whose_engine_is_away_is_not_asked(machine: Machine) -> None:
    podman = machine.docker.with_name("podman")
    podman.write_text(machine.docker.read_text().replace('[ -z "$AWAY" ]', "true"))
    podman.chmod(0o755)
    assert machine.run(away="yes").returncode == 0
    podman.write_text("#!/bin/sh\nexit 1\n")
    done = machine.run(away="yes")
    assert done.returncode == 1
    assert "neither docker nor podman works here" in done.stderr
