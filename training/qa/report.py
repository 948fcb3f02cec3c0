"""The report of ``qa`` as one HTML file that needs nothing else: figures, findings, pictures of the cases to look at.

Charts are SVG in the page's colours (light or dark), pictures are PNG, both inside the file; there is no script.
Next: command.py (the command), templates/qa.html.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medai.models.images.preprocess import to_axial
from medai.models.volume import Voxels
from medai.training.cases import Dataset, Example
from medai.training.qa.checks import Finding
from medai.training.qa.facts import Facts
from medai.training.words import counted

PALETTE = ("#ff8c00", "#1e9be6", "#2eb872", "#d452b0", "#c9b100", "#8a7bff", "#e0503c", "#00a8a8")
INK = "#010203"
"""Stands for the page's text colour in the charts."""
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with its caption; ``svg`` is markup of our own making."""

    title: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A case to look at: PNG as a data URL, and what was found."""

    case: str
    url: str
    findings: tuple[Finding, ...]


def render(
    dataset: Dataset, facts: Sequence[Facts], findings: Sequence[Finding], pictures: Sequence[Picture], *, more: int
) -> str:
    """The page. ``more`` is how many cases with findings have no picture."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medai.training"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    readable = [one for one in facts if not one.fault]
    return environment.get_template("qa.html").render(
        name=dataset.name,
        cases=len(facts),
        patients=len({one.patient for one in facts}),
        modality=", ".join(sorted({one.modality for one in readable if one.modality})) or dataset.modality,
        errors=[finding for finding in findings if finding.level == "error"],
        warnings=[finding for finding in findings if finding.level == "warning"],
        rows=label_rows(dataset, readable),
        facts=_figures(readable),
        charts=_charts(dataset, readable),
        pictures=pictures,
        more=more,
        colours=[(_label_name(dataset, value), colour_of(value)) for value in _values(readable)],
    )


def colour_of(value: int) -> str:
    """Of a label value, the same everywhere."""
    return PALETTE[(value - 1) % len(PALETTE)]


def _values(facts: Sequence[Facts]) -> list[int]:
    return sorted({value for one in facts for value in one.labels})


def _label_name(dataset: Dataset, value: int) -> str:
    return dataset.label_names.get(value, f"label {value}")


def label_rows(dataset: Dataset, facts: Sequence[Facts]) -> list[dict[str, str | int]]:
    """Per label value: in how many cases, and volumes in ml."""
    rows: list[dict[str, str | int]] = []
    for value in _values(facts):
        volumes = [one.labels[value].ml for one in facts if value in one.labels]
        low, middle, high = np.percentile(volumes, [5, 50, 95])
        rows.append(
            {
                "value": value,
                "name": _label_name(dataset, value),
                "colour": colour_of(value),
                "cases": len(volumes),
                "median_ml": f"{middle:.3g}",
                "range_ml": f"{low:.3g} to {high:.3g}",
                "clipped": sum(1 for one in facts if value in one.labels and one.labels[value].faces),
            }
        )
    return rows


def _figures(facts: Sequence[Facts]) -> list[tuple[str, str]]:
    if not facts:
        return []
    spacings = Counter(" x ".join(f"{step:.3g}" for step in one.spacing_mm) for one in facts)
    shapes = np.array([one.shape for one in facts])
    axes = Counter(one.axes for one in facts)
    return [
        ("voxels, mm", _tally(spacings)),
        (
            "slices x rows x columns",
            f"{' x '.join(map(str, shapes.min(axis=0)))} to {' x '.join(map(str, shapes.max(axis=0)))}",
        ),
        ("axes grow towards", _tally(axes)),
        ("oblique", counted(sum(1 for one in facts if one.oblique_deg > 1), "case")),
    ]


def _tally(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(3))
    return shown + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")


# --- charts ------------------------------------------------------------------------------------------------------


def _charts(dataset: Dataset, facts: Sequence[Facts]) -> list[Chart]:
    if not facts:
        return []
    return [_volumes(dataset, facts), _intensities(facts)]


def _volumes(dataset: Dataset, facts: Sequence[Facts]) -> Chart:
    values = _values(facts)[:16]
    figure = Figure(figsize=(6.2, max(1.6, 0.5 * len(values) + 1.0)))
    axes = figure.add_subplot()
    for row, value in enumerate(values):
        volumes = np.array([one.labels[value].ml for one in facts if value in one.labels])
        spread = np.random.default_rng(value).uniform(-0.22, 0.22, len(volumes))
        axes.scatter(volumes, row + spread, s=9, color=colour_of(value), alpha=0.55, linewidths=0)
        axes.plot([np.median(volumes)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.6)
    axes.set_yticks(range(len(values)), [_label_name(dataset, value) for value in values])
    axes.invert_yaxis()
    _scale_of(axes, [one.labels[value].ml for one in facts for value in one.labels])
    axes.set_xlabel("ml in each case; the line is the median")
    return Chart(title="Volume of each label", svg=_svg(figure, axes))


def _intensities(facts: Sequence[Facts]) -> Chart:
    figure = Figure(figsize=(6.2, 2.6))
    axes = figure.add_subplot()
    hounsfield = all(one.modality == "CT" for one in facts)
    ordered = sorted(facts, key=lambda one: one.percentiles[2] if one.percentiles else 0.0)
    places = np.arange(1, len(ordered) + 1)
    lows, middles, highs = (np.array([one.percentiles[i] for one in ordered]) for i in range(3))
    axes.vlines(places, lows, highs, color=PALETTE[1], linewidth=max(0.8, min(5.0, 260 / len(ordered))), alpha=0.55)
    axes.plot(places, middles, ".", color=INK, markersize=3)
    if not hounsfield and highs.max() > 20 * max(float(np.median(highs)), 1e-9):
        axes.set_yscale("symlog", linthresh=max(float(highs[highs > 0].min()) / 10, 1e-6))
    axes.set_xlabel("cases, in order of their 99th percentile")
    axes.set_ylabel("HU" if hounsfield else "values")
    return Chart(title="Values: 1st to 99th percentile, and the median", svg=_svg(figure, axes))


def _scale_of(axes: Axes, volumes: Sequence[float]) -> None:
    if volumes and max(volumes) > 30 * max(min(volumes), 1e-9):
        axes.set_xscale("log")


def _svg(figure: Figure, axes: Axes) -> str:
    """Inline SVG whose dark lines and texts take the page's colour."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    stream = io.StringIO()
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "qa", "font.family": "sans-serif", "font.size": 9}
    with rc_context(style):
        _ink(axes)
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor").replace("#000000", "currentColor")


