"""What is told of a workitem is DICOM JSON that pydicom reads back, and all that its final state asks for."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, config
from ups_server import lacks

from medai.router.workitems import write
from medai.router.workitems.read import Code, StepState
from medai.router.workitems.write import Archive, Output, Performed

LOCK = write.transaction_uid("1.2.3", "MEDAI")
CODE = Code(value="LUNGS", scheme="99HOSPITAL", meaning="Lungs by AI")
SEG = Output(study="1.9", series="1.9.7", sop_class="1.2.840.10008.5.1.4.1.1.66.4", sop_uid="1.9.7.1")
SR = Output(study="1.9", series="1.9.8", sop_class="1.2.840.10008.5.1.4.1.1.88.34", sop_uid="1.9.8.1")
DONE = Performed(
    work=CODE, station=replace(CODE, value="MEDAI"), began=1_800_000_000.25, ended=1_800_000_060.0, outputs=(SEG, SR),
    description="read by route lungs",
)  # fmt: skip
ARCHIVE = Archive(ae_title="ORTHANC")


def read_back(body: bytes) -> Dataset:
    """The one data set of a body, through JSON and through a file."""
    (told,) = json.loads(body)
    found = Dataset.from_json(told)
    assert Dataset.from_json(found.to_json()) == found
    assert found.to_json_dict() == Dataset.from_json(told).to_json_dict()
    with config.strict_reading():
        found.save_as(BytesIO(), implicit_vr=False, little_endian=True)
    return found


def test_the_lock_is_a_uid_of_the_workitem_and_the_performer_and_the_same_each_time() -> None:
    assert write.transaction_uid("1.2.3", "MEDAI") == LOCK
    assert len({LOCK, write.transaction_uid("1.2.3", "OTHER"), write.transaction_uid("1.2.4", "MEDAI")}) == 3
    assert LOCK.startswith("2.25.")
    assert len(LOCK) <= 64


def test_a_change_of_state_holds_the_lock_and_the_state_alone() -> None:
    said = read_back(write.state(LOCK, StepState.IN_PROGRESS))
    assert (said.TransactionUID, said.ProcedureStepState, len(said)) == (LOCK, "IN PROGRESS", 2)


def test_progress_says_how_far_it_is() -> None:
    (step,) = read_back(write.progress(LOCK, "read by MEDAI")).ProcedureStepProgressInformationSequence
    assert (step.ProcedureStepProgress, step.ProcedureStepProgressDescription) == (0, "read by MEDAI")


def test_a_result_names_its_objects_by_series_and_where_to_get_them() -> None:
    said = read_back(write.performed(LOCK, DONE, replace(ARCHIVE, wado_root="https://pacs/dicom-web")))
    assert lacks(said, "COMPLETED") == ""
    (done,) = said.UnifiedProcedureStepPerformedProcedureSequence
    assert (done.PerformedProcedureStepStartDateTime, done.PerformedProcedureStepEndDateTime) == (
        "20270115080000.250000+0000", "20270115080100.000000+0000",
    )  # fmt: skip
    assert done.PerformedWorkitemCodeSequence[0].CodeValue == "LUNGS"
    assert done.PerformedStationNameCodeSequence[0].CodeValue == "MEDAI"
    seg, sr = done.OutputInformationSequence
    assert (seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.TypeOfInstances) == ("1.9", "1.9.7", "DICOM")
    assert seg.ReferencedSOPSequence[0].ReferencedSOPClassUID == SEG.sop_class
    assert sr.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.9.8.1"
    assert seg.DICOMRetrievalSequence[0].RetrieveAETitle == "ORTHANC"
    assert seg.WADORSRetrievalSequence[0].RetrieveURL == "https://pacs/dicom-web/studies/1.9/series/1.9.7"
    assert said.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 100


def test_without_a_wado_root_no_address_is_named() -> None:
    (done,) = read_back(write.performed(LOCK, DONE, ARCHIVE)).UnifiedProcedureStepPerformedProcedureSequence
    assert "WADORSRetrievalSequence" not in done.OutputInformationSequence[0]


def test_a_cancellation_says_why_in_words_and_by_a_code() -> None:
    canceled = replace(DONE, outputs=(), reason="the study did not come", reason_code=write.INCOMPLETE)
    said = read_back(write.performed(LOCK, canceled, ARCHIVE))
    assert lacks(said, "CANCELED") == ""
    (step,) = said.ProcedureStepProgressInformationSequence
    assert step.ReasonForCancellation == "the study did not come"
    assert step.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110523"
    assert len(said.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence) == 0


@pytest.mark.parametrize(
    ("code", "keyword"),
    [
        (replace(CODE, value="A-CODE-OF-MANY-LETTERS"), "LongCodeValue"),
        (Code(value="urn:oid:1.2.3", scheme="", meaning=""), "URNCodeValue"),
        (replace(CODE, meaning="Lunge (Röntgen) 肺"), "CodeValue"),
    ],
)
def test_a_code_goes_back_as_it_came(code: Code, keyword: str) -> None:
    said = read_back(write.performed(LOCK, replace(DONE, work=code), ARCHIVE))
    (item,) = said.UnifiedProcedureStepPerformedProcedureSequence[0].PerformedWorkitemCodeSequence
    assert item[keyword].value == code.value
    assert item.CodeMeaning == (code.meaning or code.value)


def test_a_reason_has_no_end_without_a_bound() -> None:
    said = read_back(write.performed(LOCK, replace(DONE, reason="x" * 20_000), ARCHIVE))
    assert len(said.ProcedureStepProgressInformationSequence[0].ReasonForCancellation) == write.REASON_LENGTH
