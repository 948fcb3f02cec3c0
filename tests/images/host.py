"""What builds borrow from this machine: pip's, npm's and apt's settings, certificates, and the Debian archive's address.

A Dockerfile names no registry; where this machine reaches its registries by settings of its own, the builds get them as
read-only mounts, which leave no trace in an image. Next: stand_ins.py.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RELEASE = "bookworm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_KEYS = ("cert", "client-cert", "constraint", "default-timeout", "extra-index-url", "find-links", "index-url", "no-index",
            "only-binary", "pre", "prefer-binary", "proxy", "retries", "timeout", "trusted-host")  # fmt: skip
NPM_KEYS = ("registry", "cafile", "ca", "strict-ssl", "proxy", "https-proxy", "noproxy", "fetch-", "//", "@")


class HostError(Exception):
    """This machine lacks something; the text says what, and what to do."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, to be read at a place in a build."""

    source: Path
    target: Path

    def __str__(self) -> str:
        return f"{self.source}:{self.target}:ro"


def mounts(folder: Path) -> list[Mount]:
    """The settings as files, written to ``folder``, and what they name on this machine's disk."""
    pip, npm, apt = pip_settings(_pip_config()), npm_settings(_npm_lines()), apt_settings(_output("apt-config", "dump"))
    found = [
        Mount(_written(folder / "pip.conf", _pip_text(pip)), Path("/etc/pip.conf")),
        Mount(_written(folder / "npmrc", "\n".join(npm) + "\n"), Path("/root/.npmrc")),
        Mount(_written(folder / "apt.conf", "\n".join(apt) + "\n"), Path("/etc/apt/apt.conf.d/99host")),
    ]
    places = [CERTIFICATES, *named_paths(pip.values()), *named_paths(line.partition("=")[2] for line in npm)]
    return found + [Mount(place, place) for place in dict.fromkeys(places) if place.exists()]


def torch_sums() -> list[str]:
    """Sums of the builds of PyTorch in folders that pip's settings name: pip would prefer those to PyPI's."""
    folders = named_paths([pip_settings(_pip_config()).get("find-links", "")])
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("torch-*.whl"))]
    return [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]


def debian_archive() -> str:
    """Where this machine gets Debian's packages of RELEASE from; raises HostError."""
    wanted = os.environ.get("MEDAI_DEBIAN_ARCHIVE")
    if wanted:
        return wanted
    for line in _output("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)").splitlines():
        site, release, component = [*line.split(), "", "", ""][:3]
        if (release, component) == (RELEASE, "main"):
            return site
    raise HostError(
        f"the base images are made of Debian {RELEASE}, and this machine's apt knows no archive of it: name one as "
        "MEDAI_DEBIAN_ARCHIVE"
    )


def pip_settings(lines: Iterable[str]) -> dict[str, str]:
    """What matters to a build, of ``pip config list``; a variable of the environment goes before a file."""
    files: dict[str, str] = {}
    variables: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if equals and key in PIP_KEYS:
            (variables if section == ":env:" else files)[key] = str(ast.literal_eval(value))
    return files | variables


def npm_settings(lines: Iterable[str]) -> list[str]:
    """What matters to a build, of the lines of npmrc files."""
    return [line.strip() for line in lines if line.strip().startswith(NPM_KEYS)]


def apt_settings(dump: str) -> list[str]:
    """How to reach the archive, of ``apt-config dump``."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries", "Acquire::ForceIPv")
    return [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def named_paths(values: Iterable[str]) -> Iterator[Path]:
    """Places on this machine's disk in settings: a path, or a file: address (an index refers to files beside it)."""
    for word in " ".join(values).split():
        if word.startswith("file://"):
            yield Path(word.removeprefix("file://").rstrip("/")).parent
        elif word.startswith("/") and not word.startswith("//"):
            yield Path(word)


def _pip_text(settings: Mapping[str, str]) -> str:
    lines = [f"{key} = {' '.join(value.split())}" for key, value in settings.items()]
    return "\n".join(["[global]", *lines, ""])


def _pip_config() -> list[str]:
    return _output(sys.executable, "-m", "pip", "config", "list").splitlines()


def _npm_lines() -> Iterator[str]:
    files = [Path.home() / ".npmrc"]
    if shutil.which("npm"):
        files.insert(0, Path(_output("npm", "config", "get", "globalconfig").strip()))
    for file in files:
        if file.is_file():
            yield from file.read_text(encoding="utf-8").splitlines()
    for name, value in os.environ.items():
        if name.lower().startswith("npm_config_"):
            yield f"{name.lower().removeprefix('npm_config_').replace('_', '-')}={value}"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(f"{' '.join(command[:3])} gave no answer: {error}") from error


def _written(path: Path, text: str) -> Path:
    path.touch(mode=0o600)  # settings may hold a password
    path.write_text(text, encoding="utf-8")
    return path
