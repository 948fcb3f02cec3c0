"""The commands of ``medai`` about what waits for a person (orders that contradict their images, merges of patients):
held, release, reject.

Next: ledger/held_orders.py, ledger/held_merges.py (what follows from a decision), hl7/order_patient.py,
hl7/merge_doubt.py (what a contradiction is).
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, open_ledger, person, print_json
from medai.router.errors import MedaiError

if TYPE_CHECKING:
    from medai.router.ledger.held_orders import HoldState


def held_commands(commands: Any) -> None:
    """``medai held``, ``release``, ``reject``."""
    text = "list orders that name another patient than the images, and merges of two persons: both wait for a person"
    command(commands, "held", cmd_held, text, example="medai held --json")
    text = "join a held order to its study all the same, or follow a held merge"
    release = command(commands, "release", cmd_release, text, example="medai release 3 --reason married-since")
    text = "never join a held order to its study, or never follow a held merge"
    reject = command(commands, "reject", cmd_reject, text, example="medai reject 3 --reason wrong-accession-number")
    for each in (release, reject):
        each.add_argument("id", metavar="ID", type=_number, help="as 'medai held' prints it: 3, or m3 of a merge")
        each.add_argument("--reason", required=True, help="why; kept in the ledger")


def cmd_held(options: argparse.Namespace) -> int:
    """The list."""
    from medai.router.cli import text
    from medai.router.reports import held

    ledger = open_ledger(options)
    orders, merges = held.waiting(ledger), held.waiting_merges(ledger)
    if options.json:
        print_json({"orders": orders, "merges": merges})
    else:
        print(text.held(orders, merges, time.time()))
    return 0


def cmd_release(options: argparse.Namespace) -> int:
    """Join or follow it."""
    from medai.router.ledger.held_orders import HoldState

    return _decide(options, HoldState.RELEASED)


def cmd_reject(options: argparse.Namespace) -> int:
    """Never join or follow it."""
    from medai.router.ledger.held_orders import HoldState

    return _decide(options, HoldState.REJECTED)


def _decide(options: argparse.Namespace, state: HoldState) -> int:
    kind, number = options.id
    ledger = open_ledger(options)
    holds = ledger.held_merges if kind else ledger.held
    if not holds.decide(number, state, options.reason, time.time(), by=person()):
        raise MedaiError(f"nothing is held as {kind}{number}: see 'medai held'")
    print_json({state.value: f"{kind}{number}" if kind else number}) if options.json else print(
        f"{kind}{number} {state.value}"
    )
    return 0


def _number(text: str) -> tuple[str, int]:
    """An order's number, or m and a merge's."""
    kind = "m" if text[:1].lower() == "m" else ""
    return kind, int(text[len(kind) :])
