"""Reading the configuration: what is wrong says which key, and nothing secret is repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medai.router.errors import SettingsError
from medai.router.settings import load as settings
from medai.router.settings.tables import Settings

Load = Callable[[str], Settings]
ROUTE = '[[routes]]\nname = "brain"\nmodel = "mr_brain"\n'


def test_an_unknown_key_is_named_with_the_nearest_known_one(load: Load) -> None:
    with pytest.raises(SettingsError, match=r"orthanc\.usernam: unknown key; did you mean 'username'\?"):
        load('[orthanc]\nusernam = "x"\n')
    with pytest.raises(SettingsError, match=r"routes\.0\.prioritty: unknown key; did you mean 'priority'\?"):
        load(ROUTE + 'prioritty = "stat"\n')


def test_every_fault_is_told_at_once_with_the_file(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load('[ris]\nport = 70000\n[worker]\nmax_attempts = 0\n[log]\nlevel = "loud"\n')
    text = str(caught.value)
    assert "given.toml" in text
    assert all(f"  {key}: " in text for key in ("ris.port", "worker.max_attempts", "log.level"))


def test_a_wrong_value_is_not_repeated_because_it_may_be_a_password(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load('[orthanc]\npassword = ["hunter2-planted"]\n')
    assert "orthanc.password" in str(caught.value)
    assert "planted" not in str(caught.value)


def test_the_environment_wins_over_the_file_key_by_key(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD", "from-outside")
    monkeypatch.setenv("MEDAI_WORKER__LEASE_S", "7.5")
    monkeypatch.setenv("MEDAI_MODELS__FOLDERS", '["/models"]')
    monkeypatch.setenv("MEDAI_MODELS__WEIGHTS__CT_LUNGS", "/weights")
    loaded = load('[orthanc]\nurl = "http://archive:8042"\npassword = "from-file"\n[worker]\nretry_s = 1.0\n')
    assert loaded.orthanc.url == "http://archive:8042"
    assert loaded.orthanc.password.get_secret_value() == "from-outside"
    assert (loaded.worker.lease_s, loaded.worker.retry_s) == (7.5, 1.0)
    assert loaded.models.folders == ("/models",)
    assert loaded.models.weights == {"ct_lungs": "/weights"}


def test_a_wrong_name_in_the_environment_is_an_error_too(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC__USERNAM", "x")
    with pytest.raises(SettingsError, match=r"orthanc\.usernam: unknown key; did you mean 'username'"):
        load("")


def test_an_environment_value_that_is_no_table_is_explained_without_its_text(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAI_ORTHANC", "planted-text")
    with pytest.raises(SettingsError, match=r"environment: .*orthanc.*JSON") as caught:
        load("")
    assert "planted" not in str(caught.value)


def test_broken_toml_and_a_file_in_another_encoding_are_explained(load: Load, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"given\.toml: not valid TOML: .*line 2"):
        load('routing = "first"\n[orthanc\n')
    (tmp_path / "latin.toml").write_bytes(b'[results]\ninstitution = "Universit\xe4t"\n')
    with pytest.raises(SettingsError, match="not valid TOML"):
        settings.load(str(tmp_path / "latin.toml"))


def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()

    def refuses(self: Path, **_: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuses)
    with pytest.raises(SettingsError, match=r"mine\.toml cannot be read: Permission denied"):
        settings.load(str(tmp_path / "mine.toml"))


def test_the_file_is_looked_for_where_the_caller_then_the_environment_then_the_folder_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("explicit.toml", "outside.toml", "medai.toml"):
        (tmp_path / name).write_text(f'[results]\ninstitution = "{name}"\n')
    assert settings.load().results.institution == "medai.toml"
    monkeypatch.setenv("MEDAI_CONFIG", "outside.toml")
    assert settings.load().results.institution == "outside.toml"
    assert settings.load("explicit.toml").results.institution == "explicit.toml"


def test_a_named_file_that_is_missing_is_an_error_not_a_silent_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist"):
        settings.load("nowhere.toml")
    monkeypatch.setenv("MEDAI_CONFIG", "gone.toml")
    with pytest.raises(SettingsError, match=r"gone\.toml does not exist"):
        settings.load()
