"""``medai-train evaluate``: judge a model on cases with expert labels.

Every case is drawn by the segmenter that the worker runs (its bundle, its preprocessing), measured, and put into a
table; the figures are means over cases with bootstrap intervals. Next: choice.py (which cases), case.py
(how one is drawn and measured), evaluation_report.py, training/metrics.py (what the figures mean).
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from medai.training.cases import Case, Dataset
from medai.training.errors import ConfigError, LeakageError, TrainingError
from medai.training.export import card
from medai.training.export.metadata import CLASSIFIER
from medai.training.judging import series_kind
from medai.training.judging.case import CaseResult, judge_case, load_case
from medai.training.judging.choice import Chosen, choose
from medai.training.judging.evaluation_report import Report
from medai.training.judging.model import Model, open_model, require_classes
from medai.training.judging.options import (
    class_arguments,
    data_arguments,
    model_arguments,
    open_data,
    read_names,
    with_classes,
)
from medai.training.judging.pictures import View, save, view
from medai.training.output import answer, json_argument, portable, write_json
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
            return series_kind.judge(options, seen)
    with open_model(options.bundle, device=options.device, threads=options.threads, weights=options.weights) as model:
        return _evaluate(options, with_classes(model, options.classes))


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
        folds=tuple(portable(path, "runs") for path in options.folds),
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
