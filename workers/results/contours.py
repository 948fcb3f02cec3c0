"""Outlines of a mask's slice along the pixels' edges: filled, they give the mask back, pixel for pixel.

A vertex is (x, y) in pixels; (0, 0) is the outer corner of the first pixel, as in a presentation state. Pixels that
touch at a corner alone are two outlines. Next: rtstruct.py, gsps.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Vertex = tuple[int, int]
Outline = list[Vertex]


def outlines(mask: Mask) -> list[Outline]:
    """Every outline, its corners alone, not closed by its first vertex: outer ones clockwise, holes the other way."""
    edges = _edges(mask)
    found = []
    while edges:
        start = next(iter(edges))
        found.append(_corners(list(_walk(edges, start))))
    return found


def keyholes(mask: Mask) -> list[Outline]:
    """One outline for each part of the mask, with its holes let in through channels of no width (PS3.3 C.8.8.6.3).

    From the uppermost of its leftmost corners each hole is reached along the upper edge of a row of inside pixels. What
    that channel meets first, the outer outline or another hole, lies further left: holes are let in from the left.
    """
    found = outlines(mask)
    outer = [each for each in found if area(each) > 0]
    for hole in sorted((each for each in found if area(each) < 0), key=min):
        x, y = min(hole)
        door = x - int(np.argmin(np.append(mask[y, :x][::-1], False)))
        for each in outer:
            if (at := _edge_up(each, door, y)) is not None:
                turn = hole.index((x, y))
                each[at + 1 : at + 1] = [(door, y), *hole[turn:], *hole[:turn], (x, y), (door, y)]
                break
    return [_without_repeats(each) for each in outer]


def area(outline: Outline) -> float:
    """In pixels; negative of a hole."""
    x, y = np.asarray(outline, dtype=float).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _edges(mask: Mask) -> dict[Vertex, list[Vertex]]:
    """Unit edges by where they start, with the inside on their right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges: defaultdict[Vertex, list[Vertex]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbour, start, end in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges[(x + start[0], y + start[1])].append((x + end[0], y + end[1]))
    return edges


def _walk(edges: dict[Vertex, list[Vertex]], start: Vertex) -> Iterator[Vertex]:
    """Take the edges of one outline; where two go on, the one to the right stays with the same pixel."""
    here, before = start, None
    while here in edges:
        ends = edges[here]
        right = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0])) if before else ends[0]
        taken = right if len(ends) > 1 and right in ends else ends[0]
        ends.remove(taken)
        if not ends:
            del edges[here]
        yield here
        here, before = taken, here
        if here == start and (here not in edges or len(edges[here]) == 0 or _closes(before, here, edges[here])):
            return


def _closes(before: Vertex, here: Vertex, ends: list[Vertex]) -> bool:
    """Whether the outline is back at its beginning rather than passing by it at a corner of two pixels."""
    return (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0])) not in ends


def _corners(path: Outline) -> Outline:
    points = np.asarray(path)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return [vertex for vertex, turn in zip(path, (before != after).any(axis=1), strict=True) if turn]


def _edge_up(outline: Outline, x: int, y: int) -> int | None:
    """The index of the edge of ``outline`` that is the left side of pixel (x, y)."""
    for index, (start, end) in enumerate(zip(outline, [*outline[1:], outline[0]], strict=True)):
        if start[0] == end[0] == x and end[1] <= y < start[1]:
            return index
    return None


def _without_repeats(outline: Outline) -> Outline:
    before = [outline[-1], *outline[:-1]]
    return [vertex for vertex, last in zip(outline, before, strict=True) if vertex != last]
