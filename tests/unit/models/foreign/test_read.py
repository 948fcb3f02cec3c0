"""Others' models, told apart by what lies in the folder; what a person says goes over what the folder knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import LUNG, section, write_json
from safetensors.torch import save_file

from medai.models.errors import ModelUnavailable
from medai.models.foreign.read import PALETTE, read, read_json


def weights(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(1)}, folder / name)
    return folder / name


NETWORK = {"network_def": {"_target_": "UNet"}}


def test_weights_with_a_network_are_a_candidate_with_its_texts(tmp_path: Path) -> None:
    path = weights(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "LICENSE.txt").write_text("a licence")
    write_json(tmp_path / "metadata.json", {"version": "2.0", "medai": section(**NETWORK)})
    found = read(tmp_path)
    assert found.kind == "weights of a network"
    assert found.weights == {"models/model.safetensors": path.resolve()}
    assert {place: file.name for place, file in found.others.items()} == {
        "docs/README.md": "README.md", "docs/LICENSE": "LICENSE.txt",
    }  # fmt: skip
    assert found.parameters["runner"] == "network"
    assert found.parameters["network_def"] == NETWORK["network_def"]
    assert found.metadata["version"] == "2.0"
    assert found.metadata["medai"]["segmenter"] == "network"
    assert not {"feed", "inferer", "network_def"} & found.metadata["medai"].keys(), "they are in the recipe now"


def test_a_file_has_metadata_of_its_own_name_before_that_of_the_folder(tmp_path: Path) -> None:
    path = weights(tmp_path, "spleen.safetensors")
    write_json(tmp_path / "metadata.json", {"version": "1", "medai": section(**NETWORK)})
    assert read(path).metadata["version"] == "1"
    write_json(tmp_path / "spleen.json", {"version": "2", "medai": section(**NETWORK)})
    assert read(path).metadata["version"] == "2"


def test_what_a_person_says_goes_over_the_folder_key_by_key_and_segment_by_number(tmp_path: Path) -> None:
    weights(tmp_path / "m")
    other = {**LUNG, "number": 2, "name": "Other"}
    write_json(tmp_path / "m" / "metadata.json", {"medai": section(**NETWORK, segments=[LUNG, other])})
    said = {"title": "Better", "segments": [{"number": 2, "name": "Left lung"}, {"number": 3, "name": "New"}]}
    codes = write_json(tmp_path / "codes.json", {"medai": said})
    ours = read(tmp_path / "m", codes).metadata["medai"]
    assert ours["title"] == "Better"
    assert [(one["number"], one["name"]) for one in ours["segments"]] == [(1, "Lung"), (2, "Left lung"), (3, "New")]
    assert ours["segments"][1]["type"] == other["type"]
    whole = write_json(tmp_path / "whole.json", said)
    assert read(tmp_path / "m", whole).metadata["medai"] == ours, "with or without the key"


def test_segments_without_a_colour_get_one_each(tmp_path: Path) -> None:
    weights(tmp_path)
    segments = [{**LUNG, "number": number} for number in (1, 2)]
    segments[1]["colour"] = [1, 2, 3]
    write_json(tmp_path / "metadata.json", {"medai": section(**NETWORK, segments=segments)})
    found: list[Any] = read(tmp_path).metadata["medai"]["segments"]
    assert [one["colour"] for one in found] == [list(PALETTE[0]), [1, 2, 3]]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), r"neither configs/metadata.json .*\(there are 0\)"),
        (("a.safetensors", "b.safetensors"), r"\(there are 2\)"),
    ],
)
def test_a_folder_must_hold_one_model(files: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in files:
        weights(tmp_path, name)
    with pytest.raises(ModelUnavailable, match=words):
        read(tmp_path)


def test_a_bundle_of_ours_brings_data_and_no_code(tmp_path: Path) -> None:
    ours = {"segmenter": "network", "weights": {"files": {"models/model.safetensors": ""}}}
    write_json(tmp_path / "configs" / "metadata.json", {"medai": ours})
    write_json(tmp_path / "configs" / "inference.json", {"runner": "network"})
    weights(tmp_path / "models")
    for name in ("docs/README.md", "scripts/train.py", "models/other.pt", "template.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read(tmp_path)
    assert found.kind == "a bundle of Med-AI"
    assert set(found.others) == {"docs/README.md", "template.nii.gz"}
    assert set(found.weights) == {"models/model.safetensors"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "a.json is missing or"),
        ("a.json", "[]", "a.json must hold a"),
        ("a.yaml", "a: [", "a.yaml is missing or cannot be read as YAML"),
        ("a.yaml", "- 1", "a.yaml must hold a"),
        ("a.yml", "!!python/object/apply:os.getcwd []", "a.yml is missing or cannot be read as YAML"),
    ],
)
def test_a_configuration_that_is_none_is_a_plain_reason(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelUnavailable, match=words):
        read_json(tmp_path / name)


def test_yaml_is_read_as_json_would_be(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [1, {b: c}]\n")
    assert read_json(tmp_path / "a.yaml") == {"a": [1, {"b": "c"}]}
