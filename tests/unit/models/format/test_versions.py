"""Models are put into a folder whole or not at all, and what they replace can be had back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medai.models.errors import ModelUnavailable
from medai.models.format.versions import VERSIONS, current, history, install, previous, remove, restore
from medai.models.registry import Registry


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """A complete bundle whose weights are a few bytes (nothing runs it here)."""

    def make(weights: bytes = b"one", version: str = "1.0.0") -> Path:
        folder = tmp_path / "made" / f"{version}-{weights.hex()}"
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "models").mkdir(exist_ok=True)
        (folder / "models" / "model.safetensors").write_bytes(weights)
        (folder / "configs" / "inference.json").write_text("{}")
        structure = {
            "number": 1,
            "name": "Lung",
            "category": ["91723000", "SCT", "Anatomical Structure"],
            "type": ["39607008", "SCT", "Lung"],
            "colour": [0, 176, 240],
            "plausible": {"ml": [100, 9000]},
        }
        ours = {
            "title": "Lung",
            "segmenter": "network",
            "input": {"modalities": ["CT"], "unit": "HU"},
            "segments": [structure],
            "weights": {"source": "bundle", "files": {"models/model.safetensors": ""}},
        }
        (folder / "configs" / "metadata.json").write_text(json.dumps({"version": version, "medai": ours}))
        return folder

    return make


def test_a_model_is_installed_once(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first, again = install(make_bundle(), folder, "lung"), install(make_bundle(), folder, "lung")
    assert (first.changed, again.changed) == (True, False)
    assert first.version == again.version == Registry((folder,)).card("lung").version
    assert [entry["action"] for entry in history(folder, "lung")] == ["install"]


def test_another_version_keeps_the_former_and_restore_brings_it_back(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    versions = [install(make_bundle(weights), folder, "lung").version for weights in (b"one", b"two", b"three")]
    assert [item.version for item in previous(folder, "lung")] == [versions[1], versions[0]]
    back = restore(folder, "lung", versions[0])
    assert (back.version, (back.path / "models" / "model.safetensors").read_bytes()) == (versions[0], b"one")
    assert [item.version for item in previous(folder, "lung")] == [versions[2], versions[1]]
    assert restore(folder, "lung", versions[2]).version == versions[2]
    assert [entry["replaced"] for entry in history(folder, "lung")] == [
        None,
        versions[0],
        versions[1],
        versions[2],
        versions[0],
    ]


def test_the_registry_does_not_list_earlier_versions(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for weights in (b"one", b"two"):
        install(make_bundle(weights), folder, "lung")
    assert Registry((folder,)).names() == ("lung",)


def test_a_removed_model_can_be_restored(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    version = install(make_bundle(), folder, "lung").version
    remove(folder, "lung")
    assert current(folder, "lung") is None
    assert restore(folder, "lung", version).version == version
    with pytest.raises(ModelUnavailable, match="brain is not among the models"):
        remove(folder, "brain")


def test_a_card_that_changes_without_the_weights_is_kept_under_a_number(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    for text in ("first", "second", "third"):
        bundle = make_bundle()
        (bundle / "card.md").write_text(text)
        version = install(bundle, folder, "lung").version
    assert [item.version for item in previous(folder, "lung")] == [f"{version}-2", version]


def test_an_unknown_version_names_those_there_are(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    version = install(make_bundle(), folder, "lung").version
    install(make_bundle(b"two"), folder, "lung")
    with pytest.raises(ModelUnavailable, match=f"there are {version.replace('+', '.')} in"):
        restore(folder, "lung", "9.9.9")


def test_what_is_no_bundle_changes_nothing(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    version = install(make_bundle(), folder, "lung").version
    broken = make_bundle(b"two")
    (broken / "models" / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"weights model\.safetensors are not at"):
        install(broken, folder, "lung")
    now = current(folder, "lung")
    assert now is not None
    assert now.version == version
    assert previous(folder, "lung") == []
    assert not list((folder / VERSIONS).glob(".new-*"))


@pytest.mark.parametrize("name", ["../up", "", "Lung", ".versions", "a/b"])
def test_a_name_that_is_a_path_is_refused(name: str, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be a model's name"):
        install(make_bundle(), tmp_path / "models", name)


def test_a_model_whose_weights_are_missing_can_be_replaced(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first = install(make_bundle(), folder, "lung")
    (first.path / "models" / "model.safetensors").unlink()
    install(make_bundle(b"two"), folder, "lung")
    assert len(previous(folder, "lung")) == 1
