"""``medai-train etl`` makes the project and runs it, where Mage is there."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from etl_cases import all_steps, require_what_fitting_sees

from medai.training.cli import main
from medai.training.config import TrainingConfig
from medai.training.errors import TrainingError
from medai.training.etl import command


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
