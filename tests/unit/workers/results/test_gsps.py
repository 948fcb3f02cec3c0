"""The presentation state: outlines on the right image and pixels, with the images' own rescaling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medai.workers.results.frames import headers_of
from medai.workers.results.gsps import LONGEST, encode_gsps
from medai.workers.results.source import Source


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def dressed(make: Any, source: Any, **values: Any) -> Any:
    return replace(source, headers=tuple(make.copy(header, **values) for header in source.headers))


def outlined(state: Any) -> Any:
    """Annotations with graphics, less the banner's."""
    return [item for item in state.GraphicAnnotationSequence if "GraphicObjectSequence" in item]


def test_each_segment_has_a_layer_and_its_outline_on_each_image_that_shows_it(make: Any, source: Any) -> None:
    state = encode_gsps(make.context(source))
    assert [layer.GraphicLayer for layer in state.GraphicLayerSequence] == ["SEGMENT_1", "SEGMENT_2", "AI_BANNER"]
    labels = make.segmentation(source).labels
    wanted = {
        (f"SEGMENT_{n}", source.headers[index].SOPInstanceUID)
        for n in (1, 2)
        for index in np.flatnonzero((labels == n).any(axis=(1, 2)))
    }
    told = {(item.GraphicLayer, item.ReferencedImageSequence[0].ReferencedSOPInstanceUID) for item in outlined(state)}
    assert told == wanted


def test_an_outline_runs_along_the_pixels_edges_and_is_closed(make: Any, source: Any) -> None:
    (line,) = outlined(encode_gsps(make.context(source)))[0].GraphicObjectSequence
    points = np.asarray(line.GraphicData).reshape(-1, 2)
    assert (line.GraphicType, line.GraphicAnnotationUnits, line.GraphicFilled) == ("POLYLINE", "PIXEL", "N")
    assert tuple(points[0]) == tuple(points[-1])
    rows, columns = np.nonzero(make.segmentation(source).labels[2] == 1)
    assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]


def test_the_banner_is_for_every_image(make: Any, source: Any) -> None:
    banner = encode_gsps(make.context(source)).GraphicAnnotationSequence[-1]
    assert banner.TextObjectSequence[0].UnformattedTextValue.startswith("AI, not for diagnostic use")
    assert "ReferencedImageSequence" not in banner


def test_of_an_enhanced_object_it_names_frames(make: Any, source: Any) -> None:
    stack = make.enhanced(source)
    headers, frames = headers_of(stack)
    state = encode_gsps(make.context(Source(headers=headers, volume=source.volume, frames=frames)))
    images = [item.ReferencedImageSequence[0] for item in outlined(state)]
    assert {item.ReferencedSOPInstanceUID for item in images} == {stack.datasets[0].SOPInstanceUID}
    assert images[0].ReferencedFrameNumber == len(headers) - 2
    assert (
        state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
        == stack.datasets[0].SOPInstanceUID
    )


def test_images_that_are_rescaled_alike_are_rescaled_so_here(make: Any, source: Any) -> None:
    state = encode_gsps(make.context(dressed(make, source, RescaleSlope="2", RescaleIntercept="-1024")))
    assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (2, -1024, "HU")
    (window,) = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (-600, 1500)


def test_images_that_are_rescaled_each_in_its_own_way_have_windows_of_their_own(make: Any) -> None:
    source = make.source(modality="MR")
    headers = [
        make.copy(header, RescaleSlope=str(n), RescaleIntercept="0") for n, header in enumerate(source.headers, 1)
    ]
    state = encode_gsps(make.context(replace(source, headers=tuple(headers))))
    assert "RescaleSlope" not in state
    widths = [item.WindowWidth for item in state.SoftcopyVOILUTSequence]
    assert len(widths) == len(headers)
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3)
    assert all(len(item.ReferencedImageSequence) == 1 for item in state.SoftcopyVOILUTSequence)


def test_an_image_whose_low_values_are_white_is_turned_round(make: Any) -> None:
    source = dressed(make, make.source(modality="MR"), PhotometricInterpretation="MONOCHROME1")
    state = encode_gsps(make.context(source))
    assert state.PresentationLUTShape == "INVERSE"
    assert "SoftcopyVOILUTSequence" not in state


def test_pixels_that_are_not_square_are_shown_so(make: Any, source: Any) -> None:
    (area,) = encode_gsps(make.context(source)).DisplayedAreaSelectionSequence
    assert [float(v) for v in area.PresentationPixelSpacing] == [1.5, 1.25]


def test_a_long_outline_is_parted_without_a_gap(make: Any) -> None:
    source = make.source(shape=(2, 200, 200))
    labels = np.zeros((2, 200, 200), dtype=np.uint8)
    labels[0, ::3], labels[0, 1::3, ::2], labels[0, :, 0] = 1, 1, 1  # combs on one handle
    state = encode_gsps(make.context(source, segmentation=replace(make.segmentation(source), labels=labels)))
    lines = [np.asarray(line.GraphicData).reshape(-1, 2) for line in outlined(state)[0].GraphicObjectSequence]
    assert len(lines) > 1
    assert max(map(len, lines)) == LONGEST
    for before, after in zip(lines, [*lines[1:], lines[0]], strict=True):
        assert tuple(before[-1]) == tuple(after[0])
