"""Boxes of arrays, and the same boxes on other grids."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.images.boxes import bounding_box, part_of, same_box

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def grid(shape: tuple[int, int, int], mm: float = 1.0, origin_mm: tuple[float, float, float] = (0, 0, 0)) -> Geometry:
    return Geometry(origin_mm=origin_mm, direction=UPRIGHT, spacing_mm=(mm, mm, mm), shape=shape)


def test_the_smallest_box_is_widened_but_not_beyond_the_array() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[0, 3, 5], mask[2, 4, 5] = True, True
    assert bounding_box(mask) == (slice(0, 3), slice(3, 5), slice(5, 6))
    assert bounding_box(mask, margin=2) == (slice(0, 5), slice(1, 7), slice(3, 8))


def test_nothing_has_an_empty_box() -> None:
    assert bounding_box(np.zeros((3, 3, 3), bool), margin=1) == (slice(0, 0), slice(0, 0), slice(0, 0))


def test_a_box_has_its_own_place_in_the_patient() -> None:
    part = part_of(grid((9, 9, 9), mm=2.0, origin_mm=(10, 20, 30)), (slice(1, 3), slice(2, 6), slice(3, 4)))
    assert part.origin_mm == (10 + 6, 20 + 4, 30 + 2)
    assert part.shape == (2, 4, 1)


def test_a_box_on_a_finer_grid_holds_all_of_it() -> None:
    coarse, fine = grid((5, 5, 5), mm=4.0), grid((20, 20, 20), mm=1.0)
    box, part = same_box((slice(1, 2),) * 3, coarse, fine)
    # The voxel reaches from 2 mm to 6 mm; voxels of 1 mm whose middle may lie within are 2 to 6.
    assert box == (slice(2, 7),) * 3
    assert part.origin_mm == pytest.approx((2, 2, 2))


def test_grids_that_do_not_meet_share_an_empty_box() -> None:
    box, part = same_box((slice(0, 2),) * 3, grid((2, 2, 2)), grid((5, 5, 5), origin_mm=(100, 0, 0)))
    assert box[2].start == box[2].stop
    assert 0 in part.shape
