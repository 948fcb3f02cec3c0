"""Results of an enhanced object say the same as those of single images, and refer to its frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

PARTS = [1, 3]


def references(dataset: Dataset, within: str = "") -> Iterator[tuple[str, Dataset]]:
    """Every item that refers to an object, with the sequence that it stands in."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ReferencedSOPInstanceUID" in item:
                    yield element.keyword, item
                yield from references(item, element.keyword)


@pytest.fixture(scope="module", params=PARTS)
def both(request: pytest.FixtureRequest, make: Any) -> tuple[Any, Any, Any]:
    """The stack, its results, and those of the same series as single images."""
    source = make.source()
    stack = make.enhanced(source, parts=request.param)
    return stack, make.results(source, stack=stack), make.results(source)


def test_the_mask_lies_on_the_same_places(both: tuple[Any, Any, Any]) -> None:
    _, found, plain = both
    seg, wanted = found.objects["seg"], plain.objects["seg"]
    assert np.array_equal(seg.pixel_array, wanted.pixel_array)
    assert [frame.PlanePositionSequence for frame in seg.PerFrameFunctionalGroupsSequence] == [
        frame.PlanePositionSequence for frame in wanted.PerFrameFunctionalGroupsSequence
    ]


def test_every_frame_of_the_mask_names_the_frame_that_it_was_drawn_on(both: tuple[Any, Any, Any]) -> None:
    stack, found, _ = both
    objects = {str(image.SOPInstanceUID): image for image in stack.datasets}
    for frame in found.objects["seg"].PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (item,) = derivation.SourceImageSequence
        image = objects[str(item.ReferencedSOPInstanceUID)]
        assert item.ReferencedSOPClassUID == image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
        position = image.PerFrameFunctionalGroupsSequence[int(item.ReferencedFrameNumber) - 1].PlanePositionSequence[0]
        wanted = [float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert [float(value) for value in position.ImagePositionPatient] == pytest.approx(wanted)


def test_nothing_refers_to_an_image_that_is_not_there(both: tuple[Any, Any, Any]) -> None:
    stack, found, _ = both
    there = {str(image.SOPInstanceUID) for image in stack.datasets}
    there |= {str(each.SOPInstanceUID) for each in found.objects.values()}
    for each in found.objects.values():
        named = {str(item.ReferencedSOPInstanceUID) for _, item in references(each)}
        assert named
        assert named <= there


def test_objects_are_listed_once_and_without_frames_where_they_are_listed_whole(both: tuple[Any, Any, Any]) -> None:
    stack, found, _ = both
    images = {str(image.SOPInstanceUID) for image in stack.datasets}
    for kind in ("seg", "sc"):
        (series,) = found.objects[kind].ReferencedSeriesSequence
        listed = [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]
        assert sorted(listed) == sorted(images)
        assert not any("ReferencedFrameNumber" in item for item in series.ReferencedInstanceSequence)
    evidence = [
        item
        for study in found.objects["sr"].CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert sorted(str(item.ReferencedSOPInstanceUID) for item in evidence) == sorted(
        images | {str(found.objects["seg"].SOPInstanceUID)}
    )
    assert not any("ReferencedFrameNumber" in item for item in evidence)


def test_report_and_key_image_name_frames(both: tuple[Any, Any, Any]) -> None:
    stack, found, _ = both
    sources = found.objects["sc"].SourceImageSequence
    assert sum(np.size(item.ReferencedFrameNumber) for item in sources) == len(stack.frames)
    named = [item for name, item in references(found.objects["sr"]) if name == "ReferencedSOPSequence"]
    assert any("ReferencedFrameNumber" in item for item in named)


def test_the_message_says_the_same_of_the_patient_and_the_numbers(both: tuple[Any, Any, Any]) -> None:
    _, found, plain = both
    assert found.oru == plain.oru
    assert found.measurements == plain.measurements


def test_single_images_are_left_as_they_are(make: Any) -> None:
    source = make.source()
    objects: Mapping[str, Dataset] = make.encode(source)
    for each in objects.values():
        assert not any("ReferencedFrameNumber" in item for _, item in references(each))
