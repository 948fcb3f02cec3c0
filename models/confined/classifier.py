"""A classifier of somebody else's, which tells what a series shows, in another process. Next: process.py."""

from __future__ import annotations

import math

import torch

from medai.models.confined.process import Answer, ModelProcess
from medai.models.confined.sandbox import Limits
from medai.models.errors import ModelFailed
from medai.models.format.bundle import Bundle
from medai.models.segmenters.series_kind import Kind, parameters_of
from medai.models.volume import Volume

SECONDS = 120.0
"""For one series: it looks at 32 small slices."""


class ConfinedSeriesKind:
    """Tells the kind of a series as SeriesKind does. Raises what ConfinedSegmenter does."""

    def __init__(self, bundle: Bundle, device: torch.device, *, threads: int = 0, limits: Limits | None = None) -> None:
        self.card = bundle.card
        self.parts = parameters_of(bundle).parts
        self.process = ModelProcess(bundle, device, "classify", threads=threads, limits=limits)

    def classify(self, volume: Volume) -> Kind:
        """Raises ModelRefused for an image without any content, ModelFailed for no answer."""
        seconds = min(SECONDS, self.process.limits.seconds)
        return self.process.ask(volume, most_bytes=0, seconds=seconds, read=self._kind)

    def _kind(self, answer: Answer, _: bytearray) -> Kind:
        shares = (*answer.probabilities, answer.upright)
        if (
            answer.answer != "kind"
            or len(answer.probabilities) != len(self.parts)
            or not all(math.isfinite(share) and 0.0 <= share <= 1.0 for share in shares)
        ):
            raise ModelFailed(f"{self.card.name}: its process answered something else")
        probabilities = dict(zip(self.parts, answer.probabilities, strict=True))
        part = max(probabilities, key=lambda part: probabilities[part])
        return Kind(part=part, probabilities=probabilities, upright=answer.upright)
