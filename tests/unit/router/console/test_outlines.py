"""Outlines are the mask's own edges: whoever fills them gets the mask back."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medai.router.console.outlines import outline, rows_of

Mask = np.ndarray


def packed(frames: Mask) -> bytes:
    """As a BINARY segmentation packs them: one bit a pixel, least significant first, no gap between frames."""
    return np.packbits(frames.ravel().astype(bool), bitorder="little").tobytes()


def filled(path: str, rows: int, columns: int) -> Mask:
    """Even-odd filling from the vertical edges alone: a pixel is inside after an odd number of edges to its left."""
    edges = np.zeros((rows, columns + 1), dtype=int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        edges[int(y) : int(y) + int(length), int(x)] += 1
    return np.cumsum(edges, axis=1)[:, :columns] % 2 == 1


def filled_by_rows(path: str, rows: int, columns: int) -> Mask:
    """The same from the horizontal edges."""
    edges = np.zeros((rows + 1, columns), dtype=int)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", path):
        edges[int(y), int(x) : int(x) + int(length)] += 1
    return np.cumsum(edges, axis=0)[:rows] % 2 == 1


masks = hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)))


@given(masks)
def test_filling_an_outline_gives_the_mask_back(frames: Mask) -> None:
    number, rows, columns = frames.shape
    for index in range(number):
        path = outline(rows_of(packed(frames), index, rows, columns))
        assert (filled(path, rows, columns) == frames[index]).all()
        assert (filled_by_rows(path, rows, columns) == frames[index]).all()


@given(masks)
def test_rows_are_the_bits_of_their_frame(frames: Mask) -> None:
    number, rows, columns = frames.shape
    for index in range(number):
        found = rows_of(packed(frames), index, rows, columns)
        assert [[row >> x & 1 for x in range(columns)] for row in found] == frames[index].astype(int).tolist()


def test_one_pixel_is_four_edges() -> None:
    assert outline([0b000, 0b010, 0b000]) == "M1 1h1M1 2h1M1 1v1M2 1v1"


@pytest.mark.parametrize("rows", [[0, 0], []])
def test_nothing_has_no_outline(rows: list[int]) -> None:
    assert outline(rows) == ""


def test_a_straight_edge_is_one_line() -> None:
    assert outline([0b111] * 100).count("v") == 2
