"""Router and workers broken on purpose: the harness must catch each of them.

``part.py --mutant NAME`` changes one thing before the program starts. ADAPTER: these patch the ledger's and the
sweeper's own functions, so they follow when those change; a patch that finds nothing to change raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One breakage, and the fault under which it shows."""

    about: str
    caught_by: str
    apply: Callable[[], None]


def apply(name: str) -> None:
    """Break it."""
    MUTANTS[name].apply()


def _claim_without_state() -> None:
    """Whoever is told of a job takes it, whatever its state."""
    import sqlalchemy

    from medai.router.ledger import schema as t
    from medai.router.ledger.claims import Claims

    real = Claims.take

    def take(self: Any, job_id: str, **arguments: Any) -> Any:
        with self._database.begin() as db:  # a read and a write, as if nobody came between
            state = db.execute(sqlalchemy.select(t.jobs.c.state).where(t.jobs.c.id == job_id)).scalar()
            if state is not None:
                db.execute(sqlalchemy.update(t.jobs).where(t.jobs.c.id == job_id).values(state="pending", not_before=0))
        return real(self, job_id, **arguments)

    Claims.take = take  # type: ignore[method-assign] # that is the point


def _random_uids() -> None:
    """Results get new UIDs at each attempt."""
    import uuid

    from medai.workers.results import identity

    vars(identity)["derived_uid"] = lambda *_: f"2.25.{uuid.uuid4().int}"


def _done_before_sent() -> None:
    """A delivery is called done before it is sent."""
    from medai.router.delivery.courier import Desk

    real = Desk._deliver

    def early(self: Any, delivery: Any) -> bool:
        self._deliveries.delivered(delivery, "AA", self._clock())
        return real(self, delivery)

    Desk._deliver = early  # type: ignore[method-assign] # that is the point


def _no_resending() -> None:
    """Messages that Redis lost are not sent again."""
    from medai.router.queue.sweeper import Sweeper

    Sweeper._resend = lambda self: 0  # type: ignore[method-assign] # that is the point


def _no_reclaim() -> None:
    """A dead worker's job stays its own."""
    from medai.router.ledger.jobs import Jobs

    Jobs.reclaim = lambda self, *_, **__: None  # type: ignore[method-assign] # that is the point


def _cursor_first() -> None:
    """The cursor moves before the studies are recorded, and nothing sweeps."""
    from medai.router.intake.changes import Subscription

    real = Subscription._take

    def take(self: Any, changes: Any, last: int, *, live: bool) -> Any:
        self._ledger.studies.write_cursor("orthanc", last, self._clock())
        self._cursor = last
        return real(self, changes, last, live=live)

    Subscription._take = take  # type: ignore[method-assign] # that is the point
    Subscription.sweep = lambda self: ()  # type: ignore[method-assign] # that is the point


def _new_control_id() -> None:
    """Each try at an ORU has another MSH-10."""
    import secrets

    from medai.router.delivery import ris

    real = ris.send_oru

    def send(payload: bytes, control_id: str, *arguments: Any) -> str:
        fresh = secrets.token_hex(10).upper()
        return real(payload.replace(control_id.encode(), fresh.encode()), fresh, *arguments)

    vars(ris)["send_oru"] = send


MUTANTS: Mapping[str, Mutant] = {
    "claim-without-state": Mutant(about="a job is claimed without compare-and-set", caught_by="messages-twice", apply=_claim_without_state),
    "random-uids": Mutant(about="results get new UIDs at each attempt", caught_by="worker-killed-stored", apply=_random_uids),
    "done-before-sent": Mutant(about="a delivery is called done before it is sent", caught_by="killed-oru", apply=_done_before_sent),
    "no-resending": Mutant(about="messages that Redis lost are not sent again", caught_by="redis-flushed", apply=_no_resending),
    "no-reclaim": Mutant(about="a dead worker's job stays its own", caught_by="worker-killed-inference", apply=_no_reclaim),
    "cursor-first": Mutant(about="the cursor moves before studies are recorded, nothing sweeps", caught_by="router-killed-listening", apply=_cursor_first),
    "new-control-id": Mutant(about="each try at an ORU has another MSH-10", caught_by="ris-silent", apply=_new_control_id),
}  # fmt: skip
"""By name."""
