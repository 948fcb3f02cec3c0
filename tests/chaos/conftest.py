"""Runs of the fault harness, begun together: each waits most of the time, and one long wait hides another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing

import pytest

from chaos.nursery import Nurseries
from chaos.runs import Run
from chaos.site import ENVIRONMENT


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Run]]:
    """Every run that a test of this session will ask for (its mark ``plays``), each on systems of its own."""
    marks = [item.get_closest_marker("plays") for item in request.session.items]
    names = [str(mark.args[0]) for mark in marks if mark]
    with ExitStack() as stack:
        nurseries = stack.enter_context(closing(Nurseries(ENVIRONMENT)))
        begun: dict[str, Run] = {}
        for name in names:
            begun[name] = stack.enter_context(closing(Run(name, tmp_path_factory.mktemp("chaos"), nurseries)))
        yield begun


@pytest.fixture
def run(request: pytest.FixtureRequest, runs: Mapping[str, Run]) -> Run:
    """The run that this test judges."""
    mark = request.node.get_closest_marker("plays")
    return runs[str(mark.args[0])]
