"""``medai-train export``: a MONAI bundle of a run, or of several that answer together.

What the machine knows (network, feed, split, seeds) comes from the run folder; what only a person can say (title,
codes, licence, intended use, limits) comes from a description in TOML. The same run and description give the same
bytes. ``bundle_of_run`` makes the plainest bundle, so that a run can be judged before it is described.
Next: card.py (the model card), judging/evaluate.py (judges the bundle).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medai.models.format.bundle import read_bundle
from medai.models.format.metadata import InputSpec
from medai.training.config import TrainingConfig
from medai.training.errors import TrainingError
from medai.training.export import card
from medai.training.export.description import Description, PlausibleText, SegmentText, read_description
from medai.training.export.metadata import CLASSIFIER, inference_json, metadata_json
from medai.training.export.weights import write_weights
from medai.training.output import answer, json_argument, portable
from medai.training.runs import Run, joint_recipe, joint_split, lineage, read_run, read_runs

MOST_BYTES = 10_000_000
"""A shipped model's weights stay below this (10 MB)."""


EXAMPLES = """\
examples:
  medai-train export runs/hippocampus --bundle bundles/mr_hippocampus --describe mr_hippocampus.description.toml
  medai-train export runs/fold-0 runs/fold-1 --bundle bundles/mr_hippocampus --describe d.toml     averaged
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train export``."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "run_folders",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="what `medai-train fit --out RUN` made; of several (folds, seeds) the answers are averaged",
    )
    parser.add_argument("--bundle", type=Path, required=True, metavar="FOLDER", help="the bundle to write")
    parser.add_argument(
        "--describe", type=Path, required=True, metavar="TOML", help="what a person must say about the model"
    )
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits (half the size)")
    parser.add_argument("--replace", action="store_true", help="overwrite an existing bundle")
    json_argument(parser, "what was written")


def run(options: argparse.Namespace) -> int:
    """Write the bundle and say where it is."""
    found = export(
        options.run_folders,
        options.bundle,
        read_description(options.describe),
        half=options.half,
        replace=options.replace,
        command=_command(options),
    )
    size = sum(path.stat().st_size for path in found.weights if path.suffix == ".safetensors")
    answer(
        options,
        {
            "bundle": str(options.bundle),
            "title": found.card.title,
            "version": found.card.version,
            "weights_bytes": size,
        },
        f"{options.bundle}: {found.card.title}, version {found.card.version}, weights {size / 1e6:.2f} MB\n"
        f"next: medai-train evaluate {options.bundle} --data DATA --split test --card",
    )
    return 0


def _command(options: argparse.Namespace) -> str:
    words = [
        "medai-train export " + " ".join(f"runs/{folder.resolve().name}" for folder in options.run_folders),
        f"--bundle {portable(options.bundle)}",
        f"--describe {portable(options.describe, 'configs')}",
        *(["--half"] if options.half else []),
    ]
    return " ".join(words)


def export(
    run_folders: Sequence[Path],
    bundle: Path,
    description: Description,
    *,
    half: bool = False,
    replace: bool = False,
    command: str = "",
) -> Any:
    """Write a bundle of one run, or of several whose answers are averaged, and read it back, whole or not at all.

    Returns the medai.models.format.bundle.Bundle. Raises TrainingError where something is there already, where the
    weights are too large or do not fit the network, or where 16 bits would change what is drawn.
    """
    runs = read_runs(run_folders)
    if bundle.exists() and not replace:
        raise TrainingError(f"{bundle} exists: choose another folder, or use --replace")
    if bundle.exists() and any(bundle.iterdir()) and not (bundle / "configs" / "metadata.json").is_file():
        raise TrainingError(f"{bundle} is not a bundle, so it is not replaced: choose another folder")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with _beside(bundle) as temporary:
        _write(runs, temporary, description, half=half, command=command, place=portable(bundle))
        read_bundle(temporary, None)
        if bundle.exists():
            shutil.rmtree(bundle)
        temporary.rename(bundle)
    return read_bundle(bundle, None)


@contextmanager
def _beside(bundle: Path) -> Iterator[Path]:
    """A folder of the bundle's name on its file system, gone again unless it was renamed away."""
    holder = Path(tempfile.mkdtemp(prefix=".export-", dir=bundle.parent))
    try:
        folder = holder / bundle.resolve().name
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(holder)


