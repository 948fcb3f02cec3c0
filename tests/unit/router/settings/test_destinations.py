"""Destinations: a DICOM node and a FHIR server are told apart, what is neither is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medai.router.errors import SettingsError
from medai.router.settings.destinations import DicomDestination, FhirDestination
from medai.router.settings.tables import Settings

Load = Callable[[str], Settings]


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
