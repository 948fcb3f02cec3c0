"""``medai-train evaluate``: judge a model on cases with expert labels.

Every case is drawn by the segmenter that the worker runs (its bundle, its preprocessing), measured, and put into a
table; the figures are means over cases with bootstrap intervals. Next: judging.py (which cases, how one is drawn),
metrics.py (what the figures mean), export/card.py (where ``--card`` puts them).
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from medai.training.cases import Case, Dataset
from medai.training.errors import ConfigError, LeakageError, TrainingError
from medai.training.export import card
from medai.training.export.bundle import CLASSIFIER
from medai.training.judging.judging import (
    CaseResult,
    Chosen,
    Model,
    choose,
    judge_case,
    load_case,
    open_model,
    require_classes,
)
from medai.training.judging.options import (
    class_arguments,
    data_arguments,
    model_arguments,
    open_data,
    read_names,
    with_classes,
)
from medai.training.judging.pictures import View, save, view
from medai.training.metrics import FEW, summary
from medai.training.output import answer, json_argument, write_json
from medai.training.runs import SIDES, KeptSplit, fold_split, read_run
from medai.training.words import counted

EXAMPLES = """\
examples:
  medai-train evaluate models/bundles/mr_hippocampus --data DATA --split test --json figures.json
  medai-train evaluate runs/hippocampus --data DATA --out judged/      tables and the worst cases as pictures
  medai-train evaluate models/bundles/mr_hippocampus --data DATA --split test --card   figures into the model card
  medai-train evaluate models/bundles/ct_head_neck --folds runs/hn-* --data DATA --card     by cross-validation
  medai-train evaluate bundles/ct_lungs --data OTHER --class lungs=1,2:1 --weights UNet_wdk24.pt
