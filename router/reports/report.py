"""What every report is: a frozen value with named parts, which a page draws, the API serves and a command prints.

The API's description comes from these types, so what a report holds is described where it is made. Next: status.py,
readings.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection


class Tables(Protocol):
    """All that a report needs of the ledger: a transaction that reads."""

    def begin(self, *, reads_only: bool = False) -> AbstractContextManager[Connection]:
        """One transaction; raises TemporaryError while the database is away."""


class Report(BaseModel):
    """A part of what the ledger tells people. Every moment is in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class AsWritten(Report):
    """A part that a worker wrote into the ledger as JSON; what a newer one wrote beyond this comes along."""

    model_config = ConfigDict(extra="allow")