def _ink(axes: Axes) -> None:
    """All texts and lines of an axes in the page's colour."""
    axes.tick_params(which="both", colors=INK)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)


# --- pictures ----------------------------------------------------------------------------------------------------


def picture(case: str, example: Example, findings: Sequence[Finding]) -> Picture:
    """Three planes through the middle of the labels, with their contours."""
    upright, turn = to_axial(example.volume)
    labels = turn.apply(example.labels)
    place = _middle(labels)
    x, y, z = upright.geometry.spacing_mm
    figure = Figure(figsize=(6.6, 2.3), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    for axis, aspect in enumerate((y / x, z / x, z / y)):
        axes = figure.add_subplot(1, 3, axis + 1)
        image, drawn = _cut(upright.voxels, axis, place), _cut(labels, axis, place)
        low, high = np.nanpercentile(np.where(np.isfinite(image), image, np.nan), [1, 99])
        axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        for value in np.unique(drawn[drawn > 0]):
            closed = np.pad((drawn == value).astype(np.float32), 1)
            rows, columns = (np.arange(-1, side + 1) for side in drawn.shape)
            axes.contour(columns, rows, closed, levels=[0.5], colors=colour_of(int(value)), linewidths=1.2)
        axes.set_title(f"{PLANES[axis]} {place[axis] + 1}", color="white", fontsize=8)
        axes.set_axis_off()
    figure.subplots_adjust(left=0.005, right=0.995, top=0.89, bottom=0.01, wspace=0.02)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(case=case, url=url, findings=tuple(findings))


def _middle(labels: Voxels) -> tuple[int, ...]:
    """Per axis the slice that holds most labels; the middle where there are none."""
    mask = labels > 0
    if not mask.any():
        return tuple(side // 2 for side in mask.shape)
    return tuple(int(mask.sum(axis=tuple(o for o in range(3) if o != axis)).argmax()) for axis in range(3))


def _cut(array: Voxels, axis: int, place: Sequence[int]) -> Voxels:
    """A plane with the head up."""
    plane = np.take(array, place[axis], axis=axis)
    return np.ascontiguousarray(plane if axis == 0 else plane[::-1])


def by_case(findings: Sequence[Finding]) -> Mapping[str, list[Finding]]:
    """The findings of each case, those with errors first."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.case:
            groups.setdefault(finding.case, []).append(finding)
    return groups
