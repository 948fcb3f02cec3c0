"""A part that the nursery started is watched although it is not the harness's own child."""

from __future__ import annotations

import subprocess

import pytest
from chaos.nursery import Born


def test_its_end_is_seen_and_awaited() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    part = Born(sleeper.pid)
    assert part.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        part.wait(timeout=0.01)
    sleeper.kill()
    assert part.wait(timeout=10.0) == 0
    sleeper.wait()
    assert part.poll() == 0


def test_one_that_ended_before_it_was_looked_at_is_over() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert Born(gone.pid).poll() == 0