@contextmanager
def bundle_of_run(run_folder: Path) -> Iterator[Path]:
    """A run as a bundle in a temporary folder: its network with nothing that a person would add."""
    found = read_run(run_folder)
    with tempfile.TemporaryDirectory(prefix="medai-run-") as holder:
        folder = Path(holder) / found.config.name
        folder.mkdir()
        _write((found,), folder, plain_description(found.config), half=False, limit=False)
        yield folder


def plain_description(settings: TrainingConfig) -> Description:
    """A description that says nothing but the classes' names: for judging a run, never for shipping."""
    structure = ("91723000", "SCT", "Anatomical Structure")
    classifies = settings.network.name == "densenet_classifier"
    colours = [(255, 176, 0), (0, 176, 240), (230, 60, 60), (90, 200, 90), (180, 90, 220), (240, 130, 180)]
    segments = [
        SegmentText(
            number=number,
            name=name,
            category=structure,
            type=structure,
            colour=colours[(number - 1) % len(colours)],
            plausible=PlausibleText(ml=(0.0, 1e6), warn_at_edge=False),
        )
        for number, name in enumerate(settings.data.classes, start=1)
    ]
    return Description(
        title=settings.name,
        task="a run that was not exported",
        description="a run that was not exported",
        segmenter=CLASSIFIER if classifies else "network",
        licence="none",
        data_source="none",
        intended_use="none: to judge a run",
        limits=("everything",),
        input=InputSpec(
            modalities=frozenset({settings.data.modality}),
            unit="HU" if settings.data.modality == "CT" else "arbitrary",
            min_slices=1,
            max_spacing_mm=100.0,
        ),
        segments=() if classifies else tuple(segments),
    )


def _write(
    runs: Sequence[Run],
    folder: Path,
    description: Description,
    *,
    half: bool,
    command: str = "",
    place: str = "",
    limit: bool = True,
) -> None:
    found = runs[0]
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(exist_ok=True)
    files, rounding = write_weights(runs, folder, half=half)
    size = sum((folder / name).stat().st_size for name in files)
    if limit and size >= MOST_BYTES:
        raise TrainingError(
            f"the weights take {size / 1e6:.1f} MB; less than {MOST_BYTES / 1e6:.0f} MB are allowed. "
            + ("Make the network smaller" if half else "Store them in 16 bits (--half), or make the network smaller")
        )
    kept = joint_split(runs)
    _to_json(folder / "configs" / "inference.json", inference_json(joint_recipe(runs), description))
    _to_json(folder / "configs" / "metadata.json", metadata_json(found, description, files))
    _to_json(
        folder / "docs" / "split.json",
        {"dataset": kept.dataset, "seed": found.config.split.seed, **kept.sides},
    )
    configs = _write_configs(runs, folder / "docs")
    for inside, source in description.copies.items():
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    facts = card.Facts(
        name=folder.name,
        config=found.config,
        split=kept.sides,
        dataset=kept.dataset,
        summaries=[run.summary for run in runs],
        seconds=sum(float(run.summary.get("seconds", 0.0)) for run in lineage(runs)),
        configs=configs,
        place=place or folder.name,
        weights_bytes=size,
        half=half,
        rounding=rounding,
        command=command,
    )
    (folder / "docs" / "README.md").write_text(card.text(description, facts), encoding="utf-8")


def _write_configs(runs: Sequence[Run], docs: Path) -> dict[str, str]:
    """The configuration of each run and of those that it began from: run's name -> file in docs, in order of making.

    training.toml is the first run's; the others' files have the runs' names.
    """
    files = {}
    for run in lineage(runs):
        name = run.folder.resolve().name
        files[name] = "training.toml" if run is runs[0] else f"training_{name}.toml"
        (docs / files[name]).write_text(_portable(run.folder / "config.toml"), encoding="utf-8")
    return files


def _to_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _portable(path: Path) -> str:
    """The configuration without the places where data and first weights lay on one machine: runs are in runs/."""
    text = re.sub(r"(?m)^(\s*root\s*=\s*)([\"']).*\2", r"\1\2\2", path.read_text(encoding="utf-8"))
    return re.sub(r"(?m)^(\s*start\s*=\s*[\"']).*/(?=[^/\n]+[\"'])", r"\1runs/", text)
