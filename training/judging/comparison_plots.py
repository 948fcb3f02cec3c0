"""Pictures of a comparison, drawn off screen. The same figures give the same bytes.

Next: comparison_tables.py (the page that shows them).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medai.training.judging.comparison import Comparison, Contestant

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind people tell apart."""


def save_all(found: Comparison, folder: Path) -> dict[str, Path]:
    """Every picture there is something for: name -> file."""
    makers: Mapping[str, Callable[[Comparison], Figure | None]] = {
        "dice": dice,
        "speed": speed,
        "training": training,
        "differences": differences,
    }
    saved = {}
    for name, make in makers.items():
        figure = make(found)
        if figure is not None:
            saved[name] = folder / f"{name}.png"
            figure.savefig(saved[name], dpi=120, metadata={"Software": None})
    return saved


def _figure(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, number) for number in range(1, panels + 1)]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def dice(found: Comparison) -> Figure | None:
    """Dice of each case, a panel for each structure."""
    figure, panels = _figure(max(4.0, 3.2 * len(found.classes)), 4.0, len(found.classes))
    for axes, structure in zip(panels, found.classes, strict=True):
        for number, one in enumerate(found.contestants):
            values = _dice_of(one, structure)
            if not values:
                continue
            axes.boxplot([values], positions=[number], widths=0.5, showfliers=False, medianprops={"color": "black"})
            axes.plot(_strip(number, len(values)), values, ".", color=_colour(number), alpha=0.6, markersize=5)
        axes.set_xticks(range(len(found.contestants)), [one.name for one in found.contestants], rotation=20)
        axes.set_title(structure)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("Dice")
    return figure


def _dice_of(one: Contestant, structure: str) -> list[float]:
    found = [result.measures[structure].dice for result in one.results if result.measures]
    return [value for value in found if value is not None]


def _strip(centre: int, count: int) -> np.ndarray:
    """Dots side by side, always in the same places."""
    return centre + np.random.default_rng(0).uniform(-0.15, 0.15, count)


def speed(found: Comparison) -> Figure | None:
    """Accuracy against time."""
    figure, (axes,) = _figure(6.0, 4.0, 1)
    for number, one in enumerate(found.contestants):
        means = [one.structures[name]["dice"]["mean"] for name in found.classes]
        known = [mean for mean in means if mean is not None]
        if not known:
            continue
        size = 40 + 200 * np.sqrt((one.parameters or 0) / 1e6)
        axes.scatter(one.seconds_per_case, float(np.mean(known)), s=size, color=_colour(number), label=one.name)
    axes.set_xlabel("seconds a case (median)")
    axes.set_ylabel("mean Dice over structures")
    axes.margins(0.15)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def training(found: Comparison) -> Figure | None:
    """Loss and score by epoch, of the contestants that have a history."""
    histories = [
        (number, one, read_history(one.history)) for number, one in enumerate(found.contestants) if one.history
    ]
    if not histories:
        return None
    figure, panels = _figure(9.0, 3.6, 2)
    for number, one, rows in histories:
        for axes, column in zip(panels, ("loss", "score"), strict=True):
            points = [(row["epoch"], row[column]) for row in rows if column in row and "epoch" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=_colour(number), label=one.name, linewidth=1.2)
    for axes, label in zip(panels, ("training loss", "validation score"), strict=True):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[0].legend()
    return figure


def read_history(path: Path) -> list[dict[str, float]]:
    """A run's history.csv; cells that are empty are left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(stream)]


def differences(found: Comparison) -> Figure | None:
    """Paired differences: dots are cases, the bar is the interval of the mean."""
    pairs = [pair for pair in found.pairs if pair.cases]
    if not pairs:
        return None
    figure, (axes,) = _figure(8.0, 1.2 + 0.45 * len(pairs), 1)
    for number, pair in enumerate(reversed(pairs)):
        colour = _colour(found.classes.index(pair.structure))
        axes.plot(pair.differences, _strip(number, pair.cases), ".", color=colour, alpha=0.35, markersize=4)
        if pair.ci95:
            axes.plot(pair.ci95, [number, number], color="black", linewidth=2)
        axes.plot(pair.difference, number, "D", color="black", markersize=5)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(pairs)), [_label(pair.structure, pair.first, pair.second) for pair in reversed(pairs)])
    axes.set_xlabel("difference in Dice")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _label(structure: str, first: str, second: str) -> str:
    return f"{structure}: {first} - {second}"
