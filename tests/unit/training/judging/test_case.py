"""One case under judgement."""

from __future__ import annotations

import numpy as np

from medai.training.judging.case import CaseResult
from medai.training.metrics import measure


def test_a_case_with_nothing_to_find_and_nothing_drawn_is_not_a_bad_one() -> None:
    nothing = np.zeros((4, 4, 4), dtype=bool)
    result = CaseResult(
        case="a",
        seconds=1.0,
        peak_mb=1.0,
        growth_mb=0.0,
        voxels=64,
        measures={"x": measure(nothing, nothing, (1.0, 1.0, 1.0))},
    )
    assert result.mean_dice == 1.0
