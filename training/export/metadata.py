"""What the bundle of a run says of itself: ``configs/inference.json`` and ``configs/metadata.json``.

MONAI's keys, with our section ``medai`` (models/format/bundle.py). Next: bundle.py (who writes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medai.models.files import sha256_of
from medai.models.format.recipe import Recipe
from medai.training.config import TrainingConfig
from medai.training.errors import ConfigError
from medai.training.export.description import Description
from medai.training.runs import Run

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
CLASSIFIER = "series_kind"
"""The segmenter name of bundles that tell what a series shows instead of drawing."""


def inference_json(recipe: Recipe, description: Description) -> dict[str, Any]:
    """The recipe, and what the description adds for its segmenter (localisation, for instance)."""
    table: dict[str, Any] = recipe.model_dump(mode="json")
    twice = sorted(table.keys() & description.inference.keys())
    if twice:
        raise ConfigError(
            f"[inference] sets {', '.join(twice)}, which the training's configuration decides: change it there"
        )
    return {**table, **description.inference}


def metadata_json(found: Run, description: Description, files: Mapping[str, str]) -> dict[str, Any]:
    """All of it; ``files``: weight file in the bundle -> SHA-256."""
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
            "files": {**files, **{name: sha256_of(description.copies[name]) for name in description.hashed}},
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
