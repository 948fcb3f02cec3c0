"""Print what requirements.lock holds for the extras that are named, as pip reads it: versions and sums of files.

    python deploy/locked.py console tracing >needed.txt && pip install --no-deps --require-hashes -r needed.txt

What the package needs without any extra is among it (not with ``--only``); ``build`` is what builds the package itself.
``torch`` is PyTorch as PyPI has it, with CUDA's libraries on Linux; with ``--torch-sha256`` it is that one file,
a CPU build from elsewhere. Needs nothing but Python, for it runs before anything is installed.
Next: lock.py (makes the file).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
EVERYWHERE = "all"
TORCH = "torch"


@dataclass(frozen=True)
class Locked:
    """One package of the lock."""

    name: str
    version: str
    marker: str
    """Where it is needed, as in PEP 508; empty: everywhere."""
    groups: frozenset[str]
    """Extras that need it; ``all``: the package itself does."""
    sha256: tuple[str, ...]
    """Sums of every file of the release."""

    def text(self) -> str:
        """As pip reads it."""
        head = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n".join([head, *(f"    --hash=sha256:{digest}" for digest in self.sha256)])


def read(text: str) -> list[Locked]:
    """The packages of a lock. Raises ValueError where it is not as lock.py writes it."""
    return list(_blocks(text))


def _blocks(text: str) -> Iterator[Locked]:
    groups = frozenset[str]()
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("# for: "):
            groups = frozenset(line.removeprefix("# for: ").split())
        elif line and not line.startswith("#"):
            head, *digests = re.split(r"\s+--hash=sha256:", line.strip())
            named = re.fullmatch(r"([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.+))?", head.strip())
            if named is None or not digests or not groups:
                raise ValueError(f"not a locked package: {head}")
            yield Locked(named[1], named[2], named[3] or "", groups, tuple(digests))


def wanted(locked: Sequence[Locked], groups: Set[str], torch_sha256: Sequence[str] = ()) -> Iterator[Locked]:
    """Those that the groups need; PyTorch as the file with that sum. Raises ValueError for a group that is unknown."""
    known = {group for each in locked for group in each.groups}
    if unknown := sorted(groups - known):
        raise ValueError(f"requirements.lock knows no {', '.join(unknown)}; it knows {', '.join(sorted(known))}")
    for each in locked:
        if not each.groups & groups:
            continue
        if each.name == TORCH and torch_sha256:
            yield replace(each, sha256=tuple(torch_sha256))
        elif TORCH not in each.groups or not torch_sha256:  # CUDA's libraries: a CPU build doesn't need them
            yield each


def main() -> int:
    """Print; the exit status."""
    asked = argparse.ArgumentParser(description="Print what requirements.lock holds for the extras that are named.")
    asked.add_argument("groups", nargs="*", metavar="EXTRA")
    asked.add_argument("--torch-sha256", default="", metavar="SUMS", help="take PyTorch from the file with this sum")
    asked.add_argument("--only", action="store_true", help="without what the package needs whatever the extras")
    told = asked.parse_args()
    groups = set(told.groups) | (set() if told.only else {EVERYWHERE})
    try:
        chosen = wanted(read(LOCK.read_text(encoding="utf-8")), groups, told.torch_sha256.split())
        print(*(each.text() for each in chosen), sep="\n")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
