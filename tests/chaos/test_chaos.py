"""Each fault once, on a real system: nothing is lost, doubled or stuck, and every fault struck."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import report
from chaos.cli import each_once
from chaos.nursery import Nurseries
from chaos.runner import Wish, run


@pytest.mark.alone  # its waits end in time, or are told as slow, on a machine that does nothing else
@pytest.mark.timeout(3000)
def test_each_fault_once_loses_doubles_and_strands_nothing(tmp_path: Path, nurseries: Nurseries) -> None:
    said: list[str] = []
    wish = each_once(Wish(folder=tmp_path, rounds=0, seed=1, lanes=4, studies=3))
    played = run(wish, said.append, nurseries)
    result = report.summary(played.outcomes, played.last_look)
    # How fast it recovers is measured by the command: a busy machine must not fail a build.
    wrong = [each for each in result["violations"] if each["kind"] != "slow"]
    assert (wrong, result["missed"]) == ([], 0), "\n".join([report.table(result), *said])
