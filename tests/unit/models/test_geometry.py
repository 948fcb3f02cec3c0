"""Where voxels lie, how large they are, and when two grids are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medai.models.errors import GeometryMismatch
from medai.models.geometry import TOLERANCE_MM, Geometry

SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
GRID = Geometry(
    origin_mm=(-30.0, -20.0, 100.0),
    direction=SAGITTAL,
    spacing_mm=(0.5, 2.0, 3.0),
    shape=(12, 40, 48),
    frame_of_reference_uid="1.2.3",
)


def test_a_voxel_of_three_cubic_millimetres_is_three_thousandths_of_a_millilitre() -> None:
    assert GRID.voxel_ml == pytest.approx(0.003)


def test_the_affine_takes_column_row_and_slice_to_the_patient() -> None:
    assert GRID.affine @ (0, 0, 0, 1) == pytest.approx([-30.0, -20.0, 100.0, 1.0])
    column, row, slice_ = ((GRID.affine @ (*step, 1) - GRID.affine @ (0, 0, 0, 1))[:3] for step in np.eye(3))
    assert column == pytest.approx([0.0, 0.5, 0.0])
    assert row == pytest.approx([0.0, 0.0, -2.0])
    assert slice_ == pytest.approx([-3.0, 0.0, 0.0])


def test_the_same_grid_passes() -> None:
    GRID.require_same(replace(GRID), what="mask")


@pytest.mark.parametrize("axis", range(3))
def test_a_grid_of_another_size_is_refused_and_both_sizes_are_named(axis: int) -> None:
    shape = [*GRID.shape]
    shape[axis] += 1
    with pytest.raises(GeometryMismatch) as caught:
        GRID.require_same(replace(GRID, shape=tuple(shape)), what="mask")  # type: ignore[arg-type]  # three of them
    assert str(caught.value) == f"mask: the grids differ, (12, 40, 48) and {tuple(shape)} voxels"


def test_the_same_place_in_another_frame_of_reference_is_refused() -> None:
    with pytest.raises(GeometryMismatch, match="^mask: the frames of reference differ$"):
        GRID.require_same(replace(GRID, frame_of_reference_uid="1.2.4"), what="mask")


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_grid_that_lies_elsewhere_is_refused_with_the_distance(axis: int, sign: int) -> None:
    with pytest.raises(GeometryMismatch, match=r"^mask: the grids lie 0\.250 mm apart$"):
        GRID.require_same(_moved(axis, sign * 0.25), what="mask")


@pytest.mark.parametrize(("fraction", "same"), [(0.9, True), (1.1, False)])
def test_a_hundredth_of_a_millimetre_is_the_tolerance(fraction: float, same: bool) -> None:
    assert TOLERANCE_MM == 0.01
    if same:
        GRID.require_same(_moved(0, 0.01 * fraction), what="mask")
    else:
        with pytest.raises(GeometryMismatch):
            GRID.require_same(_moved(0, 0.01 * fraction), what="mask")


@pytest.mark.parametrize(("axis", "size"), [(0, 48), (1, 40), (2, 12)])
def test_a_spacing_that_differs_a_little_shows_at_the_far_corner(axis: int, size: int) -> None:
    """Each step is off by far less than the tolerance; together they are off by twice as much."""
    spacing = [*GRID.spacing_mm]
    spacing[axis] += 0.02 / (size - 1)
    with pytest.raises(GeometryMismatch, match=r"0\.020 mm apart$"):
        GRID.require_same(replace(GRID, spacing_mm=tuple(spacing)), what="mask")  # type: ignore[arg-type]  # three


@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.parametrize(("axis", "size"), [(0, 48), (1, 40), (2, 12)])
def test_the_outermost_voxel_decides_not_the_one_before_it(axis: int, size: int, end: str) -> None:
    """Off by 0.0102 mm there, 0.0098 mm one step further in, and less beyond."""
    steps = 0 if end == "first" else size - 1
    slope_mm = -0.0004 if end == "first" else 0.0004
    spacing = [*GRID.spacing_mm]
    spacing[axis] += slope_mm
    along = np.asarray(GRID.direction).reshape(3, 3)[:, axis]
    origin = np.asarray(GRID.origin_mm) + along * (0.0102 - slope_mm * steps)
    with pytest.raises(GeometryMismatch, match=r"0\.010 mm apart$"):
        GRID.require_same(replace(GRID, origin_mm=tuple(origin), spacing_mm=tuple(spacing)), what="mask")  # type: ignore[arg-type]  # three


def test_two_grids_that_name_no_frame_of_reference_are_in_the_same() -> None:
    unnamed = Geometry(origin_mm=GRID.origin_mm, direction=GRID.direction, spacing_mm=GRID.spacing_mm, shape=GRID.shape)
    unnamed.require_same(replace(GRID, frame_of_reference_uid=""), what="mask")


def test_a_grid_that_is_turned_about_its_last_corner_shows_at_the_first() -> None:
    flat = replace(GRID, origin_mm=(0.0, 0.0, 0.0), direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    angle = 0.05
    turned = (np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle), 0.0, 0.0, 0.0, 1.0)
    far = flat.affine @ (47, 39, 11, 1)
    moved = far[:3] - np.asarray(turned).reshape(3, 3) @ far[:3]
    other = replace(flat, origin_mm=tuple(moved), direction=turned)
    assert other.affine @ (47, 39, 11, 1) == pytest.approx(far)
    with pytest.raises(GeometryMismatch, match="mm apart"):
        flat.require_same(other, what="mask")


def _moved(axis: int, by_mm: float) -> Geometry:
    origin = [*GRID.origin_mm]
    origin[axis] += by_mm
    return replace(GRID, origin_mm=tuple(origin))  # type: ignore[arg-type]  # three of them
