"""The SEG's must-list (docs/standards.md, section 1), above all what no validator looks at."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medai.models.errors import GeometryMismatch
from medai.models.volume import Segmentation
from medai.router.contract import derived_uid
from medai.workers.results.identity import named_uid
from medai.workers.results.segments import lab


@pytest.fixture(scope="module", params=["axial", "sagittal", "oblique"])
def source(request: pytest.FixtureRequest, make: Any) -> Any:
    return make.source(plane=request.param)


@pytest.fixture(scope="module")
def segmentation(make: Any, source: Any) -> Any:
    return make.segmentation(source)


@pytest.fixture(scope="module")
def seg(make: Any, source: Any) -> Any:
    return make.seg(source)


def read_back(make: Any, seg: Dataset) -> Any:
    """By highdicom, from the bytes."""
    return highdicom.seg.segread(BytesIO(make.dumped(seg)))


def test_the_mask_comes_back_voxel_for_voxel_on_the_sources_grid(
    make: Any, seg: Any, segmentation: Segmentation
) -> None:
    volume = read_back(make, seg).get_volume(combine_segments=True)
    matching = volume.match_geometry(_geometry_of(segmentation))
    assert np.array_equal(matching.array, segmentation.labels)


def _geometry_of(segmentation: Segmentation) -> Any:
    """As highdicom has it: axes slice, row, column."""
    affine = segmentation.geometry.affine[:, [2, 1, 0, 3]]
    return highdicom.VolumeGeometry(
        affine, segmentation.geometry.shape, coordinate_system="PATIENT",
        frame_of_reference_uid=segmentation.geometry.frame_of_reference_uid,
    )  # fmt: skip


def test_it_belongs_to_the_sources_patient_and_study_in_a_series_of_its_own(seg: Dataset, source: Any) -> None:
    first = source.first
    for keyword in (
        *("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
        *("AccessionNumber", "SpecificCharacterSet", "FrameOfReferenceUID", "StudyID", "StudyDate", "StudyTime"),
        *("ReferringPhysicianName", "StudyDescription"),
    ):
        assert seg[keyword].value == first[keyword].value, keyword
    assert seg.SeriesInstanceUID != first.SeriesInstanceUID


def test_its_uids_derive_from_the_job(seg: Dataset, source: Any, make: Any) -> None:
    job = make.job(source)
    assert seg.SOPInstanceUID == derived_uid(job.job_id, "seg", "instance")
    assert seg.SeriesInstanceUID == derived_uid(job.job_id, "seg", "series")


def test_a_retry_writes_the_same_bytes(make: Any, source: Any) -> None:
    assert [make.dumped(d) for d in make.encode(source).values()] == [
        make.dumped(d) for d in make.encode(source).values()
    ]


def test_each_frame_shows_something_and_names_the_image_it_was_derived_from(
    seg: Dataset, source: Any, segmentation: Segmentation
) -> None:
    place = {tuple(float(v) for v in h.ImagePositionPatient): h.SOPInstanceUID for h in source.headers}
    shown = sum(int((segmentation.labels == number).any(axis=(1, 2)).sum()) for number in (1, 2))
    assert len(seg.PerFrameFunctionalGroupsSequence) == shown < 2 * len(source.headers)
    for group in seg.PerFrameFunctionalGroupsSequence:
        derivation = group.DerivationImageSequence[0]
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
        images = derivation.SourceImageSequence
        position = tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
        assert [image.ReferencedSOPInstanceUID for image in images] == [place[position]]
        assert images[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


def test_it_refers_to_every_image_of_the_source_series(seg: Dataset, source: Any) -> None:
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.first.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {header.SOPInstanceUID for header in source.headers}


def test_pixel_measures_are_the_grids(seg: Dataset, source: Any) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == [1.5, 1.25]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(3.0)


def test_a_segment_that_is_a_part_has_two_modifiers_its_side_and_its_part(make: Any, source: Any) -> None:
    made = make.seg(source, segmentation=make.hippocampus(source))
    kinds = [item.SegmentedPropertyTypeCodeSequence[0] for item in made.SegmentSequence]
    modifiers = [[code.CodeValue for code in kind.SegmentedPropertyTypeModifierCodeSequence] for kind in kinds]
    assert [kind.CodeValue for kind in kinds] == ["5366008", "5366008"]
    assert modifiers == [["7771000", "255549009"], ["7771000", "255551008"]]


def test_segments_say_what_they_are_and_who_found_them(seg: Dataset, make: Any, source: Any) -> None:
    job = make.job(source)
    for number, (item, side) in enumerate(zip(seg.SegmentSequence, ("24028007", "7771000"), strict=True), start=1):
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        category = item.SegmentedPropertyCategoryCodeSequence[0]
        (modifier,) = kind.SegmentedPropertyTypeModifierCodeSequence
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("91723000", "SCT")
        assert (modifier.CodeValue, modifier.CodingSchemeDesignator) == (side, "SCT")
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        family = algorithm.AlgorithmFamilyCodeSequence[0]
        assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("AUTOMATIC", "ct_lungs")
        assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ct_lungs", "1.2.0")
        assert item.TrackingUID == named_uid("tracking", f"{job.filler}.{number} {item.SegmentLabel}")
        assert item.TrackingID.startswith(job.filler)
        assert len(item.RecommendedDisplayCIELabValue) == 3


def test_tracking_id_and_uid_outlive_a_revision(make: Any, source: Any) -> None:
    later = make.job(source, revision=2, job_id=make.other_job_id)
    first, second = make.seg(source), make.seg(source, job=later)
    tracked = [[(s.TrackingID, s.TrackingUID) for s in made.SegmentSequence] for made in (first, second)]
    assert tracked[0] == tracked[1]
    assert len(set(tracked[0])) == 2
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesNumber != second.SeriesNumber


def test_the_label_is_an_upper_case_cs_and_the_description_says_unverified_ai(seg: Dataset) -> None:
    assert seg.ContentLabel == "CT_LUNGS"
    assert seg.SeriesDescription == "AI ct_lungs 1.2.0 segmentation, unverified"


def test_a_revision_shows_in_the_description(make: Any, source: Any) -> None:
    later = make.job(source, revision=2, job_id=make.other_job_id)
    told = {kind: made.SeriesDescription for kind, made in make.encode(source, job=later).items()}
    assert told == {
        "seg": "AI ct_lungs 1.2.0 segmentation, revision 2, unverified",
        "sr": "AI ct_lungs 1.2.0 measurements, revision 2, unverified",
        "sc": "AI ct_lungs 1.2.0 key image, revision 2, unverified",
    }


def test_the_device_uid_changes_with_the_weights(make: Any, source: Any, segmentation: Segmentation) -> None:
    other = replace(segmentation, model=replace(segmentation.model, fingerprint="00" * 32))
    uids = {_device_uid(make.seg(source, segmentation=each)) for each in (segmentation, other)}
    assert len(uids) == 2


def _device_uid(dataset: Dataset) -> str:
    (item,) = [item for item in dataset.ContributingEquipmentSequence if "DeviceUID" in item]
    assert (item.Manufacturer, item.ManufacturerModelName, item.SoftwareVersions) == ("Med-AI", "ct_lungs", "1.2.0")
    return str(item.DeviceUID)


def test_equipment_is_complete(seg: Dataset) -> None:
    assert (seg.Manufacturer, seg.ManufacturerModelName, seg.DeviceSerialNumber) == ("Med-AI", "MEDAI", "1")
    assert seg.SoftwareVersions[1] == "ct_lungs 1.2.0"
    assert seg.InstitutionName == "St. Elsewhere"


def test_numbers_of_seg_sr_and_sc_series_differ(make: Any, source: Any) -> None:
    assert sorted(d.SeriesNumber for d in make.encode(source).values()) == [9001, 9002, 9003]


def test_an_empty_mask_is_a_result_too(make: Any, source: Any, segmentation: Segmentation) -> None:
    empty = replace(segmentation, labels=np.zeros_like(segmentation.labels))
    made = make.encode(source, segmentation=empty)
    assert made["seg"].NumberOfFrames == 2, "one for each segment: an object without a frame is none"
    assert len(made["seg"].ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(source.headers)
    assert not np.any(made["seg"].pixel_array)


def test_a_label_that_the_model_does_not_describe_is_refused(
    make: Any, source: Any, segmentation: Segmentation
) -> None:
    labels = segmentation.labels.copy()
    labels[0, 0, 0] = 9
    with pytest.raises(GeometryMismatch, match="label 9"):
        make.seg(source, segmentation=replace(segmentation, labels=labels))


def test_a_mask_on_another_grid_is_refused(make: Any, source: Any, segmentation: Segmentation) -> None:
    shifted = replace(segmentation.geometry, spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(GeometryMismatch, match="mm apart"):
        make.seg(source, segmentation=replace(segmentation, geometry=shifted))


def test_a_gap_between_the_frames_keeps_every_voxel_in_its_place(
    make: Any, source: Any, segmentation: Segmentation
) -> None:
    labels = np.zeros_like(segmentation.labels)
    labels[2, 8:20, 8:20], labels[9, 8:20, 8:20] = 1, 2
    made = make.seg(source, segmentation=replace(segmentation, labels=labels))
    assert made.NumberOfFrames == 2
    volume = read_back(make, made).get_volume(combine_segments=True, allow_missing_positions=True)
    assert np.array_equal(volume.match_geometry(_geometry_of(segmentation)).array, labels)


def test_a_hippocampus_in_a_whole_head_is_small(make: Any) -> None:
    """As Colin 27 at 1 mm: 181 x 217 x 181; the full grid of two segments would be 1.8 MB, at 0.5 mm 14 MB."""
    source = make.source(modality="MR", shape=(181, 217, 181))
    labels = np.zeros((181, 217, 181), dtype=np.uint8)
    labels[60:85, 100:120, 50:70], labels[60:85, 100:120, 70:90] = 1, 2
    made = make.seg(source, segmentation=replace(make.hippocampus(source), labels=labels))
    assert len(make.dumped(made)) < 600_000


def egg(shape: tuple[int, int, int], centre: tuple[int, int, int], radii: tuple[int, int, int]) -> Any:
    """An ellipsoid with a wavy surface: an anatomical outline is no smoother."""
    z, y, x = (np.arange(n).reshape([-1 if axis == i else 1 for i in range(3)]) for axis, n in enumerate(shape))
    place = [((g - c) / r) ** 2 for g, c, r in zip((z, y, x), centre, radii, strict=True)]
    waves = np.sin(y / 7) * np.sin(x / 9) * np.sin(z / 5) + np.sin(x / 3.1) * np.sin(y / 3.7) / 2
    return sum(place) < 1 + 0.06 * waves


def deflated(make: Any, seg: Dataset) -> int:
    """The length of the same object in Deflated Explicit VR Little Endian."""
    seg.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return len(make.dumped(seg))


def test_a_hippocampus_of_8_ml_in_512_by_512_is_below_2_mb_and_200_kb_deflated(make: Any) -> None:
    """At 0.47 x 0.47 x 1 mm: 36,000 voxels in two parts."""
    shape = (160, 512, 512)
    source = make.source(modality="MR", shape=shape)
    labels = egg(shape, (80, 260, 190), (20, 21, 21)).astype(np.uint8)
    labels[80:] *= 2
    assert 35_000 < np.count_nonzero(labels) < 38_000
    made = make.seg(source, segmentation=replace(make.hippocampus(source), labels=labels))
    assert len(make.dumped(made)) <= 2_000_000
    assert deflated(make, made) <= 200_000


def test_the_lungs_of_a_chest_ct_are_below_1_mb_deflated(make: Any) -> None:
    shape = (275, 512, 512)
    source = make.source(shape=shape)
    labels = np.zeros(shape, dtype=np.uint8)
    for number, column in ((1, 160), (2, 350)):
        labels[egg(shape, (137, 260, column), (125, 130, 85))] = number
    made = make.seg(source, segmentation=replace(make.segmentation(source), labels=labels))
    assert deflated(make, made) <= 1_000_000


def test_colours_are_cielab_under_d50() -> None:
    assert lab((255, 255, 255)) == pytest.approx((100.0, 0.0, 0.0), abs=0.02)
    assert lab((255, 0, 0)) == pytest.approx((54.29, 80.81, 69.89), abs=0.05)
    assert lab((0, 0, 0)) == pytest.approx((0.0, 0.0, 0.0), abs=0.02)
