"""One run of a model that is not trusted yet, on a phantom, with a time limit: in the process that a worker would use.

What came out, in how many seconds and with how much memory, is told as it is seen from outside. A model that hangs,
crashes or eats the memory takes its process with it. Next: confined/process.py, adding.py.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medai.models.confined.sandbox import Limits
from medai.models.confined.segmenter import ConfinedSegmenter
from medai.models.errors import ModelFailed, ModelRefused, ModelSlow, ModelUnavailable
from medai.models.foreign.phantom import phantom
from medai.models.format.bundle import read_bundle


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a dry run showed."""

    seconds: float
    """Of the drawing alone, on this machine's CPU."""
    load_seconds: float
    memory_mb: int
    """Most memory that the process held."""
    voxels: tuple[int, ...]
    found: tuple[int, ...]
    """Segments that were drawn into the phantom; none is fine."""
    remark: str = ""
    confined: str = ""
    """What kept it from other files and the network."""


def run(folder: Path, *, limit_s: float) -> Trial:
    """Try a bundle in a process of its own. Raises ModelUnavailable with the reason why it must not be added."""
    try:
        return _tried(folder, limit_s)
    except ModelSlow as error:
        raise ModelUnavailable(
            f"the dry run took more than {limit_s:g} s (--limit): the model is too slow for this machine, or it hangs"
        ) from error
    except (ModelFailed, ModelUnavailable) as error:
        raise ModelUnavailable(f"the dry run failed: {error}") from error


def _tried(folder: Path, limit_s: float) -> Trial:
    bundle = read_bundle(folder, None)
    volume = phantom(bundle.spec)
    began = time.monotonic()
    limits = Limits(load_seconds=limit_s)
    segmenter = ConfinedSegmenter(bundle, torch.device("cpu"), limits=limits, count_classes=True)
    with closing(segmenter.process):
        loaded = time.monotonic()
        remark, labels = "", np.zeros(volume.geometry.shape, dtype=np.uint8)
        try:
            labels = segmenter.labels_within(volume, limit_s - (loaded - began))
        except ModelRefused as error:
            remark = f"the model refused the phantom ({error})"
        return Trial(
            seconds=round(time.monotonic() - loaded, 2),
            load_seconds=round(loaded - began, 2),
            memory_mb=segmenter.process.peak_bytes() // 1024**2,
            voxels=volume.geometry.shape,
            found=tuple(int(number) for number in np.unique(labels) if number),
            remark=remark,
            confined=segmenter.process.held,
        )
