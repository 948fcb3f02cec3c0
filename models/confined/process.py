"""The process of one model, seen from outside: started with the model, kept, asked, and ended when it can't be trusted.

One that died, hung or answered what no answer is is started anew for the next volume. Next: reader.py (the process
itself), sandbox.py (what holds it), segmenter.py and classifier.py (what is asked).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medai.models.child import Child, ChildFailed, ChildSlow, plain
from medai.models.confined import sandbox
from medai.models.confined.sandbox import Limits
from medai.models.errors import ModelFailed, ModelRefused, ModelsError, ModelSlow, ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.volume import Volume

MODULE = "medai.models.confined.reader"
Work = Literal["draw", "count and draw", "classify"]
"""``count and draw``: first the network must have as many channels as the bundle says, which takes one run of it."""


Found = TypeVar("Found")


class Answer(BaseModel):
    """What the process says beside the bytes of its labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    answer: Literal["ready", "labels", "kind", "refused", "unavailable", "failed"]
    reason: str = Field(default="", max_length=2000)
    held: str = Field(default="", max_length=200)
    shape: list[int] = Field(default=[], max_length=3)
    dtype: str = Field(default="", max_length=16)
    probabilities: list[float] = Field(default=[], max_length=256)
    upright: float = 0.0


class ModelProcess:
    """A bundle in a confined process; one volume at a time. ``close`` ends the process at once.

    Raises ModelUnavailable as the model in this process would, ModelFailed where its process can't even load it.
    """

    def __init__(
        self, bundle: Bundle, device: torch.device, work: Work, *, threads: int = 0, limits: Limits | None = None
    ) -> None:
        self.name = bundle.name
        self.limits = limits or Limits()
        self.held = ""
        """What keeps the process from files, network and other processes."""
        self._asked = {
            "folder": str(bundle.folder.absolute()),
            "configured": bundle.configured and str(Path(bundle.configured).expanduser().absolute()),
            "readable": [str(place.resolve()) for place in (bundle.folder, *bundle.weights)],
            "device": str(device),
            "threads": threads,
            "memory_bytes": self.limits.most_memory_bytes,
            "work": work,
            "parent": os.getpid(),
        }
        self._lock = threading.Lock()
        self._child = self._start()

    def ask(
        self, volume: Volume, *, most_bytes: int, seconds: float, read: Callable[[Answer, bytearray], Found]
    ) -> Found:
        """What the process makes of a volume, as ``read`` understands it; where that raises ModelFailed, it is ended.

        Raises ModelRefused and ModelUnavailable with its reason, ModelFailed without one, ModelSlow past its time.
        """
        voxels = np.ascontiguousarray(volume.voxels)
        where = volume.geometry
        header = {
            "dtype": voxels.dtype.str,
            # Neither whose image it is nor anything that would tell of it.
            "geometry": {
                "origin_mm": where.origin_mm,
                "direction": where.direction,
                "spacing_mm": where.spacing_mm,
                "shape": where.shape,
            },
            "modality": volume.modality,
            "unit": volume.unit,
        }
        with self._lock:
            if not self._child.is_there:
                self._child = self._start()
            answer, body = self._say(self._child, header, voxels.data.cast("B"), most_bytes=most_bytes, seconds=seconds)
            if answer.answer == "failed":  # by an exception: it is there for the next
                raise ModelFailed(f"{self.name}: {plain(answer.reason)}")
            try:
                return read(answer, body)
            except ModelFailed:
                self._child.end()
                raise

    @property
    def pid(self) -> int:
        """The process's number, until it is started anew."""
        return self._child.pid

    @property
    def is_there(self) -> bool:
        """Whether it runs now."""
        return self._child.is_there

    def peak_bytes(self) -> int:
        """The most memory that the process held until now."""
        return self._child.peak_bytes()

    def close(self) -> None:
        """End the process."""
        self._child.end()

    def _start(self) -> Child:
        try:
            child = Child(MODULE, json.dumps(self._asked), environment=sandbox.environment(), words=True)
        except OSError as error:
            raise ModelFailed(f"{self.name}: its process could not be started ({error.strerror})") from error
        try:
            answer, _ = self._say(child, {}, b"", most_bytes=0, seconds=self.limits.load_seconds)
            if answer.answer != "ready":
                raise ModelFailed(f"{self.name} could not be loaded: {plain(answer.reason)}")
        except ModelsError:
            child.end()
            raise
        self.held = plain(answer.held)
        return child

    def _say(
        self, child: Child, header: dict[str, Any], body: Any, *, most_bytes: int, seconds: float
    ) -> tuple[Answer, bytearray]:
        try:
            said, found = child.ask(header, body, most_bytes=most_bytes, seconds=seconds)
            answer = Answer.model_validate(said)
        except ChildSlow as error:
            raise ModelSlow(f"{self.name}: its process {error}") from error
        except ChildFailed as error:
            raise ModelFailed(f"{self.name}: its process {error}") from error
        except ValidationError as error:
            child.end()
            raise ModelFailed(f"{self.name}: its process answered what is no answer") from error
        if answer.answer == "refused":
            raise ModelRefused(plain(answer.reason))
        if answer.answer == "unavailable":
            raise ModelUnavailable(plain(answer.reason))
        return answer, found
