"""Drift: nothing where nothing changed, much where much did, and the figures that others' code gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from medai.router.reports.drift import FEWEST, Reference, drifts, ks_distance, psi
from medai.training.judging.reference import distribution


def reference(values: Any, **kinds: dict[str, int]) -> Reference:
    """As medai-train reference writes it."""
    known = {"title": "Volume", "unit": "ml", **distribution(values)}
    words = {name: {"title": name, "n": sum(counts.values()), "counts": counts} for name, counts in kinds.items()}
    return Reference.model_validate({"quantities": {"output.1.volume_ml": known}, "kinds": words})


def rows(values: Any) -> list[dict[str, Any]]:
    return [{"output.1.volume_ml": float(value)} for value in values]


TRAINED = np.random.default_rng(1).normal(50, 10, 400)


def test_the_same_distribution_is_steady() -> None:
    (found,) = drifts(reference(TRAINED), rows(np.random.default_rng(2).normal(50, 10, 400)))
    assert found.level == "steady"
    assert found.psi is not None
    assert found.psi < 0.1


@pytest.mark.parametrize(("shift", "level"), [(2.5, "moderate"), (20.0, "large")])
def test_a_shift_is_found_and_told_by_its_size(shift: float, level: str) -> None:
    (found,) = drifts(reference(TRAINED), rows(np.random.default_rng(2).normal(50 + shift, 10, 400)))
    assert found.level == level
    assert found.median == pytest.approx(50 + shift, abs=1.5)


def test_few_readings_say_nothing() -> None:
    (found,) = drifts(reference(TRAINED), rows([90.0] * (FEWEST - 1)))
    assert found.level == "too few"
    (found,) = drifts(reference(TRAINED), [])
    assert (found.level, found.psi, found.ks, found.n) == ("too few", None, None, 0)


def test_the_index_is_the_one_computed_by_hand() -> None:
    # Shares with half a case added: 10.5/21 and 10.5/21 beside 5.5/21 and 15.5/21.
    by_hand = (5.5 / 21 - 0.5) * np.log(5.5 / 21 / 0.5) + (15.5 / 21 - 0.5) * np.log(15.5 / 21 / 0.5)
    assert psi([10, 10], [5, 15]) == pytest.approx(by_hand)
    assert psi([10, 10], [10, 10]) == 0.0


def test_the_distance_is_scipy_s() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        one, other = np.round(rng.normal(0, 1, 37), 1), np.round(rng.normal(0.3, 1.2, 23), 1)
        assert ks_distance(sorted(one), sorted(other)) == pytest.approx(stats.ks_2samp(one, other).statistic)


def test_shares_of_the_bins_are_all_there_is() -> None:
    (found,) = drifts(reference(TRAINED), rows(np.random.default_rng(2).normal(70, 10, 50)))
    assert sum(share for _, share, _ in found.bins) == pytest.approx(1.0)
    assert sum(share for _, _, share in found.bins) == pytest.approx(1.0)


def test_one_value_alone_in_training_tells_smaller_and_larger_from_it() -> None:
    (found,) = drifts(reference([1.0] * 50), rows([2.0] * 30))
    assert found.level == "large"
    (same,) = drifts(reference([1.0] * 50), rows([1.0] * 30))
    assert same.level == "steady"


def test_a_manufacturer_that_training_has_not_seen_is_a_bin_of_its_own() -> None:
    known = reference(TRAINED, **{"input.manufacturer": {"A": 60, "B": 40}})
    recent = [{"input.manufacturer": "C"}] * 30
    found = next(each for each in drifts(known, recent) if each.quantity == "input.manufacturer")
    assert found.level == "large"
    assert found.bins[-1] == ("not in the training set", 0.0, 1.0)


def test_what_is_no_number_is_left_out() -> None:
    (found,) = drifts(reference(TRAINED), [{"output.1.volume_ml": float("nan")}, {"output.1.volume_ml": "x"}, {}])
    assert found.n == 0
