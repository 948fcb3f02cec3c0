"""A training's one file: every fault is told with its place, and what is kept gives the same configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medai.training.config import parse, read, read_toml, to_toml
from medai.training.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[3] / "training" / "configs").glob("*.toml"))
LEAST: dict[str, Any] = {"name": "x", "data": {"classes": {"a": [1]}}, "budget": {"patch": [8, 8, 8]}}


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if "description" not in path.name], ids=lambda path: path.name
)
def test_a_shipped_configuration_is_the_same_when_it_is_written_and_read_back(path: Path, tmp_path: Path) -> None:
    config = read(path)
    (tmp_path / "again.toml").write_text(to_toml(config), encoding="utf-8")
    assert read(tmp_path / "again.toml") == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": {"patch": [8, 8, 8], "epoch": 3}}, "budget.epoch: there is no such key; did you mean epochs"),
        ({"colour": 1}, "colour: there is no such key$"),
        ({"data": {"classes": {}}}, "data.classes: .*at least 1 item"),
        ({"split": {"test": 1.0}}, "split.test: .*less than 1"),
        ({"inferer": {"roi": [8, 8]}}, "inferer: .*roi has 2 sides"),
        ({"feed": {"intensity": {"low": 9, "high": 3}}}, "feed.intensity: .*low .9. must be less than high .3."),
    ],
)
def test_a_fault_is_told_with_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"test:\n  {words}"):
        parse({**LEAST, **change}, where="test")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as told:
        parse({**LEAST, "nme": 1, "split": {"folds": 0}}, where="test")
    assert len(str(told.value).splitlines()) == 3
    assert "did you mean name" in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read: No such file"), (b"a = ", "is not TOML"), (b"\xff", "is not TOML")]
)
def test_a_file_that_is_none_is_a_plain_reason(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_toml(tmp_path / "a.toml")


def test_texts_with_quotes_and_umlauts_survive(tmp_path: Path) -> None:
    config = parse({**LEAST, "data": {"classes": {'the "ä" \\': [1]}}}, where="test")
    (tmp_path / "a.toml").write_text(to_toml(config), encoding="utf-8")
    assert read(tmp_path / "a.toml") == config
