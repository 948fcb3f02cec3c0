"""What unit tests need not wait for: hundreds of them begin with an empty ledger or with accounts.

That migrations make the schema, and that passwords are hashed as they should be, is tested where it is the matter:
tests/integration/test_ledger.py and tests/unit/router/ledger/test_accounts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine, event, make_url

from medai.router.ledger import accounts, database
from medai.router.ledger.database import Database

MIGRATE = Database.migrate


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A SQLite ledger that was migrated, as a file."""
    made = tmp_path_factory.mktemp("migrated") / "ledger.sqlite"
    first = Database(f"sqlite:///{made}")
    MIGRATE(first)
    first.close()
    return made.read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _quick_ledgers(migrated: bytes) -> Iterator[None]:
    """Each SQLite ledger that does not exist yet begins as a copy. For one module: others may follow in this process."""

    def quick(self: Database) -> None:
        url = make_url(self.url)
        path = Path(url.database or "")
        if url.get_backend_name() == "sqlite" and url.database and path.parent.is_dir() and not path.exists():
            path.write_bytes(migrated)
        else:
            MIGRATE(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "migrate", quick)
        patch.setattr(database, "make_engine", partial(_without_waiting_for_the_disk, database.make_engine))
        yield


def _without_waiting_for_the_disk(make_engine: Callable[[str], Engine], url: str) -> Engine:
    """No unit test cuts the power."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))
    return engine


@pytest.fixture(scope="module", autouse=True)
def _quick_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        patch.setitem(accounts.SCRYPT, "n", 2**4)
        yield
