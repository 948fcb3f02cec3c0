"""What the console's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from console_cases import World

from medai.router.ledger import Ledger


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An API on a ledger, and who asks it."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    yield World(ledger)
    ledger.close()
