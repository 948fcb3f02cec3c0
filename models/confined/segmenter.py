"""A model of somebody else's as a segmenter like any other: its network is in another process, which is not trusted.

Only ``draw`` goes there: what goes in and comes out is checked here, by the same pages as for the models that ship.
The process is started with the model and stays; one that died, hung or answered what it may not is ended, and started
anew for the next volume. Next: reader.py (the process), sandbox.py (what holds it).
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medai.models.child import Child, ChildFailed, ChildSlow, plain
from medai.models.confined import sandbox
from medai.models.confined.sandbox import Limits
from medai.models.errors import ModelFailed, ModelRefused, ModelsError, ModelSlow, ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.segmenters.base import Bundled
from medai.models.volume import Labels, Volume

MODULE = "medai.models.confined.reader"


class Answer(BaseModel):
    """What the process says beside the bytes of its labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    answer: Literal["ready", "labels", "refused", "unavailable", "failed"]
    reason: str = Field(default="", max_length=2000)
    held: str = Field(default="", max_length=200)
    shape: list[int] = Field(default=[], max_length=3)
    dtype: str = Field(default="", max_length=16)


class ConfinedSegmenter(Bundled):
    """A bundle that runs in a confined process; one volume at a time. ``close`` ends the process at once.

    ``count_classes``: the network must have as many channels as the bundle says, which takes one run of it.
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
        self._threads, self._limits, self._count_classes = threads, limits or Limits(), count_classes
        self._lock = threading.Lock()
        self.held = ""
        """What keeps the process from files, network and other processes."""
        self._child = self._start()

    def labels(self, volume: Volume) -> Labels:
        """What the process draws. Raises ModelRefused with its reason, ModelFailed where it gives none."""
        return self.labels_within(volume, self._limits.seconds)

    def labels_within(self, volume: Volume, seconds: float) -> Labels:
        """The same, with a time limit of its own. Raises ModelSlow past it."""
        voxels = np.ascontiguousarray(volume.voxels)
        header = {
            "dtype": voxels.dtype.str,
            # Neither whose image it is nor anything that would tell of it.
            "geometry": {
                "origin_mm": volume.geometry.origin_mm,
                "direction": volume.geometry.direction,
                "spacing_mm": volume.geometry.spacing_mm,
                "shape": volume.geometry.shape,
            },
            "modality": volume.modality,
            "unit": volume.unit,
        }
        with self._lock:
            if not self._child.is_there:
                self._child = self._start()
            answer, body = self._ask(
                self._child, header, voxels.data.cast("B"), most_bytes=voxels.size, seconds=seconds
            )
            try:
                return self._labels(answer, body, volume.geometry.shape)
            except ModelFailed:
                self._child.end()  # what answers so is not asked again
                raise

    def close(self) -> None:
        """End the process."""
        self._child.end()

    @property
    def pid(self) -> int:
        """The process's number, until it is started anew."""
        return self._child.pid

    def peak_bytes(self) -> int:
        """The most memory that the process held until now."""
        return self._child.peak_bytes()

    def _start(self) -> Child:
        bundle = self.bundle
        asked = {
            "folder": str(bundle.folder.absolute()),
            "configured": bundle.configured and str(Path(bundle.configured).expanduser().absolute()),
            "readable": [str(place.resolve()) for place in (bundle.folder, *bundle.weights)],
            "device": str(self.device),
            "threads": self._threads,
            "memory_bytes": self._limits.most_memory_bytes,
            "count_classes": self._count_classes,
            "parent": os.getpid(),
        }
        child = Child(MODULE, json.dumps(asked), environment=sandbox.environment(), words=True)
        try:
            answer, _ = self._ask(child, {}, b"", most_bytes=0, seconds=self._limits.load_seconds)
            if answer.answer != "ready":
                raise ModelFailed(f"{bundle.name} could not be loaded: {plain(answer.reason)}")
        except ModelsError:
            child.end()
            raise
        self.held = plain(answer.held)
        return child

    def _ask(
        self, child: Child, header: dict[str, Any], body: Any, *, most_bytes: int, seconds: float
    ) -> tuple[Answer, bytearray]:
        try:
            said, labels = child.ask(header, body, most_bytes=most_bytes, seconds=seconds)
            answer = Answer.model_validate(said)
        except ChildSlow as error:
            raise ModelSlow(f"{self.bundle.name}: its process {error}") from error
        except ChildFailed as error:
            raise ModelFailed(f"{self.bundle.name}: its process {error}") from error
        except ValidationError as error:
            child.end()
            raise ModelFailed(f"{self.bundle.name}: its process answered what is no answer") from error
        if answer.answer == "refused":
            raise ModelRefused(plain(answer.reason))
        if answer.answer == "unavailable":
            raise ModelUnavailable(plain(answer.reason))
        return answer, labels

    def _labels(self, answer: Answer, body: bytearray, shape: tuple[int, int, int]) -> Labels:
        name = self.bundle.name
        if answer.answer != "labels":
            raise ModelFailed(f"{name}: {plain(answer.reason) or 'its process answered something else'}")
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
