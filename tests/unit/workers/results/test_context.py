"""What SR, ORU and FHIR take from order and images in the same way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from medai.router.contract import Order


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def changed(make: Any, source: Any, **values: object) -> Any:
    return replace(source, headers=tuple(make.copy(header, **values) for header in source.headers))


def test_the_patient_is_the_orders_with_its_authority_and_else_the_images(make: Any, source: Any) -> None:
    order = Order(placer="P", patient_id="0815", patient_id_authority="H&1.2&ISO")
    assert make.context(source, job=make.job(source, order=order)).patient == ("0815", "H&1.2&ISO")
    silent = make.context(source, job=make.job(source, order=Order(placer="P", patient_id_authority="X")))
    assert silent.patient == ("MRN-77|1", "HOSPITAL"), "an authority without a number is none"
    assert make.context(changed(make, source, PatientID=" ", IssuerOfPatientID="")).patient == ("", "")


@pytest.mark.parametrize(
    ("ordered", "imaged", "expected"),
    [("A42", "B", "A42"), ("X" * 17, "B", "B"), ("", "B", "B"), ("", " ", ""), ("X" * 16, "B", "X" * 16)],
)
def test_an_accession_is_the_first_that_dicom_can_hold(
    ordered: str, imaged: str, expected: str, make: Any, source: Any
) -> None:
    job = make.job(source, order=Order(placer="P", accession=ordered))
    assert make.context(changed(make, source, AccessionNumber=imaged), job=job).accession == expected


def test_a_procedure_is_what_was_ordered_then_what_the_images_name_then_the_kind_of_imaging(
    make: Any, source: Any
) -> None:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "77", "99X", "Chest"
    coded = changed(make, source, ProcedureCodeSequence=[code])
    words = make.job(source, order=Order(placer="P", procedure=("", "words only", "")))
    assert make.context(coded, job=words).procedure == ("", "words only", "")
    assert make.context(coded, job=make.job(source, order=Order(placer="P"))).procedure == ("77", "Chest", "99X")
    assert make.context(source).procedure == ("25045-6", "CT unspecified body region", "LN")
    assert make.context(source).ordered_procedure is None
    incomplete = Dataset()
    incomplete.CodeValue = "77"
    assert make.context(changed(make, source, ProcedureCodeSequence=[incomplete])).procedure[2] == "LN"


def test_moments_are_on_the_clock_of_the_images(make: Any, source: Any) -> None:
    shifted = make.context(changed(make, source, TimezoneOffsetFromUTC="+0530"))
    assert shifted.moment == shifted.created_at
    assert shifted.moment.utcoffset() == timedelta(hours=5, minutes=30)
    assert make.context(source).moment is make.context(source).created_at


def test_uids_are_the_jobs_at_every_attempt(make: Any, source: Any) -> None:
    assert make.context(source).uids == make.context(source).uids
    other = make.context(source, job=make.job(source, job_id=make.other_job_id))
    assert not set(vars(other.uids).values()) & set(vars(make.context(source).uids).values())
