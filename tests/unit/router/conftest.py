"""What tests of the router share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medai.router.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger. A module that wants accounts or readings in it has a fixture of this name that adds them."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    yield ledger
    ledger.close()
