"""The tables of medai.toml: their defaults, and what they refuse together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medai.router.errors import SettingsError
from medai.router.settings.tables import OrthancSettings, Settings

Load = Callable[[str], Settings]
ROUTE = '[[routes]]\nname = "brain"\nmodel = "mr_brain"\n'


def test_an_empty_file_gives_the_defaults_and_a_folder_for_added_models_beside_it(load: Load, tmp_path: Path) -> None:
    loaded = load("")
    assert loaded.model_copy(update={"models": Settings().models}) == Settings()
    assert (loaded.models.adds_to, loaded.models.places) == (tmp_path / "medai-models", ())


def test_added_models_are_found_where_they_were_added(load: Load, tmp_path: Path) -> None:
    (tmp_path / "medai-models").mkdir()
    assert load("").models.places == (tmp_path / "medai-models",)
    configured = load('[models]\nfolders = ["/srv/models"]\n').models
    assert (configured.adds_to, configured.places) == (Path("/srv/models"), (Path("/srv/models"),))


def test_secrets_do_not_show_when_settings_are_printed(load: Load) -> None:
    loaded = load('[orthanc]\npassword = "hunter2-planted"\n[log]\nkey = "key-planted"\n')
    assert loaded.orthanc.password.get_secret_value() == "hunter2-planted"
    assert "planted" not in repr(loaded)


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


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ({}, ""),
        ({"url": "http://archive/orthanc/"}, ""),
        ({"dicomweb_url": "https://pacs.example/wado/"}, "https://pacs.example/wado"),
    ],
)
def test_results_point_to_an_address_only_where_somebody_said_which(given: dict[str, Any], root: str) -> None:
    assert OrthancSettings(**given).wado_root == root


def test_a_message_is_kept_for_as_long_as_its_result_may_have_to_be_withdrawn(load: Load) -> None:
    with pytest.raises(SettingsError, match="messages_d is shorter than"):
        load("[retention]\nmessages_d = 6\n")
    assert load("[retention]\nmessages_d = 0\n").retention.messages_d == 0
    assert load("[retention]\nmessages_d = 1\n[ris]\nwithdraw_within_h = 24\n").retention.messages_d == 1


def test_settings_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().ris.port = 1


def test_kinds_of_messages_to_ignore_are_types_with_an_event_or_any(load: Load) -> None:
    assert load('[hl7_in]\nignore = ["ADT^A11", "SIU^*"]').hl7_in.ignore == ("ADT^A11", "SIU^*")


@pytest.mark.parametrize("kind", ["ADT", "ADT^", "*^*", "ADT^A1", "adt^a11", "ADT_A11", "ADT^A11^ADT_A01", ""])
def test_a_kind_of_message_that_no_message_has_is_refused(load: Load, kind: str) -> None:
    with pytest.raises(SettingsError, match="write TYPE"):
        load(f'[hl7_in]\nignore = ["{kind}"]')


@pytest.mark.parametrize("title", ["", " CT1", "CT1 ", "SEVENTEEN_LETTERS", "A\\\\B", "MÜLLER"])
def test_an_ae_title_that_dicom_does_not_allow_is_refused(load: Load, title: str) -> None:
    with pytest.raises(SettingsError, match="ae_title"):
        load(f'[announcements]\nae_title = "{title}"')


def test_an_ae_title_may_have_16_characters_and_spaces_within(load: Load) -> None:
    titles = '["CT 1", "A", "SIXTEEN_LETTERS_"]'
    loaded = load(f"[announcements]\ncalling_ae_titles = {titles}").announcements
    assert loaded.calling_ae_titles == ("CT 1", "A", "SIXTEEN_LETTERS_")


def test_workitems_name_routes_by_code_and_scheme(load: Load) -> None:
    route = '[[routes]]\nname = "lungs"\nmodel = "ct_lung"\n'
    loaded = load(f'[workitems]\nurl = "https://m/dicom-web"\n[workitems.routes]\n"A-1^99X" = "lungs"\n{route}')
    assert loaded.workitems.routes == {"A-1^99X": "lungs"}
    assert load("").workitems.url == ""
    with pytest.raises(SettingsError, match="'heart', which is not defined"):
        load(f'[workitems.routes]\n"A-1^99X" = "heart"\n{route}')


@pytest.mark.parametrize("key", ["A-1", "^99X", "A-1^", "A-1^99X^Meaning", "A^SEVENTEEN_LETTERS"])
def test_a_code_without_its_scheme_names_no_route(load: Load, key: str) -> None:
    with pytest.raises(SettingsError, match="workitems"):
        load(f'[workitems.routes]\n"{key}" = "lungs"')


@pytest.mark.parametrize("url", ["manager.example", "ftp://m", "https://user:word@m/dicom-web", "https://m/x?y"])
def test_the_address_of_a_worklist_is_that_of_a_web_server_without_a_login(load: Load, url: str) -> None:
    with pytest.raises(SettingsError, match="workitems.url"):
        load(f'[workitems]\nurl = "{url}"')
