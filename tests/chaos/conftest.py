"""What the tests of the fault harness share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from chaos.nursery import Nurseries
from chaos.site import ENVIRONMENT


@pytest.fixture(scope="session")
def nurseries() -> Iterator[Nurseries]:
    """Where every router and worker is born."""
    with closing(Nurseries(ENVIRONMENT)) as made:
        yield made
