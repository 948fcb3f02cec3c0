"""Pixels come out exact, small and in order, or with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import compress
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medai.models.errors import UnreadableImage
from medai.models.images.preprocess import series_to_volume

Series = Callable[..., list[Dataset]]


def refusal(series: list[Dataset]) -> str:
    with pytest.raises(UnreadableImage) as caught:
        series_to_volume(series)
    return str(caught.value)


def test_hounsfield_units_are_int16_in_slice_order_and_pixel_data_is_gone(make_series: Series) -> None:
    stack = series_to_volume(list(reversed(make_series())))
    assert stack.volume.voxels.dtype == np.int16
    assert stack.volume.voxels[:, 0, 0].tolist() == [-1023, -1022, -1021, -1020, -1019]
    assert stack.volume.unit == "HU"
    assert not any("PixelData" in dataset for dataset in stack.datasets)


def test_a_fractional_slope_gives_float32(make_series: Series) -> None:
    voxels = series_to_volume(make_series(RescaleSlope=0.5, RescaleIntercept=0)).volume.voxels
    assert voxels.dtype == np.float32
    assert voxels[:, 0, 0].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_each_slice_uses_its_own_slope(make_series: Series) -> None:
    series = make_series(Modality="MR", RescaleIntercept=0)
    series[4].RescaleSlope = 0.25
    voxels = series_to_volume(series).volume.voxels
    assert voxels[:, 0, 0].tolist() == [1, 2, 3, 4, 1.25]


def test_values_beyond_int16_stay_exact(make_series: Series) -> None:
    high = np.full((8, 10), 60000, dtype=np.uint16)
    mr = series_to_volume(make_series(stored=high, Modality="MR", RescaleSlope=None, RescaleIntercept=None)).volume
    assert (mr.voxels.dtype, mr.voxels.max(), mr.unit) == (np.uint16, 60000, "arbitrary")
    assert series_to_volume(make_series(stored=high)).volume.voxels.max() == 58976


def test_a_ct_in_other_units_is_not_called_hounsfield(make_series: Series) -> None:
    assert series_to_volume(make_series(RescaleType="Z_EFF")).volume.unit == "arbitrary"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_pixels_equal_uncompressed_ones(make_series: Series, syntax: Any) -> None:
    values = np.random.default_rng(1).integers(0, 4000, (64, 96)).astype(np.uint16)
    plain = series_to_volume(make_series(stored=values)).volume.voxels
    series = make_series(stored=values)
    for dataset in series:
        compress(dataset, syntax, generate_instance_uid=False)
    assert np.array_equal(series_to_volume(series).volume.voxels, plain)


def test_a_truncated_image_is_named(make_series: Series) -> None:
    series = make_series()
    series[3].PixelData = series[3].PixelData[:100]
    assert refusal(series) == "the image with Instance Number 4 was cut short: it has 100 of 160 bytes of pixels"


def test_a_truncated_codestream_is_named(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        compress(dataset, JPEGLSLossless, generate_instance_uid=False)
    whole = series[1].PixelData
    series[1].PixelData = encapsulate([whole[16:-20]])
    assert "Instance Number 2 was cut short" in refusal(series)


def test_damaged_compressed_pixels_are_named(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        compress(dataset, JPEGLSLossless, generate_instance_uid=False)
    series[2].PixelData = encapsulate([b"\xff\xd8" + b"\x00" * 60 + b"\xff\xd9"])
    assert "Instance Number 3: its compressed pixels are damaged" in refusal(series)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PixelData": None}, "has no pixel data"),
        ({"Rows": 4}, "says that it has 4 x 10 pixels (80 bytes), but it has 160 bytes"),
        ({"Rows": 60000, "Columns": 60000}, "was cut short"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour image"),
        ({"RescaleIntercept": None}, "Hounsfield units are unknown"),
        ({"RescaleSlope": 0}, "Rescale Slope of 0"),
        ({"BitsAllocated": None}, "does not say how its pixels are stored"),
    ],
)
def test_pixels_that_cannot_be_trusted_are_refused(make_series: Series, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(make_series(**changes))


def test_a_compressed_image_whose_size_is_not_the_header_s_is_refused(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        compress(dataset, JPEGLSLossless, generate_instance_uid=False)
        dataset.Rows = 16
    assert "says that it has 16 x 10 pixels, but 8 x 10 are compressed in it" in refusal(series)


def test_an_unknown_encoding_is_named(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        dataset.PixelData = encapsulate([b"\x00\x00\xff\xd9"])
    assert "MPEG2" in refusal(series)
