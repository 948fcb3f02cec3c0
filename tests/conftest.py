"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its own id: schemathesis 4.32 gives all its operations one, and pytest-xdist would play one of them."""
    for item in items:
        _, bracket, operation = item.name.partition("[")
        if bracket and item.id.params is None:
            item._id = item.id.with_params(operation.removesuffix("]"))
    assert len({item.nodeid for item in items}) == len(items), "two tests have one id"


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A folder of real images beside the project; the test is skipped, saying so, where it is absent."""
    root = Path(os.environ.get("MEDAI_SHARED_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"real data {name} is not beside this checkout")
        return path

    return find
