"""Dead letters as people are told of them: what can't go on, why, and what was tried. Nothing here writes.

Next: ledger/deadletters.py (what they are, and the two ways out).
"""

from __future__ import annotations

from pydantic import Field

from medai.router.ledger.deadletters import DeadLetter
from medai.router.reports import readings
from medai.router.reports.readings import AttemptEntry, DeliveryTry
from medai.router.reports.report import Report, Tables


class DeadLetterEntry(Report):
    """What can't go on, and why."""

    id: str
    job_id: str
    destination: str = Field(description="Empty for a reading.")
    kind: str
    route: str
    model: str
    failure: str
    reason: str
    parked_at: float
    attempts: int
    revision: int
    retry_helps: bool = Field(description="Whether trying the same again may end differently.")


class LetterEntry(DeadLetterEntry):
    """The same for the shell of the machine, which may know the study."""

    study_uid: str


class LetterStory(LetterEntry):
    """With all that was tried."""

    attempts_made: tuple[AttemptEntry, ...]
    deliveries_tried: tuple[DeliveryTry, ...]


def entry(letter: DeadLetter) -> DeadLetterEntry:
    """A dead letter for programs."""
    return DeadLetterEntry(**{name: getattr(letter, name) for name in DeadLetterEntry.model_fields})


def shell_entry(letter: DeadLetter) -> LetterEntry:
    """A dead letter for the shell."""
    return LetterEntry(**dict(entry(letter)), study_uid=letter.study_uid)


def story(ledger: Tables, letter: DeadLetter) -> LetterStory:
    """A dead letter with every attempt at its reading, and every try at its deliveries."""
    return LetterStory(
        **dict(shell_entry(letter)),
        attempts_made=tuple(readings.attempts(ledger, letter.job_id)),
        deliveries_tried=tuple(readings.delivery_tries(ledger, letter.job_id)),
    )
