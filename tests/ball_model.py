"""A model that needs no weights: everything brighter than a threshold is one structure. For tests and benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medai.models.errors import ModelRefused
from medai.models.format.metadata import InputSpec
from medai.models.volume import Code, ModelCard, Segment, Segmentation, Volume

BALL = Segment(
    number=1,
    name="Brain",
    category=Code(value="91723000", scheme="SCT", meaning="Anatomical Structure"),
    type=Code(value="12738006", scheme="SCT", meaning="Brain"),
)


SPEC = InputSpec(modalities=frozenset({"MR"}), unit="arbitrary", min_slices=3)
CARD = ModelCard(name="mr_brain", title="Bright ball", version="1", fingerprint="0" * 64)


@dataclass
class BallModel:
    """Takes ``seconds`` and finds what is brighter than ``limit``."""

    seconds: float = 0.0
    spec: InputSpec = SPEC
    card: ModelCard = CARD
    segments: tuple[Segment, ...] = (BALL,)
    calls: int = 0
    limit: float = 400.0
    after: Callable[[], None] | None = None
    """What happens in the world while it reads."""

    def segment(self, volume: Volume) -> Segmentation:
        """Threshold."""
        self.calls += 1
        time.sleep(self.seconds)
        if self.after is not None:
            self.after()
        labels = (volume.voxels > self.limit).astype(np.uint8)
        if not labels.any():
            raise ModelRefused("nothing is bright in this series")
        return Segmentation(labels=labels, segments=self.segments, geometry=volume.geometry, model=self.card)


class BallModels:
    """A registry that holds the ball model under every name."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.model = BallModel(seconds=seconds)

    def load(self, name: str) -> BallModel:
        """The ball model."""
        return self.model

    def guard(self, name: str) -> None:
        """It reads anything."""

    def classifier(self) -> None:
        """There is none."""
