"""The harness catches a broken build: each mutant is run under the fault that shows it."""

from __future__ import annotations

import pytest

from chaos import report
from chaos.runs import Run

KINDS = {
    "claim-without-state": {"duplicate"},
    "no-reclaim": {"stuck"},
    "done-before-sent": {"lost", "disagrees"},
}
"""What each must be caught as; the other mutants are for ``medai chaos --mutant NAME``."""


@pytest.mark.apart  # it is several systems at once: little more fits beside them
@pytest.mark.timeout(3000)  # it may be the one that waits for every run of the harness
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.plays(name)) for name in KINDS])
def test_a_broken_build_is_caught(name: str, run: Run) -> None:
    result = report.summary(run.result().outcomes, [])
    kinds = {each["kind"] for each in result["violations"]}
    assert result["missed"] == 0, "\n".join(run.said)
    assert kinds & KINDS[name], "\n".join([report.table(result), *run.said])
