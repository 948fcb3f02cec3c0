"""What ``qa`` measures of one case: grid, values, labels, and fingerprints that find the same image again.

Facts only, no judgement; a case is read once and its voxels are let go. Next: checks.py (what is wrong with them).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medai.models.geometry import Geometry
from medai.models.images.preprocess import LPS_SIGNS, reorient
from medai.models.volume import Labels, Volume, Voxels
from medai.training.cases import Case, Example
from medai.training.errors import DataError

THUMBNAIL = 12
"""Voxels along each side of the picture that near duplicates are found by."""
PERCENTILES = (1.0, 50.0, 99.0)
FACES = ("first slice", "last slice", "first row", "last row", "first column", "last column")


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """One label value in one case."""

    voxels: int
    ml: float
    pieces: int
    smallest_piece: int
    """Voxels."""
    faces: tuple[str, ...]
    """Faces of the image that it touches."""
    gap_slices: int
    """Slices without it between slices with it."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One case. ``fault`` is why it could not be read; then the rest is empty."""

    name: str
    patient: str
    fault: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axes: str = ""
    """Where column, row and slice index grow, e.g. "LPS"."""
    oblique_deg: float = 0.0
    skew: float = 0.0
    """Largest cosine between two axes: 0 at right angles."""
    modality: str = ""
    not_finite: int = 0
    low: float = 0.0
    high: float = 0.0
    percentiles: tuple[float, ...] = ()
    labels: Mapping[int, LabelFacts] = field(default_factory=dict, hash=False)
    digest: str = ""
    """SHA-256 of shape and values: equal for the same image whatever its file."""
    thumbnail: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False, hash=False, compare=False
    )
    """Turned upright, shrunk, mean 0 and length 1."""

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """(x, y, z)."""
        return tuple(n * s for n, s in zip(self.shape[::-1], self.spacing_mm, strict=True))


def facts_of(case: Case) -> Facts:
    """Read a case and measure it; what cannot be read is a fact, too."""
    try:
        example = case.load()
    except DataError as error:
        return Facts(name=case.name, patient=case.patient, fault=str(error).removeprefix(f"case {case.name}: "))
    return measure(case.name, case.patient, example)


def measure(name: str, patient: str, example: Example) -> Facts:
    """The facts of a case in memory."""
    volume = example.volume
    values = np.asarray(volume.voxels)
    finite = np.isfinite(values)
    sound = values[finite] if not finite.all() else values
    axes, oblique_deg = orientation(volume.geometry)
    matrix = np.asarray(volume.geometry.direction).reshape(3, 3)
    return Facts(
        name=name,
        patient=patient,
        shape=volume.geometry.shape,
        spacing_mm=volume.geometry.spacing_mm,
        axes=axes,
        oblique_deg=oblique_deg,
        skew=float(np.abs(matrix.T @ matrix - np.eye(3)).max()),
        modality=volume.modality,
        not_finite=int(values.size - np.count_nonzero(finite)),
        low=float(sound.min()) if sound.size else 0.0,
        high=float(sound.max()) if sound.size else 0.0,
        percentiles=tuple(float(value) for value in np.percentile(sound, PERCENTILES)) if sound.size else (),
        labels=_labels(example.labels, volume.geometry),
        digest=hashlib.sha256(str(values.shape).encode() + np.ascontiguousarray(values).tobytes()).hexdigest(),
        thumbnail=_thumbnail(volume),
    )


def orientation(geometry: Geometry) -> tuple[str, float]:
    """The axes' letters, and how far (degrees) they are from them at most."""
    matrix = np.asarray(geometry.direction).reshape(3, 3)
    letters, worst = "", 1.0
    for axis in range(3):
        component = int(np.abs(matrix[:, axis]).argmax())
        sign = 1 if matrix[component, axis] > 0 else -1
        letters += next(side for side, found in LPS_SIGNS.items() if found == (component, sign))
        worst = min(worst, float(abs(matrix[component, axis])))
    return letters, math.degrees(math.acos(min(1.0, worst)))


def _labels(labels: Labels, geometry: Geometry) -> dict[int, LabelFacts]:
    boxes = ndimage.find_objects(labels)
    found = {}
    for value, box in enumerate(boxes, start=1):
        if box is not None:
            found[value] = _label(labels[box] == value, box, labels.shape, geometry.voxel_ml)
    return found


def _label(mask: npt.NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...], voxel_ml: float) -> LabelFacts:
    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    sizes = np.bincount(pieces.ravel())[1:]
    ends = [end for axis in range(3) for end in (box[axis].start == 0, box[axis].stop == shape[axis])]
    return LabelFacts(
        voxels=int(mask.sum()),
        ml=float(mask.sum()) * voxel_ml,
        pieces=len(sizes),
        smallest_piece=int(sizes.min()),
        faces=tuple(face for face, touched in zip(FACES, ends, strict=True) if touched),
        gap_slices=int(np.count_nonzero(~mask.any(axis=(1, 2)))),
    )


def _thumbnail(volume: Volume) -> npt.NDArray[np.float32]:
    upright, _ = reorient(volume, "LPS")
    values: Voxels = np.nan_to_num(np.asarray(upright.voxels, dtype=np.float32), posinf=0.0, neginf=0.0)
    factors = [THUMBNAIL / side for side in values.shape]
    blurred = ndimage.uniform_filter(values, [max(1, side // THUMBNAIL) for side in values.shape])
    small = ndimage.zoom(blurred, factors, order=1, grid_mode=True, mode="nearest").ravel()
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    scaled: npt.NDArray[np.float32] = (small / length if length > 0 else small).astype(np.float32)
    return scaled
