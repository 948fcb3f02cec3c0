"""Configuration: what is right loads, what is wrong says which key, and nothing secret is repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medai.router.errors import SettingsError
from medai.router.settings import tables as settings
from medai.router.settings.tables import DicomDestination, FhirDestination, Settings

Load = Callable[[str], Settings]
ROUTE = '[[routes]]\nname = "brain"\nmodel = "mr_brain"\n'


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str) -> Settings:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return settings.load(str(path))

    return from_text


def test_an_empty_file_gives_the_defaults_and_a_folder_for_added_models_beside_it(load: Load, tmp_path: Path) -> None:
    loaded = load("")
    assert loaded.model_copy(update={"models": Settings().models}) == Settings()
    assert (loaded.models.adds_to, loaded.models.places) == (tmp_path / "medai-models", ())


def test_added_models_are_found_where_they_were_added(load: Load, tmp_path: Path) -> None:
    (tmp_path / "medai-models").mkdir()
    assert load("").models.places == (tmp_path / "medai-models",)
    configured = load('[models]\nfolders = ["/srv/models"]\n').models
    assert (configured.adds_to, configured.places) == (Path("/srv/models"), (Path("/srv/models"),))


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


def test_secrets_do_not_show_when_settings_are_printed(load: Load) -> None:
    loaded = load('[orthanc]\npassword = "hunter2-planted"\n[log]\nkey = "key-planted"\n')
    assert loaded.orthanc.password.get_secret_value() == "hunter2-planted"
    assert "planted" not in repr(loaded)


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ROUTE + ROUTE, "routes share the name 'brain'"),
        (
            ROUTE + 'destinations = ["archive", "pacs2"]\n',
            r"sends to 'pacs2', which is not defined: add \[destinations",
        ),
        (ROUTE + 'destinations = ["ris"]\n', "must list 'archive'"),
        ('[[routes]]\nname = "Two Words"\nmodel = "m"\n', r"routes\.0\.name"),
        ('[[routes]]\nname = "brain"\n', r"routes\.0\.model: Field required"),
    ],
)
def test_routes_that_cannot_work_are_refused(load: Load, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load(text)


def test_a_route_may_send_to_a_destination_that_is_defined(load: Load) -> None:
    loaded = load('[destinations.pacs2]\nmodality = "PACS2"\n' + ROUTE + 'destinations = ["archive", "pacs2"]\n')
    route = loaded.route("brain")
    assert route is not None
    assert route.destinations == ("archive", "pacs2")
    assert loaded.route("other") is None


def test_a_fhir_server_is_told_from_a_dicom_node_by_its_keys_and_takes_its_secret_from_outside(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAI_DESTINATIONS__EHR__TOKEN", "token-planted")
    loaded = load(
        '[destinations.pacs2]\nmodality = "PACS2"\n[destinations.ehr]\nfhir_url = "https://ehr.example/fhir"\n'
    )
    pacs, ehr = loaded.destinations["pacs2"], loaded.destinations["ehr"]
    assert isinstance(pacs, DicomDestination)
    assert (pacs.commitment, pacs.commitment_timeout_s) == ("auto", 30.0)
    assert isinstance(ehr, FhirDestination)
    assert ehr.token.get_secret_value() == "token-planted"
    assert "planted" not in repr(loaded)
    monkeypatch.delenv("MEDAI_DESTINATIONS__EHR__TOKEN")
    assert Settings(destinations={"a": pacs, "b": ehr}).destinations == {"a": pacs, "b": ehr}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('timeout_s = 3\n', "destinations.x: a destination has either modality .* or fhir_url .*, not both"),
        ('modality = "P"\nfhir_url = "http://a"\n', "destinations.x: a destination has either modality"),
        ('modality = "P"\ntimeout_s = 3\n', r"destinations\.x\.timeout_s: unknown key"),
        ('modality = "P"\ncommitmnt = "off"\n', r"destinations\.x\.commitmnt: unknown key; did you mean 'commitment'\?"),
        ('fhir_url = "http://a"\ntoken = "t"\nusername = "u"\n', r"destinations\.x: give either token or username"),
        ('fhir_url = "ehr.example/fhir"\n', r"destinations\.x\.fhir_url: String should match pattern"),
        ('fhir_url = "http://user:planted@ehr.example"\n', r"destinations\.x\.fhir_url: String should match pattern"),
    ],
)  # fmt: skip
def test_a_destination_that_is_neither_both_or_misspelt_is_refused(load: Load, table: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        load("[destinations.x]\n" + table)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ({}, "http://127.0.0.1:8042/dicom-web"),
        ({"url": "http://archive/orthanc/"}, "http://archive/orthanc/dicom-web"),
        ({"dicomweb_url": "https://pacs.example/wado/"}, "https://pacs.example/wado"),
    ],
)
def test_the_wado_root_follows_the_archive_unless_the_ris_reaches_it_elsewhere(
    given: dict[str, Any], root: str
) -> None:
    assert settings.OrthancSettings(**given).wado_root == root


def test_settings_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().ris.port = 1
