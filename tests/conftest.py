"""Fixtures that every test may use, and how tests are played side by side. Next: dealing.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dealing
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything loads a library that reads them
    os.environ.update(ONE_THREAD)

# How long an example takes, or its making, is a matter of the machine, which may be busy.
settings.register_profile("medai", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("medai")


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``."""
    return dealing.processes()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Ours, unless another is asked for by ``--dist``."""
    return dealing.Dealer(config, log) if config.getoption("dist") == "load" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whole modules that the marks leave out are not imported, which takes as long as many a test."""
    if not collection_path.match("test_*.py"):
        return None
    marks, text = config.option.markexpr, collection_path.read_text(encoding="utf-8")
    left_out = (marks == "apart" and "mark.apart" not in text) or (
        "not slow" in marks and "\npytestmark = pytest.mark.slow\n" in text
    )
    return True if left_out else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its own id: schemathesis 4.32 gives all its operations one, and pytest-xdist would play one of them."""
    for item in items:
        _, bracket, operation = item.name.partition("[")
        if bracket and item.id.params is None:
            item._id = item.id.with_params(operation.removesuffix("]"))
    assert len({item.nodeid for item in items}) == len(items), "two tests have one id"
    dealing.longest_first(items)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A command that is called in the test's own process makes its files private; the next test starts afresh."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


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
