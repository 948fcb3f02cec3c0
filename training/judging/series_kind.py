"""Judge a classifier of series (models/segmenters/series_kind.py) over the slices of held-out patients.

``judge`` is what ``medai-train evaluate`` calls for such a bundle. Next: evaluate.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medai.models.segmenters.series_kind import SeriesKind, kind_of
from medai.models.volume import Voxels
from medai.training.data.kind_slices import PARTS, UNKNOWN, Slices, read_slices
from medai.training.export import card
from medai.training.judging.model import Model
from medai.training.output import answer
from medai.training.runs import read_split


def judge(options: argparse.Namespace, model: Model) -> int:
    """``medai-train evaluate`` for a bundle of this kind: per part, over the slices of held-out patients."""
    kinds = SeriesKind(model.bundle, torch.device("cpu"))
    slices = read_slices(Path(options.data))
    split = read_split(model.bundle.folder / "docs" / "split.json")
    side = options.split or "test"
    names = set(slices.patients.tolist()) if side == "all" else set(split.sides[side])
    rows = np.flatnonzero(np.isin(slices.patients, sorted(names)))
    images = slices.images[rows].astype(np.float32)
    report = report_of(kinds.logits(images), kinds.logits_turned(images), slices, rows)
    answer(options, report, _text(report))
    if options.card:
        card.with_figures(model.bundle.folder / "docs" / "README.md", markdown(report, side))
    return 0


def _text(report: Mapping[str, Any]) -> str:
    """A line a part, then a line a patient."""
    lines = [
        f"{name:10s} {figures['slices']:5d} slices  sensitivity {figures['sensitivity']:.3f}  "
        f"specificity {figures['specificity']:.3f}"
        for name, figures in report["structures"].items()
    ]
    upright = report["upright"]
    lines.append(f"upright    {upright['slices']:5d} slices  sensitivity {upright['sensitivity']:.3f}")
    lines += [
        f"{name}: {one['part']} {one['probability']:.2f}, upright {one['upright']:.2f}"
        for name, one in report["patients"].items()
    ]
    return "\n".join(lines)


def markdown(report: Mapping[str, Any], side: str) -> str:
    """The figures as tables for the model card."""
    rows = [
        f"| {name} | {one['slices']} | {one['sensitivity']:.3f} | {one['specificity']:.3f} |"
        for name, one in report["structures"].items()
        if one["specificity"] is not None
    ]
    upright = report["upright"]
    patients = [
        f"| {name} | {one['part']} ({one['probability']:.2f}) | {one['upright']:.2f} |"
        for name, one in report["patients"].items()
    ]
    return "\n".join(
        [
            f"By slices of the {report['cases']} patients of the {side} side:",
            "",
            "| shows | slices | sensitivity | specificity |",
            "|---|---|---|---|",
            *rows,
            f"| upright | {upright['slices']} | {upright['sensitivity']:.3f} | |",
            "",
            "By patients:",
            "",
            "| patient | taken for | upright |",
            "|---|---|---|",
            *patients,
        ]
    )


def report_of(logits: Voxels, when_turned: Voxels, slices: Slices, rows: Voxels) -> dict[str, Any]:
    """Sensitivity and specificity of each part by slices, and the answer for each patient's axial slices.

    A slice is found upright when no way of turning it (``when_turned`` [way, slice]) looks more so.
    """
    truth, found = slices.parts[rows], logits[:, :-1].argmax(axis=1)
    known = truth != UNKNOWN
    structures = {}
    for number, part in enumerate(PARTS):
        here, there = known & (truth == number), known & (truth != number)
        if here.any():
            structures[part] = {
                "slices": int(here.sum()),
                "sensitivity": float((found[here] == number).mean()),
                "specificity": float((found[there] != number).mean()) if there.any() else None,
            }
    axial = slices.axial[rows] == 1
    patients = {}
    for name in np.unique(slices.patients[rows]):
        mine = axial & (slices.patients[rows] == name)
        if mine.any():
            kind = kind_of(logits[mine], when_turned[:, mine], PARTS)
            patients[str(name)] = {
                "part": kind.part,
                "probability": round(kind.probabilities[kind.part], 3),
                "upright": round(kind.upright, 3),
            }
    return {
        "cases": len(patients),
        "structures": structures,
        "upright": {
            "slices": int(axial.sum()),
            "sensitivity": float((logits[axial, -1] > when_turned[:, axial].max(axis=0)).mean()),
        },
        "patients": patients,
    }
