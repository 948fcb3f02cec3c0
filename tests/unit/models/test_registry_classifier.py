"""The registry gives models their guards, and the one classifier that answers them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medai.models.errors import ModelUnavailable
from medai.models.geometry import Geometry
from medai.models.networks.definition import build
from medai.models.registry import SHIPPED, Registry
from medai.models.volume import Volume
from medai.workers.guard import Watch

PARTS = ("head", "head_neck", "chest", "abdomen", "other")
NETWORK: dict[str, Any] = {
    "_target_": "monai.networks.nets.DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": len(PARTS) + 1,
    "init_features": 4, "growth_rate": 4, "block_config": [1, 1],
}  # fmt: skip


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """A copy of the shipped brain model's description, with changes to its ``medai`` section."""
    metadata = json.loads((SHIPPED / "mr_brain" / "configs" / "metadata.json").read_text())
    metadata["medai"].update(changes)
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A guarded model and a classifier with weights of chance, whose last layer is sure of an upright abdomen."""
    guarded = write(tmp_path / "guarded", {"guard": {"parts": ["head"], "least": 0.5}})
    (guarded / "configs" / "inference.json").write_text("{}")
    torch.manual_seed(0)
    network = build(NETWORK)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0, 9.0]))
    weights = tmp_path / "series_kind" / "models" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    save_file(network.state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    source = {"source": "bundle", "files": {"models/model.safetensors": digest}}
    kind = write(tmp_path / "series_kind", {"segmenter": "series_kind", "segments": [], "weights": source})
    (kind / "configs" / "inference.json").write_text(json.dumps({"network_def": NETWORK, "parts": PARTS}))
    return tmp_path


def volume() -> Volume:
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(4.0, 4.0, 4.0), shape=(5, 60, 60)
    )
    voxels = np.random.default_rng(0).normal(100, 20, geometry.shape).astype(np.float32)
    return Volume(voxels=voxels, geometry=geometry, modality="MR")


def test_the_classifier_is_loaded_once_and_answers_a_guard(models: Path) -> None:
    registry = Registry([models, SHIPPED], device="cpu")
    assert registry.guard("mr_brain") is None
    found = registry.guard("guarded")
    assert found is not None
    assert found.parts == ("head",)
    assert registry.classifier() is registry.classifier()
    check = Watch(registry, "warn").look("guarded", volume())
    assert check is not None
    assert check.passed is False
    assert check.text.startswith("the pixels look like abdomen (1.00), but the model guarded reads head")


def test_without_a_classifier_there_is_none(tmp_path: Path) -> None:
    assert Registry([tmp_path]).classifier() is None


def test_a_classifier_whose_weights_were_changed_does_not_run(models: Path) -> None:
    (models / "series_kind" / "models" / "model.safetensors").write_bytes(b"other weights")
    registry = Registry([models], device="cpu")
    with pytest.raises(ModelUnavailable, match="is not the file that this bundle was checked with"):
        registry.classifier()
    check = Watch(registry, "refuse").look("guarded", volume()) if registry.guard("guarded") else None
    assert check is not None
    assert check.passed is None
