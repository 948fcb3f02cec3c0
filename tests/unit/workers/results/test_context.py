"""Whose study it is, under which number, and what was done: the order's word, else the images'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from medai.router.contract import Order
from medai.workers.results.context import Context
from medai.workers.results.identity import ResultUids

ORDER = Order(
    placer="ORD1",
    accession="A42",
    patient_id="0815",
    patient_id_authority="HOSP&1.2&ISO",
    procedure=("CT1", "CT chest", "L"),
)


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source(shape=(8, 40, 48))


def context(make: Any, source: Any, order: Order | None = None, **header: Any) -> Context:
    """With other values in the first header, which speaks for the study; None takes one out."""
    first = make.copy(source.headers[0], **header)
    for keyword in (keyword for keyword, value in header.items() if value is None):
        delattr(first, keyword)
    changed = replace(source, headers=(first, *source.headers[1:]))
    found: Context = make.context(changed, job=make.job(changed, order=order))
    return found


def code(value: str, scheme: str, meaning: str | None = None) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    if meaning is not None:
        item.CodeMeaning = meaning
    return item


def test_the_patient_is_the_orders_with_the_orders_authority(make: Any, source: Any) -> None:
    assert context(make, source, ORDER).patient == ("0815", "HOSP&1.2&ISO")
    assert context(make, source, replace(ORDER, patient_id_authority="")).patient == ("0815", "")


@pytest.mark.parametrize("order", [None, replace(ORDER, patient_id="")])
def test_else_the_patient_is_the_images_with_the_images_issuer(make: Any, source: Any, order: Order | None) -> None:
    assert context(make, source, order, PatientID=" M1 ").patient == ("M1", "HOSPITAL")
    assert context(make, source, order, PatientID=None, IssuerOfPatientID=None).patient == ("", "")
    assert context(make, source, order, PatientID="").patient == ("", "HOSPITAL")


@pytest.mark.parametrize(
    ("ordered", "imaged", "accession"),
    [
        ("A42", "B7", "A42"),
        ("", "B7", "B7"),
        (None, " B7 ", "B7"),
        ("X" * 16, "B7", "X" * 16),
        ("X" * 17, "B7", "B7"),
        ("X" * 17, "Y" * 17, ""),
        (None, "", ""),
        (None, None, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:The value length")
def test_the_accession_number_is_the_first_that_fits(
    make: Any, source: Any, ordered: str | None, imaged: str | None, accession: str
) -> None:
    order = None if ordered is None else replace(ORDER, accession=ordered)
    assert context(make, source, order, AccessionNumber=imaged).accession == accession


def test_the_procedure_is_what_was_ordered(make: Any, source: Any) -> None:
    assert context(make, source, ORDER).ordered_procedure == ("CT1", "CT chest", "L")
    assert context(make, source, ORDER).procedure == ("CT1", "CT chest", "L")
    assert context(make, source, replace(ORDER, procedure=("", "CT chest", ""))).procedure == ("", "CT chest", "")


@pytest.mark.parametrize("order", [None, replace(ORDER, procedure=("", "", ""))])
def test_else_the_procedure_is_the_first_complete_code_of_the_images(
    make: Any, source: Any, order: Order | None
) -> None:
    done = [code("P1", "99X", "done")]
    asked = [code("", "99X", "no value"), code("R0", "", "no scheme"), code("R1", "99X"), code("R2", "99X", "second")]
    assert context(make, source, order).ordered_procedure is None
    assert context(make, source, order, ProcedureCodeSequence=done).procedure == ("P1", "done", "99X")
    both = context(make, source, order, RequestedProcedureCodeSequence=asked, ProcedureCodeSequence=done)
    assert both.procedure == ("R1", "", "99X")
    unusable = context(make, source, order, RequestedProcedureCodeSequence=asked[:2], ProcedureCodeSequence=done)
    assert unusable.procedure == ("P1", "done", "99X")


@pytest.mark.parametrize(
    ("modality", "procedure"),
    [
        ("CT", ("25045-6", "CT unspecified body region", "LN")),
        ("MR", ("25056-3", "MRI unspecified body region", "LN")),
        ("OT", ("363679005", "Imaging procedure", "SCT")),
    ],
)
def test_else_the_procedure_is_the_kind_of_imaging(
    make: Any, source: Any, modality: str, procedure: tuple[str, str, str]
) -> None:
    assert context(make, replace(source, volume=replace(source.volume, modality=modality))).procedure == procedure


def test_the_uids_are_the_jobs_and_the_header_is_the_first(make: Any, source: Any) -> None:
    found = context(make, source)
    assert found.uids == ResultUids.of(found.job.job_id)
    assert found.uids is found.uids
    assert found.header is found.source.first
    assert found.model == make.segmentation(source).model


def test_the_moment_is_on_the_images_clock(make: Any, source: Any) -> None:
    assert context(make, source, TimezoneOffsetFromUTC="+0200").moment.strftime("%H:%M%z") == "17:09+0200"
    assert context(make, source).moment.utctimetuple() == make.created_at.utctimetuple()
