"""Make requirements.lock from pyproject.toml and constraints.txt: run it after a change of either.

    .venv/bin/python deploy/lock.py

uv does it (Apache-2.0 or MIT), since it resolves for every platform and Python at once and knows the sums of all files
of a release; pip-compile sees the machine that it runs on alone. Each package is marked with the extras that need it,
so that an image gets no more than its own. Needs PyPI, or the mirror that UV_DEFAULT_INDEX names.
Next: locked.py (who reads the file).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from locked import EVERYWHERE, LOCK, TORCH, Locked, read

UV = "uv==0.13.9"
ROOT = LOCK.parent
OLDEST_PYTHON = "3.11"
WITHOUT_THEIR_NEEDS = {"deepbet": "worker", "dynamic-network-architectures": "dev"}
"""They ask for far more than they use; what they use is in our own extras. -> whose they are."""
HEAD = """\
# Made by deploy/lock.py: every package with the sums of its files, for all platforms. Edit constraints.txt, not this.
# "for" says which extras of pyproject.toml need what follows; deploy/locked.py picks by it.
"""


class Resolver:
    """uv, in an environment of its own."""

    def __init__(self, work: Path) -> None:
        self._work = work
        subprocess.run([sys.executable, "-m", "venv", work / "uv"], check=True)
        python = work / "uv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", UV], check=True)
        self._uv = python.with_name("uv")

    def locked(self, requirements: Sequence[str], *more: str) -> list[Locked]:
        """What these need, with sums, under constraints.txt; their groups are still to be said."""
        source = self._work / "wanted.in"
        source.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        done = subprocess.run(
            [
                self._uv, "pip", "compile", source, "--constraints", ROOT / "constraints.txt", "--universal",
                "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate", "--no-header", "--quiet",
                "--no-config", *more,
            ],
            stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"UV_CACHE_DIR": str(self._work / "cache")},
        )  # fmt: skip
        return read(f"# for: {EVERYWHERE}\n{done.stdout}")


def groups() -> dict[str, list[str]]:
    """Group -> what it asks for itself: the package, its extras, what builds it, PyTorch."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = said["project"]
    own = re.compile(rf"{re.escape(project['name'])}\[([a-z]+)\]")
    asked: dict[str, list[str]] = {EVERYWHERE: project["dependencies"], "build": said["build-system"]["requires"]}
    for extra, lines in project["optional-dependencies"].items():
        asked[extra] = [line for line in lines if not own.fullmatch(line)]
        for other in filter(None, map(own.fullmatch, lines)):
            asked[extra] += project["optional-dependencies"][other[1]]
    return asked | {TORCH: [TORCH]}


def constrained() -> dict[str, str]:
    """Package, as uv spells it -> its line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower(): line for line in pins}


def locked(resolver: Resolver) -> list[Locked]:
    """The whole lock, by name."""
    asked = groups()
    every = resolver.locked([line for lines in asked.values() for line in lines])
    needs = {group: {each.name for each in resolver.locked(lines)} for group, lines in asked.items()}
    cuda = {TORCH} | (needs[TORCH] - constrained().keys())  # constraints.txt holds what a CPU build needs
    found = []
    for each in every:
        names = {TORCH} if each.name in cuda else {group for group in asked if each.name in needs[group]} - {TORCH}
        found.append(replace(each, groups=frozenset({EVERYWHERE} if EVERYWHERE in names else names)))
    pins = [constrained()[name] for name in WITHOUT_THEIR_NEEDS]
    for each in resolver.locked(pins, "--no-deps"):
        found.append(replace(each, groups=frozenset({WITHOUT_THEIR_NEEDS[each.name]})))
    return sorted(found, key=lambda each: each.name)


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory(prefix="medai-lock-") as work:
        made = locked(Resolver(Path(work)))
    blocks = [f"# for: {' '.join(sorted(each.groups))}\n{each.text()}\n" for each in made]
    LOCK.write_text(HEAD + "".join(blocks), encoding="utf-8")
    print(f"{len(made)} packages, {sum(len(each.sha256) for each in made)} files")


if __name__ == "__main__":
    main()
