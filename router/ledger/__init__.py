"""The ledger: the truth about every study, reading and delivery. All writes go through here.

Orthanc's change log, Redis and every callback are doorbells; what must not be lost is committed here first. Its parts:
studies.py (what was seen), orders.py (what was ordered), held_orders.py (what of it contradicts the images), jobs.py
and claims.py (readings), deliveries.py (what is owed to whom), deadletters.py (what could not go on), removals.py
(studies that were deleted or moved), identities.py (patients who were merged), fleet.py (workers and the leading
router), accounts.py and actions.py (people and what they do), surveys.py (what they say), edits.py (what readers made
of our results), announcements.py (what a study will hold), workitems.py (what a worklist asks for), outside.py (what
went to AI outside, and how far its answer is), retention.py (what goes when it is old), erasure.py (all of one
patient). What people did and saw is sealed (trail.py) and goes out (audit_lines.py). What may become of a job or a
delivery is in transitions.py alone.
Tables: schema.py; rows: rows.py. Reading for people: reports/readings.py.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

import structlog
from sqlalchemy import Connection

from medai.router.errors import TemporaryError
from medai.router.ledger.accounts import Accounts
from medai.router.ledger.actions import Actions
from medai.router.ledger.announcements import Announcements
from medai.router.ledger.audit_lines import AuditLines
from medai.router.ledger.claims import Claim, Claims
from medai.router.ledger.database import Database
from medai.router.ledger.deadletters import DeadLetters
from medai.router.ledger.deliveries import Deliveries
from medai.router.ledger.edits import Edits
from medai.router.ledger.erasure import Erasure
from medai.router.ledger.fleet import Fleet
from medai.router.ledger.held_merges import HeldMerges
from medai.router.ledger.held_orders import HeldOrders
from medai.router.ledger.identities import Identities
from medai.router.ledger.jobs import Held, Jobs, NewJob
from medai.router.ledger.orders import Orders
from medai.router.ledger.outside import Outside
from medai.router.ledger.removals import Removals
from medai.router.ledger.retention import Retention
from medai.router.ledger.studies import Studies
from medai.router.ledger.surveys import Surveys
from medai.router.ledger.trail import Verdict
from medai.router.ledger.workitems import Workitems

__all__ = ["Claim", "Held", "Ledger", "NewJob", "migrated"]
log = structlog.get_logger(__name__)


class Ledger:
    """Everything that Med-AI knows, by parts, on one database; safe to share between threads.

    Who needs one part takes that part. ``begin`` is for what several of them write together, and for reports.
    """

    def __init__(self, url: str, *, audit_folder: str = "") -> None:
        self.database = Database(url, audit_folder=audit_folder)
        self.studies = Studies(self.database)
        self.orders = Orders(self.database)
        self.held = HeldOrders(self.database)
        self.held_merges = HeldMerges(self.database)
        self.announcements = Announcements(self.database)
        self.jobs = Jobs(self.database)
        self.claims = Claims(self.database)
        self.deliveries = Deliveries(self.database)
        self.dead = DeadLetters(self.database)
        self.removals = Removals(self.database)
        self.identities = Identities(self.database)
        self.fleet = Fleet(self.database)
        self.accounts = Accounts(self.database)
        self.actions = Actions(self.database, self.jobs)
        self.surveys = Surveys(self.database)
        self.edits = Edits(self.database)
        self.workitems = Workitems(self.database)
        self.outside = Outside(self.database)
        self.retention = Retention(self.database)
        self.erasure = Erasure(self.database)
        self.audit = AuditLines(self.database)

    def migrate(self) -> None:
        """Bring the tables to the newest revision; harmless when they are there already."""
        self.database.migrate()

    def begin(self, *, reads_only: bool = False) -> AbstractContextManager[Connection]:
        """One transaction; a database that is away, locked or full is a TemporaryError."""
        return self.database.begin(reads_only=reads_only)

    def setting(self, key: str, default: str) -> str:
        """A value that is made once and kept; the first writer wins."""
        return self.database.setting(key, default)

    def log_key(self) -> str:
        """The key of the pseudonyms in the logs, made with the ledger."""
        return self.database.log_key()

    def verify_audit(self) -> Verdict:
        """Whether every line of the audit trail is as it was written, and none is missing."""
        with self.begin(reads_only=True) as db:
            return self.database.trail.verify(db)

    def unkept_audit(self) -> int:
        """Lines of the audit trail whose seal is in no second place yet."""
        with self.begin(reads_only=True) as db:
            return self.database.trail.unkept(db)

    def close(self) -> None:
        """Give the connections back."""
        self.database.close()


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
