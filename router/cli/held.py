"""The commands of ``medai`` about orders that contradict the images they name: held, release, reject.

Next: ledger/held_orders.py (what follows from a decision), hl7/order_patient.py (what a contradiction is).
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
    text = "list orders that say otherwise of the patient than the images, and wait for a person"
    command(commands, "held", cmd_held, text, example="medai held --json")
    text = "join a held order to its study all the same"
    release = command(commands, "release", cmd_release, text, example="medai release 3 --reason married-since")
    text = "never join a held order to its study"
    reject = command(commands, "reject", cmd_reject, text, example="medai reject 3 --reason wrong-accession-number")
    for each in (release, reject):
        each.add_argument("id", metavar="ID", type=int, help="as 'medai held' prints it")
        each.add_argument("--reason", required=True, help="why; kept in the ledger")


def cmd_held(options: argparse.Namespace) -> int:
    """The list."""
    from medai.router.cli import text
    from medai.router.reports import held

    found = held.waiting(open_ledger(options))
    print_json({"orders": found}) if options.json else print(text.held_orders(found, time.time()))
    return 0


def cmd_release(options: argparse.Namespace) -> int:
    """Join it."""
    from medai.router.ledger.held_orders import HoldState

    return _decide(options, HoldState.RELEASED)


def cmd_reject(options: argparse.Namespace) -> int:
    """Never join it."""
    from medai.router.ledger.held_orders import HoldState

    return _decide(options, HoldState.REJECTED)


def _decide(options: argparse.Namespace, state: HoldState) -> int:
    if not open_ledger(options).held.decide(options.id, state, options.reason, time.time(), by=person()):
        raise MedaiError(f"no order is held as {options.id}: see 'medai held'")
    print_json({state.value: options.id}) if options.json else print(f"{options.id} {state.value}")
    return 0
