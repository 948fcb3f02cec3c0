"""The steps of the Mage pipeline give what the functions of fitting give, and the pipeline gives what the steps give."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from judging_cases import block_case

from medai.models.files import sha256_of
from medai.training import config
from medai.training.cli import main
from medai.training.config import TrainingConfig
from medai.training.data.augment import make_augmentation, patch_of
from medai.training.data.datasets import open_dataset, write_pair
from medai.training.data.prepare import prepare
from medai.training.data.splits import split
from medai.training.errors import DataError, TrainingError
from medai.training.etl import command
from medai.training.etl.steps import STEPS, Order, take

CONFIG = """\
name = "blocks"
seed = 5

[data]
classes = { core = [2], shell = [1] }

[split]
test = 0.25
validation = 0.25

[feed]
axes = "RAS"
spacing_mm = [2.0, 2.0, 2.0]
intensity = { kind = "zscore", low = 1.0, high = 99.0 }

[budget]
patch = [8, 8, 8]
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight cases of four patients."""
    folder = tmp_path / "data"
    for number in range(8):
        example = block_case(noise=number + 1, side=6 + number % 2)
        voxels = example.volume.voxels + np.random.default_rng(number).normal(0, 0.4, (16, 16, 16))
        volume = replace(example.volume, voxels=voxels.astype(np.float32))
        write_pair(replace(example, volume=volume), f"case{number}", folder)
    rows = [f"case{number},person{number // 2}" for number in range(8)]
    (folder / "patients.csv").write_text("\n".join(["name,patient", *rows, ""]), encoding="utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> TrainingConfig:
    """The configuration, also as config.toml."""
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    return config.read(tmp_path / "config.toml")


def all_steps(data: Path, out: Path, settings: TrainingConfig, *, copies: int = 1) -> Path:
    """Step after step; the last one's folder."""
    source = str(data)
    for name in STEPS:
        take(name, Order(source=source, out=out / name, config=settings, copies=copies))
        source = str(out / name)
    return out / "export"


def pixels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def require_what_fitting_sees(data: Path, exported: Path, settings: TrainingConfig) -> None:
    """Every exported array equals what the functions of fitting make of the source."""
    dataset = open_dataset(str(data))
    training = split(dataset, settings.split).train
    transform = make_augmentation(settings.augmentation, settings.budget, 3)
    copies = 0
    for case in dataset.cases:
        prepared = prepare(case, case.load(), settings)
        assert np.array_equal(pixels(exported / "images" / f"{case.name}.nii.gz"), prepared.image)
        assert np.array_equal(pixels(exported / "labels" / f"{case.name}.nii.gz"), prepared.target)
        copy = exported / "images" / f"{case.name}-copy1.nii.gz"
        assert copy.is_file() == (case in training)
        if case in training:
            image, target = patch_of(prepared, transform, (settings.seed, 1, training.index(case)))
            assert np.array_equal(pixels(copy), image[0].numpy())
            assert np.array_equal(pixels(exported / "labels" / copy.name), target.argmax(dim=0).numpy())
            copies += 1
    assert copies == len(training) == 4


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
    with pytest.raises(DataError, match="1 errors in the data: twin: the same image as case0"):
        take("validate", Order(source=str(tmp_path / "load"), out=tmp_path / "validate", config=settings))
    assert (tmp_path / "validate" / "qa" / "report.html").is_file()


def test_a_step_whose_predecessor_did_not_finish_says_so(settings: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished step"):
        take("resample", Order(source=str(tmp_path), out=tmp_path / "resample", config=settings))


def options(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"venv": None, "copies": 1, "keep": False, "config": Path("config.toml"), **more})


def test_a_run_without_mages_environment_names_the_command(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run medai-train etl setup"):
        command.run_pipeline(str(data), tmp_path / "out", options(venv=tmp_path / "none"))


def test_an_archives_login_is_on_no_command_line(
    tmp_path: Path, settings: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = tmp_path / "venv"
    environment.mkdir()
    (environment / "complete").write_text("", encoding="utf-8")
    seen: dict[str, object] = {}

    def start(words: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
        seen.update(words=words, **more)
        return subprocess.CompletedProcess(words, 1)

    monkeypatch.setattr(command.subprocess, "run", start)
    monkeypatch.setenv("HTTPS_PROXY", "http://nowhere")
    given = options(venv=environment, config=tmp_path / "config.toml")
    with pytest.raises(TrainingError, match="the pipeline stopped"):
        command.run_pipeline("http://me:s3cret@host:8042", tmp_path / "out", given)
    assert "s3cret" not in " ".join(seen["words"])  # type: ignore[arg-type] # a list of words
    variables = seen["env"]
    assert isinstance(variables, dict)
    assert variables["MEDAI_ORTHANC__PASSWORD"] == "s3cret"
    assert variables["HOME"].startswith(str(tmp_path))
    assert "HTTPS_PROXY" not in variables


def test_the_output_must_be_empty(data: Path, settings: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "complete").write_text("", encoding="utf-8")
    with pytest.raises(TrainingError, match="is not empty"):
        command.run_pipeline(str(data), data, options(venv=tmp_path / "venv"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_mage_runs_the_pipeline_to_the_same_arrays(
    data: Path, settings: TrainingConfig, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real Mage, in its own environment (made once, kept in .medai/), without a network where that can be had."""
    monkeypatch.chdir(project_root)
    environment = command.default_venv().resolve()
    assert main(["etl", "setup", "--venv", str(environment)]) == 0
    out = tmp_path / "out"
    offline = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*offline, "true"], capture_output=True, check=False).returncode:
        offline = []
    words = ["etl", "run", "--data", str(data), "--out", str(out), "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(
        [*offline, sys.executable, "-m", "medai.training.cli", *words, "--venv", str(environment)],
        capture_output=True,
        check=False,
        cwd=project_root,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:] + done.stderr.decode()[-3000:]
    require_what_fitting_sees(data, out, settings)
    steps = all_steps(data, tmp_path / "steps", settings)
    assert (out / "manifest.json").read_bytes() == (steps / "manifest.json").read_bytes()
    assert (out / "qa" / "report.html").is_file()
    assert not (out / "work").exists()
