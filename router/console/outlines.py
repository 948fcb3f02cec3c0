"""A segmentation's outlines as SVG paths, pixel edge by pixel edge: what is drawn is the mask, not a smoothed guess.

Works on the packed bits of a BINARY segmentation (PS3.5 8.1.1: the first pixel is the least significant bit) as
Python integers, a row each, so that no array library is needed. Next: pictures.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

RUN = re.compile("1+")


def frame_bits(packed: bytes, frame: int, pixels: int) -> int:
    """The pixels of frame ``frame`` (from 0), the first in the lowest bit: frames follow each other without a gap."""
    first = frame * pixels
    taken = packed[first // 8 : (first + pixels + 7) // 8]
    return int.from_bytes(taken, "little") >> first % 8 & (1 << pixels) - 1


def rows_of(packed: bytes, frame: int, rows: int, columns: int) -> list[int]:
    """The rows of frame ``frame`` (from 0), each an integer whose bit x is the pixel of column x."""
    bits = frame_bits(packed, frame, rows * columns)
    mask = (1 << columns) - 1
    width = (columns + 7) // 8
    if columns % 8 == 0:
        data = bits.to_bytes(rows * width, "little")
        return [int.from_bytes(data[r * width : (r + 1) * width], "little") for r in range(rows)]
    return [bits >> (r * columns) & mask for r in range(rows)]


def outline(rows: list[int]) -> str:
    """The edges between pixels inside and outside as an SVG path, in pixels: (0, 0) is the first pixel's corner."""
    return "".join([*_across(rows), *_down(rows)])


def _across(rows: list[int]) -> Iterator[str]:
    """Edges along the rows: where a row differs from the one above."""
    above = 0
    for y, row in enumerate([*rows, 0]):
        for start, end in _runs(above ^ row):
            yield f"M{start} {y}h{end - start}"
        above = row


def _down(rows: list[int]) -> Iterator[str]:
    """Edges along the columns, each as long as it goes straight on."""
    open_at: dict[int, int] = {}
    before = 0
    for y, row in enumerate([*rows, 0]):
        now = row ^ row << 1
        for x in _ones(before & ~now):
            start = open_at.pop(x)
            yield f"M{x} {start}v{y - start}"
        for x in _ones(now & ~before):
            open_at[x] = y
        before = now


def _runs(bits: int) -> Iterator[tuple[int, int]]:
    text = f"{bits:b}"[::-1]
    return (found.span() for found in RUN.finditer(text)) if bits else iter(())


def _ones(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
