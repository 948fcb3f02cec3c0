"""What evaluate found of one model, in the forms it is wanted in: JSON, rows, text, and Markdown for the model card.

Next: evaluate.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from medai.training.cases import Dataset
from medai.training.judging.case import CaseResult
from medai.training.judging.choice import Chosen
from medai.training.judging.model import Model
from medai.training.metrics import FEW, summary
from medai.training.output import aligned, markdown_table, portable
from medai.training.runs import SIDES
from medai.training.words import counted


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found, in the forms it is wanted in."""

    model: Model
    dataset: Dataset
    chosen: Chosen
    results: Sequence[CaseResult]
    tolerance_mm: float
    strict: bool
    seed: int
    threads: int
    folds: tuple[str, ...] = ()
    """The runs of a cross-validation, whose networks were judged instead of the model's own."""
    structures: Mapping[str, Any] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        """The figures, computed once."""
        object.__setattr__(self, "structures", structures(self.model, self.results, seed=self.seed))

    @property
    def refused(self) -> dict[str, int]:
        """Reason -> number of cases."""
        counts: dict[str, int] = {}
        for result in self.results:
            if result.refusal:
                counts[result.refusal] = counts.get(result.refusal, 0) + 1
        return counts

    def json(self) -> dict[str, Any]:
        """For machines; the first four keys are a contract."""
        seconds = [result.seconds for result in self.results]
        card_of = self.model.bundle.card
        return {
            "cases": len(self.results),
            "structures": dict(self.structures),
            "seconds_per_case": float(np.median(seconds)),
            "peak_memory_mb": max(result.peak_mb for result in self.results),
            "seconds_per_case_mean": float(np.mean(seconds)),
            "refused": self.refused,
            "strict": self.strict,
            "model": {"name": self.model.name, "version": card_of.version, "fingerprint": card_of.fingerprint},
            "data": {
                "name": self.dataset.name,
                "side": self.chosen.side,
                "chosen": self.chosen.reason,
                "cases": [result.case for result in self.results],
                "seen_in_training": self.chosen.seen,
            },
            "folds": list(self.folds),
            "surface_dice_tolerance_mm": self.tolerance_mm,
            "bootstrap_seed": self.seed,
            "threads": self.threads,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row for each case and structure."""
        rows = []
        for result in self.results:
            common = {
                "case": result.case,
                "seconds": result.seconds,
                "peak_memory_mb": result.peak_mb,
                "voxels": result.voxels,
                "refusal": result.refusal,
            }
            if not result.measures:
                rows.append({**common, "structure": None})
            rows += [{**common, "structure": name, **asdict(item)} for name, item in result.measures.items()]
        return rows

    def text(self) -> str:
        """For people, at a terminal."""
        seconds = [result.seconds for result in self.results]
        lines = [table(self.structures, self.tolerance_mm), ""]
        lines.append(
            f"{np.median(seconds):.2f} s a case (mean {np.mean(seconds):.2f} s, {self.threads} threads), "
            f"at most {max(result.peak_mb for result in self.results):.0f} MB"
        )
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """What a reader of the figures must know."""
        found = []
        if self.folds:
            found.append(
                f"{self.chosen.reason}: figures of {len(self.folds)} networks of the same configuration, "
                "not of the bundle's own weights"
            )
        if self.folds and self.chosen.side == "validation":
            found.append("the validation cases also chose each network's checkpoint: slightly too good")
        if len(self.results) < FEW:
            found.append(f"only {counted(len(self.results), 'case')}: the intervals are too narrow")
        if self.chosen.seen:
            found.append(
                f"{self.chosen.seen} of the cases trained the model or chose its checkpoint: these figures say nothing "
                "of how it reads others"
            )
        for reason, count in self.refused.items():
            found.append(f"refused {count} of {counted(len(self.results), 'case')} (not in the figures): {reason}")
        for name, entry in self.structures.items():
            if entry["absent"]:
                found.append(f"{name}: in {counted(entry['absent'], 'case')} on neither side, not counted")
            if entry["missing"]["hd95_mm"]:
                found.append(
                    f"{name}: in {counted(entry['missing']['hd95_mm'], 'case')} on one side alone: Dice 0, no distance"
                )
        return found

    def markdown(self) -> str:
        """For the model card: nothing that changes when it is measured again but the seconds and the memory."""
        side = {"all": "all cases", "named": "a list of cases"}.get(self.chosen.side, f"the {self.chosen.side} split")
        command = f"medai-train evaluate {portable(self.model.source)} --data DATA"
        command += f" --split {self.chosen.side}" if self.chosen.side in (*SIDES, "all") else " --cases FILE"
        command += f" --folds {' '.join(self.folds)}" if self.folds else ""
        command += " --strict" if self.strict else ""
        side = "cross-validation" if self.folds else side
        lines = [
            f"{counted(len(self.results), 'case')} of {self.dataset.name} ({side}); "
            "mean over cases [bootstrap 95% interval].",
            "",
            table(self.structures, self.tolerance_mm, markdown=True),
            "",
            f"By `{command} --card`; weights {self.model.bundle.card.fingerprint[:12]}, "
            f"{np.median([result.seconds for result in self.results]):.2f} s a case on {self.threads} CPU threads"
            f"{' and a GPU' if torch.cuda.is_available() else ''}, at most "
            f"{max(result.peak_mb for result in self.results):.0f} MB.",
        ]
        remarks = self.remarks()
        if remarks:
            lines += ["", *(f"- {remark}" for remark in remarks)]
        return "\n".join(lines)


def structures(model: Model, results: Sequence[CaseResult], *, seed: int) -> dict[str, Any]:
    """Per class the figures over the cases that the model read."""
    read = [result for result in results if not result.refusal]
    return {name: summary([result.measures[name] for result in read], seed=seed) for name in model.classes}


COLUMNS: Sequence[tuple[str, str, int]] = (
    ("dice", "Dice", 3),
    ("surface_dice", "surface Dice", 3),
    ("hd95_mm", "HD95, mm", 2),
    ("volume_error_percent", "volume error, %", 1),
    ("sensitivity", "sensitivity", 3),
    ("specificity", "specificity", 4),
    ("precision", "precision", 3),
    ("structure_sensitivity", "found", 2),
    ("false_components", "false pieces", 2),
)
"""Figure, title, digits."""


def table(figures: Mapping[str, Any], tolerance_mm: float, *, markdown: bool = False) -> str:
    """Structures by figures; the interval stands in brackets."""
    titles = ["structure", "cases"]
    titles += [f"{title} at {tolerance_mm:g} mm" if key == "surface_dice" else title for key, title, _ in COLUMNS]
    rows = [
        [name, str(entry["counted"]), *(_cell(entry[key], digits) for key, _, digits in COLUMNS)]
        for name, entry in figures.items()
    ]
    return markdown_table(titles, rows) if markdown else aligned([titles, *rows])


def _cell(figure: Mapping[str, Any], digits: int) -> str:
    if figure["mean"] is None:
        return "-"
    text = f"{figure['mean']:.{digits}f}"
    if figure["ci95"] and figure["ci95"][0] != figure["ci95"][1]:
        text += f" [{figure['ci95'][0]:.{digits}f}, {figure['ci95'][1]:.{digits}f}]"
    return text
