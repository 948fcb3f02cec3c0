"""Others' models, read without running them: what a folder or file holds, and what it would be as a bundle of ours.

Five forms are known: a bundle of ours, a MONAI bundle (monai_bundle.py translates it), a TorchScript or ONNX graph
or plain weights beside a small ``metadata.json``, and a results folder of nnU-Net v2 (nnunet_plans.py). ``read``
tells them apart and gives a Candidate; adding.py checks it, runs it once and puts it among the models.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medai.models.errors import ModelUnavailable
from medai.models.files import json_object
from medai.models.foreign import monai_bundle, nnunet_plans
from medai.models.format.archives import is_torchscript, read_checkpoint

WEIGHTS = (".safetensors", ".pt", ".pth", ".ts", ".ckpt", ".onnx")
RECIPE_KEYS = ("runner", "network_def", "feed", "inferer", "cleaning")
"""Keys of a small metadata.json's medai section that make up inference.json."""
PALETTE = ((0, 176, 240), (255, 176, 0), (0, 200, 120), (220, 90, 220), (240, 80, 80), (160, 160, 255), (200, 200, 60))
TEXTS = ("card.md", "README.md", "docs/README.md", "LICENSE", "docs/LICENSE", "LICENSE.txt")
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model as it would be added. ``metadata`` may still lack what a person must say."""

    kind: str
    """In words: "a MONAI bundle", "an ONNX graph", ..."""
    metadata: dict[str, Any] = field(hash=False)
    parameters: dict[str, Any] = field(hash=False)
    """``configs/inference.json``."""
    weights: Mapping[str, Path] = field(hash=False)
    """Place in the bundle -> the file, in the runner's order."""
    others: Mapping[str, Path] = field(default_factory=dict, hash=False)
    """What comes along: model card, licence, the original configuration."""
    remarks: tuple[str, ...] = ()


def read(path: Path, codes: Path | None = None) -> Candidate:
    """What ``path`` holds. ``codes`` is a file with the medai section, for folders that have none.

    Raises ModelUnavailable, saying what is missing or cannot be read.
    """
    path = path.expanduser().resolve()
    said = _said(codes)
    if path.is_file():
        return _single(path, _metadata_beside(path), said)
    if not path.is_dir():
        raise ModelUnavailable(f"{path.name} does not exist")
    if (path / "configs" / "metadata.json").is_file():
        return _bundle(path, said)
    if (path / "plans.json").is_file() and (path / "dataset.json").is_file():
        return _nnunet(path, said)
    found = sorted(item for item in path.iterdir() if item.is_file() and item.suffix in WEIGHTS)
    if len(found) != 1:
        raise ModelUnavailable(
            f"{path.name} is not a known kind of model: neither configs/metadata.json (MONAI bundle), nor plans.json "
            f"with dataset.json (nnU-Net v2), nor one weight file beside metadata.json (there are {len(found)})"
        )
    return _single(found[0], path / "metadata.json", said)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object (or YAML, by its safe loader). Raises ModelUnavailable."""
    if path.suffix not in (".yaml", ".yml"):
        return json_object(path)
    try:
        found = _yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path.name} is missing or cannot be read as YAML") from error
    if not isinstance(found, dict):
        raise ModelUnavailable(f"{path.name} must hold an object")
    return found


def _yaml(text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise ModelUnavailable("a YAML configuration needs PyYAML: pip install pyyaml, or write it as JSON") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError("not YAML") from error


# -- what a person says


def _said(codes: Path | None) -> dict[str, Any]:
    """The medai section of ``--codes FILE``: under that key, or the whole file."""
    if codes is None:
        return {}
    found = read_json(codes)
    section = found.get("medai", found)
    return dict(section) if isinstance(section, Mapping) else {}


def _metadata_beside(path: Path) -> Path:
    """NAME.json for NAME.onnx, else metadata.json in the same folder."""
    own = path.with_suffix(".json")
    return own if own.is_file() else path.parent / "metadata.json"


def _section(metadata: Mapping[str, Any], said: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The medai section: what the folder itself knows, under what its metadata says, under ``--codes``."""
    own = metadata.get("medai", {})
    if not isinstance(own, Mapping):
        raise ModelUnavailable("the medai section of metadata.json must be an object")
    return _merged(_merged(known, own), said)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key, segments by their number; anything else is replaced."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if key == "segments" and isinstance(old, list) and isinstance(value, list):
            found[key] = _merged_segments(old, value)
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            found[key] = _merged(old, value)
        else:
            found[key] = value
    return found


def _merged_segments(below: Sequence[Any], above: Sequence[Any]) -> list[Any]:
    known = {item.get("number"): item for item in below if isinstance(item, Mapping)}
    numbered = {item.get("number"): item for item in above if isinstance(item, Mapping)}
    return [_merged(known.get(number, {}), numbered.get(number, {})) for number in {**known, **numbered}]


