"""Destinations: a DICOM node and a FHIR server are told apart, what is neither is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medai.router.contract import Form
from medai.router.errors import SettingsError
from medai.router.settings.destinations import DicomDestination, FhirDestination, StowDestination
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


def test_a_dicomweb_server_and_the_forms_that_a_destination_wants_are_read(load: Load) -> None:
    loaded = load(
        '[destinations.pacs2]\nmodality = "PACS2"\n'
        '[destinations.web]\nstow_url = "https://pacs.example/dicom-web"\nusername = "u"\n'
        'results = ["seg-deflated", "pdf"]\nrejection_notes = false\n'
    )
    pacs, web = loaded.destinations["pacs2"], loaded.destinations["web"]
    assert isinstance(pacs, DicomDestination)
    assert (pacs.results, pacs.rejection_notes) == ((Form.SEG, Form.SR, Form.SC), True)
    assert isinstance(web, StowDestination)
    assert (web.results, web.rejection_notes, web.timeout_s) == ((Form.SEG_DEFLATED, Form.PDF), False, 30.0)
    assert Settings(destinations={"a": pacs, "b": web}).destinations == {"a": pacs, "b": web}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('timeout_s = 3\n', "destinations.x: a destination has exactly one of modality .*, stow_url .* and fhir_url"),
        ('modality = "P"\nfhir_url = "http://a"\n', "destinations.x: a destination has exactly one of modality"),
        ('stow_url = "http://a"\nfhir_url = "http://a"\n', "destinations.x: a destination has exactly one of"),
        ('stow_url = "http://a"\ncommitment = "off"\n', r"destinations\.x\.commitment: unknown key"),
        ('stow_url = "http://a"\ntoken = "t"\nusername = "u"\n', r"destinations\.x: give either token or username"),
        ('stow_url = "http://user:planted@a"\n', r"destinations\.x\.stow_url: String should match pattern"),
        ('modality = "P"\nresults = ["seg", "rt"]\n', r"destinations\.x\.results\.1: Input should be 'seg'.* or 'pdf'"),
        ('modality = "P"\nresults = []\n', r"destinations\.x\.results: .* at least 1 item"),
        ('modality = "P"\nresults = ["sr", "sr"]\n', r"destinations\.x: results names a form twice"),
        ('modality = "P"\nresults = ["seg", "seg-deflated"]\n', r"either seg or seg-deflated, not both"),
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
