"""What all forms that leave have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from medai.router.contract import Form, derived_uid
from medai.router.errors import PermanentError
from medai.workers.results.forms import encode_forms

FORMS = (Form.LABELMAP, Form.OVERLAY, Form.RTSTRUCT, Form.GSPS, Form.PDF)


@pytest.fixture(scope="module", params=["axial", "oblique"])
def source(request: pytest.FixtureRequest, make: Any) -> Any:
    return make.source(plane=request.param)


@pytest.fixture(scope="module")
def forms(make: Any, source: Any) -> Any:
    return encode_forms(make.context(source), make.seg(source), FORMS)


def test_only_wanted_forms_are_made_and_none_that_every_job_has(make: Any, source: Any) -> None:
    context, seg = make.context(source), make.seg(source)
    made = encode_forms(context, seg, {Form.RTSTRUCT, Form.SEG, Form.SR, Form.SC, Form.SEG_DEFLATED})
    assert list(made) == [Form.RTSTRUCT]


def test_a_retry_writes_the_same_bytes(make: Any, source: Any, forms: Any) -> None:
    again = encode_forms(make.context(source), make.seg(source), FORMS)
    assert {form: make.dumped(each) for form, each in again.items()} == {
        form: make.dumped(each) for form, each in forms.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_filed_with_its_study_under_uids_of_the_job(
    make: Any, source: Any, forms: Any, form: Form
) -> None:
    made, first, job_id = forms[form], source.first, make.job(source).job_id
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID"):
        assert made[keyword].value == first[keyword].value, keyword
    assert made.SeriesInstanceUID == derived_uid(job_id, form, "series")
    assert made.SOPInstanceUID == derived_uid(job_id, form, "instance")
    assert (made.ContentDate, made.ContentTime) == ("20260314", "150926")
    assert made.SeriesDescription.startswith("AI ct_lungs 1.2.0 ")
    assert made.SeriesDescription.endswith(", unverified")
    assert any("DeviceUID" in item for item in made.ContributingEquipmentSequence)
    assert made.InstitutionName == "St. Elsewhere"


def test_the_series_numbers_of_all_forms_differ(forms: Any) -> None:
    assert len({made.SeriesNumber for made in forms.values()}) == len(FORMS)


def test_a_mask_that_found_nothing_has_every_form_too(make: Any, source: Any) -> None:
    empty = make.segmentation(source)
    empty.labels[:] = 0
    context = make.context(source, segmentation=empty)
    assert set(encode_forms(context, make.seg(source, segmentation=empty), FORMS)) == set(FORMS)


@pytest.mark.parametrize("error", [PermanentError("a PDF needs pango"), KeyError("PixelSpacing")])
def test_a_form_that_cannot_be_made_costs_nobody_the_others(
    make: Any, source: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("medai.workers.results.forms.encode_pdf", fails)
    with capture_logs() as said:
        made = encode_forms(make.context(source), make.seg(source), {Form.PDF, Form.RTSTRUCT})
    assert list(made) == [Form.RTSTRUCT]
    assert [(line["event"], line["form"]) for line in said] == [("form_left_out", "pdf")]


def test_the_label_map_is_the_mask_of_the_seg(make: Any, source: Any, forms: Any) -> None:
    seg, made = make.seg(source), forms[Form.LABELMAP]
    uids = [header.SOPInstanceUID for header in source.headers]
    read = made.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(read, make.segmentation(source).labels)
    assert [segment.TrackingUID for segment in made.SegmentSequence[1:]] == [
        segment.TrackingUID for segment in seg.SegmentSequence
    ]
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
