"""Outlines along the pixels' edges give the mask back, whatever its shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from medai.workers.results.contours import area, keyholes, outlines


def filled(polygons: Any, shape: tuple[int, int]) -> Any:
    """Pixels whose middle lies inside an odd number of polygons, by counting crossings."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return inside


RING = np.pad(np.ones((1, 1), dtype=bool), 1) ^ np.ones((3, 3), dtype=bool)
CASES = {
    "nothing": np.zeros((3, 4), dtype=bool),
    "everything": np.ones((3, 4), dtype=bool),
    "one pixel": np.pad(np.ones((1, 1), dtype=bool), 2),
    "two pixels that touch at a corner": np.eye(2, dtype=bool),
    "a hole": RING,
    "a ring in a ring": np.pad(RING, 1)
    ^ np.pad(np.ones((5, 5), dtype=bool), 1)[1:-1, 1:-1]
    ^ np.ones((5, 5), dtype=bool),
    "two holes on one row": np.hstack([RING, RING]),
    "holes that touch at a corner": ~np.pad(np.eye(2, dtype=bool), 1),
    **{f"noise {n}": np.random.default_rng(n).random((9, 11)) < 0.3 + 0.06 * n for n in range(10)},
}


@pytest.mark.parametrize("name", CASES)
def test_filled_the_outlines_are_the_mask(name: str) -> None:
    mask = CASES[name]
    for found in (outlines(mask), keyholes(mask)):
        assert np.array_equal(filled(found, mask.shape), mask)
        assert sum(area(each) for each in found) == mask.sum()


@pytest.mark.parametrize("name", CASES)
def test_each_part_of_the_mask_has_one_keyhole_outline(name: str) -> None:
    assert len(keyholes(CASES[name])) == ndimage.label(CASES[name])[1]


def test_only_corners_are_vertices() -> None:
    assert sorted(outlines(np.ones((3, 4), dtype=bool))[0]) == [(0, 0), (0, 3), (4, 0), (4, 3)]