def _made(
    kind: str,
    metadata: Mapping[str, Any],
    section: dict[str, Any],
    recipe: Mapping[str, Any],
    weights: Mapping[str, Path],
    root: Path,
    *,
    others: Mapping[str, Path] | None = None,
    remarks: Sequence[str] = (),
) -> Candidate:
    """A candidate for the segmenter ``network``: the recipe under what the section says of it."""
    over = {key: section.pop(key) for key in RECIPE_KEYS if key in section}
    section["segmenter"] = "network"
    for number, segment in enumerate(_segments(section)):
        segment.setdefault("colour", list(PALETTE[number % len(PALETTE)]))
    return Candidate(
        kind=kind,
        metadata={**metadata, "medai": section},
        parameters=_merged(recipe, over),
        weights=weights,
        others={**_texts(root), **(others or {})},
        remarks=tuple(remarks),
    )


def _segments(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = section.get("segments")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _texts(root: Path) -> dict[str, Path]:
    """Model card and licence, where they lie beside the model."""
    found: dict[str, Path] = {}
    for name in TEXTS:
        place = "docs/" + ("LICENSE" if "LICENSE" in name else "README.md")
        if (root / name).is_file():
            found.setdefault(place, root / name)
    return found


# -- the forms


def _bundle(path: Path, said: Mapping[str, Any]) -> Candidate:
    metadata = read_json(path / "configs" / "metadata.json")
    own = metadata.get("medai")
    if isinstance(own, Mapping) and "segmenter" in own:
        return _ours(path, metadata, said)
    return _monai(path, metadata, said)


def _ours(path: Path, metadata: Mapping[str, Any], said: Mapping[str, Any]) -> Candidate:
    """A bundle of our own making, such as ``medai-train export`` writes."""
    section = _section(metadata, said, {})
    weights = section.get("weights")
    files = weights.get("files") if isinstance(weights, Mapping) else None
    if not isinstance(files, Mapping) or not files:
        raise ModelUnavailable("medai.weights.files names no weight file of the bundle")
    return Candidate(
        kind="a bundle of Med-AI",
        metadata={**metadata, "medai": section},
        parameters=read_json(path / "configs" / "inference.json"),
        weights={str(name): path / str(name) for name in files},
        others=_plain_files(path, {*files, "configs/metadata.json", "configs/inference.json"}),
    )


def _plain_files(path: Path, but: set[str]) -> dict[str, Path]:
    """Everything else of a bundle that is data: texts, pictures, templates; no code and no further weights."""
    kept = (".md", ".txt", ".json", ".toml", ".csv", ".png", ".jpg", ".svg", ".gz", ".nii", ".tfm", "")
    found = {item.relative_to(path).as_posix(): item for item in sorted(path.rglob("*")) if item.is_file()}
    return {name: item for name, item in found.items() if name not in but and item.suffix in kept}


def _monai(path: Path, metadata: Mapping[str, Any], said: Mapping[str, Any]) -> Candidate:
    config_path = next(
        (
            found
            for name in ("inference.json", "inference.yaml", "inference.yml")
            if (found := path / "configs" / name).is_file()
        ),
        None,
    )
    if config_path is None:
        raise ModelUnavailable("configs/inference.json is missing: it says how the network is fed")
    config = read_json(config_path)
    weights = next(
        (
            found
            for name in ("safetensors", "pt", "pth", "ts")
            if (found := path / "models" / f"model.{name}").is_file()
        ),
        None,
    )
    if weights is None:
        raise ModelUnavailable("models/model.safetensors, model.pt and model.ts are all missing")
    weights, graph, remarks = _network_or_graph(config, weights)
    recipe, more = monai_bundle.translate(config, network=not graph)
    if graph:
        recipe["runner"] = "torchscript"
    if "axes" not in recipe["feed"]:
        more.append(
            "no Orientationd: give the axes of the training images as medai.feed.axes (MONAI's RAS is SAR here)"
        )
    if (path / "scripts").is_dir():
        more.append("scripts/ is code: neither copied nor run")
    return _made(
        "a MONAI bundle",
        metadata,
        _section(metadata, said, _known_to_monai(metadata)),
        recipe,
        {f"models/{weights.name}": weights},
        path,
        others={f"configs/original_{config_path.name}": config_path},
        remarks=[*remarks, *more],
    )


def _network_or_graph(config: Mapping[str, Any], weights: Path) -> tuple[Path, bool, list[str]]:
    """Weights for a network that we build, or a graph where that cannot be built and one is there."""
    if is_torchscript(weights):
        return weights, True, []
    try:
        monai_bundle.network_def(config)
    except ModelUnavailable as error:
        graph = weights.with_name("model.ts")
        if not graph.is_file():
            raise
        return graph, True, [f"models/model.ts is used: {error}"]
    return weights, False, []


def _known_to_monai(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What MONAI's metadata says of input and output: no codes, but names and numbers."""
    formats = metadata.get("network_data_format")
    image = _inner(formats, "inputs", "image")
    named = _inner(formats, "outputs", "pred", "channel_def")
    known: dict[str, Any] = {"segments": _named({int(k): str(v) for k, v in named.items() if str(k).isdigit()})}
    if isinstance(metadata.get("task"), str):
        known["title"] = metadata["task"]
    if isinstance(image.get("modality"), str):
        known["input"] = _input(image["modality"])
    return known


def _inner(value: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key, {}) if isinstance(value, Mapping) else {}
    return value if isinstance(value, Mapping) else {}


def _named(names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"number": number, "name": name} for number, name in sorted(names.items()) if number > 0]


def _input(modality: str) -> dict[str, Any]:
    modality = {"MRI": "MR", "PET": "PT"}.get(modality.upper(), modality.upper())
    return {"modalities": [modality], "unit": "HU" if modality == "CT" else "arbitrary"}


def _single(path: Path, beside: Path, said: Mapping[str, Any]) -> Candidate:
    """One file: a graph, or weights of a network that the metadata defines."""
    if path.suffix not in WEIGHTS:
        raise ModelUnavailable(f"{path.name} is not a known kind of weight file: {', '.join(WEIGHTS)}")
    if not beside.is_file() and not said:
        raise ModelUnavailable(
            f"beside {path.name} there is no metadata.json that says what it reads and draws; "
            "'medai models add --example' prints one"
        )
    metadata = read_json(beside) if beside.is_file() else {}
    section = _section(metadata, said, {})
    runner, kind = "network", "weights of a network"
    if path.suffix == ".onnx":
        runner, kind = "onnx", "an ONNX graph"
    elif path.suffix != ".safetensors" and is_torchscript(path):
        runner, kind = "torchscript", "a TorchScript graph"
    elif "network_def" not in section:
        raise ModelUnavailable(
            f"{path.name} holds weights alone: medai.network_def must define their network "
            '("_target_" and its parameters), or export the model as TorchScript or ONNX'
        )
    recipe = {"runner": runner}
    return _made(kind, metadata, section, recipe, {f"models/{path.name}": path}, path.parent)


def _nnunet(path: Path, said: Mapping[str, Any]) -> Candidate:
    plans, dataset = read_json(path / "plans.json"), read_json(path / "dataset.json")
    metadata = read_json(path / "metadata.json") if (path / "metadata.json").is_file() else {}
    section = _section(metadata, said, _known_to_nnunet(plans, dataset))
    folds = _folds(path)
    held = read_checkpoint(next(iter(folds.values())))
    axes = _inner(section, "feed").get("axes", nnunet_plans.STORED_AXES)
    recipe = nnunet_plans.translate(
        plans,
        dataset,
        _configuration(path, section.pop("configuration", None), held),
        mirror=held.get("inference_allowed_mirroring_axes") or () if isinstance(held, Mapping) else (),
        axes=str(axes),
    )
    if isinstance(section.get("feed"), Mapping):  # the axes are in the recipe now, transposed as the plans want
        section["feed"] = {key: value for key, value in section["feed"].items() if key != "axes"}
    return _made(
        "an nnU-Net v2 results folder",
        {"version": "1.0.0", **metadata},
        section,
        recipe,
        folds,
        path,
        others={"configs/plans.json": path / "plans.json", "configs/dataset.json": path / "dataset.json"},
        remarks=[f"training images are assumed to lie as {axes} (medai.feed.axes says otherwise)"],
    )


def _known_to_nnunet(plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    channels = nnunet_plans.channels(dataset)
    modality = "CT" if channels and channels[0].upper() == "CT" else "MR"
    return {
        "title": str(dataset.get("name") or plans.get("dataset_name") or ""),
        "input": _input(modality),
        "segments": _named(nnunet_plans.labels(dataset)),
    }


def _folds(path: Path) -> dict[str, Path]:
    """The checkpoint of each fold, ``checkpoint_final`` before ``checkpoint_best``."""
    found: dict[str, Path] = {}
    for fold in sorted(item for item in path.glob("fold_*") if item.is_dir()):
        checkpoint = next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None)
        if checkpoint is not None:
            found[f"models/{fold.name}.pth"] = checkpoint
    if not found:
        raise ModelUnavailable(f"no fold_* of {path.name} has {' or '.join(CHECKPOINTS)}")
    return found


def _configuration(path: Path, said: Any, held: Any) -> str:
    """Which configuration was trained: as said, as the checkpoint records, or as the folder's name tells."""
    recorded = _inner(held, "init_args").get("configuration")
    told = path.name.rsplit("__", 1)[-1] if "__" in path.name else "3d_fullres"
    return str(said or recorded or told)
