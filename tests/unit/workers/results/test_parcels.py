"""Each destination's parcel holds the forms that it asks for and the archive lacks, and a note about what it gets."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from medai.router.contract import Form
from medai.router.files.parcel import Parcel, unpack
from medai.router.settings.destinations import DicomDestination, FhirDestination, StowDestination
from medai.router.settings.tables import Settings
from medai.workers.results.parcels import encode_parcels


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def parcels(make: Any, source: Any, **destinations: Any) -> dict[str, Parcel]:
    job = make.job(source, destinations=("archive", *destinations, "ris"))
    context = replace(make.context(source, job=job), settings=Settings(destinations=destinations))
    packed = encode_parcels(context, make.encode(source))
    assert packed == encode_parcels(context, make.encode(source))  # a retry packs the same bytes
    return {name: unpack(payload) for name, payload in packed.items()}


def opened(content: bytes | None) -> Dataset:
    return dcmread(io.BytesIO(content or b""))


def listed(note: bytes | None) -> set[str]:
    (study,) = opened(note).CurrentRequestedProcedureEvidenceSequence
    return {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_a_plain_node_has_a_note_about_the_three_objects_alone(make: Any, source: Any) -> None:
    found = parcels(make, source, pacs=DicomDestination(modality="P"), ehr=FhirDestination(fhir_url="http://e"))
    assert list(found) == ["pacs"]
    assert found["pacs"].forms == {}
    assert listed(found["pacs"].note) == {each.SOPInstanceUID for each in make.encode(source).values()}


def test_each_destination_has_its_own_forms_and_a_note_about_them(make: Any, source: Any) -> None:
    found = parcels(
        make, source,
        plan=DicomDestination(modality="P", results=(Form.RTSTRUCT,)),
        web=StowDestination(stow_url="http://w", results=(Form.SEG_DEFLATED, Form.LABELMAP, Form.RTSTRUCT)),
    )  # fmt: skip
    assert set(found["plan"].forms) == {Form.RTSTRUCT}
    assert set(found["web"].forms) == {Form.LABELMAP, Form.RTSTRUCT}
    assert found["web"].forms[Form.RTSTRUCT] == found["plan"].forms[Form.RTSTRUCT]
    rtstruct, labelmap = (opened(found["web"].forms[form]) for form in (Form.RTSTRUCT, Form.LABELMAP))
    assert listed(found["plan"].note) == {rtstruct.SOPInstanceUID}
    assert listed(found["web"].note) == {
        make.encode(source)["seg"].SOPInstanceUID, labelmap.SOPInstanceUID, rtstruct.SOPInstanceUID,
    }  # fmt: skip
    assert opened(found["web"].note).SOPInstanceUID != opened(found["plan"].note).SOPInstanceUID


def test_a_destination_that_wants_no_notes_and_no_other_forms_has_no_parcel(make: Any, source: Any) -> None:
    assert parcels(make, source, pacs=DicomDestination(modality="P", rejection_notes=False)) == {}
