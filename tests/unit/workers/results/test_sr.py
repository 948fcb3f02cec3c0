"""The SR's must-list (docs/standards.md, section 2), above all what no validator looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from medai.models.volume import Total
from medai.router.contract import Predecessor


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


@pytest.fixture(scope="module")
def made(make: Any, source: Any) -> Any:
    return make.encode(source, warnings=("the mask touches the edge of the field of view",))


@pytest.fixture(scope="module")
def sr(made: Any) -> Any:
    return made["sr"]


def items(node: Dataset, code: str) -> list[Dataset]:
    """Every content item below ``node`` with that concept name."""
    found = []
    for item in node.get("ContentSequence", []):
        names = item.get("ConceptNameCodeSequence", [])
        if names and names[0].CodeValue == code:
            found.append(item)
        found += items(item, code)
    return found


def coded(node: Dataset, code: str) -> list[str]:
    return [item.ConceptCodeSequence[0].CodeValue for item in items(node, code)]


def test_it_is_a_measurement_report_of_an_imaging_procedure(sr: Dataset) -> None:
    template = sr.ContentTemplateSequence[0]
    assert (template.TemplateIdentifier, template.MappingResource) == ("1500", "DCMR")
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert coded(sr, "121058") == ["25045-6"]
    assert coded(sr, "121005") == ["121007"]


@pytest.mark.parametrize(("modality", "code"), [("CT", "25045-6"), ("MR", "25056-3")])
def test_the_procedure_follows_the_modality(make: Any, modality: str, code: str) -> None:
    assert coded(make.encode(make.source(modality=modality))["sr"], "121058") == [code]


def test_it_is_complete_preliminary_and_unverified(sr: Dataset) -> None:
    assert (sr.CompletionFlag, sr.PreliminaryFlag, sr.VerificationFlag) == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    assert "unverified" in sr.SeriesDescription


def test_each_group_tracks_the_segment_of_the_seg(sr: Dataset, made: Any) -> None:
    segments = made["seg"].SegmentSequence
    groups = items(sr, "125007")
    assert len(groups) == 2
    for group, segment in zip(groups, segments, strict=True):
        assert items(group, "112039")[0].TextValue == segment.TrackingID
        assert segment.TrackingUID == items(group, "112040")[0].UID
        reference = items(group, "121191")[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == made["seg"].SOPInstanceUID
        assert reference.ReferencedSegmentNumber == segment.SegmentNumber
        assert coded(group, "121071") == ["39607008"]
        assert coded(group, "363698007") == ["39607008"]
    assert [coded(group, "272741003") for group in groups] == [["24028007"], ["7771000"]]


def test_each_group_names_source_images_and_the_algorithm(sr: Dataset, source: Any) -> None:
    known = {header.SOPInstanceUID for header in source.headers}
    for group in items(sr, "125007"):
        images = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(group, "121233")]
        assert 1 <= len(images) <= 3
        assert set(images) <= known
        assert items(group, "111001")[0].TextValue == "ct_lungs"
        assert items(group, "111003")[0].TextValue == "1.2.0"
        assert items(group, "122405")[0].TextValue == "Med-AI"
        assert coded(group, "111000") == ["123110"]
        assert items(group, "111002") == [], "what only the network's makers understand is in the SEG"


def test_it_measures_volume_in_cm3_and_mean_attenuation_in_hounsfield(sr: Dataset, make: Any, source: Any) -> None:
    expected = [m.value for m in make.measurements(source, make.segmentation(source)) if m.segment_number == 1]
    group = items(sr, "125007")[0]
    volume, attenuation = items(group, "118565006")[0], items(group, "112031")[0]
    assert float(volume.MeasuredValueSequence[0].NumericValue) == pytest.approx(expected[0])
    assert volume.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "cm3"
    assert float(attenuation.MeasuredValueSequence[0].NumericValue) == expected[1]
    assert coded(attenuation, "121401") == ["373098007"]


def test_the_evidence_holds_every_image_and_the_seg(sr: Dataset, source: Any, made: Any) -> None:
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert listed == {header.SOPInstanceUID for header in source.headers} | {made["seg"].SOPInstanceUID}


def test_the_algorithm_is_contributing_equipment_with_the_segs_device_uid(sr: Dataset, made: Any) -> None:
    uids = [
        [item.DeviceUID for item in each.ContributingEquipmentSequence if "DeviceUID" in item]
        for each in (sr, made["seg"], made["sc"])
    ]
    assert uids[0] == uids[1] == uids[2]
    assert len(uids[0]) == 1
    assert uids[0][0] == items(sr, "121012")[0].UID


def test_a_plausibility_warning_is_in_the_report(sr: Dataset) -> None:
    (container,) = items(sr, "C0034375")
    assert coded(container, "111005") == ["CHECK"]
    assert items(container, "121106")[1].TextValue == "Check: the mask touches the edge of the field of view"


def test_the_verdict_of_the_checks_is_coded_even_when_all_passed(make: Any, source: Any) -> None:
    (container,) = items(make.encode(source, segmentation=make.hippocampus(source))["sr"], "C0034375")
    assert coded(container, "111005") == ["PLAUSIBLE"]
    assert items(container, "121106")[0].TextValue == "Plausibility: 2 of 2 checks passed"


def test_a_result_that_nothing_checked_is_to_be_checked_by_a_person(make: Any, source: Any) -> None:
    (container,) = items(make.encode(source)["sr"], "C0034375")
    assert coded(container, "111005") == ["CHECK"]
    assert [item.TextValue for item in items(container, "121106")] == ["Plausibility: nothing was checked"]


def test_a_finding_site_has_its_side_and_its_part(make: Any, source: Any) -> None:
    groups = items(make.encode(source, segmentation=make.hippocampus(source))["sr"], "125007")
    assert [coded(group, "272741003") for group in groups] == [["7771000"]] * 3
    assert [coded(group, "106233006") for group in groups] == [["255549009"], ["255551008"], []]


def test_a_total_is_a_group_of_its_segments_after_theirs(make: Any, source: Any) -> None:
    made = make.results(source, segmentation=make.hippocampus(source))
    parts, total = made.measurements[:-1], made.measurements[-1]
    first, second, group = items(made.objects["sr"], "125007")
    (reference,) = items(group, "121191")
    assert reference.ReferencedSOPSequence[0].ReferencedSegmentNumber == [1, 2]
    assert items(group, "112039")[0].TextValue.endswith(".T1 Left hippocampus")
    assert len({items(each, "112040")[0].UID for each in (first, second, group)}) == 3
    (volume,) = items(group, "118565006")
    assert float(volume.MeasuredValueSequence[0].NumericValue) == total.value
    assert total.value == pytest.approx(sum(m.value for m in parts if m.quantity == "volume"), abs=0.002)
    assert (coded(group, "121071"), coded(group, "272741003"), coded(group, "106233006")) == (
        ["5366008"],
        ["7771000"],
        [],
    )


def test_a_total_of_unlike_segments_says_only_what_they_share(make: Any, source: Any) -> None:
    both = make.segmentation(source)
    other = replace(both.segments[1], type=make.brain, site=None)
    mixed = replace(both, segments=(both.segments[0], other), totals=(Total(name="All", segments=(1, 2)),))
    group = items(make.encode(source, segmentation=mixed)["sr"], "125007")[-1]
    assert coded(group, "121071") == ["91723000"]
    assert coded(group, "363698007") == []


def test_a_person_reads_the_numbers_first_and_in_the_models_order(make: Any, source: Any) -> None:
    sr = make.encode(source, segmentation=make.hippocampus(source))["sr"]
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in sr.ContentSequence if item.ValueType == "CONTAINER"]
    assert [name for name in names if name != "111028"] == ["126010", "C0034375"], "measurements, then what was checked"
    told = [items(group, "112039")[0].TextValue.split(" ", 1)[1] for group in items(sr, "125007")]
    assert told == ["Left hippocampus, anterior", "Left hippocampus, posterior", "Left hippocampus"]
    assert all("=" not in item.get("TextValue", "") for item in items(sr, "121106"))


def test_a_revision_names_the_report_that_it_replaces(make: Any, source: Any) -> None:
    earlier = Predecessor(job_id=make.other_job_id, sr_series_uid="1.2.3", sr_sop_uid="1.2.3.4")
    sr = make.encode(source, job=make.job(source, revision=2, predecessor=earlier))["sr"]
    (study,) = sr.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == source.first.StudyInstanceUID
    assert series.SeriesInstanceUID == "1.2.3"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert series.ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"


def test_a_first_report_has_no_predecessor(sr: Dataset) -> None:
    assert "PredecessorDocumentsSequence" not in sr


def places(sr: Dataset) -> list[tuple[str, list[float]]]:
    """Under each number: the image, and the outline on it as column, row, column, row …"""
    found = []
    for group in items(sr, "125007"):
        for number in (item for item in group.ContentSequence if item.ValueType == "NUM"):
            (where,) = (item for item in number.ContentSequence if item.ValueType == "SCOORD")
            assert where.RelationshipType == "INFERRED FROM"
            assert where.GraphicType == "POLYLINE"
            image = where.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            found.append((str(image), [float(value) for value in where.GraphicData]))
    return found


def test_each_number_has_a_place_that_a_viewer_jumps_to(make: Any, source: Any) -> None:
    segmentation = make.segmentation(source, segments=1)
    labels = np.zeros_like(segmentation.labels)
    labels[1, 2:4, 3:5] = labels[2, 2:4, 3:6] = labels[2, 6, 8] = 1
    sr = make.encode(source, segmentation=replace(segmentation, labels=labels))["sr"]
    for image, outline in places(sr):
        assert image == source.headers[2].SOPInstanceUID, "the slice that shows most"
        corners = set(zip(outline[::2], outline[1::2], strict=True))
        assert corners == {(3.0, 2.0), (6.0, 2.0), (6.0, 4.0), (3.0, 4.0)}, "its largest part"
        assert outline[:2] == outline[-2:]


def test_of_what_was_not_found_the_place_is_a_whole_slice(make: Any, source: Any) -> None:
    segmentation = make.segmentation(source)
    labels = np.where(segmentation.labels == 1, 1, 0).astype(np.uint8)
    sr = make.encode(source, segmentation=replace(segmentation, labels=labels))["sr"]
    slices, rows, columns = labels.shape
    image, outline = places(sr)[-1]
    assert image == source.headers[slices // 2].SOPInstanceUID
    assert set(zip(outline[::2], outline[1::2], strict=True)) == {
        (0.0, 0.0), (columns, 0.0), (columns, rows), (0.0, rows),
    }  # fmt: skip
