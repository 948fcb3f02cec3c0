"""What the API answers beside the reports: who asks, pages of lists, what was done. Next: api.py, study_responses.py.

What the ledger holds is described where it is read (reports/).
"""

from __future__ import annotations

from pydantic import Field

from medai.router.console.peers import Peer
from medai.router.ledger.accounts import Role
from medai.router.reports.letters import DeadLetterEntry
from medai.router.reports.report import Report
from medai.router.reports.status import ModelEntry, NowPage
from medai.router.reports.story import ActionEntry


class Fault(Report):
    """Why a request was not served."""

    detail: str


class Health(Report):
    """That the process answers."""

    status: str


class Token(Report):
    """A token, told this once."""

    token: str
    expires_at: float = Field(description="Seconds since the epoch, as every moment here.")


class LoggedOut(Report):
    """A session that is over."""

    then: str = Field(description="Where a browser goes next: the login, or the provider that it signed in by.")


class Me(Report):
    """Who asks."""

    name: str
    role: Role


class AccountEntry(Report):
    """An account, without its password."""

    name: str
    role: Role
    created_at: float
    disabled: bool
    signed_in_at: float | None = Field(description="When somebody last signed in by it.")
    issuer: str | None = Field(description="The provider that vouches for it; null: this console.")


class TokenEntry(Report):
    """A token that holds, without what opens the door."""

    id: int
    account: str
    kind: str = Field(description="session or api")
    label: str
    created_at: float
    expires_at: float
    role: Role | None = Field(description="What it may at most; null: what the account may.")
    used_at: float | None = Field(description="When it was last used, to the minute.")


class StatusPage(NowPage):
    """What waits, who works, what is away, what needs a person."""

    parts: tuple[Peer, ...]


class HeldModel(ModelEntry):
    """A model that workers announced, with who has it."""

    held: tuple[str, ...] = Field(description="The versions that live workers have.")


class DeadLetterPage(Report):
    """Dead letters, newest first."""

    letters: tuple[DeadLetterEntry, ...]
    next: str | None = Field(description="Give this as after for the next page; null: this is the last one.")


class ActionPage(Report):
    """What people did, newest first."""

    actions: tuple[ActionEntry, ...]
    next: int | None = Field(description="Give this as after for the next page; null: this is the last one.")


class RouteEntry(Report):
    """A route that is in force."""

    name: str
    when: str
    model: str
    queue: str
    priority: str
    destinations: tuple[str, ...]


class SeriesVerdict(Report):
    """What a route makes of a series."""

    series: str
    qualifies: bool
    taken: bool
    reason: str


class RouteVerdict(Report):
    """Whether a route would read a study, and why."""

    route: str
    matched: bool
    reason: str
    series: tuple[SeriesVerdict, ...]


class MadeReading(Report):
    """A reading that was asked for."""

    job_id: str


class Told(Report):
    """Who hears of a withdrawal."""

    told: tuple[str, ...]
