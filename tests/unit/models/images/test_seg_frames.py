"""A SEG frame by frame: which segment each shows, and what belongs to it."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from drawn_cases import block, ct_slices, seg
from pydicom import Dataset

from medai.models.errors import NotAVolume, UnreadableImage
from medai.models.images.seg_frames import SegFrames

BALL = block((4, 5, 6), (9, 10, 12))
CORNER = block((0, 0, 0), (2, 2, 2))


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return seg(ct_slices("frames"), {"Ball": BALL, "Corner": CORNER})


def test_each_frame_lies_on_its_slice_and_holds_its_mask(drawn: Dataset) -> None:
    frames = SegFrames(drawn)
    masks = dict(frames.masks(1))
    assert sum(int(mask.sum()) for mask in masks.values()) == np.count_nonzero(BALL)
    heights = [float(frames.planes[index].position_mm[2]) for index in masks]
    assert len(set(heights)) == len(heights)


def test_a_segment_that_is_not_there_has_no_frames(drawn: Dataset) -> None:
    assert SegFrames(drawn).frames_of(3) == []


def test_a_frame_that_names_no_segment_is_told_by_its_number(drawn: Dataset) -> None:
    broken = deepcopy(drawn)
    del broken.PerFrameFunctionalGroupsSequence[2].SegmentIdentificationSequence
    with pytest.raises(NotAVolume, match="frame 3 of the SEG names no segment"):
        SegFrames(broken).frames_of(1)


def test_frames_without_a_place_are_told(drawn: Dataset) -> None:
    broken = deepcopy(drawn)
    for group in broken.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    with pytest.raises(NotAVolume, match="the SEG has no place in the patient"):
        _ = SegFrames(broken).planes


def test_pixels_that_are_cut_short_are_an_unreadable_image(drawn: Dataset) -> None:
    broken = deepcopy(drawn)
    broken.PixelData = broken.PixelData[:4]
    broken["PixelData"].VR = "OB"
    with pytest.raises(UnreadableImage, match="the SEG's pixels cannot be read"):
        list(SegFrames(broken).masks(1))


def test_a_half_belongs_to_a_fractional_segment_and_less_does_not() -> None:
    shares = np.where(BALL, 0.5, 0.0)
    shares[6, 7, 8] = 0.49
    fractional = seg(ct_slices("shares"), {"Ball": shares}, segmentation_type="FRACTIONAL", max_fractional_value=200)
    counted = sum(int(mask.sum()) for _, mask in SegFrames(fractional).masks(1))
    assert counted == np.count_nonzero(BALL) - 1
