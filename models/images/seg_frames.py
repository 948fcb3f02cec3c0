"""A DICOM SEG frame by frame: which segment and which plane each frame shows. Nothing is unpacked before it is needed.

BINARY, FRACTIONAL (a voxel belongs to a segment from a half on) and LABELMAP are read alike. Next: slices.py (planes).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from medai.models.errors import NotAVolume, UnreadableImage
from medai.models.images.slices import Plane, functional_group, planes_of_frames

HALF = 0.5
"""FRACTIONAL segments: a voxel belongs to the segment from this share or probability on."""
Mask = npt.NDArray[np.bool_]


class SegFrames:
    """One SEG. Raises NotAVolume or UnreadableImage, in words that name frames and no UID."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._labelmap = dataset.get("SegmentationType") == "LABELMAP"
        fractional = dataset.get("SegmentationType") == "FRACTIONAL"
        self._half = HALF * float(dataset.get("MaximumFractionalValue") or 255) if fractional else HALF

    @cached_property
    def planes(self) -> list[Plane]:
        """Where each frame lies."""
        try:
            return planes_of_frames(self._dataset)
        except NotAVolume as error:
            raise NotAVolume(f"the SEG has no place in the patient: {error}") from error

    @cached_property
    def _numbers(self) -> list[int | None]:
        """The segment of each frame; None in a LABELMAP, whose frames hold several."""
        return [None if self._labelmap else self._segment_of(index) for index in range(len(self.planes))]

    def _segment_of(self, frame: int) -> int:
        group = functional_group(self._dataset, frame, "SegmentIdentificationSequence")
        if group is None or "ReferencedSegmentNumber" not in group:
            raise NotAVolume(f"frame {frame + 1} of the SEG names no segment")
        return int(group.ReferencedSegmentNumber)

    @cached_property
    def _stored(self) -> highdicom.seg.Segmentation:
        try:
            return highdicom.seg.Segmentation.from_dataset(self._dataset, copy=False)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UnreadableImage("the SEG's pixels cannot be read: it is not a valid Segmentation") from error

    def frames_of(self, segment: int) -> list[int]:
        """The frames (from 0) that may hold a segment."""
        return [index for index, number in enumerate(self._numbers) if number is None or number == segment]

    def masks(self, segment: int) -> Iterator[tuple[int, Mask]]:
        """Each of these frames with the segment's mask [row, column] on it."""
        for index in self.frames_of(segment):
            yield index, self.mask(index, segment)

    def mask(self, index: int, segment: int) -> Mask:
        """A segment's mask [row, column] on one frame."""
        try:
            frame = np.asarray(self._stored.get_stored_frame(index, as_index=True))
        except (
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            IndexError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise UnreadableImage("the SEG's pixels cannot be read: it is damaged or cut short") from error
        return np.asarray(frame == segment) if self._labelmap else np.asarray(frame >= self._half)
