"""An AI outside in the settings: a route may name it, and sends what comes back to the archive alone."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from medai.router.settings.tables import Settings

THEIRS = {"theirs": {"stow_url": "https://ai.example/dicom-web", "token": "T"}}


def with_route(*destinations: str) -> Settings:
    route: dict[str, Any] = {"name": "away", "model": "theirs", "destinations": destinations}
    return Settings(routes=[route], outside=THEIRS)


def test_its_server_is_spoken_to_as_any_other() -> None:
    outside = with_route("archive").outside["theirs"]
    assert outside.server.stow_url == outside.stow_url
    assert outside.server.token.get_secret_value() == "T"


def test_its_answer_has_no_result_for_a_ris() -> None:
    with pytest.raises(ValidationError, match="reads outside"):
        with_route("archive", "ris")


def test_it_is_not_our_own_archive_whose_studies_would_never_end() -> None:
    with pytest.raises(ValidationError, match="own archive"):
        Settings(orthanc={"url": "http://pacs:8042"}, outside={"theirs": {"stow_url": "http://pacs:8042/dicom-web"}})
