"""The command line with nothing from outside, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medai.router.ledger import Ledger


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger, with a medai.toml in the current directory that names it."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    (tmp_path / "medai.toml").write_text(f'[ledger]\nurl = "{url}"\n')
    ledger = Ledger(url)
    ledger.migrate()
    yield ledger
    ledger.close()
