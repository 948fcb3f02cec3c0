"""Figures with honest intervals: checked where the truth is known, absent where there is too little."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medai.trials.statistics import LEAST, paired_difference, percentiles, summary


def test_percentiles_are_numpys() -> None:
    values = np.arange(101.0)
    assert [each.value for each in percentiles(values, (50, 95))] == [50.0, 95.0]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    dice = np.random.default_rng(4)
    held = 0
    for _ in range(120):
        found = percentiles(dice.exponential(1.0, 60), (50,))[0]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= math.log(2) <= found.high
    assert 104 <= held <= 120, "about 95 % of 120"


def test_few_values_get_no_interval() -> None:
    assert percentiles([1.0] * (LEAST - 1), (50,))[0].low is None
    assert percentiles([1.0] * LEAST, (50,))[0].low == 1.0


def test_what_never_came_is_counted() -> None:
    found = summary([1.0, 2.0, math.nan])
    assert found is not None
    assert (found.n, found.missing, found.mean) == (2, 1, 1.5)
    assert summary([math.nan]) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).random(50)
    assert percentiles(values, (95,)) == percentiles(values, (95,))


def test_a_difference_is_of_whole_pairs() -> None:
    assert paired_difference([math.nan], [1.0]) is None
    found = paired_difference([10.0] * 20 + [math.nan], [8.0] * 20 + [1.0])
    assert found is not None
    assert found[0] == 20
    assert (found[1].value, found[1].low, found[1].high) == (-2.0, -2.0, -2.0)
    few = paired_difference([3.0], [1.0])
    assert few is not None
    assert (few[1].value, few[1].low) == (-2.0, None)


@pytest.mark.parametrize("size", [30_000])
def test_many_values_do_not_take_much_memory(size: int) -> None:
    found = percentiles(np.random.default_rng(2).random(size), (50,))[0]
    assert found.low is not None
    assert found.value == pytest.approx(0.5, abs=0.02)
