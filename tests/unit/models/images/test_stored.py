"""Bits, signs, padding and grey scales of other people's files give the values of their plain form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import compress
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medai.models.errors import UnreadableImage
from medai.models.images.preprocess import series_to_volume
from medai.models.images.stored import layout_of

Series = Callable[..., list[Dataset]]
HU = np.arange(-1000, -1000 + 80 * 30, 30).reshape(8, 10).repeat(4, axis=0).repeat(4, axis=1)
"""From air to bone."""


def voxels(series: list[Dataset]) -> np.ndarray[Any, Any]:
    return series_to_volume(series).volume.voxels


def refusal(series: list[Dataset]) -> str:
    with pytest.raises(UnreadableImage) as caught:
        series_to_volume(series)
    return str(caught.value)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("junk", [0, 0x5000])
def test_twelve_signed_bits_are_read_whoever_extended_their_sign(
    make_series: Series, syntax: Any, extended: bool, junk: int
) -> None:
    stored = HU.astype(np.int16) if extended else ((HU & 0xFFF) | junk).astype(np.int16)
    series = make_series(stored=stored, RescaleIntercept=0)
    for dataset in series:
        if syntax is not None:
            compress(dataset, syntax, generate_instance_uid=False)  # as 16 bits, as archives do
        dataset.BitsStored, dataset.HighBit = 12, 11
    assert np.array_equal(voxels(series)[0], HU)


def test_bits_beyond_those_that_are_used_may_hold_an_overlay(make_series: Series) -> None:
    stored = ((HU + 1024) | 0x8000).astype(np.uint16)
    assert np.array_equal(voxels(make_series(stored=stored, BitsStored=12, HighBit=11))[0], HU)


def test_values_in_the_upper_bits_are_shifted_down(make_series: Series) -> None:
    stored = ((HU + 1024) << 4).astype(np.uint16)
    assert np.array_equal(voxels(make_series(stored=stored, BitsStored=12, HighBit=15))[0], HU)


def test_big_endian_values_with_unused_bits_are_read(make_series: Series) -> None:
    stored = ((HU + 1024) | 0xF000).astype(">u2")
    series = make_series(stored=stored, BitsStored=12, HighBit=11)
    for dataset in series:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    assert np.array_equal(voxels(series)[0], HU)


@pytest.mark.parametrize(("used", "high"), [(17, 16), (12, 10), (12, 16), (0, 0)])
def test_bits_that_contradict_each_other_are_refused(make_series: Series, used: int, high: int) -> None:
    assert "contradicts itself about how its pixels are stored" in refusal(make_series(BitsStored=used, HighBit=high))


def test_a_compressed_image_with_values_in_its_upper_bits_is_refused(make_series: Series) -> None:
    series = make_series(stored=((HU + 1024) << 4).astype(np.uint16))
    for dataset in series:
        compress(dataset, JPEGLSLossless, generate_instance_uid=False)
        dataset.BitsStored, dataset.HighBit = 12, 15
    assert "its High Bit is not the highest of its Bits Stored" in refusal(series)


def framed(value: int) -> np.ndarray[Any, Any]:
    """The image with a frame that was never scanned."""
    image = HU.copy()
    image[[0, -1], :] = image[:, [0, -1]] = value
    return image


@pytest.mark.parametrize("value", [-2000, -3024, -32768, 4095, 32000, -1024])
def test_padding_of_a_ct_is_air(make_series: Series, value: int) -> None:
    series = make_series(stored=framed(value).astype(np.int16), RescaleIntercept=0, PixelPaddingValue=value)
    assert np.array_equal(voxels(series)[2], framed(-1024))


def test_padding_is_known_whichever_type_its_value_was_written_with(make_series: Series) -> None:
    series = make_series(stored=framed(-2000).astype(np.int16), RescaleIntercept=0)
    for dataset in series:
        dataset.add_new(0x00280120, "US", 63536)
    assert np.array_equal(voxels(series)[0], framed(-1024))


def test_a_range_of_padding_is_air_too(make_series: Series) -> None:
    image = framed(-2000)
    image[0, :5] = -1990
    series = make_series(stored=image.astype(np.int16), RescaleIntercept=0)
    for dataset in series:
        dataset.add_new(0x00280120, "SS", -2000)
        dataset.add_new(0x00280121, "SS", -1980)
    assert np.array_equal(voxels(series)[0], framed(-1024))


def test_padding_that_nobody_announced_is_air_where_no_tissue_is_so_light(make_series: Series) -> None:
    assert np.array_equal(
        voxels(make_series(stored=framed(-3024).astype(np.int16), RescaleIntercept=0))[0], framed(-1024)
    )


def test_a_padding_value_that_tissue_has_is_believed_only_where_it_frames_the_image(make_series: Series) -> None:
    inside = HU.copy()
    water = int(HU[16, 20])
    series = make_series(stored=inside.astype(np.int16), RescaleIntercept=0, PixelPaddingValue=water)
    assert np.array_equal(voxels(series)[0], HU)
    series = make_series(stored=framed(0).astype(np.int16), RescaleIntercept=0, PixelPaddingValue=0)
    assert np.array_equal(voxels(series)[0], framed(-1024))


def test_padding_of_an_mr_is_its_least_value(make_series: Series) -> None:
    image = framed(0) + 1100
    image[[0, -1], :] = image[:, [0, -1]] = 65535
    changes = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None, "PixelPaddingValue": 65535}
    found = voxels(make_series(stored=image.astype(np.uint16), **changes))[0]
    least = image[1:-1, 1:-1].min()
    assert (found[0] == least).all()
    assert np.array_equal(found[1:-1, 1:-1], image[1:-1, 1:-1])


@pytest.mark.parametrize("signed", [True, False])
def test_an_inverted_mr_is_turned_and_an_inverted_ct_keeps_its_hounsfield_units(
    make_series: Series, signed: bool
) -> None:
    plain = (HU + 1000 - (1200 if signed else 0)).astype(np.int16 if signed else np.uint16)
    turned = (-1 - plain.astype(int) if signed else 4095 - plain.astype(int)).astype(plain.dtype)
    bits = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    mr = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    assert np.array_equal(voxels(make_series(stored=turned, **bits, **mr))[0], plain)
    ct = voxels(make_series(stored=plain, **bits, RescaleIntercept=0))[0]
    assert np.array_equal(ct, plain)


def test_an_inverted_pet_keeps_its_activity(make_series: Series) -> None:
    pet = make_series(stored=(HU + 1000).astype(np.uint16), Modality="PT", PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(voxels(pet)[0], HU - 24)


def test_a_slope_that_some_images_lost_is_refused(make_series: Series) -> None:
    series = make_series(Modality="MR", RescaleSlope=2.5, RescaleIntercept=0)
    del series[1].RescaleSlope, series[1].RescaleIntercept
    assert refusal(series).startswith("1 of 5 images have no Rescale Slope and Intercept, the others have")


def test_a_grey_scale_that_changes_along_the_series_is_refused(make_series: Series) -> None:
    series = make_series(Modality="MR")
    series[2].PhotometricInterpretation = "MONOCHROME1"
    assert refusal(series) == "some images of the series are stored inverted (MONOCHROME1) and some are not"


@pytest.mark.parametrize("block", [512, 1024, 2048])
@pytest.mark.parametrize("filler", [b"\x00", b" "])
def test_pixels_that_fill_a_block_are_read(make_series: Series, block: int, filler: bytes) -> None:
    series = make_series(stored=(HU + 1024).astype(np.uint16))
    for dataset in series:
        dataset.PixelData += filler * (-len(dataset.PixelData) % block)
    assert np.array_equal(voxels(series)[0], HU)


def test_columns_that_the_header_forgot_are_no_padding(make_series: Series) -> None:
    rows, columns = np.mgrid[:64, :64]
    image = (1000 * np.exp(-((rows - 32) ** 2 + (columns - 32) ** 2) / 200)).astype(np.uint16)
    image[-4:] = 0
    series = make_series(stored=image, Modality="MR")
    for dataset in series:
        dataset.Columns = 62
    assert "says that it has 64 x 62 pixels" in refusal(series)


def test_what_follows_the_pixels_and_is_not_one_byte_over_and_over_is_refused(make_series: Series) -> None:
    series = make_series()
    for dataset in series:
        dataset.PixelData += bytes(range(64))
    assert "but it has 224 bytes" in refusal(series)


def test_a_layout_tells_the_range_of_its_values(make_series: Series) -> None:
    (image, *_) = make_series(BitsStored=12, HighBit=11)
    assert layout_of(image, "x", measured=True).limits == (-2048, 2047)
    image.PixelRepresentation = 0
    assert layout_of(image, "x", measured=True).limits == (0, 4095)
