"""``medai-train export``: a MONAI bundle of a run, or of several that answer together.

What the machine knows (network, feed, split, seeds) comes from the run folder; what only a person can say (title,
codes, licence, intended use, limits) comes from a description in TOML. The same run and description give the same
bytes. ``bundle_of_run`` makes the plainest bundle, so that a run can be judged before it is described.
Next: card.py (the model card), judging/evaluate.py (judges the bundle).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medai.models.format.bundle import InputSpec, read_bundle
from medai.models.format.recipe import Recipe
from medai.models.networks.definition import build
from medai.training.config import TrainingConfig
from medai.training.errors import ConfigError, TrainingError
from medai.training.export import card
from medai.training.export.description import Description, PlausibleText, SegmentText, read_description
from medai.training.output import answer, json_argument
from medai.training.runs import Run, joint_recipe, joint_split, lineage, read_run, read_runs

WEIGHTS = "models/model.safetensors"
MOST_BYTES = 10_000_000
"""A shipped model's weights stay below this (10 MB)."""
MOST_CHANGED = 0.001
"""Share of voxels whose class may change when weights are rounded to 16 bits."""
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
CLASSIFIER = "series_kind"
"""The segmenter name of bundles that tell what a series shows instead of drawing."""
Weights = dict[str, torch.Tensor]


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
        f"--bundle {card.portable(options.bundle)}",
        f"--describe {card.portable(options.describe, 'configs')}",
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
        _write(runs, temporary, description, half=half, command=command, place=card.portable(bundle))
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
    files, rounding = _write_weights(runs, folder, half=half)
    size = sum((folder / name).stat().st_size for name in files)
    if limit and size >= MOST_BYTES:
        raise TrainingError(
            f"the weights take {size / 1e6:.1f} MB; less than {MOST_BYTES / 1e6:.0f} MB are allowed. "
            + ("Make the network smaller" if half else "Store them in 16 bits (--half), or make the network smaller")
        )
    kept = joint_split(runs)
    _to_json(folder / "configs" / "inference.json", inference_json(joint_recipe(runs), description))
    _to_json(folder / "configs" / "metadata.json", _metadata(found, description, files))
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


def _write_weights(runs: Sequence[Run], folder: Path, *, half: bool) -> tuple[dict[str, str], float | None]:
    """The weights of each run in a file of its own: name in the bundle -> SHA-256; the most that rounding changed."""
    files, changes = {}, []
    for number, found in enumerate(runs, start=1):
        name = WEIGHTS if number == 1 else WEIGHTS.replace(".", f"_{number}.")
        weights, changed = _weights(found, half=half)
        save_file(weights, folder / name, metadata={"format": "pt"})
        files[name] = _sha256(folder / name)
        changes += [changed] if changed is not None else []
    return files, max(changes, default=None)


def _to_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _portable(path: Path) -> str:
    """The configuration without the places where data and first weights lay on one machine: runs are in runs/."""
    text = re.sub(r"(?m)^(\s*root\s*=\s*)([\"']).*\2", r"\1\2\2", path.read_text(encoding="utf-8"))
    return re.sub(r"(?m)^(\s*start\s*=\s*[\"']).*/(?=[^/\n]+[\"'])", r"\1runs/", text)


