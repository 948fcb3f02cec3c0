"""A model of somebody else's as a segmenter like any other: its network is in another process, which is not trusted.

Only ``draw`` goes there: what goes in and comes out is checked here, by the same pages as for the models that ship.
Next: process.py.
"""

from __future__ import annotations

import numpy as np
import torch

from medai.models.child import plain
from medai.models.confined.process import Answer, ModelProcess, Work
from medai.models.confined.sandbox import Limits
from medai.models.errors import ModelFailed
from medai.models.format.bundle import Bundle
from medai.models.segmenters.base import Bundled
from medai.models.volume import Labels, Volume


class ConfinedSegmenter(Bundled):
    """A bundle that draws in a confined process. ``count_classes``: the network must have as many as the bundle says.

    Raises ModelUnavailable as the model in this process would, ModelFailed where its process can't even load it.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        *,
        threads: int = 0,
        limits: Limits | None = None,
        count_classes: bool = False,
    ) -> None:
        super().__init__(bundle, device)
        work: Work = "count and draw" if count_classes else "draw"
        self.process = ModelProcess(bundle, device, work, threads=threads, limits=limits)

    def labels(self, volume: Volume) -> Labels:
        """What the process draws. Raises ModelRefused with its reason, ModelFailed where it gives none."""
        return self.labels_within(volume, self.process.limits.seconds)

    def labels_within(self, volume: Volume, seconds: float) -> Labels:
        """The same, with a time limit of its own. Raises ModelSlow past it."""
        shape = volume.geometry.shape
        return self.process.ask(
            volume,
            most_bytes=int(np.prod(shape)),
            seconds=seconds,
            read=lambda answer, body: self._labels(answer, body, shape),
        )

    def _labels(self, answer: Answer, body: bytearray, shape: tuple[int, int, int]) -> Labels:
        name = self.bundle.name
        if answer.answer != "labels":
            raise ModelFailed(f"{name}: its process answered something else")
        if tuple(answer.shape) != shape or answer.dtype != "uint8" or len(body) != int(np.prod(shape)):
            drew = f"{tuple(answer.shape)} {plain(answer.dtype)}"
            raise ModelFailed(f"{name} drew labels {drew} on a volume of {shape}; uint8 on its grid is needed")
        labels: Labels = np.frombuffer(body, dtype=np.uint8).reshape(shape)
        if strays := strays_in(labels, {segment.number for segment in self.segments}):
            raise ModelFailed(f"{name} drew labels {strays}, which no segment declares")
        return labels


def strays_in(labels: Labels, declared: set[int]) -> list[int]:
    """Values that are neither background nor declared. Slice by slice: no second volume in memory."""
    if declared.issuperset(range(1, int(labels.max(initial=0)) + 1)):
        return []  # as they are nearly always numbered, and ten times as fast
    is_stray = np.ones(256, dtype=bool)
    is_stray[[0, *declared]] = False
    return sorted({int(value) for image in labels for value in np.unique(image[is_stray[image]])})
