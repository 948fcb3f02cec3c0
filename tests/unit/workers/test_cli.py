"""The commands' ends: what they print, where, and the exit code that a script relies on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ball_model import SPEC, BallModel, BallModels
from dicom_cases import PLANTED, study_files

from medai.router import log as logs
from medai.router.errors import TemporaryError
from medai.router.ledger import Ledger
from medai.router.settings.tables import Settings
from medai.workers import app, cli, process


class Models(BallModels):
    """Takes a registry's place; knows one model, which reads MR."""

    def __init__(self, *_folders: Any, **_options: Any) -> None:
        super().__init__()

    name, available, spec = "mr_brain", True, SPEC

    def names(self) -> tuple[str, ...]:
        return ("mr_brain",)

    def describe(self) -> tuple[Models, ...]:
        return (self,)

    def metadata(self, name: str) -> BallModel:
        return self.model


@pytest.fixture(autouse=True)
def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "Registry", Models)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for number, data in enumerate(study_files("a")):
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


def test_a_good_reading_ends_with_0_and_names_its_numbers_and_files(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["process", str(study), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "Brain" in printed.out
    for name in ("seg.dcm", "sr.dcm", "sc.dcm", "key_image.png", "oru.hl7"):
        assert str(tmp_path / "out" / name) in printed.out
    assert "inferred" in printed.err
    assert not any(value in printed.out + printed.err for value in PLANTED.values())


def test_json_on_standard_output_is_json_alone(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["process", str(study), "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["measurements"][0]["unit"] == "ml"


def test_a_reading_that_fails_ends_with_1_and_its_reason_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["process", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"medai: {tmp_path / 'no'} does not exist\n"


def test_a_reading_that_fails_gives_its_reason_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["process", str(tmp_path / "no"), "--out", str(tmp_path / "out"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {"ok": False, "reason": f"{tmp_path / 'no'} does not exist"}


def test_what_may_come_back_ends_with_1_too(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_arguments: Any, **_options: Any) -> dict[str, Any]:
        raise TemporaryError("the weights are not there")

    monkeypatch.setattr(process, "process", away)
    assert cli.main(["process", str(study), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "medai: the weights are not there\n"


@pytest.mark.parametrize("command", [["process", "x", "--out", "y"], ["worker"]])
def test_a_wrong_configuration_ends_with_2_and_names_the_key(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "medai.toml"
    config.write_text("[worker]\nfetch_thread = 3\n")
    assert cli.main([*command, "--config", str(config)]) == 2
    assert "worker.fetch_thread" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["process", "x"],
        ["process", "x", "--out", "y", "--series", "one"],
        ["worker", "--queue", "tpu"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: medai" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "example"),
    [("worker", "medai worker --config medai.toml --queue gpu"), ("process", "medai process STUDY/ --out RESULTS/")],
)
def test_help_shows_an_example(command: str, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert example in capsys.readouterr().out


def test_every_example_of_process_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["process", "--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  medai process")]
    assert len(lines) == 3
    for words in lines:
        assert cli.make_parser().parse_args(words[1:]).run is cli.cmd_process


def test_a_worker_starts_with_a_ready_ledger_its_directorys_settings_and_the_queue_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    (tmp_path / "medai.toml").write_text(f'[ledger]\nurl = "{url}"\n')
    started: list[tuple[str, str | None, str]] = []

    def run_worker(settings: Settings, *, config: str | None) -> int:
        started.append((settings.worker.queue, config, os.environ["MEDAI_WORKER__QUEUE"]))
        return 0

    monkeypatch.setenv("MEDAI_WORKER__QUEUE", "cpu")  # so that it is put back afterwards
    monkeypatch.setattr(app, "run_worker", run_worker)
    monkeypatch.setattr(logs, "configure", lambda **_options: None)
    assert cli.main(["worker", "--dir", str(tmp_path), "--queue", "gpu"]) == 0
    assert started == [("gpu", str(tmp_path / "medai.toml"), "gpu")]
    ledger = Ledger(url)
    assert ledger.studies.find("none") is None
    ledger.close()
