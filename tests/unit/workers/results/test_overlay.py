"""The slices with contours: the right ones, in the series' own pixels, without the patient's name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medai.workers.results.drawing import banner_height
from medai.workers.results.overlay import encode_overlay, shown


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


@pytest.fixture(scope="module")
def overlay(make: Any, source: Any) -> Any:
    return encode_overlay(make.context(source))


def test_slices_that_hold_something_and_their_neighbours_are_shown() -> None:
    labels = np.zeros((9, 2, 2), dtype=np.uint8)
    labels[3:5, 0, 0] = 1
    assert shown(labels) == [2, 3, 4, 5]
    assert shown(np.zeros_like(labels)) == [4], "of an empty mask the middle one"


def test_each_frame_is_a_slice_and_names_it(source: Any, overlay: Any) -> None:
    assert overlay.NumberOfFrames == len(overlay.FrameLabelVector) == len(overlay.SourceImageSequence) == 10
    assert overlay.FrameLabelVector[0] == "Slice 2 of 12"
    assert overlay.SourceImageSequence[0].ReferencedSOPInstanceUID == source.headers[1].SOPInstanceUID


def test_a_contour_lies_on_the_edge_of_its_segment(make: Any, source: Any, overlay: Any) -> None:
    times = overlay.Columns // source.volume.geometry.shape[2]
    strip = banner_height(overlay.Columns)
    colour = np.asarray(make.segmentation(source).segments[0].colour)
    frame = overlay.pixel_array[4].astype(int)[strip:]
    rows, columns = np.nonzero(make.segmentation(source).labels[5] == 1)
    middle_row = (rows.min() + rows.max() + 1) * times // 2
    line = np.flatnonzero(np.abs(frame[middle_row] - colour).sum(axis=1) < 60)
    for edge in (columns.min() * times, (columns.max() + 1) * times):
        assert np.abs(line - edge).min() <= 1
    assert overlay.Rows == source.volume.geometry.shape[1] * times + strip
    assert float(overlay.PixelSpacing[0]) == pytest.approx(1.5 / times)


def test_it_is_the_same_for_any_patient_and_says_so(make: Any, source: Any, overlay: Any) -> None:
    assert overlay.BurnedInAnnotation == "NO"
    headers = tuple(make.copy(header, PatientName="Other^Name", PatientID="X") for header in source.headers)
    other = replace(source, headers=headers)
    made = encode_overlay(make.context(other, segmentation=make.segmentation(source), job=make.job(source)))
    assert made.PixelData == overlay.PixelData


def test_it_is_compressed_without_loss(overlay: Any) -> None:
    assert overlay.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    assert overlay.PhotometricInterpretation == "YBR_RCT"
    assert overlay.LossyImageCompression == "00"
