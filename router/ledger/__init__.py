"""The ledger: the truth about every study, job and delivery. All writes go through here.

Orthanc's change log, Redis and every callback are doorbells; what must not be lost is committed here first. Its parts:
studies.py (what was seen and ordered), jobs.py and claims.py (readings), deliveries.py (what is owed to whom),
deadletters.py (what could not go on), removals.py (studies that were deleted or moved), identities.py (patients who
were merged), fleet.py (workers and the leading router), accounts.py and actions.py (people and what they do),
surveys.py (what they say), edits.py (what readers made of our results). Tables: schema.py. Reading for people:
reports/readings.py.
"""

from __future__ import annotations

import threading

import structlog

from medai.router.errors import TemporaryError
from medai.router.ledger.accounts import Accounts
from medai.router.ledger.actions import Actions
from medai.router.ledger.claims import Claim, Claims
from medai.router.ledger.deadletters import DeadLetters
from medai.router.ledger.deliveries import Deliveries
from medai.router.ledger.edits import Edits
from medai.router.ledger.fleet import Fleet
from medai.router.ledger.identities import Identities
from medai.router.ledger.jobs import Held, NewJob
from medai.router.ledger.removals import Removals
from medai.router.ledger.surveys import Surveys

__all__ = ["Claim", "Held", "Ledger", "NewJob", "migrated"]
log = structlog.get_logger(__name__)


class Ledger(Actions, Claims, Deliveries, DeadLetters, Removals, Identities, Fleet, Accounts, Surveys, Edits):
    """Everything that Med-AI knows; safe to share between threads."""


def migrated(ledger: Ledger, stop: threading.Event) -> Ledger:
    """Bring a ledger to its newest schema, waiting for a database that is not up yet, until told to stop."""
    while not stop.is_set():
        try:
            ledger.migrate()
            ledger.log_key()
        except TemporaryError as error:
            log.warning("ledger_unreachable", reason=str(error))
            stop.wait(2.0)
            continue
        break
    return ledger
