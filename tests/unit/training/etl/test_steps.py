"""The steps of the pipeline: the same data gives the same arrays, and each says what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from etl_cases import all_steps, pixels, require_what_fitting_sees

from medai.models.files import sha256_of
from medai.training import config
from medai.training.config import TrainingConfig
from medai.training.data.datasets import open_dataset, write_pair
from medai.training.data.prepare import prepare
from medai.training.data.splits import split
from medai.training.errors import DataError
from medai.training.etl.steps import Order, take


def test_exported_arrays_are_those_that_fitting_sees(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    require_what_fitting_sees(data, all_steps(data, tmp_path / "out", settings), settings)


def test_copies_stay_on_their_patients_side(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    exported = all_steps(data, tmp_path / "out", settings)
    again = config.read(exported / "config.toml")
    before, after = split(open_dataset(str(data)), settings.split), split(open_dataset(str(exported)), again.split)
    assert after.names()["validation"] == before.names()["validation"] != []
    assert after.names()["test"] == before.names()["test"]
    assert len(after.train) == 2 * len(before.train)


def test_prepared_data_is_not_scaled_a_second_time(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    exported = all_steps(data, tmp_path / "out", settings, copies=0)
    again = config.read(exported / "config.toml")
    assert again.data.classes == {"core": (1,), "shell": (2,)}
    for case in open_dataset(str(exported)).cases:
        prepared = prepare(case, case.load(), again)
        assert np.array_equal(prepared.image, pixels(exported / "images" / f"{case.name}.nii.gz"))


def test_the_manifest_holds_every_files_hash(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    exported = all_steps(data, tmp_path / "out", settings)
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["cases"] == 12
    assert manifest["feed"]["intensity"]["kind"] == "zscore"
    assert len(manifest["sha256"]) == 24
    assert all(sha256_of(exported / name) == digest for name, digest in manifest["sha256"].items())


def test_the_same_data_gives_the_same_manifest(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    one, two = (all_steps(data, tmp_path / name, settings) for name in ("one", "two"))
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()


def test_errors_in_the_data_stop_before_anything_is_resampled(
    data: Path, settings: TrainingConfig, tmp_path: Path
) -> None:
    case = open_dataset(str(data)).cases[0]
    write_pair(case.load(), "twin", data)
    take("load", Order(source=str(data), out=tmp_path / "load", config=settings))
    with pytest.raises(DataError, match="1 error in the data: twin: the same image as case0"):
        take("validate", Order(source=str(tmp_path / "load"), out=tmp_path / "validate", config=settings))
    assert (tmp_path / "validate" / "qa" / "report.html").is_file()


def test_a_step_whose_predecessor_did_not_finish_says_so(settings: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished step"):
        take("resample", Order(source=str(tmp_path), out=tmp_path / "resample", config=settings))
