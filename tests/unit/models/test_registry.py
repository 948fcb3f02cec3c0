"""Which models there are, and why one cannot run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.sr.codedict import codes
from safetensors.torch import save_file

from medai.models.confined.classifier import ConfinedSeriesKind
from medai.models.errors import ModelUnavailable
from medai.models.geometry import Geometry
from medai.models.networks.definition import build
from medai.models.registry import SHIPPED, Registry
from medai.models.segmenters.series_kind import SeriesKind
from medai.models.volume import Volume
from medai.workers.guard import Watch

SHIPPED_NAMES = ("ct_head_neck", "ct_lungs", "mr_brain", "mr_hippocampus", "series_kind")


@pytest.fixture
def own_bundle(tmp_path: Path) -> Callable[..., Path]:
    """A copy of ct_lungs under another name, with its metadata changed."""

    def make(weights: bytes = b"weights", **changes: object) -> Path:
        folder = tmp_path / "mine"
        shutil.copytree(SHIPPED / "ct_lungs", folder / "my_lungs")
        (folder / "my_lungs" / "net.pt").write_bytes(weights)
        path = folder / "my_lungs" / "configs" / "metadata.json"
        metadata = json.loads(path.read_text())
        metadata["medai"]["weights"] = {"source": "bundle", "files": {"net.pt": ""}}
        metadata["medai"]["weights"] = changes.pop("weights_are", metadata["medai"]["weights"])
        metadata["medai"].update(changes)
        path.write_text(json.dumps(metadata))
        return folder

    return make


@pytest.fixture
def foreign(own_bundle: Callable[..., Path]) -> Path:
    """A folder with a bundle whose weights are somewhere else, as the settings say."""
    digest = hashlib.sha256(b"right").hexdigest()
    weights = {"source": "configured", "files": {"net.pt": digest}, "origin": "a colleague", "licence": "MIT"}
    return own_bundle(weights_are=weights)


def test_the_shipped_models_are_there_and_can_run() -> None:
    assert Registry().names() == SHIPPED_NAMES
    assert all(one.available for one in Registry().describe())


def test_a_version_ends_with_the_weights_hash_and_needs_no_torch() -> None:
    script = (
        "import sys; from medai.models.registry import Registry; r = Registry(); r.describe(); "
        "print(r.card('mr_brain').version); "
        "assert not {'torch', 'deepbet', 'SimpleITK', 'pandas'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    card = Registry().card("mr_brain")
    assert result.stdout.strip() == card.version == f"1.0.0+{card.fingerprint[:8]}"


def test_missing_weights_say_what_to_set(foreign: Path) -> None:
    registry = Registry((foreign,))
    with pytest.raises(ModelUnavailable, match=r'under \[models\.weights\], my_lungs = "PATH"'):
        registry.load("my_lungs")
    lungs = registry.describe()[0]
    assert (lungs.name, lungs.available, lungs.card) == ("my_lungs", False, None)
    assert "net.pt (from a colleague)" in lungs.reason


def test_a_configured_path_that_holds_nothing_is_named(foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"weights net\.pt are not at"):
        Registry((foreign,), weights={"my_lungs": str(tmp_path)}).card("my_lungs")


def test_changed_weights_are_refused(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"something else")
    with pytest.raises(ModelUnavailable, match="is not the file that this bundle was checked with"):
        Registry((foreign,), weights={"my_lungs": str(tmp_path)}).load("my_lungs")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ModelUnavailable, match=r"Did you mean mr_brain\?"):
        Registry().metadata("mr_brian")


def test_a_bundle_of_one_s_own_is_found_and_hashed(own_bundle: Callable[..., Path]) -> None:
    registry = Registry((own_bundle(), SHIPPED))
    assert set(registry.names()) == {*SHIPPED_NAMES, "my_lungs"}
    assert registry.card("my_lungs").fingerprint == hashlib.sha256(b"weights").hexdigest()


def test_a_pickle_in_place_of_weights_is_not_run(own_bundle: Callable[..., Path], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    attack = b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR."
    with pytest.raises(ModelUnavailable, match=r"my_lungs: net\.pt"):
        Registry((own_bundle(attack),)).load("my_lungs")
    assert not trap.exists()


def test_an_unknown_segmenter_is_named(own_bundle: Callable[..., Path]) -> None:
    with pytest.raises(ModelUnavailable, match=r"no segmenter 'magic'; there are deepbet, network, hippocampus"):
        Registry((own_bundle(segmenter="magic"),)).load("my_lungs")


def test_a_typing_error_in_the_metadata_is_named(own_bundle: Callable[..., Path]) -> None:
    registry = Registry((own_bundle(inputs={}),))
    with pytest.raises(ModelUnavailable, match="my_lungs: the medai section"):
        registry.card("my_lungs")
    assert not registry.describe()[0].available


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_codes_are_those_of_the_standard_and_the_card_is_complete(name: str) -> None:
    metadata = json.loads((SHIPPED / name / "configs" / "metadata.json").read_text())
    concepts = (
        *(codes.cid7150.AnatomicalStructure, codes.SCT.Brain, codes.SCT.Lung, codes.SCT.Hippocampus),
        *(codes.SCT.BrainStem, codes.SCT.SpinalCord, codes.SCT.ParotidGland, codes.SCT.Mandible),
        *(codes.cid244.Bilateral, codes.SCT.Left, codes.SCT.Right, codes.SCT.Anterior, codes.SCT.Posterior),
    )
    known = {code.value for code in concepts}
    for segment in metadata["medai"]["segments"]:
        for part in ("category", "type", "modifier", "topography"):
            if part in segment or part in ("category", "type"):
                value, scheme, _ = segment[part]
                assert (value in known, scheme) == (True, "SCT")
    text = (SHIPPED / name / "docs" / "README.md").read_text()
    assert all(f"**{part}" in text for part in ("Purpose", "Limits", "Intended use"))
    assert "**Source" in text or "**Training data" in text
    assert metadata["medai"]["weights"]["licence"] in text


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
    classifier = registry.classifier()
    assert isinstance(classifier, ConfinedSeriesKind), "it does not ship"
    assert registry.classifier() is classifier
    here = SeriesKind(registry.metadata("series_kind"), torch.device("cpu"))
    assert classifier.classify(volume()) == here.classify(volume())
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


@pytest.mark.parametrize(("set_before", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_it_is_set_otherwise(set_before: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": set_before} if set_before else {}
    look = "import sys, os, medai.models.registry; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)

    assert said.stdout.split() == [expected, "False"], "it is read when torch is imported"
