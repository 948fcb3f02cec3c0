"""One case under judgement."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from medai.models.errors import NotAVolume
from medai.models.format.metadata import EvaluationClass
from medai.training.cases import Case, Example
from medai.training.errors import DataError
from medai.training.judging.case import CaseResult, Watch, load_case, paired_dice, require_known
from medai.training.metrics import Measures, measure


def result(refusal: str = "", **dice: float | None) -> CaseResult:
    return CaseResult(
        case="c",
        seconds=1.0,
        peak_mb=1.0,
        growth_mb=0.0,
        voxels=64,
        refusal=refusal,
        measures={name: Measures(dice=value) for name, value in dice.items()},
    )


def test_a_case_with_nothing_to_find_and_nothing_drawn_is_not_a_bad_one() -> None:
    nothing = np.zeros((4, 4, 4), dtype=bool)
    seen = CaseResult(
        case="a",
        seconds=1.0,
        peak_mb=1.0,
        growth_mb=0.0,
        voxels=64,
        measures={"x": measure(nothing, nothing, (1.0, 1.0, 1.0))},
    )
    assert seen.mean_dice == 1.0


def test_a_refused_case_has_no_dice_and_is_the_worst_there_can_be() -> None:
    assert result(refusal="too small").mean_dice == 0.0
    assert result(a=0.5, b=1.0).mean_dice == 0.75
    assert result(a=0.5, b=None).mean_dice == 0.5, "a structure that is nowhere does not count"


def test_a_refused_case_counts_nothing_in_pairs_and_an_absent_structure_is_left_out() -> None:
    first = [result(a=0.9), result(refusal="x"), result(a=None), result(a=None)]
    second = [result(a=0.5), result(a=0.5), result(a=None), result(a=0.0)]
    one, other = paired_dice("a", [first, second])
    assert one.tolist() == [0.9, 0.0, 1.0], "rightly drawing nothing is perfect where the other drew"
    assert other.tolist() == [0.5, 0.5, 0.0]


def test_label_values_that_no_class_names_are_listed_with_those_that_are_named() -> None:
    classes = {"core": EvaluationClass(labels=(2, 3), segments=(1,))}
    labels = np.array([0, 2, 3, 7, 9], np.uint8)
    with pytest.raises(DataError, match=r"case c holds the label values 7, 9, which no class .* \(core: 2, 3\)"):
        require_known("c", labels, classes, others_are_background=False)
    require_known("c", labels, classes, others_are_background=True)


def test_a_case_that_cannot_be_read_is_named() -> None:
    def fails() -> Example:
        raise NotAVolume("slices 3 and 4 lie apart")

    with pytest.raises(DataError, match="case c: slices 3 and 4 lie apart"):
        load_case(Case(name="c", patient="c", read=fails))


def test_a_watch_sees_what_another_process_takes() -> None:
    with Watch(str(os.getppid())) as watch:
        block = np.ones(40_000_000 // 8)
    assert block.size
    assert watch.growth_mb < 20


def test_a_watch_sees_what_is_taken_while_it_looks() -> None:
    with Watch() as watch:
        block = np.ones(40_000_000 // 8)
        time.sleep(0.02)
    assert block.size
    assert watch.seconds >= 0.02
    assert watch.growth_mb > 30
    assert watch.peak_mb > watch.growth_mb
