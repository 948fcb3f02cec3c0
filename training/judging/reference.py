"""``medai-train reference``: how the training set's images and masks are distributed, for the console to compare with.

Writes ``docs/reference.json`` into the bundle: of each quantity (models/segmenters/case_figures.py) the deciles, how
many training cases lie between them, and quantiles. No case is named. Next: router/reports/drift.py (what is done with
it).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle
from medai.models.format.own_card import REFERENCE
from medai.models.segmenters.case_figures import DEVICE, MANUFACTURER, Figure, case_figures, round_figure, titles
from medai.models.volume import Labels
from medai.training.cases import Example
from medai.training.errors import DataError, TrainingError
from medai.training.judging.case import load_case, require_known
from medai.training.judging.choice import choose
from medai.training.judging.model import Model, open_model, require_classes
from medai.training.judging.options import data_arguments, open_data
from medai.training.output import answer, json_argument, write_json
from medai.training.runs import SIDES
from medai.training.words import counted

EXAMPLES = """\
examples:
  medai-train reference models/bundles/ct_lungs --data lungs/
  medai-train reference models/bundles/mr_hippocampus --data mr_hippocampus_MSD --crops
  medai-train reference bundles/mine --data DATA --labels       the experts' masks: no network runs
"""
FEWEST = 10
"""Below that many cases there is no distribution to speak of."""
MOST_QUANTILES = 101
TIE = 0.005
"""A value that holds two deciles or more gets a bin of its own, this part of it wide to either side."""
CROPPED = ("input.slices", "input.extent_", "input.p")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train reference``."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=Path, help="the bundle's folder; its docs/ gets reference.json"
    )
    data_arguments(parser)
    parser.add_argument("--split", choices=[*SIDES, "all"], default="train", help="side of the bundle's split (train)")
    parser.add_argument(
        "--labels", action="store_true", help="measure the experts' masks, where the model's would take too long"
    )
    parser.add_argument(
        "--crops", action="store_true", help="cases are cut-outs of what the model reads: their size says nothing"
    )
    parser.add_argument("--weights", metavar="PATH", help="weights of a bundle that does not hold its own")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (0: torch's choice)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    json_argument(parser, "the reference")


def run(options: argparse.Namespace) -> int:
    """Measure every training case and write the file."""
    with open_model(
        options.bundle, device=options.device, threads=options.threads, weights=options.weights,
        draws=not options.labels,
    ) as model:  # fmt: skip
        if options.labels or options.crops:
            require_classes(model)
        dataset = open_data(options, model)
        chosen = choose(dataset, model.kept, side=options.split)
        print(f"{model.name}: {counted(len(chosen.cases), 'case')} of {dataset.name}, {chosen.reason}", file=sys.stderr)
        rows = []
        for case in tqdm(chosen.cases, desc="measuring", unit="case"):
            found = figures_of(model, case.name, load_case(case), options)
            rows += [found] if found else []
        made = reference(model.bundle, rows, dataset=dataset.name, options=options)
        write_json(options.bundle / REFERENCE, made)
    answer(options, made, f"{options.bundle / REFERENCE}: {counted(len(rows), 'case')}")
    return 0


def figures_of(model: Model, name: str, example: Example, options: argparse.Namespace) -> dict[str, Figure] | None:
    """One case's figures; None for one that the model refuses, as it would in service."""
    labels = example.labels
    if options.labels:
        require_known(name, labels, model.classes, others_are_background=options.ignore_labels)
    elif model.segmenter is None:
        raise TrainingError(f"{model.name} draws nothing: there is nothing to compare")
    else:
        try:
            labels = model.segmenter.draw(example.volume)
        except ModelRefused as error:
            tqdm.write(f"{name} is left out: {error}")
            return None
    if options.labels or options.crops:
        return _by_class(model, example, labels, drawn=not options.labels)
    numbers = [segment.number for segment in model.bundle.segments]
    return case_figures(
        example.volume, labels, numbers, manufacturer=example.manufacturer, device=example.device
    )  # fmt: skip


