"""What a segmenter is, and what every one takes from its bundle. Next: load.py (which ones there are)."""

from __future__ import annotations

from typing import Protocol

import torch

from medai.models.format.bundle import Bundle
from medai.models.format.metadata import InputSpec
from medai.models.images.preprocess import to_axial
from medai.models.segmenters.plausibility import finish
from medai.models.volume import Labels, ModelCard, Segment, Segmentation, Volume


class Segmenter(Protocol):
    """A model that is ready to run. ``segment`` may be called any number of times, from one thread at a time."""

    @property
    def card(self) -> ModelCard:
        """What results say of the model."""

    @property
    def spec(self) -> InputSpec:
        """What it reads."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it draws."""

    def segment(self, volume: Volume) -> Segmentation:
        """Labels on exactly the volume's grid. Raises ModelRefused with a reason for a radiographer."""

    def draw(self, volume: Volume) -> Labels:
        """The labels without the checks of what goes in and comes out: for judging on training cases."""


class Bundled:
    """What every segmenter takes from its bundle."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        self.card, self.spec, self.segments = bundle.card, bundle.spec, bundle.segments

    def segment(self, volume: Volume) -> Segmentation:
        """Check the volume, find the mask, check the mask."""
        self.spec.require(to_axial(volume)[0])
        return finish(self.draw(volume), volume, self.bundle)

    def draw(self, volume: Volume) -> Labels:
        """The label map on the volume's own grid, computed without gradients and without chance."""
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            return self.labels(volume)

    def labels(self, volume: Volume) -> Labels:
        """What each segmenter does in its own way."""
        raise NotImplementedError
