"""Each fault once, on a real system: nothing is lost, doubled or stuck, and every fault struck."""

from __future__ import annotations

import pytest

from chaos import report
from chaos.runs import EACH, Run


@pytest.mark.apart  # it is several systems at once: little more fits beside them
@pytest.mark.timeout(3000)
@pytest.mark.plays(EACH)
def test_each_fault_once_loses_doubles_and_strands_nothing(run: Run) -> None:
    played = run.result()
    result = report.summary(played.outcomes, played.last_look)
    # How fast it recovers is measured by the command: a busy machine must not fail a build.
    wrong = [each for each in result["violations"] if each["kind"] != "slow"]
    assert (wrong, result["missed"]) == ([], 0), "\n".join([report.table(result), *run.said])
