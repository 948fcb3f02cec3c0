"""Settings from a text, with nothing from outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medai.router.settings import load as settings
from medai.router.settings.tables import Settings

Load = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str) -> Settings:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return settings.load(str(path))

    return from_text
