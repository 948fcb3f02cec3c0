"""The hospital's clock runs faster than ours."""

from __future__ import annotations

from medai.trials.clock import Clock


def test_the_hospitals_clock_is_so_many_times_as_fast_and_stops_when_told() -> None:
    clock = Clock(accelerate=1000.0)
    clock.sleep(20.0)
    assert clock.now_s() >= 0.02
    assert clock.hospital_s() >= 20.0
    clock.stopped.set()
    clock.sleep(1e9)  # returns at once
    assert clock.pause_s(1e9)