def _by_class(model: Model, example: Example, labels: Labels, *, drawn: bool) -> dict[str, Figure]:
    """A class's figures, for each of its segments: a crop shows one of them, and an expert tells no sides."""
    merged = np.zeros_like(labels)
    for place, entry in enumerate(model.classes.values(), start=1):
        merged[np.isin(labels, entry.segments if drawn else entry.labels)] = place
    places = list(range(1, len(model.classes) + 1))
    found = case_figures(
        example.volume, merged, places, manufacturer=example.manufacturer, device=example.device
    )  # fmt: skip
    out = {key: value for key, value in found.items() if key.startswith("input.")}
    for place, entry in enumerate(model.classes.values(), start=1):
        mine = {key.split(".")[2]: value for key, value in found.items() if key.startswith(f"output.{place}.")}
        out |= {f"output.{number}.{what}": value for number in entry.segments for what, value in mine.items()}
    return out


def reference(
    bundle: Bundle, rows: Sequence[Mapping[str, Figure]], *, dataset: str, options: argparse.Namespace
) -> dict[str, Any]:
    """What is written. Raises DataError where there are too few cases."""
    if len(rows) < FEWEST:
        raise DataError(f"{counted(len(rows), 'case')} do not make a distribution: at least {FEWEST} are needed")
    known = titles(bundle)
    quantities, kinds = {}, {}
    for key in known:
        values = [row[key] for row in rows if key in row]
        if key in (MANUFACTURER, DEVICE):
            if values:
                kinds[key] = {"title": known[key][0], "n": len(values), "counts": dict(Counter(map(str, values)))}
        elif len(values) >= FEWEST and not (options.crops and key.startswith(CROPPED)):
            quantities[key] = {"title": known[key][0], "unit": known[key][1], **distribution(map(float, values))}
    return {
        "form": 1,
        "fingerprint": bundle.card.fingerprint,
        "dataset": dataset,
        "side": options.split,
        "cases": len(rows),
        "outputs": "labels" if options.labels else "drawn",
        "notes": _notes(options, kinds),
        "quantities": quantities,
        "kinds": kinds,
    }


def _notes(options: argparse.Namespace, kinds: Mapping[str, Any]) -> list[str]:
    notes = []
    if options.crops:
        notes.append(
            "The training cases are cut-outs: number of slices, field of view and the image's values are not compared. "
            "A cut-out shows one side; it stands for both."
        )
    if options.labels:
        notes.append("Masks of the training set are the data set's labels, not the model's.")
    if not kinds:
        notes.append("The training set does not say which devices made it: manufacturer and device are not compared.")
    return notes


def distribution(values: Iterable[float]) -> dict[str, Any]:
    """Number, edges of the decile bins, how many values lie in each, and quantiles (all values where they are few).

    Bin i holds what lies from edge i-1 up to below edge i. A value that is several deciles at once lies in a bin of its
    own, so that smaller ones can be told from it, too.
    """
    ordered = np.sort(np.fromiter(values, dtype=np.float64))
    deciles = np.quantile(ordered, np.arange(1, 10) / 10, method="inverted_cdf")
    edges: list[float] = []
    for value, times in zip(*np.unique(deciles, return_counts=True), strict=True):
        width = abs(float(value)) * TIE or TIE
        mine = [value - width, value + width] if times > 1 else [value]
        edges += [round_edge(edge) for edge in mine if not edges or edge > edges[-1]]
    counts = np.bincount(np.searchsorted(edges, ordered, side="right"), minlength=len(edges) + 1)
    if len(ordered) > MOST_QUANTILES:
        places = np.linspace(0, 1, MOST_QUANTILES)
        ordered = np.quantile(ordered, places, method="inverted_cdf")
    return {
        "n": int(counts.sum()),
        "edges": edges,
        "counts": counts.tolist(),
        "quantiles": [round_figure(value) for value in ordered],
    }


def round_edge(value: float) -> float:
    """Seven digits: an edge that is a value must stay that value."""
    return float(f"{float(value):.7g}")
