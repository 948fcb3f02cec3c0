"""``python tests/mutation [MODULE …]``: try the mutants of the modules, tell which no test noticed, and sum up."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from mutation.changes import Mutant, mutants
from mutation.play import Player
from mutation.targets import ROOT, TARGETS


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where every mutant was noticed, 1 where some survived."""
    options = _parse(argv)
    again = json.loads(options.again.read_text()) if options.again else None
    survived: dict[str, list[str]] = {}
    for module in options.modules or TARGETS:
        if again is None or again.get(module):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # it has imported none of ours yet
                only = None if again is None else frozenset(again[module])
                survived[module] = fresh.submit(_try, module, only, options.every).result()
        if options.json:
            options.json.write_text(json.dumps(survived, indent=1))
    return int(any(survived.values()))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the survivors, by module")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only the survivors that such a file names")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth mutant")
    options = parser.parse_args(argv)
    unknown = [module for module in options.modules if module not in TARGETS]
    if unknown:
        parser.error(f"no tests are known for {', '.join(unknown)}; mutation/targets.py names them")
    return options


def _try(module: str, only: frozenset[str] | None, every: int) -> list[str]:
    """The names of the mutants of one module that its tests do not notice."""
    with TemporaryDirectory(prefix="mutation-") as folder:
        return _play(Player(module, TARGETS[module], Path(folder)), module, only, every)


def _play(player: Player, module: str, only: frozenset[str] | None, every: int) -> list[str]:
    took_s = player.baseline()
    tried = [each for each in mutants((ROOT / module).read_text()) if only is None or each.name in only][::every]
    print(f"{module}: {len(tried)} mutants; its tests take {took_s:.1f} s", flush=True)
    begun = time.monotonic()
    survived = [each.name for each in tried if _survives(player, each)]
    killed = len(tried) - len(survived)
    print(f"{module}: {killed} of {len(tried)} noticed, {time.monotonic() - begun:.0f} s\n", flush=True)
    return survived


def _survives(player: Player, mutant: Mutant) -> bool:
    noticed = player.notices(mutant.tree)
    if not noticed:
        print(f"  survived  {mutant.name}", flush=True)
    elif sys.stdout.isatty():
        print(f"  noticed   {mutant.name[:100]:100}", end="\r", flush=True)
    return not noticed
