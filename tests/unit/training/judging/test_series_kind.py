"""A classifier of series is judged by slices and by patients."""

from __future__ import annotations

import numpy as np
import pytest
from kind_cases import slices

from medai.training.data.kind_slices import PARTS
from medai.training.judging.series_kind import report_of


def test_a_report_counts_right_and_wrong_slices() -> None:
    data, rows = slices(), np.arange(24)
    logits = np.full((24, len(PARTS) + 1), -5.0, dtype=np.float32)
    logits[:, 1] = 5.0  # everything is called head and neck
    when_turned = np.zeros((4, 24), dtype=np.float32)
    logits[:12, -1] = 5.0
    report = report_of(logits, when_turned, data, rows)
    assert report["structures"]["head_neck"] == {"slices": 5, "sensitivity": 1.0, "specificity": 0.0}
    assert report["structures"]["chest"]["sensitivity"] == 0.0
    assert report["upright"] == {"slices": 20, "sensitivity": pytest.approx(12 / 20)}
    assert report["patients"]["a"]["upright"] == pytest.approx(4 / 7, abs=0.02)
    assert report["patients"]["a"]["part"] == "head_neck"
