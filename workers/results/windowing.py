"""Which grey levels a picture shows. Next: key_image.py, overlay.py, gsps.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medai.models.volume import Segmentation, Volume
from medai.router.contract import Measurement
from medai.workers.results.drawing import Window
from medai.workers.results.measure import MEAN_ATTENUATION
from medai.workers.results.planes import Array

LUNG_BELOW_HU = -300.0
BONE_ABOVE_HU = 250.0
BRAIN = "12738006"


def choose_window(
    volume: Volume, segmentation: Segmentation, measurements: Sequence[Measurement], planes: Sequence[Array]
) -> Window:
    """CT: lung, brain, bone or soft tissue, by what was segmented. Others: the 1st to 99.5th percentile shown."""
    if volume.unit == "HU":
        return _ct_window(segmentation, measurements)
    shown = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    bright = shown[shown > shown.min()] if shown.size else shown
    low, high = (float(v) for v in np.percentile(bright, (1.0, 99.5))) if bright.size else (0.0, 1.0)
    return Window(low=low, high=high, text=f"Window {low:.0f} to {high:.0f}")


def _ct_window(segmentation: Segmentation, measurements: Sequence[Measurement]) -> Window:
    means = [m.value for m in measurements if m.quantity == MEAN_ATTENUATION]
    typical = float(np.median(means)) if means else 0.0
    if typical < LUNG_BELOW_HU:
        name, centre, width = "Lung", -600, 1500
    elif typical > BONE_ABOVE_HU:
        name, centre, width = "Bone", 500, 2000
    elif any(segment.type.value == BRAIN for segment in segmentation.segments):
        name, centre, width = "Brain", 40, 80
    else:
        name, centre, width = "Soft tissue", 40, 400
    return Window(low=centre - width / 2, high=centre + width / 2, text=f"{name} window C {centre} W {width} HU")
