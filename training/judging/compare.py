"""``medai-train compare``: several models on the same cases that none of them has seen.

Each case is read once and drawn by every model in turn, the first one changing from case to case, so that what else
the machine does falls on all of them alike. Dice is compared in pairs: Wilcoxon's signed-rank test over cases, Holm's
correction over all pairs and structures, the mean difference with its bootstrap interval, and the rank-biserial
correlation. Next: comparison.py (what is found), paired_tests.py, comparison_tables.py, comparison_plots.py.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from medai.models.errors import ModelUnavailable
from medai.models.networks.definition import build
from medai.models.segmenters.network import network_weights
from medai.training.cases import Case, Dataset
from medai.training.errors import ConfigError, LeakageError, TrainingError
from medai.training.judging import comparison_plots, comparison_tables
from medai.training.judging.case import CaseResult, judge_case, load_case
from medai.training.judging.choice import Chosen, choose
from medai.training.judging.comparison import Comparison, Contestant
from medai.training.judging.evaluation_report import structures
from medai.training.judging.model import Model, open_model, require_classes
from medai.training.judging.options import (
    class_arguments,
    data_arguments,
    model_arguments,
    open_data,
    read_names,
    with_classes,
)
from medai.training.judging.paired_tests import paired_tests
from medai.training.output import answer, json_argument, markdown_table, portable, write_json

EXAMPLES = """\
examples:
  medai-train compare runs/unet runs/densenet runs/deeplabv3plus --data DATA --out comparison/
  medai-train compare runs/* --data DATA --out comparison/ --markdown docs/comparison.md
  medai-train compare bundles/ct_lungs other/ct_lungs=UNet_wdk24.pt --data DATA --out lungs/ --class lungs=1,2:1,2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train compare``."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="bundles or runs; FOLDER=WEIGHTS for foreign weights"
    )
    data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables, figures and pictures go")
    parser.add_argument(
        "--cases", type=Path, metavar="FILE", help="names of the cases, instead of the common test side"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N of the cases")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="draw each case N times; the median counts")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page, its pictures beside it in images/")
    parser.add_argument("--title", default="Comparison of networks", help="of the page")
    class_arguments(parser)
    model_arguments(parser)
    json_argument(parser, "the comparison")


def run(options: argparse.Namespace) -> int:
    """Judge all, write everything, print the table."""
    if len(options.models) < 2:
        raise ConfigError("name at least two models to compare")
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(_open(text, options)) for text in options.models]
        models = named_apart([with_classes(model, options.classes, some=True) for model in opened])
        classes = common_classes(models)
        dataset = open_data(options, models[0])
        chosen = common_cases(dataset, models, names=read_names(options.cases) if options.cases else ())
        cases = chosen.cases[: options.limit] if options.limit else chosen.cases
        results = judge_interleaved(models, cases, options)
        found = Comparison(
            contestants=tuple(
                _contestant(model, group, seed=options.seed) for model, group in zip(models, results, strict=True)
            ),
            pairs=paired_tests([model.name for model in models], classes, results, seed=options.seed),
            classes=classes,
            dataset=dataset.name,
            cases=tuple(case.name for case in cases),
            reason=chosen.reason,
            tolerance_mm=options.tolerance_mm,
            seed=options.seed,
            threads=options.threads or torch.get_num_threads(),
            device="GPU" if torch.cuda.is_available() and options.device != "cpu" else "CPU",
            command=command_of(options),
        )
    _write(found, options)
    answer(options, found.json(), comparison_tables.text(found))
    return 0


def _open(text: str, options: argparse.Namespace) -> contextlib.AbstractContextManager[Model]:
    folder, _, weights = text.partition("=")
    whole = Path(text).is_dir()
    return open_model(
        Path(text if whole else folder),
        device=options.device,
        threads=options.threads,
        weights=None if whole or not weights else weights,
    )


def command_of(options: argparse.Namespace) -> str:
    """The command line as it may stand in a document."""
    words = ["medai-train compare", *(_shown(text) for text in options.models), "--data DATA"]
    words.append(f"--out {portable(options.out, '.').removeprefix('./')}")
    if options.markdown:
        words.append(f"--markdown {portable(options.markdown, 'docs')}")
    for option, default in (("limit", 0), ("repeats", 1), ("threads", 0), ("tolerance_mm", 1.0), ("seed", 0)):
        if getattr(options, option) != default:
            words.append(f"--{option.replace('_', '-')} {getattr(options, option):g}")
    words += [f"--cases {options.cases.name}"] if options.cases else []
    words += [f"--class {text}" for text in options.classes]
    return " ".join(words)


def _shown(model: str) -> str:
    """A model as the command line names it, without where it lies: FOLDER, or FOLDER=WEIGHTS."""
    folder, equals, weights = model.partition("=")
    return portable(Path(folder), "runs") + equals + Path(weights).name


def named_apart(models: Sequence[Model]) -> list[Model]:
    """Models of the same folder name get their parent folder's, too. Raises ConfigError for the same folder twice."""
    places = [model.source.resolve() for model in models]
    if len(set(places)) < len(places):
        raise ConfigError("the same folder is named twice")
    names = [model.name for model in models]
    return [
        replace(model, name=f"{place.parent.name}/{place.name}") if names.count(model.name) > 1 else model
        for model, place in zip(models, places, strict=True)
    ]


def common_classes(models: Sequence[Model]) -> tuple[str, ...]:
    """The classes, which must mean the same expert labels to all. Raises TrainingError."""
    for model in models:
        require_classes(model)
    first = models[0]
    for model in models[1:]:
        if {name: sorted(entry.labels) for name, entry in model.classes.items()} != {
            name: sorted(entry.labels) for name, entry in first.classes.items()
        }:
            raise TrainingError(
                f"{model.name} draws {', '.join(model.classes)} and {first.name} {', '.join(first.classes)}, "
                "or they mean other expert labels: they cannot be compared"
            )
    return tuple(first.classes)


def common_cases(dataset: Dataset, models: Sequence[Model], *, names: Sequence[str] = ()) -> Chosen:
    """The cases that are test cases to every model. Raises LeakageError where one was trained on another's."""
    splits = {model.name: model.kept for model in models if model.kept is not None}
    for (one, kept), (other, theirs) in itertools.permutations(splits.items(), 2):
        both = sorted(kept.seen & set(theirs.sides["test"]))
        if both and not names:
            raise LeakageError(
                f"{one} was trained on {len(both)} test cases of {other}, such as {both[0]}: "
                "models that are compared must share their test cases"
            )
    if names:
        chosen, reason = tuple(names), "the cases of a list"
    elif splits:
        common = set.intersection(*(set(kept.sides["test"]) for kept in splits.values()))
        if not common:
            raise TrainingError("the models have no test case in common: train them on the same split")
        chosen, reason = tuple(sorted(common)), "the test side of all models' splits"
    else:
        chosen, reason = tuple(case.name for case in dataset.cases), "all cases: no model keeps a split"
    cases = dataset.named(set(chosen))
    for name, kept in splits.items():
        patients = {case.patient for case in dataset.cases if case.name in kept.seen}
        seen = [case.name for case in cases if case.name in kept.seen or case.patient in patients]
        if seen:
            raise LeakageError(f"{name} was trained on {seen[0]}, or on another case of that patient")
    return replace(choose(dataset, None, names=[case.name for case in cases]), reason=reason)


def judge_interleaved(
    models: Sequence[Model], cases: Sequence[Case], options: argparse.Namespace
) -> list[list[CaseResult]]:
    """Per model its results, in the order of the cases. The first case is drawn once before the clock counts."""
    results: list[list[CaseResult]] = [[] for _ in models]
    for number, case in enumerate(tqdm(cases, desc="compare", unit="case", file=sys.stderr)):
        example = load_case(case)
        order = [(number + step) % len(models) for step in range(len(models))]
        drawn: list[list[CaseResult]] = [[] for _ in models]
        for repeat in range(options.repeats + (number == 0)):
            for place in order:
                result = judge_case(
                    models[place],
                    case,
                    example,
                    tolerance_mm=options.tolerance_mm,
                    others_are_background=options.ignore_labels,
                )
                if number or repeat:
                    drawn[place].append(replace(result, drawn=None))
        for group, repeats in zip(results, drawn, strict=True):
            group.append(replace(repeats[0], seconds=float(np.median([one.seconds for one in repeats]))))
    return results


def _contestant(model: Model, results: Sequence[CaseResult], *, seed: int) -> Contestant:
    summary, parameters = model.summary, model.bundle.parameters
    definition = dict(parameters.get("network_def") or {})
    definitions = [definition, *parameters.get("members", ())]
    if len(definitions) == 1:
        definitions *= max(1, len(network_weights(model.bundle)))
    history = model.source / "history.csv"
    return Contestant(
        name=model.name,
        network=str(definition.get("_target_", model.bundle.segmenter)).rpartition(".")[2],
        parameters=_parameters(summary, definitions),
        weights_mb=model.weights_bytes / 1e6,
        epochs=summary.get("epochs"),
        training_s=summary.get("seconds"),
        training_device=str(summary.get("device", "")),
        history=history if history.is_file() else None,
        results=tuple(results),
        structures=structures(model, results, seed=seed),
    )


def _parameters(summary: Mapping[str, Any], definitions: Sequence[Mapping[str, Any]]) -> int | None:
    if "parameters" in summary:
        return int(summary["parameters"])
    if not all(definitions):
        return None
    try:
        return sum(parameter.numel() for one in definitions for parameter in build(one).parameters())
    except ModelUnavailable:  # a network that only its own runner knows
        return None


def _write(found: Comparison, options: argparse.Namespace) -> None:
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", found.json())
    rows = [
        {"model": one.name, "case": result.case, "seconds": result.seconds, "structure": name, **asdict(measures)}
        for one in found.contestants
        for result in one.results
        for name, measures in result.measures.items()
    ]
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False, lineterminator="\n")
    header, body = comparison_tables.paper_table(found)
    pd.DataFrame(body, columns=header).to_csv(folder / "table.csv", index=False, lineterminator="\n")
    (folder / "table.md").write_text(markdown_table(header, body) + "\n", encoding="utf-8")
    (folder / "table.tex").write_text(comparison_tables.latex_table(header, body) + "\n", encoding="utf-8")
    pictures = comparison_plots.save_all(found, folder)
    if options.markdown:
        page: Path = options.markdown
        comparison_tables.write_page(found, page, pictures, title=options.title)
