"""Tables and the page of a comparison: Markdown, CSV, LaTeX and plain text from the same cells.

Next: comparison.py (what stands in them).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from medai.training.judging.comparison import Comparison, Contestant, Pair
from medai.training.output import aligned, markdown_table

Header: TypeAlias = list[str]
Body: TypeAlias = list[list[str]]
CAPTIONS: Mapping[str, str] = {
    "dice": "Dice of each case (dots), quartiles (box) and median (line), by structure.",
    "speed": "Mean Dice over structures against the median seconds a case; the dot's area is the number of parameters.",
    "training": "Training: loss of each epoch (left) and validation score (right).",
    "differences": "Paired differences in Dice: mean and bootstrap 95% interval; dots are cases.",
}


def _interval(figure: Mapping[str, Any], digits: int) -> str:
    if figure["mean"] is None:
        return "-"
    text = f"{figure['mean']:.{digits}f}"
    return f"{text} [{figure['ci95'][0]:.{digits}f}, {figure['ci95'][1]:.{digits}f}]" if figure["ci95"] else text


def paper_table(found: Comparison) -> tuple[Header, Body]:
    """One row for each model: accuracy by structure, then speed, memory, size and training."""
    header = ["model", "network"]
    for name in found.classes:
        header += [f"Dice, {name}", f"HD95, {name}, mm"]
    header += ["s/case", "Mvoxel/s", "memory, MB", "parameters", "weights, MB", "epochs", "training, min"]
    return header, [_row(one, found.classes) for one in found.contestants]


def _row(one: Contestant, classes: Sequence[str]) -> list[str]:
    row = [one.name, one.network]
    for name in classes:
        row += [_interval(one.structures[name]["dice"], 3), _interval(one.structures[name]["hd95_mm"], 2)]
    return [
        *row,
        f"{one.seconds_per_case:.3f}",
        f"{one.voxels_per_second / 1e6:.2f}",
        f"{one.memory_mb:.0f}",
        f"{one.parameters:,}" if one.parameters is not None else "-",
        f"{one.weights_mb:.2f}",
        str(one.epochs) if one.epochs is not None else "-",
        f"{one.training_s / 60:.1f}" if one.training_s is not None else "-",
    ]


DETAILS: Sequence[tuple[str, str, int]] = (
    ("dice", "Dice", 3),
    ("surface_dice", "surface Dice", 3),
    ("hd95_mm", "HD95, mm", 2),
    ("sensitivity", "sensitivity", 3),
    ("specificity", "specificity", 4),
    ("false_positive_rate", "false positive rate", 4),
    ("false_negative_rate", "false negative rate", 3),
    ("false_components", "false pieces", 2),
    ("volume_error_percent", "volume error, %", 1),
)


def detail_table(found: Comparison) -> tuple[Header, Body]:
    """One row for each structure and model: all accuracy."""
    header = ["structure", "model", *(title for _, title, _ in DETAILS), "no distance"]
    body = []
    for name in found.classes:
        for one in found.contestants:
            entry = one.structures[name]
            cells = [_interval(entry[key], digits) for key, _, digits in DETAILS]
            body.append([name, one.name, *cells, str(entry["missing"]["hd95_mm"])])
    return header, body


def pair_table(pairs: Sequence[Pair]) -> tuple[Header, Body]:
    """One row for each structure and pair of models."""
    header = ["structure", "pair", "difference in Dice", "effect", "p", "p (Holm)"]
    return header, [
        [
            pair.structure,
            f"{pair.first} - {pair.second}",
            f"{pair.difference:+.4f}" + (f" [{pair.ci95[0]:+.4f}, {pair.ci95[1]:+.4f}]" if pair.ci95 else ""),
            f"{pair.effect:+.2f}",
            _p(pair.p),
            _p(pair.p_holm),
        ]
        for pair in pairs
    ]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def latex_table(header: Header, body: Body) -> str:
    """With booktabs; each model is a column of figures, because rows of so many columns fit no page."""
    special = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "~": r"\textasciitilde{}"})
    columns = [header, *body]
    lines = [
        " & ".join(column[place].translate(special) for column in columns) + r" \\" for place in range(len(header))
    ]
    return "\n".join(
        [
            r"\begin{tabular}{l" + "r" * len(body) + "}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def text(found: Comparison) -> str:
    """For a terminal: a model a column, then the pairs."""
    header, body = paper_table(found)
    models = list(zip(header, *body, strict=True))
    pairs_header, pairs_body = pair_table(found.pairs)
    return "\n".join([aligned(models), "", aligned([pairs_header, *pairs_body]), *found.remarks])


def write_page(found: Comparison, page: Path, pictures: Mapping[str, Path], *, title: str) -> None:
    """The page, with its pictures copied to ``images/`` beside it."""
    images = page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, path in pictures.items():
        shutil.copyfile(path, images / f"comparison-{name}.png")
    page.write_text(markdown(found, list(pictures), title=title), encoding="utf-8")


def markdown(found: Comparison, pictures: Sequence[str], *, title: str) -> str:
    """The page's text."""
    shown = {name: f"![{CAPTIONS[name]}](images/comparison-{name}.png)\n\n*{CAPTIONS[name]}*" for name in pictures}
    parts = [
        f"# {title}",
        f"Written by `{found.command}`; do not edit. {len(found.cases)} cases of {found.dataset} ({found.reason}) that "
        f"trained no model and chose no checkpoint. Brackets hold bootstrap 95% intervals of the mean over cases. "
        f"Seconds and memory are of {found.threads} CPU threads{' and a GPU' if found.device == 'GPU' else ''}, "
        "the models drawing each case in turn; memory is what drawing took above the process at rest.",
        *(f"- {remark}" for remark in found.remarks),
        "## The table",
        markdown_table(*paper_table(found)),
        "## Accuracy in full",
        f"Surface Dice at {found.tolerance_mm:g} mm. What each figure means: "
        "[training.md](training.md#what-the-figures-mean).",
        markdown_table(*detail_table(found)),
        shown.get("dice", ""),
        "## Paired tests",
        "Wilcoxon's signed-rank test on the Dice of each case, two-sided; Holm's correction over all rows. The effect "
        "is the rank-biserial correlation: +1 when the first model is better in every case.",
        markdown_table(*pair_table(found.pairs)),
        shown.get("differences", ""),
        "## Speed against accuracy",
        shown.get("speed", ""),
        "## Training" if "training" in shown else "",
        shown.get("training", ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