def _weights(found: Run, *, half: bool) -> tuple[Weights, float | None]:
    """The weights as they will be stored, and the share of voxels whose class rounding changes."""
    path = found.folder / "best.safetensors"
    try:
        exact = load_file(path)
        network = build(found.network_def)
        network.load_state_dict(exact)
    except safetensors.SafetensorError as error:
        raise TrainingError(f"{path.name} is damaged: {error}") from error
    except RuntimeError as error:
        raise TrainingError(f"{path.name} does not fit the network of summary.json: {error}") from error
    kept = {name: tensor.contiguous() for name, tensor in sorted(network.state_dict().items())}
    bad = [name for name, tensor in kept.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise TrainingError(f"the weights {bad[0]} are not finite: the training failed")
    if not half:
        return {name: _float32(tensor) for name, tensor in kept.items()}, None
    rounded = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    large = [name for name, tensor in rounded.items() if not torch.isfinite(tensor).all()]
    if large:
        raise TrainingError(f"the weights {large[0]} are too large for 16 bits: export without --half")
    changed = _changed(found, network, rounded)
    if changed > MOST_CHANGED:
        raise TrainingError(
            f"in 16 bits the network gives {changed:.2%} of the voxels of a random image another class "
            f"(at most {MOST_CHANGED:.1%} are accepted): export without --half"
        )
    return rounded, changed


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _changed(found: Run, network: nn.Module, rounded: Weights) -> float:
    """Share of outputs (voxels, or images) whose class differs when the weights are rounded; seeded noise as input."""
    inferer = found.config.inferer
    side = inferer.roi or found.config.budget.patch
    generator = torch.Generator().manual_seed(found.config.seed)
    noise = torch.randn((1, int(found.network_def.get("in_channels", 1)), *side), generator=generator)
    before = network.eval()
    after = build(found.network_def).eval()
    after.load_state_dict(rounded)
    with torch.inference_mode():
        one, other = (_classes(each(noise), inferer.activation) for each in (before, after))
    return float((one != other).float().mean())


def _classes(logits: torch.Tensor, activation: str) -> torch.Tensor:
    return logits > 0 if activation == "sigmoid" else logits.argmax(dim=1)


def inference_json(recipe: Recipe, description: Description) -> dict[str, Any]:
    """The recipe, and what the description adds for its segmenter (localisation, for instance)."""
    table: dict[str, Any] = recipe.model_dump(mode="json")
    twice = sorted(table.keys() & description.inference.keys())
    if twice:
        raise ConfigError(
            f"[inference] sets {', '.join(twice)}, which the training's configuration decides: change it there"
        )
    return {**table, **description.inference}


def _metadata(found: Run, description: Description, files: Mapping[str, str]) -> dict[str, Any]:
    versions = {str(key): str(value) for key, value in found.summary.get("versions", {}).items()}
    classes = ["background", *found.config.data.classes]
    return {
        "schema": SCHEMA,
        "name": description.title,
        "version": description.version,
        "changelog": description.changelog or {description.version: "first version"},
        "monai_version": versions.get("monai", "1.4.0"),
        "pytorch_version": versions.get("torch", versions.get("pytorch", "2.4.0")).partition("+")[0],
        "numpy_version": versions.get("numpy", "1.26.0"),
        "required_packages_version": {
            "connected-components-3d": "3.18",
            "fill_voids": "2.0",
            "safetensors": "0.4.3",
            "SimpleITK": "2.3",
        },
        "task": description.task,
        "description": description.description,
        "authors": description.authors,
        "copyright": description.copyright,
        "data_source": description.data_source,
        "data_type": description.data_type,
        "image_classes": description.image_classes or f"single channel, {found.config.data.modality}",
        "label_classes": description.label_classes
        or "single channel, " + ", ".join(f"{number} is {name}" for number, name in enumerate(classes) if number),
        "pred_classes": description.pred_classes or f"{len(classes)} channels, logits of {', '.join(classes)}",
        "intended_use": description.intended_use,
        "references": list(description.references),
        "network_data_format": _data_format(found, description, classes),
        "medai": _medai(found, description, files),
    }


def _data_format(found: Run, description: Description, classes: list[str]) -> dict[str, Any]:
    settings = found.config
    window = settings.feed.intensity.kind == "window"
    shape = list(settings.inferer.roi or settings.budget.patch)
    channels = int(found.network_def.get("out_channels", len(classes)))
    names = classes if channels == len(classes) else classes[1:]
    common = {"type": "image", "spatial_shape": shape, "dtype": "float32", "is_patch_data": bool(settings.inferer.roi)}
    return {
        "inputs": {
            "image": {
                **common,
                "format": "hounsfield" if description.input.unit == "HU" else "magnitude",
                "modality": settings.data.modality,
                "num_channels": int(found.network_def.get("in_channels", 1)),
                "value_range": [-1, 1] if window else [],
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                **common,
                "format": "classification" if description.segmenter == CLASSIFIER else "segmentation",
                "num_channels": channels,
                "value_range": [],
                "channel_def": {str(number): name for number, name in enumerate(names[:channels])},
            }
        },
    }


def _medai(found: Run, description: Description, files: Mapping[str, str]) -> dict[str, Any]:
    table: dict[str, Any] = {
        "title": description.title,
        "segmenter": description.segmenter,
        "input": {
            **description.input.model_dump(mode="json", exclude={"modalities"}),
            "modalities": sorted(description.input.modalities),
        },
        "segments": [segment.model_dump(mode="json", exclude_none=True) for segment in description.segments],
        "weights": {
            "source": "bundle",
            "origin": f"trained by this project with medai-train, configuration {found.config.name}",
            "licence": description.licence,
            "files": {**files, **{name: _sha256(description.copies[name]) for name in description.hashed}},
        },
    }
    evaluation = {name: entry.model_dump(mode="json") for name, entry in description.evaluation.items()}
    evaluation = evaluation or _evaluation(found.config, description)
    if evaluation:
        table["evaluation"] = {"classes": evaluation}
    if description.checks:
        table["checks"] = list(description.checks)
    if description.guard is not None:
        table["guard"] = description.guard.model_dump(mode="json")
    return table


def _evaluation(settings: TrainingConfig, description: Description) -> dict[str, Any]:
    """Which expert labels each segment answers to, where segments are the network's classes one by one."""
    if description.segmenter != "network":
        return {}
    return {
        name: {"labels": list(values), "segments": [number]}
        for number, (name, values) in enumerate(settings.data.classes.items(), start=1)
    }
