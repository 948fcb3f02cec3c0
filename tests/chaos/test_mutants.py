"""The harness catches a broken build: each mutant is run under the fault that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from chaos import report
from chaos.mutants import MUTANTS
from chaos.nursery import Nurseries
from chaos.runner import Played, Wish, run

KINDS = {
    "claim-without-state": {"duplicate"},
    "no-reclaim": {"stuck"},
    "done-before-sent": {"lost", "disagrees"},
}
"""What each must be caught as; the other mutants are for ``medai chaos --mutant NAME``."""
pytestmark = [
    pytest.mark.alone,  # its waits end in time, or are told as slow, on a machine that does nothing else
    pytest.mark.timeout(600),
]


@dataclass(kw_only=True)
class Run:
    """What came of one mutant, and what was said meanwhile."""

    said: list[str] = field(default_factory=list)
    played: Played | None = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, nurseries: Nurseries) -> Mapping[str, Run]:
    """The mutants side by side, each on a system of its own: what a broken build loses is mostly waited for."""

    def play(name: str) -> Run:
        made = Run()
        wish = Wish(
            folder=tmp_path_factory.mktemp(name), rounds=4, seed=1, only=(MUTANTS[name].caught_by,), mutant=name,
            ledger="sqlite", stop=True,
        )  # fmt: skip
        made.played = run(wish, made.said.append, nurseries)
        return made

    with ThreadPoolExecutor(len(KINDS)) as pool:
        return dict(zip(KINDS, pool.map(play, KINDS), strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_a_broken_build_is_caught(name: str, runs: Mapping[str, Run]) -> None:
    said, played = runs[name].said, runs[name].played
    assert played is not None
    result = report.summary(played.outcomes, [])
    kinds = {each["kind"] for each in result["violations"]}
    assert result["missed"] == 0, "\n".join(said)
    assert kinds & KINDS[name], "\n".join([report.table(result), *said])
