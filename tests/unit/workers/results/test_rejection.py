"""The rejection note lists what a job stored, as an archive that follows IHE IOCM reads it."""

from __future__ import annotations

from typing import Any

import pytest

from medai.router.contract import derived_uid
from medai.workers.results.rejection import encode_rejection


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


@pytest.fixture(scope="module")
def objects(make: Any, source: Any) -> Any:
    return list(make.encode(source).values())


def test_it_lists_every_object_once_as_content_and_as_evidence(make: Any, source: Any, objects: Any) -> None:
    note = encode_rejection(make.context(source), objects)
    assert note.Modality == "KO"
    (title,) = note.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert note.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    told = [item.ReferencedSOPSequence[0] for item in note.ContentSequence if "ReferencedSOPSequence" in item]
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    evidence = [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
    wanted = {(made.SOPClassUID, made.SOPInstanceUID) for made in objects}
    for items in (told, evidence):
        assert {(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in items} == wanted
        assert len(items) == len(objects)


def test_it_is_filed_with_what_it_rejects(make: Any, source: Any, objects: Any) -> None:
    note = encode_rejection(make.context(source), objects)
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID"):
        assert note[keyword].value == objects[0][keyword].value, keyword
    assert note.SeriesInstanceUID not in {made.SeriesInstanceUID for made in objects}
    assert note.SeriesNumber not in {made.SeriesNumber for made in objects}


def test_a_retry_writes_the_same_bytes_under_uids_of_the_job(make: Any, source: Any, objects: Any) -> None:
    context = make.context(source)
    first, second = (encode_rejection(context, objects) for _ in range(2))
    assert make.dumped(first) == make.dumped(second)
    uids = sorted(str(each.SOPInstanceUID) for each in objects)
    assert first.SOPInstanceUID == derived_uid(context.job.job_id, "rejection", "instance", *uids)
    assert encode_rejection(context, objects[:2]).SOPInstanceUID != first.SOPInstanceUID
    assert first.SeriesInstanceUID == derived_uid(context.job.job_id, "rejection", "series")


def test_there_is_no_note_about_nothing(make: Any, source: Any) -> None:
    with pytest.raises(ValueError, match="At least one object"):
        encode_rejection(make.context(source), [])
