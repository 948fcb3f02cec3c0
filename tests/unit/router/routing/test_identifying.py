"""Which attributes a condition may see: what routes are about, and nothing that says whose the images are."""

from __future__ import annotations

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from medai.router.intake.facts import NUMBERS
from medai.router.routing.identifying import IDENTIFYING, OURS, ROUTING, identifies, seen


@pytest.mark.parametrize(
    "keyword",
    ["Modality", "BodyPartExamined", "SliceThickness", "KVP", "ImageType", "SOPClassUID", "Manufacturer",
     "ManufacturerModelName", "ConvolutionKernel", "MRAcquisitionType", "Rows", "RequestedProcedurePriority",
     "ProcedureCodeSequence", "CodeValue", "SpecificCharacterSet", *sorted(OURS), *sorted(ROUTING), *sorted(NUMBERS)],
)  # fmt: skip
def test_what_routes_are_about_is_seen(keyword: str) -> None:
    assert seen(keyword)


@pytest.mark.parametrize(
    "keyword",
    ["PatientName", "PatientID", "OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime", "PatientAddress",
     "PatientMotherBirthName", "PatientComments", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID",
     "SOPInstanceUID", "FrameOfReferenceUID", "SeriesDate", "AcquisitionDateTime", "SeriesTime", "OperatorsName",
     "PerformingPhysicianName", "RequestedProcedureID", "PlacerOrderNumberImagingServiceRequest", "EthnicGroup",
     "AdmittingDiagnosesDescription", "ImageComments", "DeviceUID", "EncapsulatedDocument", "IconImageSequence"],
)  # fmt: skip
def test_what_says_whose_it_is_is_not_seen(keyword: str) -> None:
    assert identifies(keyword)
    assert not seen(keyword)


@pytest.mark.parametrize(
    "keyword", ["", "0009,1001", "Unknown Tag & Data", "CSAImageHeaderInfo", "patientname", "\x00"]
)
def test_what_is_no_attribute_of_the_standard_is_not_seen(keyword: str) -> None:
    assert not seen(keyword)
    assert not identifies(keyword)


def test_the_table_holds_keywords_of_the_standard_alone() -> None:
    assert len(IDENTIFYING) > 350
    assert all(tag_for_keyword(keyword) for keyword in IDENTIFYING | ROUTING)
    assert not IDENTIFYING & (ROUTING | OURS)
    assert not {keyword for keyword in ROUTING if dictionary_VR(tag_for_keyword(keyword) or 0) in ("PN", "UI")}
