"""The model card, ``docs/README.md`` of a bundle: written by ``export``, its figures filled in by ``evaluate --card``.

Nothing here measures anything: the text comes from the description, the numbers from the run and from evaluate.
Next: bundle.py, judging/evaluate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medai.models.format.own_card import BEGIN, END
from medai.training.config import TrainingConfig
from medai.training.errors import TrainingError
from medai.training.export.description import Description, SegmentText


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the machine knows of a model."""

    name: str
    config: TrainingConfig
    dataset: str
    split: Mapping[str, Sequence[str]] = field(hash=False)
    summaries: Sequence[Mapping[str, Any]] = field(hash=False)
    """Of each run whose answers are averaged."""
    configs: Mapping[str, str] = field(hash=False)
    """Each training -> its configuration beside the card, in the order in which they were made."""
    seconds: float
    """Of all trainings."""
    weights_bytes: int
    half: bool
    rounding: float | None
    """Share of voxels of a random image whose class the rounding to 16 bits changed."""
    place: str
    """The bundle's folder, as a reader elsewhere names it."""
    command: str
    """The export's own command."""


def text(description: Description, facts: Facts) -> str:
    """The card in Markdown."""
    parts = [
        f"# {facts.name}: {description.title}",
        f"**Purpose.** {description.description}",
        _data(description, facts),
        _network(facts, description.licence),
        "**Figures.** " + figures(""),
        _made(description, facts),
        _plausible(description),
        "**Limits.** " + " ".join(description.limits),
        f"**Intended use.** {description.intended_use}",
        description.notes.strip(),
        _references(description.references),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures(table: str) -> str:
    """The figures between their markers."""
    body = table or "Not judged yet: `medai-train evaluate BUNDLE --data DATA --split test --card` writes them here."
    return f"{BEGIN}\n{body}\n{END}"


def with_figures(path: Path, table: str) -> None:
    """Put figures into a card. Raises TrainingError for a card without the markers."""
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise TrainingError(f"{path.name} has no place for figures: put {BEGIN} and {END} where they belong")
    path.write_text(f"{before}{figures(table)}{after}", encoding="utf-8")


def _data(description: Description, facts: Facts) -> str:
    sides = ", ".join(
        f"{len(names)} {word}"
        for word, names in (
            ("trained the network", facts.split["train"]),
            ("chose its checkpoint", facts.split["validation"]),
            ("were held out as test", facts.split["test"]),
        )
    )
    split = facts.config.split
    fold = f", fold {split.fold} of {split.folds}" if split.folds > 1 else ""
    licence = f" Licence: {description.data_licence}." if description.data_licence else ""
    return (
        f"**Training data.** {description.data_source}{licence} Of the cases {sides} "
        f"(whole patients, drawn by seed {split.seed}{fold}; names in [split.json](split.json))."
    )


def _network(facts: Facts, licence: str) -> str:
    count = sum(int(summary.get("parameters", 0)) for summary in facts.summaries)
    size = f"{count:,} parameters, " if count else ""
    kind = "16 bits" if facts.half else "32 bits"
    many = f"The mean of {len(facts.summaries)} networks: " if len(facts.summaries) > 1 else ""
    names = dict.fromkeys(f"`{summary['network_def'].get('_target_', '')}`" for summary in facts.summaries)
    lines = [f"**Network.** {many}{', '.join(names)}, {size}weights in {kind}, {facts.weights_bytes / 1e6:.2f} MB."]
    if facts.rounding is not None:
        lines.append(f"Rounding changed the class of {facts.rounding:.4%} of the voxels of a random image.")
    if len(facts.configs) > 1:
        lines.append(f"{len(facts.configs)} trainings, {facts.seconds / 60:.1f} minutes in all.")
    elif "epochs" in (only := facts.summaries[0]):
        kept = f" (kept: epoch {only['best_epoch']}, counted from 0)" if "best_epoch" in only else ""
        lines.append(f"Trained for {only['epochs']} epochs{kept}, {facts.seconds / 60:.1f} minutes in all.")
    lines.append(f"Licence of the weights: {licence}.")
    lines.append(f"Seed {facts.config.seed}. Everything else is in {_listed(facts)}.")
    return " ".join(lines)


def _listed(facts: Facts) -> str:
    return ", ".join(f"[{file}]({file})" for file in facts.configs.values())


def _made(description: Description, facts: Facts) -> str:
    fits = [
        f"medai-train fit {facts.place}/docs/{file} --data {description.data_folder} --out runs/{name}"
        for name, file in facts.configs.items()
    ]
    commands = "\n".join(line for line in (*description.prepare, *fits, facts.command) if line)
    return f"**Made by** (seed {facts.config.seed}, split seed {facts.config.split.seed}):\n\n```sh\n{commands}\n```"


def _plausible(description: Description) -> str:
    if not description.segments:
        return ""
    rows = [_limits(segment) for segment in description.segments]
    return "\n".join(
        ["**Plausible volumes.**", "", "| structure | expected, ml | refused, ml |", "|---|---|---|", *rows]
    )


def _limits(segment: SegmentText) -> str:
    plausible = segment.plausible
    refused = f"{plausible.refuse_below_ml:g} or less"
    if plausible.refuse_above_ml is not None:
        refused += f", above {plausible.refuse_above_ml:g}"
    return f"| {segment.name} | {plausible.ml[0]:g} to {plausible.ml[1]:g} | {refused} |"


def _references(references: Sequence[str]) -> str:
    return "\n".join(["**References.**", "", *(f"- {line}" for line in references)]) if references else ""
