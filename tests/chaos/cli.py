"""``medai chaos``: the command. Next: runner.py."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from chaos import report
from chaos.faults import FAULTS
from chaos.mutants import MUTANTS
from chaos.nursery import Nurseries
from chaos.runner import Wish, run
from chaos.site import ENVIRONMENT

EXAMPLES = """\
examples:
  medai chaos --rounds 200 --seed 1 --lanes 2        the whole thing
  medai chaos --each --lanes 2                       each fault once
  medai chaos --only redis-flushed --rounds 5        one fault, five times
  medai chaos --seed 1 --rounds 200 --round 37 --keep  one round of a run again, and keep what it leaves
  medai chaos --list                                 every fault, and every mutant
  medai chaos --mutant claim-without-state --only messages-twice --rounds 2   a broken build must be caught

Exit status: 0 when nothing was lost, doubled, stuck or otherwise wrong and every fault struck; 1 when not; 2 for wrong
usage. Run as root (or where unshare -rm works) for the faults of full disks.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="medai chaos", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Real Orthanc, Redis, RIS, router and two workers; a stream of studies; one fault a round; a verdict from outside.",
    )  # fmt: skip
    made.add_argument("--rounds", type=int, default=20, help="how many (%(default)s)")
    made.add_argument("--seed", type=int, default=1, help="of studies, faults and moments (%(default)s)")
    made.add_argument("--only", default="", help="these faults alone, separated by commas")
    made.add_argument("--round", type=int, help="play only this one of the rounds")
    made.add_argument("--each", action="store_true", help="each fault once, instead of --rounds")
    made.add_argument("--studies", type=int, help="in each round (3 to 5, by the seed)")
    made.add_argument("--lanes", type=int, default=1, help="systems side by side (%(default)s)")
    made.add_argument(
        "--ledger", choices=["sqlite", "postgresql", "both"], default="both",
        help="on which database; both: the lanes take turns (%(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--mutant", default="", choices=["", *MUTANTS], help="break router and workers on purpose", metavar="NAME"
    )
    made.add_argument("--tls", action="store_true", help="TLS on every hop")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    made.add_argument("--dir", type=Path, help="folder of the systems (a temporary one)")
    made.add_argument("--keep", action="store_true", help="keep folders and logs, and say where")
    made.add_argument("--stop", action="store_true", help="stop at the first round that is not good")
    made.add_argument("--list", action="store_true", help="show faults and mutants")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    made = parser()
    options = made.parse_args(argv)
    if options.list:
        _list()
        return 0
    only = tuple(name for name in options.only.split(",") if name)
    if unknown := [name for name in only if name not in FAULTS]:
        made.error(f"there is no fault {unknown[0]!r}: see --list")
    folder = options.dir or Path(tempfile.mkdtemp(prefix="medai-chaos-"))
    wish = Wish(
        folder=folder, rounds=options.rounds, seed=options.seed, only=only, round=options.round, lanes=options.lanes,
        studies=options.studies,        ledger=options.ledger, mutant=options.mutant, keep=options.keep, stop=options.stop, tls=options.tls,
    )  # fmt: skip
    if options.each:
        wish = each_once(wish)
    say = _teller()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with closing(Nurseries(ENVIRONMENT)) as nurseries:
            played = run(wish, say, nurseries)
    except KeyboardInterrupt:
        say(f"interrupted; everything is stopped, what it left is in {folder}")
        return 130
    except ValueError as error:
        made.error(str(error))
    result = report.summary(played.outcomes, played.last_look)
    print(report.table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.keep:
        say(f"kept: {folder}")
    elif not options.dir:
        folder.rmdir() if not any(folder.iterdir()) else say(f"not everything could be removed: {folder}")
    return 0 if report.is_good(result) else 1


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def each_once(wish: Wish) -> Wish:
    """As many rounds as there are faults that these lanes can play."""
    from dataclasses import replace

    from chaos.runner import databases

    kinds = databases(wish)
    names = wish.only or tuple(name for name, fault in FAULTS.items() if not fault.needs or fault.needs in kinds)
    return replace(wish, rounds=len(names), only=names)


def _list() -> None:
    for name, fault in FAULTS.items():
        print(f"{name:26} {fault.about}{f' ({fault.needs} only)' if fault.needs else ''}")
    print("\nmutants, for --mutant:")
    for name, mutant in MUTANTS.items():
        print(f"{name:26} {mutant.about}; caught by {mutant.caught_by}")


def _teller() -> Callable[[str], None]:
    began, lock = time.monotonic(), threading.Lock()

    def say(text: str) -> None:
        with lock:
            print(f"[{time.monotonic() - began:7.1f} s] {text}", file=sys.stderr, flush=True)

    return say
