"""Paired tests are the textbook's, and count what a model draws where nothing is."""

from __future__ import annotations

import pytest

from medai.training.judging.case import CaseResult
from medai.training.judging.paired_tests import holm, paired_tests
from medai.training.metrics import Measures


def result(case: str, **dice: float | None) -> CaseResult:
    return CaseResult(
        case=case,
        seconds=1.0,
        peak_mb=1.0,
        growth_mb=0.0,
        voxels=1,
        measures={name: Measures(dice=value, truth_ml=1.0) for name, value in dice.items()},
    )


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_signed_rank_test_is_that_of_an_exact_enumeration() -> None:
    # Six differences, all positive and different: the two most extreme of 2**6 sign patterns.
    first = [result(str(n), x=0.8 + 0.01 * n) for n in range(1, 7)]
    second = [result(str(n), x=0.8) for n in range(1, 7)]
    (pair,) = paired_tests(["one", "other"], ["x"], [first, second])
    assert pair.p == pytest.approx(2 / 2**6)
    assert pair.effect == pytest.approx(1.0)
    assert pair.difference == pytest.approx(0.035)
    assert pair.ci95 is not None
    assert 0.01 < pair.ci95[0] < 0.035 < pair.ci95[1] < 0.06


def test_the_effect_is_the_rank_biserial_correlation() -> None:
    # Ranks of |d|: 1 (negative), 2, 3, 4: (9 - 1) / 10.
    first = [result(str(n), x=0.5 + d) for n, d in enumerate([-0.01, 0.02, 0.03, 0.04])]
    second = [result(str(n), x=0.5) for n in range(4)]
    (pair,) = paired_tests(["one", "other"], ["x"], [first, second])
    assert pair.effect == pytest.approx(0.8)


def test_equal_models_do_not_differ() -> None:
    same = [result(str(n), x=0.5) for n in range(5)]
    (pair,) = paired_tests(["one", "other"], ["x"], [same, same])
    assert (pair.p, pair.p_holm, pair.difference, pair.effect) == (1.0, 1.0, 0.0, 0.0)


def test_what_is_drawn_where_nothing_is_counts_against_a_model_and_absence_on_all_sides_does_not_count() -> None:
    first = [result("a", x=None), result("b", x=None)]
    second = [result("a", x=0.0), result("b", x=None)]
    (pair,) = paired_tests(["one", "other"], ["x"], [first, second])
    assert (pair.cases, pair.difference) == (1, 1.0)
