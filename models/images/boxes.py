"""Boxes of voxel arrays [slice, row, column], and the same boxes on other grids. Next: preprocess.py,
segmenters/likeliest.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medai.models.geometry import Geometry
from medai.models.volume import Voxels

Box = tuple[slice, slice, slice]


def bounding_box(mask: Voxels, margin: int = 0) -> Box:
    """The smallest box that holds the mask, widened by ``margin`` voxels; empty slices for an empty mask."""
    flat = np.asarray(mask.any(axis=0))
    sides = []
    for axis, profile in enumerate((mask.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0))):
        hit = np.flatnonzero(profile)
        if not hit.size:
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        sides.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


def same_box(box: Box, from_geometry: Geometry, to_geometry: Geometry) -> tuple[Box, Geometry]:
    """The box of another grid that holds this grid's box, and its geometry; empty where they do not meet."""
    corners = np.array([[x, y, z, 1.0] for z in _ends(box[0]) for y in _ends(box[1]) for x in _ends(box[2])])
    there = (np.linalg.inv(to_geometry.affine) @ from_geometry.affine @ corners.T)[:3][::-1]
    first = np.clip(np.floor(there.min(axis=1)), 0, to_geometry.shape).astype(int)
    behind = np.clip(np.ceil(there.max(axis=1)) + 1, 0, to_geometry.shape).astype(int)
    found = tuple(slice(int(a), int(max(a, b))) for a, b in zip(first, behind, strict=True))
    return (found[0], found[1], found[2]), part_of(to_geometry, (found[0], found[1], found[2]))


def _ends(part: slice) -> tuple[float, float]:
    return part.start - 0.5, part.stop - 0.5


def part_of(geometry: Geometry, box: Box) -> Geometry:
    """The geometry of a box of a grid."""
    start = geometry.affine @ np.array([box[2].start, box[1].start, box[0].start, 1.0])
    shape = tuple(side.stop - side.start for side in box)
    return replace(geometry, origin_mm=(start[0], start[1], start[2]), shape=(shape[0], shape[1], shape[2]))
