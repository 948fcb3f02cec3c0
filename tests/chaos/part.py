"""What a child of the nursery runs: a router or worker, the ordinary one or one of an older version or broken.

``[--mutant NAME] [--older] router|worker --config FILE``. Everything is changed before the program's own modules are
imported; a clock that can be stepped (``step_clock``) even before the libraries are. libfaketime would step any
program's clock, but with a true monotonic clock it makes Python's ``time.sleep`` fail (it subtracts its offset from
clock_nanosleep's absolute deadline), so the step is made here.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path


def step_clock(file: Path) -> None:
    """Add what the file says (seconds) to ``time.time``; looked at again every 50 ms, so that it can be stepped."""
    real, ticks = time.time, time.monotonic
    seen = [-1.0, 0.0]  # when looked, offset

    def offset() -> float:
        now = ticks()
        if now - seen[0] > 0.05:
            seen[0] = now
            with contextlib.suppress(OSError, ValueError):  # just being written: the last offset holds
                seen[1] = float(file.read_text())
        return seen[1]

    time.time = lambda: real() + offset()
    time.time_ns = lambda: int((real() + offset()) * 1e9)


def be_older() -> None:
    """Know only an older revision of the ledger than the one that is there. ADAPTER: where the schema check lives."""
    from medai.router.ledger import fleet

    fleet.newest_revision = lambda: "0001"


def main(argv: Sequence[str]) -> int:
    """Change what was asked, then run the ordinary program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutant")
    parser.add_argument("--older", action="store_true")
    parser.add_argument("command", choices=["router", "worker"])
    options, rest = parser.parse_known_args(argv)
    if options.older:
        be_older()
    if options.mutant:
        from chaos.mutants import apply

        apply(options.mutant)
    arguments = [options.command, *rest]
    if options.command == "worker":
        from medai.models import registry
        from medai.workers.cli import main as worker

        registry.ships = lambda folder: (
            True
        )  # the harness's model is read where one that ships is: in the worker itself

        return worker(arguments)
    from medai.router.cli.main import main as router

    return router(arguments)
