"""Slices for the classifier of series, of chance."""

from __future__ import annotations

import numpy as np

from medai.models.segmenters.series_kind import SIDE
from medai.training.data.kind_slices import UNKNOWN, Slices


def slices() -> Slices:
    draw = np.random.default_rng(0)
    count = 24
    return Slices(
        images=draw.normal(size=(count, SIDE, SIDE)).astype(np.float16),
        parts=np.array([0, 1, 2, 3] * 5 + [UNKNOWN] * 4, dtype=np.uint8),
        axial=np.array([1] * 20 + [0] * 4, dtype=np.uint8),
        patients=np.array(["a", "b", "c"] * 8),
    )
