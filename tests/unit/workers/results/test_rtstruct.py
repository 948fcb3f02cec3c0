"""The structure set, filled again by Pillow, is the mask; and it says what each region is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medai.workers.results.frames import headers_of
from medai.workers.results.rtstruct import encode_rtstruct
from medai.workers.results.source import Source


@pytest.fixture(scope="module", params=["axial", "sagittal", "oblique"])
def source(request: pytest.FixtureRequest, make: Any) -> Any:
    return make.source(plane=request.param)


def holed(make: Any, source: Any) -> Any:
    """Two boxes, each with holes, one of them with an island."""
    segmentation = make.segmentation(source)
    labels = segmentation.labels.copy()
    labels[:, 12:20, 8:16] = 0
    labels[:, 14:18, 10:14] = 1
    labels[5, 15, 30:34:2] = 0
    return replace(segmentation, labels=labels)


def filled(structures: Any, number: int, geometry: Any) -> Any:
    """A region as a mask: contours in the patient to voxel indices, filled at ten times the resolution by Pillow."""
    scale = 10
    _slices, rows, columns = geometry.shape
    mask = np.zeros(geometry.shape, dtype=bool)
    to_index = np.linalg.inv(geometry.affine)
    (region,) = [item for item in structures.ROIContourSequence if item.ReferencedROINumber == number]
    for contour in region.get("ContourSequence", []):
        points = np.asarray([float(v) for v in contour.ContourData]).reshape(-1, 3)
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert len(points) == contour.NumberOfContourPoints
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        level = round(float(index[:, 2].mean()))
        assert np.abs(index[:, 2] - level).max() < 0.01, "in the plane of its slice"
        picture = Image.new("1", (columns * scale, rows * scale))
        ImageDraw.Draw(picture).polygon([tuple(v) for v in ((index[:, :2] + 0.5) * scale).tolist()], fill=1)
        middles = np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale]
        mask[level] ^= middles
    return mask


def test_filled_again_each_region_is_its_segment(make: Any, source: Any) -> None:
    segmentation = holed(make, source)
    made = encode_rtstruct(make.context(source, segmentation=segmentation), make.seg(source, segmentation=segmentation))
    for number in (1, 2):
        wanted, read = segmentation.labels == number, filled(made, number, source.volume.geometry)
        dice = 2 * np.count_nonzero(wanted & read) / (np.count_nonzero(wanted) + np.count_nonzero(read))
        assert dice >= 0.99


def test_a_contour_names_its_image(make: Any, source: Any) -> None:
    made = encode_rtstruct(make.context(source), make.seg(source))
    places = {header.SOPInstanceUID: header for header in source.headers}
    for region in made.ROIContourSequence:
        for contour in region.ContourSequence:
            header = places[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            normal = np.cross(header.ImageOrientationPatient[:3], header.ImageOrientationPatient[3:])
            offset = np.asarray([float(v) for v in contour.ContourData[:3]]) - [
                float(v) for v in header.ImagePositionPatient
            ]
            assert abs(float(offset @ normal)) < 0.002


def test_of_an_enhanced_object_it_names_the_frame(make: Any, source: Any) -> None:
    stack = make.enhanced(source)
    headers, frames = headers_of(stack)
    made = encode_rtstruct(make.context(Source(headers=headers, volume=source.volume, frames=frames)), make.seg(source))
    (image,) = {item.SOPInstanceUID for item in stack.datasets}
    told = [contour.ContourImageSequence[0] for region in made.ROIContourSequence for contour in region.ContourSequence]
    assert {item.ReferencedSOPInstanceUID for item in told} == {image}
    shown = np.flatnonzero((make.segmentation(source).labels == 1).any(axis=(1, 2)))
    assert [item.ReferencedFrameNumber for item in told[: len(shown)]] == [len(headers) - int(n) for n in shown]


def test_it_says_what_each_region_is_and_that_nobody_approved_it(make: Any, source: Any) -> None:
    made = encode_rtstruct(make.context(source), make.seg(source))
    assert made.ApprovalStatus == "UNAPPROVED"
    assert made.StructureSetLabel == "CT_LUNGS"
    assert [item.ROIName for item in made.StructureSetROISequence] == ["Right lung", "Left lung"]
    assert {item.ROIGenerationAlgorithm for item in made.StructureSetROISequence} == {"AUTOMATIC"}
    for item, side in zip(made.RTROIObservationsSequence, ("24028007", "7771000"), strict=True):
        (kind,) = item.RTROIIdentificationCodeSequence
        assert kind.CodeValue == "39607008"
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == side
        assert item.RTROIInterpretedType == "ORGAN"


def test_a_segment_that_was_not_found_is_a_region_without_contours(make: Any, source: Any) -> None:
    segmentation = make.segmentation(source)
    alone = replace(segmentation, labels=np.where(segmentation.labels == 1, 1, 0).astype(np.uint8))
    made = encode_rtstruct(make.context(source, segmentation=alone), make.seg(source, segmentation=alone))
    assert ["ContourSequence" in item for item in made.ROIContourSequence] == [True, False]


def test_a_contour_of_more_than_64_kib_is_written_whole(make: Any) -> None:
    source = make.source(shape=(2, 200, 200))
    labels = np.zeros((2, 200, 200), dtype=np.uint8)
    labels[0, ::3], labels[0, 1::3, ::2], labels[0, :, 0] = 1, 1, 1  # combs on one handle
    segmentation = replace(make.segmentation(source), labels=labels)
    made = encode_rtstruct(make.context(source, segmentation=segmentation), make.seg(source, segmentation=segmentation))
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert np.array_equal(filled(made, 1, source.volume.geometry), labels == 1)
    longest = max((contour.ContourData for contour in made.ROIContourSequence[0].ContourSequence), key=len)
    assert len("\\".join(str(value) for value in longest)) > 65535
