"""Where voxels lie in the patient. Made once, when a series is read, and checked at every hand-over.

Axis order: arrays are [slice, row, column] (z, y, x); points and vectors are DICOM patient coordinates (LPS, mm) with
x, y, z components. Next: volume.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medai.models.errors import GeometryMismatch

TOLERANCE_MM = 0.01


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Position, orientation and size of a voxel grid.

    ``origin_mm`` is the centre of voxel [0, 0, 0]. ``direction`` is a row-major 3x3 matrix whose columns
    are the unit vectors along the column index (x), the row index (y) and the slice index (z), as in ITK.
    ``spacing_mm`` is (x, y, z). ``shape`` is (slices, rows, columns).
    """

    origin_mm: tuple[float, float, float]
    direction: tuple[float, float, float, float, float, float, float, float, float]
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    frame_of_reference_uid: str = ""

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4 matrix from (column, row, slice) index to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction).reshape(3, 3) * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    def require_same(self, other: Geometry, *, what: str) -> None:
        """Raise GeometryMismatch unless both grids are the same within TOLERANCE_MM at every corner."""
        if self.shape != other.shape:
            raise GeometryMismatch(f"{what}: the grids differ, {self.shape} and {other.shape} voxels")
        if self.frame_of_reference_uid != other.frame_of_reference_uid:
            raise GeometryMismatch(f"{what}: the frames of reference differ")
        slices, rows, columns = self.shape
        corners = np.array(
            [[i, j, k, 1] for i in (0, columns - 1) for j in (0, rows - 1) for k in (0, slices - 1)], dtype=float
        )
        offset_mm = np.abs(corners @ (self.affine - other.affine).T).max()
        if offset_mm > TOLERANCE_MM:
            raise GeometryMismatch(f"{what}: the grids lie {offset_mm:.3f} mm apart")
