"""Voxels with their geometry, and what a model made of them.

Next: preprocess.py (from DICOM to Volume), inference.py (from Volume to Segmentation).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

Voxels = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept: value, scheme (SCT, DCM, LN, …) and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One structure of a label map. ``number`` is its value in the labels and its DICOM Segment Number."""

    number: int
    name: str
    category: Code
    type: Code
    modifier: Code | None = None
    """Laterality, where the type has none (SCT Right 24028007, Left 7771000)."""
    site: Code | None = None
    """Finding site for the report when it differs from ``type``."""
    colour: tuple[int, int, int] = (255, 160, 0)
    """RGB, 0-255, for the contour and RecommendedDisplayCIELabValue."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """``voxels`` is [slice, row, column], in ``unit``: "HU" for CT, "arbitrary" otherwise."""

    voxels: Voxels = field(repr=False, hash=False, compare=False)
    geometry: Geometry
    modality: str
    unit: str = "arbitrary"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A series in slice order: the image of ``volume.voxels[i]`` is ``datasets[i]``.

    The datasets have lost their PixelData (results need their headers alone). An enhanced multi-frame
    object is one dataset; then ``frames[i]`` is the frame number, from 1, of ``volume.voxels[i]``.
    """

    volume: Volume
    datasets: tuple[Dataset, ...] = field(repr=False, hash=False, compare=False)
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a result says of the model that made it."""

    name: str
    """The bundle's folder name, e.g. ``mr_brain``."""
    title: str
    """For people, e.g. "Brain mask of a T1 head"."""
    version: str
    fingerprint: str
    """SHA-256 (hex) of the weights: changes when the model changes; Device UID derives from it."""
    manufacturer: str = "Med-AI"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """``labels`` is uint8 [slice, row, column] on exactly the source's grid; 0 is background."""

    labels: Labels = field(repr=False, hash=False, compare=False)
    segments: tuple[Segment, ...]
    geometry: Geometry
    model: ModelCard
    warnings: tuple[str, ...] = ()
    """Plausibility findings for the report ("the mask touches the edge of the field of view")."""
