"""Pictures of where a model and an expert disagree: contours of both in three planes through the worst place.

``view`` takes what a picture needs out of a case (three planes, not the volume); ``save`` draws it.
Next: evaluate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medai.models.images.preprocess import to_axial
from medai.models.volume import Labels, Voxels
from medai.training.cases import Example

TRUTH, DRAWN = "#00c864", "#ff5a00"
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One plane through a case: grey values and, per class, both masks; ``aspect`` is row height over column width."""

    name: str
    image: npt.NDArray[np.float32] = field(repr=False)
    truth: tuple[npt.NDArray[np.bool_], ...] = field(repr=False)
    drawn: tuple[npt.NDArray[np.bool_], ...] = field(repr=False)
    aspect: float


@dataclass(frozen=True, kw_only=True)
class View:
    """The three planes of a case through the largest disagreement."""

    case: str
    title: str
    classes: tuple[str, ...]
    planes: tuple[Plane, ...]


def view(
    case: str, title: str, example: Example, drawn: Labels, classes: Sequence[tuple[str, Sequence[int], Sequence[int]]]
) -> View:
    """``classes``: name, label values of the expert, numbers of the segments."""
    upright, turn = to_axial(example.volume)
    truth, seen = turn.apply(example.labels), turn.apply(drawn)
    pairs = [(np.isin(truth, labels), np.isin(seen, segments)) for _, labels, segments in classes]
    differs = np.zeros(truth.shape, dtype=bool)
    for one, other in pairs:
        differs |= one ^ other
    place = _worst(differs if differs.any() else np.logical_or.reduce([one for one, _ in pairs]))
    x, y, z = upright.geometry.spacing_mm
    aspects = (y / x, z / x, z / y)
    planes = tuple(
        Plane(
            name=PLANES[axis],
            image=_cut(upright.voxels, axis, place).astype(np.float32),
            truth=tuple(_cut(one, axis, place) for one, _ in pairs),
            drawn=tuple(_cut(other, axis, place) for _, other in pairs),
            aspect=aspects[axis],
        )
        for axis in range(3)
    )
    return View(case=case, title=title, classes=tuple(name for name, _, _ in classes), planes=planes)


def _worst(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Per axis the slice that holds most of the mask (the middle where it is empty)."""
    if not mask.any():
        return tuple(side // 2 for side in mask.shape)
    return tuple(int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax()) for axis in range(3))


def _cut(array: Voxels, axis: int, place: Sequence[int]) -> Voxels:
    """A plane as it is looked at: the head up in coronal and sagittal planes."""
    plane = np.take(array, place[axis], axis=axis)
    return np.ascontiguousarray(plane if axis == 0 else plane[::-1])


def save(seen: View, path: Path) -> None:
    """Draw a view as PNG: the expert's contour in one piece, the model's dashed. The same view, the same bytes."""
    figure = Figure(figsize=(11, 4.2), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    for number, plane in enumerate(seen.planes, start=1):
        axes = figure.add_subplot(1, 3, number)
        _draw(axes, plane)
    lines = [Line2D([], [], color=TRUTH, label="expert"), Line2D([], [], color=DRAWN, linestyle="--", label="model")]
    figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False, labelcolor="white")
    figure.suptitle(seen.title, color="white", fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.86, bottom=0.1, wspace=0.04)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _draw(axes: Axes, plane: Plane) -> None:
    low, high = np.percentile(plane.image, [1, 99])
    axes.imshow(plane.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=plane.aspect)
    for one, other in zip(plane.truth, plane.drawn, strict=True):
        _contour(axes, one, TRUTH, "solid")
        _contour(axes, other, DRAWN, "dashed")
    axes.set_title(plane.name, color="white", fontsize=9)
    axes.set_axis_off()


def _contour(axes: Axes, mask: npt.NDArray[np.bool_], colour: str, style: str) -> None:
    """The rim of voxels itself, so that a mask at the border is closed, too."""
    if mask.any():
        closed = np.pad(mask, 1).astype(np.float32)
        rows, columns = (np.arange(-1, side + 1) for side in mask.shape)
        axes.contour(columns, rows, closed, levels=[0.5], colors=colour, linewidths=1.1, linestyles=style)
