"""Frames that are put together byte by byte are those that highdicom makes, to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from medai.models.volume import Labels, Segmentation
from medai.workers.results import segments
from medai.workers.results.frames import headers_of
from medai.workers.results.seg import encode_seg
from medai.workers.results.source import Source


def same_as_highdicom(make: Any, source: Source, segmentation: Segmentation) -> Any:
    context = make.context(source, segmentation=segmentation)
    expected = segments.build(
        context, "seg", "BINARY", "segmentation", ExplicitVRLittleEndian, source.clean, segmentation.labels
    )
    if (expected.NumberOfFrames * expected.Rows * expected.Columns + 7) // 8 % 2:
        expected.PixelData = expected.PixelData[:-1] + b"\0"  # highdicom 0.28 fills up with the digit 0
    made = encode_seg(context)
    assert make.dumped(made) == make.dumped(expected)
    return made


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
def test_whatever_the_plane(make: Any, plane: str, modality: str) -> None:
    source = make.source(plane=plane, modality=modality)
    same_as_highdicom(make, source, make.segmentation(source))
    same_as_highdicom(make, source, make.hippocampus(source))


@pytest.mark.parametrize("parts", [1, 3])
def test_of_enhanced_objects_each_frame_names_the_frame_that_it_was_made_of(make: Any, parts: int) -> None:
    source = make.source()
    stack = make.enhanced(source, parts=parts)
    headers, frames = headers_of(stack)
    enhanced = Source(headers=headers, volume=stack.volume, frames=frames)
    made = same_as_highdicom(make, enhanced, make.segmentation(enhanced))
    group = made.PerFrameFunctionalGroupsSequence[0]
    assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber


def painted(shape: tuple[int, ...], *slices: int) -> Labels:
    labels = np.zeros(shape, dtype=np.uint8)
    for index in slices:
        labels[index, 1 : 2 + index, 2:5] = 1
    return labels


@pytest.mark.parametrize(
    ("slices", "organised"), [((2, 3, 4), "3D"), ((2, 4, 6), "3D"), ((2, 3, 7), None), ((5,), None)]
)
def test_one_segment_s_frames_are_a_volume_where_their_spacing_is_one(
    make: Any, slices: tuple[int, ...], organised: str | None
) -> None:
    source = make.source()
    segmentation = make.segmentation(source, segments=1)
    one = replace(segmentation, labels=painted(segmentation.labels.shape, *slices))
    assert same_as_highdicom(make, source, one).get("DimensionOrganizationType") == organised


@pytest.mark.parametrize("shape", [(12, 7, 9), (19, 5, 5), (9, 8, 8)])
def test_frames_whose_bits_fill_no_whole_bytes_run_on(make: Any, shape: tuple[int, int, int]) -> None:
    source = make.source(shape=shape)
    dice = np.random.default_rng(1)
    segmentation = make.segmentation(source)
    noise = replace(segmentation, labels=dice.integers(0, 3, segmentation.labels.shape).astype(np.uint8))
    same_as_highdicom(make, source, noise)


def test_a_segment_that_is_nowhere_has_no_frame(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    only = replace(segmentation, labels=np.where(segmentation.labels == 2, 2, 0).astype(np.uint8))
    made = same_as_highdicom(make, source, only)
    named = {
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for group in made.PerFrameFunctionalGroupsSequence
    }
    assert named == {2}


def test_many_segments_are_found_where_they_are(make: Any) -> None:
    source = make.source(shape=(9, 30, 30))
    few = make.segmentation(source)
    pattern = few.segments[0]
    many = tuple(replace(pattern, number=number, name=f"Part {number}") for number in range(1, 21))
    labels = np.random.default_rng(2).integers(0, 21, few.labels.shape).astype(np.uint8)
    labels[3], labels[4] = 0, 7
    same_as_highdicom(make, source, replace(few, segments=many, labels=labels))
