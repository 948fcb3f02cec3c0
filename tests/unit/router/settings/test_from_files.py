"""A variable that ends in _FILE names a file that holds the value, as engines of containers hand secrets over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medai.router.errors import SettingsError
from medai.router.settings.tables import Settings

Load = Callable[[str], Settings]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("kept äpart\n", encoding="utf-8")
    return path


def test_a_password_comes_from_the_file_that_its_variable_names(
    load: Load, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD_FILE", str(secret))
    loaded = load('[orthanc]\nusername = "router"\npassword = "of the file"\n')
    assert loaded.orthanc.password.get_secret_value() == "kept äpart"
    assert loaded.orthanc.username == "router"


@pytest.mark.parametrize("table", ['[destinations.ehr]\nfhir_url = "https://ehr.example/fhir"\n'])
def test_so_do_addresses_that_hold_one_and_those_of_destinations(
    load: Load, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://medai:x@db/medai")
    monkeypatch.setenv("MEDAI_LEDGER__URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("MEDAI_DESTINATIONS__EHR__TOKEN_FILE", str(secret))
    loaded = load(table)
    assert loaded.ledger.url == "postgresql+psycopg://medai:x@db/medai"
    assert loaded.model_dump()["destinations"]["ehr"]["token"].get_secret_value() == "kept äpart"


def test_a_setting_that_is_itself_called_so_is_a_path(
    load: Load, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAI_BROKER__CA_FILE", str(secret))
    monkeypatch.setenv("MEDAI_MODELS__WEIGHTS__MINE_FILE", str(secret))
    loaded = load("")
    assert loaded.broker.ca_file == str(secret)
    assert loaded.models.weights == {"mine_file": str(secret)}


def test_the_value_in_the_file_is_checked_like_any(load: Load, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_RIS__PORT_FILE", str(secret))
    with pytest.raises(SettingsError, match=r"ris\.port: ") as caught:
        load("")
    assert "kept" not in str(caught.value)


def test_a_value_given_twice_is_refused(load: Load, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD_FILE", str(secret))
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD", "x")
    with pytest.raises(SettingsError, match="MEDAI_ORTHANC__PASSWORD and MEDAI_ORTHANC__PASSWORD_FILE are both set"):
        load("")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "can't be read: No such file"), (b"\n", "is empty"), (b"\xff\xfe", "no text in UTF-8"), (b"x" * 70_000, "too long")],
)  # fmt: skip
def test_a_file_that_holds_no_value_is_told_by_its_variable(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match=f"MEDAI_ORTHANC__PASSWORD_FILE: .*{why}"):
        load("")


def test_an_unknown_name_stays_one(load: Load, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC__PASWORD_FILE", str(secret))
    with pytest.raises(SettingsError, match=r"orthanc\.pasword_file: unknown key; did you mean 'password'"):
        load("")
