"""A grid knows where its voxels lie, and which other grid is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medai.models.errors import GeometryMismatch
from medai.models.geometry import TOLERANCE_MM, Geometry

TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Columns grow along LPS y, rows against x."""
GRID = Geometry(
    origin_mm=(10.0, 20.0, 30.0),
    direction=TURNED,
    spacing_mm=(0.5, 2.0, 3.0),
    shape=(4, 5, 6),
    frame_of_reference_uid="1.2",
)


def test_an_index_of_column_row_and_slice_has_its_place_in_the_patient() -> None:
    assert (GRID.affine @ [0, 0, 0, 1])[:3] == pytest.approx([10, 20, 30])
    assert (GRID.affine @ [2, 1, 1, 1])[:3] == pytest.approx([10 - 2.0, 20 + 1.0, 33])


def test_a_voxel_has_the_volume_of_its_sides() -> None:
    assert GRID.voxel_ml == pytest.approx(0.5 * 2.0 * 3.0 / 1000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (4, 5, 7)}, r"mask: the grids differ, \(4, 5, 6\) and \(4, 5, 7\) voxels"),
        ({"frame_of_reference_uid": "1.3"}, "mask: the frames of reference differ"),
        ({"origin_mm": (10.02, 20.0, 30.0)}, "mask: the grids lie 0.020 mm apart"),
        ({"spacing_mm": (0.5, 2.0, 3.01)}, "mask: the grids lie 0.030 mm apart"),
    ],
)
def test_another_grid_is_told_by_what_differs(changes: dict[str, object], words: str) -> None:
    with pytest.raises(GeometryMismatch, match=words):
        GRID.require_same(replace(GRID, **changes), what="mask")  # type: ignore[arg-type]


def test_a_turned_grid_with_the_same_first_voxel_is_another() -> None:
    upright = replace(GRID, direction=tuple(np.eye(3).ravel()))  # type: ignore[arg-type]
    with pytest.raises(GeometryMismatch, match="mm apart"):
        GRID.require_same(upright, what="mask")


def test_the_rounding_of_headers_makes_no_other_grid() -> None:
    GRID.require_same(replace(GRID, origin_mm=(10.0 + 0.9 * TOLERANCE_MM, 20.0, 30.0)), what="mask")
