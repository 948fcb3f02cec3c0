"""A stepped clock is noticed, a slewed one is followed."""

from __future__ import annotations

import pytest

from medai.router.daemon.clock import NOTICEABLE_S, StepWatch


class Clocks:
    """A wall clock and a monotonic one; ``wall`` alone is set by people."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 100.0

    def pass_s(self, seconds: float, *, slewed_s: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + slewed_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def watch(clocks: Clocks) -> StepWatch:
    return StepWatch(lambda: clocks.wall, lambda: clocks.steady)


def test_time_that_passes_is_no_step(clocks: Clocks, watch: StepWatch) -> None:
    clocks.pass_s(86400.0)
    assert watch.step_s() == 0.0


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, NOTICEABLE_S, -NOTICEABLE_S])
def test_a_step_is_told_with_its_sign_until_the_waits_have_moved(
    clocks: Clocks, watch: StepWatch, step_s: float
) -> None:
    clocks.pass_s(5.0)
    clocks.wall += step_s
    assert watch.step_s() == pytest.approx(step_s)
    clocks.pass_s(5.0)
    assert watch.step_s() == pytest.approx(step_s), "the ledger was away: it is told again"
    watch.settled(step_s)
    assert watch.step_s() == 0.0


def test_a_step_that_comes_while_another_is_settled_is_told_for_itself(clocks: Clocks, watch: StepWatch) -> None:
    clocks.wall += 100.0
    step_s = watch.step_s()
    clocks.wall += 50.0
    watch.settled(step_s)
    assert watch.step_s() == pytest.approx(50.0)


def test_a_clock_that_is_slewed_for_hours_never_becomes_a_step(clocks: Clocks, watch: StepWatch) -> None:
    for _ in range(100):
        clocks.pass_s(60.0, slewed_s=0.03)
        assert watch.step_s() == 0.0
