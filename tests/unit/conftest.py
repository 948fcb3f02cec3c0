"""What unit tests need not wait for: hundreds of them begin with an empty ledger or with accounts.

That migrations make the schema, and that passwords are hashed as they should be, is tested where it is the matter:
tests/integration/test_ledger.py and tests/unit/router/ledger/test_accounts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, make_url

from medai.router.ledger import accounts, database
from medai.router.ledger.database import Database


@pytest.fixture(scope="session", autouse=True)
def _quick_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first SQLite ledger of the session is migrated; each later one that does not exist yet begins as its copy."""
    migrate = Database.migrate
    made = tmp_path_factory.mktemp("migrated") / "ledger.sqlite"
    first = Database(f"sqlite:///{made}")
    migrate(first)
    first.close()
    content = made.read_bytes()

    def quick(self: Database) -> None:
        url = make_url(self.url)
        path = Path(url.database or "")
        if url.get_backend_name() == "sqlite" and url.database and path.parent.is_dir() and not path.exists():
            path.write_bytes(content)
        else:
            migrate(self)

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


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(accounts.SCRYPT, "n", 2**4)
        yield
