"""The harness catches a broken build: each mutant is run under the fault that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import report
from chaos.mutants import MUTANTS
from chaos.runner import Wish, run

KINDS = {
    "claim-without-state": {"duplicate"},
    "no-reclaim": {"stuck"},
    "done-before-sent": {"lost", "disagrees"},
}
"""What each must be caught as; the other mutants are for ``medai chaos --mutant NAME``."""


@pytest.mark.alone  # its waits end in time, or are told as slow, on a machine that does nothing else
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", KINDS)
def test_a_broken_build_is_caught(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    wish = Wish(
        folder=tmp_path, rounds=4, seed=1, only=(MUTANTS[name].caught_by,), mutant=name, ledger="sqlite", stop=True
    )
    played = run(wish, said.append)
    result = report.summary(played.outcomes, [])
    kinds = {each["kind"] for each in result["violations"]}
    assert result["missed"] == 0, "\n".join(said)
    assert kinds & KINDS[name], "\n".join([report.table(result), *said])
