"""The closed forms are the published ones."""

from __future__ import annotations

import pytest

from medai.trials.simulation import queueing


def test_closed_forms_are_the_published_ones() -> None:
    assert queueing.mmc_wait_s(0.5, 1.0, 1) == pytest.approx(1.0), "load over rate times what is left"
    assert queueing.waits_share(8.0, 1.0, 10) == pytest.approx(0.4092, abs=1e-4), (
        "Erlang C tables: 10 servers, 8 Erlang"
    )
    assert queueing.mg1_wait_s(0.5, 1.0, 0.0) == pytest.approx(0.5), "M/D/1 waits half as long as M/M/1"
    assert queueing.mg1_wait_s(0.5, 1.0, 1.0) == pytest.approx(queueing.mmc_wait_s(0.5, 1.0, 1))
    assert queueing.priority_waits_s([0.5], 1.0, 1.0) == pytest.approx([1.0])
    first, second = queueing.priority_waits_s([0.25, 0.25], 1.0, 1.0)
    assert first < 1.0 < second
    assert (first + second) / 2 == pytest.approx(1.0), "work is conserved"


@pytest.mark.parametrize("form", ["mmc", "mg1", "priority"])
def test_more_than_can_be_served_has_no_steady_state(form: str) -> None:
    with pytest.raises(queueing.UnstableError):
        {
            "mmc": lambda: queueing.mmc_wait_s(2.0, 1.0, 2),
            "mg1": lambda: queueing.mg1_wait_s(1.0, 1.0, 1.0),
            "priority": lambda: queueing.priority_waits_s([0.5, 0.6], 1.0, 1.0),
        }[form]()
