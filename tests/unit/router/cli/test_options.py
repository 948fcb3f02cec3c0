"""Which system a command means, and what a duration is."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from medai.router.cli import main as cli
from medai.router.cli import options
from medai.router.errors import SettingsError
from medai.router.ledger import Ledger


def chosen(*given: str) -> str:
    return options.load_settings(cli.make_parser().parse_args(["status", *given])).results.institution


def test_the_system_is_named_by_config_then_dir_then_what_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named.toml", "other/medai.toml", ".medai/site/medai.toml", "outside.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'[results]\ninstitution = "{name}"\n')
    assert chosen() == ".medai/site/medai.toml"
    assert chosen("--dir", "other") == "other/medai.toml"
    assert chosen("--dir", "other", "--config", "named.toml") == "named.toml"
    (tmp_path / "medai.toml").write_text('[results]\ninstitution = "here"\n')
    assert chosen() == "here"
    monkeypatch.setenv("MEDAI_CONFIG", "outside.toml")
    assert chosen() == "outside.toml"
    assert chosen("--dir", "other") == "other/medai.toml"


def test_the_directory_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_DIR", "/srv/medai")
    assert options.site_folder(argparse.Namespace(dir=None)) == Path("/srv/medai")
    assert options.site_folder(argparse.Namespace(dir=Path("x"))) == Path("x")


def test_a_directory_without_a_system_is_not_silently_another(ledger: Ledger) -> None:
    with pytest.raises(SettingsError, match="start a system there with 'medai up --dir other'"):
        chosen("--dir", "other")


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("15", 15), ("1.5h", 5400), ("0", 0)],
)
def test_a_duration_is_a_number_with_a_unit(text: str, value: float) -> None:
    assert options.parse_duration_s(text) == value


@pytest.mark.parametrize("text", ["", "h", "1w", "one hour", "-5h", "nan", "inf", "1 h 30 m"])
def test_a_duration_that_is_none_is_explained(text: str) -> None:
    with pytest.raises(SettingsError, match="write 90s, 30m, 24h or 7d"):
        options.parse_duration_s(text)