"""
CLASSIFIER_JUDGE = "medai.training.fitting.series_kind"
"""The module that judges classifier bundles: ``judge(options, model) -> int``."""
Scored = tuple[float, int, View]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train evaluate``."""
    parser.epilog = EXAMPLES
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle's folder, or a run's")
    data_arguments(parser)
    parser.add_argument(
        "--split",
        choices=[*SIDES, "all"],
        default="",
        help="side of the model's own split (default: test where the data set is that of the split, else all)",
    )
    parser.add_argument("--cases", type=Path, metavar="FILE", help="names of the cases to judge on, one a line")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N of the cases")
    parser.add_argument(
        "--folds",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="cross-validation: judge these runs of BUNDLE's configuration, each on its own side, and pool the cases",
    )
    parser.add_argument("--strict", action="store_true", help="let the model refuse cases as it would in service")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write cases.csv, cases.parquet, figures.json, worst/")
    parser.add_argument("--worst", type=int, default=3, metavar="N", help="how many worst cases become pictures (3)")
    json_argument(parser, "the figures")
    parser.add_argument("--card", action="store_true", help="write the figures into the bundle's docs/README.md")
    parser.add_argument("--weights", metavar="PATH", help="weights of a bundle that does not hold its own")
    class_arguments(parser)
    model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, print the table, write what was asked for."""
    if options.cases and options.split:
        raise ConfigError("--cases and --split both say which cases judge: give one of them")
    with open_model(
        options.bundle, device=options.device, threads=options.threads, weights=options.weights, draws=False
    ) as seen:
        classifier = seen.bundle.segmenter == CLASSIFIER
        if classifier:
            return _classifier(options, seen)
    with open_model(options.bundle, device=options.device, threads=options.threads, weights=options.weights) as model:
        return _evaluate(options, with_classes(model, options.classes))


def _classifier(options: argparse.Namespace, model: Model) -> int:
    try:
        module = importlib.import_module(CLASSIFIER_JUDGE)
    except ModuleNotFoundError as error:
        if error.name != CLASSIFIER_JUDGE:
            raise
        raise TrainingError(f"{model.name} tells what a series shows; nothing here judges that yet") from error
    return int(module.judge(options, model))


def _evaluate(options: argparse.Namespace, model: Model) -> int:
    require_classes(model)
    dataset = open_data(options, model)
    if options.folds:
        chosen, results, worst = _cross_validate(options, model, dataset)
    else:
        names = read_names(options.cases) if options.cases else ()
        chosen = choose(dataset, model.kept, side=options.split, names=names, limit=options.limit)
        print(f"{model.name}: {counted(len(chosen.cases), 'case')} of {dataset.name}, {chosen.reason}", file=sys.stderr)
        results, worst = _judge(options, model, chosen.cases)
    report = Report(
        model=model,
        dataset=dataset,
        chosen=chosen,
        results=results,
        tolerance_mm=options.tolerance_mm,
        strict=options.strict,
        seed=options.seed,
        threads=options.threads or torch.get_num_threads(),
        folds=tuple(card.portable(path, "runs") for path in options.folds),
    )
    answer(options, report.json(), report.text())
    if options.out:
        _write(report, worst, options.out)
    if options.card:
        card.with_figures(options.bundle / "docs" / "README.md", report.markdown())
        print(f"figures written into {options.bundle / 'docs' / 'README.md'}", file=sys.stderr)
    return 0


def _cross_validate(
    options: argparse.Namespace, model: Model, dataset: Dataset
) -> tuple[Chosen, list[CaseResult], list[View]]:
    """Every run on its own cases, which no other run judges. Raises TrainingError, LeakageError."""
    if options.cases or options.limit:
        raise ConfigError("--folds judges each run on a side of its own split: leave out --cases and --limit")
    kept = {path: fold_split(read_run(path)) for path in options.folds}
    side = options.split or fold_side(list(kept.values()))
    cases: list[Case] = []
    results: list[CaseResult] = []
    worst: list[View] = []
    for path, split in kept.items():
        chosen = choose(dataset, split, side=side)
        again = sorted({case.name for case in chosen.cases} & {case.name for case in cases})
        if again:
            raise TrainingError(
                f"{path.name} judges {again[0]}, which another run also judges: are these folds of one split?"
            )
        require_untrained(path.name, split, chosen, dataset)
        with open_model(path, device=options.device, threads=options.threads) as fold:
            if set(fold.classes) != set(model.classes):
                raise TrainingError(
                    f"{fold.name} draws {', '.join(fold.classes)}, {model.name} {', '.join(model.classes)}"
                )
            found, seen = _judge(options, fold, chosen.cases)
        cases, results, worst = [*cases, *chosen.cases], [*results, *found], [*worst, *seen]
    reason = f"cross-validation over {len(kept)} runs, each judged on its own {side} cases"
    return Chosen(cases=tuple(cases), side=side, reason=reason), results, worst


def fold_side(splits: Sequence[KeptSplit]) -> str:
    """``test`` where every fold has test cases of its own, else ``validation``."""
    tests = [name for split in splits for name in split.sides["test"]]
    own = all(split.sides["test"] for split in splits) and len(set(tests)) == len(tests)
    return "test" if own else "validation"


def require_untrained(name: str, split: KeptSplit, chosen: Chosen, dataset: Dataset) -> None:
    """Raise LeakageError when a case that judges a fold, or its patient, trained it."""
    trained = set(split.sides["train"])
    patients = {case.patient for case in dataset.cases if case.name in trained}
    seen = [case.name for case in chosen.cases if case.name in trained or case.patient in patients]
    if seen:
        raise LeakageError(f"{name} was trained on {seen[0]}, or on another case of that patient")


def _judge(options: argparse.Namespace, model: Model, cases: Sequence[Case]) -> tuple[list[CaseResult], list[View]]:
    """Every case, and views of those that came out worst."""
    results: list[CaseResult] = []
    worst: list[Scored] = []
    for number, case in enumerate(tqdm(cases, desc=model.name, unit="case", file=sys.stderr)):
        example = load_case(case)
        result = judge_case(
            model,
            case,
            example,
            strict=options.strict,
            tolerance_mm=options.tolerance_mm,
            others_are_background=options.ignore_labels,
        )
        results.append(replace(result, drawn=None))
        if options.out and options.worst > 0 and result.drawn is not None:
            score = (-result.mean_dice, -number)
            if len(worst) < options.worst or score > worst[0][:2]:
                seen = view(
                    case.name,
                    f"{case.name}: " + ", ".join(f"{name} Dice {_text(m.dice)}" for name, m in result.measures.items()),
                    example,
                    result.drawn,
                    [(name, entry.labels, entry.segments) for name, entry in model.classes.items()],
                )
                (heapq.heappush if len(worst) < options.worst else heapq.heapreplace)(worst, (*score, seen))
    return results, [seen for _, _, seen in sorted(worst, reverse=True, key=lambda item: item[:2])]


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
                "about how it reads others"
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
        command = f"medai-train evaluate {card.portable(self.model.source)} --data DATA"
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
    if markdown:
        lines = [titles, ["---"] * len(titles), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[column]) for line in [titles, *rows]) for column in range(len(titles))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [titles, *rows]
    )


def _cell(figure: Mapping[str, Any], digits: int) -> str:
    if figure["mean"] is None:
        return "-"
    text = f"{figure['mean']:.{digits}f}"
    if figure["ci95"] and figure["ci95"][0] != figure["ci95"][1]:
        text += f" [{figure['ci95'][0]:.{digits}f}, {figure['ci95'][1]:.{digits}f}]"
    return text


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _write(report: Report, worst: Sequence[View], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame(report.rows())
    rows.to_csv(folder / "cases.csv", index=False, lineterminator="\n")
    rows.to_parquet(folder / "cases.parquet", index=False)
    write_json(folder / "figures.json", report.json())
    for place, seen in enumerate(worst, start=1):
        save(seen, folder / "worst" / f"{place}-{_plain(seen.case)}.png")


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
