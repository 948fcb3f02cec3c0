"""The metadata of a bundle is what MONAI asks for, and agrees with the training."""

from __future__ import annotations

import json
from pathlib import Path

import judging_cases as cases
import pytest
from judging_cases import exported

from medai.training.errors import ConfigError
from medai.training.export.bundle import export
from medai.training.export.description import read_description


def test_the_description_cannot_contradict_how_the_network_was_trained(tmp_path: Path) -> None:
    text = cases.DESCRIPTION.replace("[input]", "[inference]\nfeed = { axes = 'RAS' }\n[input]")
    cases.make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="sets feed, which the training's configuration decides"):
        export([tmp_path / "run"], tmp_path / "bundle", read_description(cases.write_description(tmp_path, text)))


def test_metadata_has_the_keys_that_monai_asks_for(tmp_path: Path) -> None:
    metadata = json.loads((exported(tmp_path) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    wanted = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"}
    wanted |= {"task", "description", "authors", "copyright", "network_data_format", "schema", "intended_use"}
    assert wanted <= metadata.keys()
    assert metadata["pytorch_version"] == "2.13.0"
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "shell",
        "2": "core",
    }
