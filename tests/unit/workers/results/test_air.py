"""What IHE AI Results (AIR, radiology) asks of the objects that hold a result: each "shall", a test of its own.

In our own words, by what a result must tell a display or an archive that trusts nothing else; no validator looks at most
of it. The workflow around the objects (who stores what to whom) is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from medai.models.volume import Code
from medai.router.contract import Order, Predecessor
from medai.workers.results.request import SHORT

SEG, SR, SC = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
ORDER = Order(
    placer="ORD1^RIS",
    filler="RAD9^DEPT",
    accession="ACC123",
    procedure=("CTCHEST", "CT chest", "L"),
    requested_procedure_id="RP1",
    scheduled_step_id="SPS1",
)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def asked(procedure_id: str, **more: Any) -> Dataset:
    """A request as the worklist gave it to the scanner."""
    item = Dataset()
    item.RequestedProcedureID = procedure_id
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def with_headers(make: Any, source: Any, **values: Any) -> Any:
    return replace(source, headers=tuple(make.copy(header, **values) for header in source.headers))


def items(node: Dataset, name: str) -> Iterator[Dataset]:
    """Content items of that concept, at any depth."""
    for item in node.get("ContentSequence", []):
        names = item.get("ConceptNameCodeSequence", [])
        if names and names[0].CodeValue == name:
            yield item
        yield from items(item, name)


def texts(node: Dataset, name: str) -> set[str]:
    return {str(item.TextValue) for item in items(node, name)}


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


@pytest.fixture(scope="module")
def made(make: Any, source: Any) -> Any:
    job = make.job(source, order=ORDER)
    return make.encode(source, segmentation=make.hippocampus(source), job=job)


def equipment(made: Dataset) -> Dataset:
    """The item of (0018,A001) that names the algorithm."""
    (item,) = (item for item in made.ContributingEquipmentSequence if "DeviceUID" in item)
    return item


def test_a_segmentation_a_measurement_report_and_a_key_image_are_what_air_names(made: Any) -> None:
    assert [str(made[kind].SOPClassUID) for kind in ("seg", "sr", "sc")] == [SEG, SR, SC]
    assert made["sr"].ContentTemplateSequence[0].TemplateIdentifier == "1500"


@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
def test_the_algorithm_is_contributing_equipment_with_who_what_which_and_its_device_uid(made: Any, kind: str) -> None:
    item = equipment(made[kind])
    assert (item.Manufacturer, item.ManufacturerModelName, item.SoftwareVersions) == ("Med-AI", "ct_lungs", "1.2.0")
    assert item.DeviceUID.startswith("2.25.")
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_the_algorithm_has_one_name_and_one_version_letter_by_letter(made: Any) -> None:
    named = equipment(made["sr"])
    name, version = {str(named.ManufacturerModelName)}, {str(named.SoftwareVersions)}
    assert texts(made["sr"], "111001") == name
    assert texts(made["sr"], "111003") == version
    for segment in made["seg"].SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert {str(algorithm.AlgorithmName)} == {str(segment.SegmentAlgorithmName)} == name
        assert {str(algorithm.AlgorithmVersion)} == version
    assert texts(made["sr"], "121015") == name, "the observer that reports is the algorithm"


def test_a_name_longer_than_dicom_holds_is_cut_in_the_same_place_everywhere(make: Any, source: Any) -> None:
    found = make.segmentation(source)
    long = replace(found, model=replace(found.model, name="ü" + "lung" * 40, version="1." * 60))
    made = make.encode(source, segmentation=long)
    (algorithm,) = made["seg"].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    item = equipment(made["seg"])
    assert texts(made["sr"], "111001") == {str(algorithm.AlgorithmName)} == {str(item.ManufacturerModelName)}
    assert texts(made["sr"], "111003") == {str(algorithm.AlgorithmVersion)} == {str(item.SoftwareVersions)}


def test_the_device_uid_is_the_observers_and_changes_with_the_weights(make: Any, source: Any, made: Any) -> None:
    (observer,) = items(made["sr"], "121012")
    assert observer.UID == equipment(made["sr"]).DeviceUID == equipment(made["seg"]).DeviceUID
    found = make.segmentation(source)
    other = replace(found, model=replace(found.model, fingerprint="cd" * 32))
    assert equipment(make.seg(source, segmentation=other)).DeviceUID != observer.UID


def test_each_finding_has_a_tracking_identifier_and_uid_and_the_segment_has_the_same(made: Any) -> None:
    groups = list(items(made["sr"], "125007"))
    tracked = [(next(items(g, "112039")).TextValue, str(next(items(g, "112040")).UID)) for g in groups]
    assert len(set(tracked)) == len(groups)
    segments = [(str(s.TrackingID), str(s.TrackingUID)) for s in made["seg"].SegmentSequence]
    assert tracked[: len(segments)] == segments


def test_tracking_identifiers_outlive_a_revision_and_no_two_routes_or_studies_share_them(
    make: Any, source: Any, made: Any
) -> None:
    def tracked(**job: Any) -> list[tuple[str, str]]:
        encoded = make.encode(source, segmentation=make.hippocampus(source), job=make.job(source, **job))
        return [
            (next(items(g, "112039")).TextValue, str(next(items(g, "112040")).UID))
            for g in items(encoded["sr"], "125007")
        ]

    first = tracked()
    assert tracked(revision=2, job_id=make.other_job_id) == first
    assert not set(tracked(route="another")) & set(first)


def test_a_revision_names_its_predecessor_and_shows_in_every_description(make: Any, source: Any) -> None:
    earlier = Predecessor(job_id=make.other_job_id, sr_series_uid="1.2.3", sr_sop_uid="1.2.3.4")
    made = make.encode(source, job=make.job(source, revision=3, predecessor=earlier))
    assert made["sr"].PredecessorDocumentsSequence
    assert all("revision 3" in each.SeriesDescription for each in made.values())


def test_every_group_says_what_where_on_which_side_and_refers_to_its_segments(made: Any) -> None:
    numbers = {segment.SegmentNumber for segment in made["seg"].SegmentSequence}
    for group in items(made["sr"], "125007"):
        assert next(items(group, "121071")).ConceptCodeSequence[0].CodingSchemeDesignator == "SCT"
        site = next(items(group, "363698007"))
        assert next(items(site, "272741003")).ConceptCodeSequence[0].CodeValue == "7771000"
        (reference,) = next(items(group, "121191")).ReferencedSOPSequence
        found = reference.ReferencedSegmentNumber
        assert reference.ReferencedSOPInstanceUID == made["seg"].SOPInstanceUID
        assert set(found if not isinstance(found, int) else [found]) <= numbers
        assert list(items(group, "121233")), "the images that it was made from"


def test_every_measurement_is_coded_with_its_unit_in_ucum(made: Any) -> None:
    for group in items(made["sr"], "125007"):
        numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        assert numbers
        for number in numbers:
            assert number.ConceptNameCodeSequence[0].CodingSchemeDesignator in {"SCT", "DCM"}
            assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"


def test_the_observer_is_a_device_and_nobody_has_verified(made: Any) -> None:
    sr = made["sr"]
    assert next(items(sr, "121005")).ConceptCodeSequence[0].CodeValue == "121007"
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in sr
    assert all(segment.SegmentAlgorithmType == "AUTOMATIC" for segment in made["seg"].SegmentSequence)


@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
def test_patient_study_and_accession_are_the_images(made: Any, source: Any, kind: str) -> None:
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "StudyInstanceUID", "StudyID", "AccessionNumber"):
        assert made[kind][keyword].value == source.first[keyword].value, keyword


def test_evidence_names_every_image_and_the_segmentation(made: Any, source: Any) -> None:
    named = {
        sop.ReferencedSOPInstanceUID
        for study in made["sr"].CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
    assert named == {header.SOPInstanceUID for header in source.headers} | {made["seg"].SOPInstanceUID}


def test_the_report_names_the_request_under_the_numbers_of_order_and_images(made: Any, source: Any) -> None:
    (request,) = made["sr"].ReferencedRequestSequence
    assert request.StudyInstanceUID == source.first.StudyInstanceUID
    assert (request.AccessionNumber, request.RequestedProcedureID) == ("ACC123", "RP1")
    assert request.PlacerOrderNumberImagingServiceRequest == "ORD1"
    assert request.FillerOrderNumberImagingServiceRequest == "RAD9"
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "CTCHEST"


def test_a_request_without_an_order_is_the_images_and_a_study_without_either_has_none(make: Any, source: Any) -> None:
    one = with_headers(make, source, RequestAttributesSequence=[asked("RP7"), asked("RP8", AccessionNumber="OTHER")])
    requests = make.encode(one)["sr"].ReferencedRequestSequence
    assert [(r.RequestedProcedureID, r.AccessionNumber) for r in requests] == [("RP7", "ACC123"), ("RP8", "OTHER")]
    assert {r.PlacerOrderNumberImagingServiceRequest for r in requests} == {""}
    assert "ReferencedRequestSequence" not in make.encode(with_headers(make, source, AccessionNumber=""))["sr"]


def test_an_order_of_another_accession_is_not_the_request_of_these(make: Any, source: Any) -> None:
    one = with_headers(make, source, RequestAttributesSequence=[asked("RP8", AccessionNumber="OTHER")])
    requests = make.encode(one, job=make.job(one, order=ORDER))["sr"].ReferencedRequestSequence
    named = [(r.RequestedProcedureID, r.PlacerOrderNumberImagingServiceRequest) for r in requests]
    assert named == [("RP1", "ORD1"), ("RP8", "")]


@pytest.mark.parametrize("kind", ["seg", "sc"])
def test_the_request_attributes_of_the_images_are_carried(make: Any, source: Any, kind: str) -> None:
    own = asked("RP7", ScheduledProcedureStepID="S7", RequestedProcedureCodeSequence=[code("CHE", "99H", "Chest")])
    (item,) = make.encode(with_headers(make, source, RequestAttributesSequence=[own]))[kind].RequestAttributesSequence
    assert (item.RequestedProcedureID, item.ScheduledProcedureStepID) == ("RP7", "S7")
    assert item.RequestedProcedureCodeSequence[0].CodeValue == "CHE"


@pytest.mark.filterwarnings("ignore:The value length")  # pydicom's, on making the case
def test_a_number_that_dicom_cannot_hold_is_left_out_and_never_cut(make: Any, source: Any) -> None:
    long = asked("R" * (SHORT + 1), ScheduledProcedureStepID="S7", RequestedProcedureCodeSequence=[code("", "L", "x")])
    (item,) = make.seg(with_headers(make, source, RequestAttributesSequence=[long])).RequestAttributesSequence
    assert [element.keyword for element in item] == ["ScheduledProcedureStepID"]
    order = replace(ORDER, placer="a\\b^NS", requested_procedure_id="", scheduled_step_id="")
    (request,) = make.encode(source, job=make.job(source, order=order))["sr"].ReferencedRequestSequence
    assert request.PlacerOrderNumberImagingServiceRequest == ""


@pytest.mark.parametrize(
    ("own", "reported"),
    [
        (("39142-5", "LN", "CT perfusion head with contrast IV"), "39142-5"),
        (("CHE", "99HOSP", "Chest CT"), "25045-6"),
        (("", "LN", "Chest CT"), "25045-6"),
    ],
)
def test_the_procedure_is_the_studys_own_code_where_air_takes_it(
    make: Any, source: Any, own: tuple[str, str, str], reported: str
) -> None:
    sr = make.encode(with_headers(make, source, ProcedureCodeSequence=[code(*own)]))["sr"]
    (procedure,) = items(sr, "121058")
    assert procedure.ConceptCodeSequence[0].CodeValue == reported
    assert [item.CodeValue for item in sr.PerformedProcedureCodeSequence] == ([own[0]] if own[0] else [])


def test_private_codes_are_explained(make: Any, source: Any, made: Any) -> None:
    (ours,) = made["sr"].CodingSchemeIdentificationSequence
    assert (ours.CodingSchemeDesignator, ours.CodingSchemeResponsibleOrganization) == ("99MEDAI", "Med-AI")
    assert ours.CodingSchemeUID.startswith("2.25.")
    assert "CodingSchemeIdentificationSequence" not in made["seg"], "no code of ours is in it"
    theirs = Dataset()
    theirs.CodingSchemeDesignator, theirs.CodingSchemeName = "99HOSP", "Codes of St. Elsewhere"
    headers = {"CodingSchemeIdentificationSequence": [theirs], "ProcedureCodeSequence": [code("C", "99HOSP", "Chest")]}
    named = make.encode(with_headers(make, source, **headers))["sr"].CodingSchemeIdentificationSequence
    assert [item.CodingSchemeDesignator for item in named] == ["99MEDAI", "99HOSP"]


@pytest.mark.parametrize("kind", ["seg", "sc"])
def test_body_part_is_the_images_or_else_what_was_segmented(make: Any, source: Any, kind: str) -> None:
    assert make.encode(source)[kind].BodyPartExamined == "CHEST"
    silent = with_headers(make, source, BodyPartExamined="")
    assert make.encode(silent, segmentation=make.hippocampus(silent))[kind].BodyPartExamined == "BRAIN"


@pytest.mark.parametrize(
    ("stated", "segments", "side"),
    [({"Laterality": "R"}, 2, "R"), ({"ImageLaterality": "L"}, 2, "L"), ({}, 2, ""), ({}, 0, "L")],
)
def test_the_side_of_a_paired_part_is_the_images_or_else_the_one_that_all_segments_share(
    make: Any, source: Any, stated: dict[str, str], segments: int, side: str
) -> None:
    knee = with_headers(make, source, BodyPartExamined="KNEE", **stated)
    found = make.segmentation(knee) if segments else make.hippocampus(knee)
    assert make.encode(knee, segmentation=found)["sc"].Laterality == side


def test_a_segment_that_lies_in_something_else_says_in_what(make: Any, source: Any) -> None:
    found = make.segmentation(source)
    liver = Code(value="10200004", scheme="SCT", meaning="Liver")
    within = replace(found, segments=(replace(found.segments[0], site=liver), found.segments[1]))
    first, second = make.seg(source, segmentation=within).SegmentSequence
    assert first.AnatomicRegionSequence[0].CodeValue == "10200004"
    assert "AnatomicRegionSequence" not in second


def test_a_key_image_says_that_no_identifier_is_drawn_and_none_is(make: Any, source: Any, made: Any) -> None:
    """Another patient, study and order: the same picture to the last pixel, so that nothing of them is in it."""
    other = with_headers(
        make, source, PatientName="Roe^Jane", PatientID="999", PatientBirthDate="19990101", PatientSex="M",
        AccessionNumber="Z9", StudyDate="20200101", StudyDescription="Other", ReferringPhysicianName="A^B", StudyID="9",
    )  # fmt: skip
    order = replace(ORDER, placer="Q", accession="Z9", patient_name="Roe^Jane", patient_id="999")
    drawn = make.encode(other, segmentation=make.hippocampus(other), job=make.job(other, order=order, revision=4))
    assert drawn["sc"].PixelData == made["sc"].PixelData
    assert made["sc"].BurnedInAnnotation == "NO"


@pytest.mark.parametrize("kind", ["seg", "sr", "sc"])
@pytest.mark.parametrize("empty", [{}, {"DeidentificationMethod": ""}, {"DeidentificationMethodCodeSequence": []}])
def test_a_de_identified_source_that_says_no_method_gives_objects_that_say_so(
    make: Any, source: Any, kind: str, empty: dict[str, Any]
) -> None:
    made = make.encode(with_headers(make, source, PatientIdentityRemoved="YES", **empty))[kind]
    assert (made.PatientIdentityRemoved, made.DeidentificationMethod) == ("YES", "not stated by the source")
    assert "DeidentificationMethodCodeSequence" not in made


def test_the_method_of_a_de_identified_source_is_carried(make: Any, source: Any) -> None:
    codes = [code("113100", "DCM", "Basic Application Confidentiality Profile"), code("", "", "")]
    told = make.seg(with_headers(make, source, PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=codes))
    assert [item.CodeValue for item in told.DeidentificationMethodCodeSequence] == ["113100"]
    assert "DeidentificationMethod" not in told
    words = make.seg(with_headers(make, source, PatientIdentityRemoved="YES", DeidentificationMethod="by hand"))
    assert words.DeidentificationMethod == "by hand"
