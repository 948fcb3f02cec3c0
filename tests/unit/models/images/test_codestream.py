"""A compressed image tells its size before a decoder sees it."""

from __future__ import annotations

import pytest

from medai.models.images.codestream import Codestream, is_whole, read_header, rle_size


def jpeg(marker: int, *, before: bytes = b"") -> bytes:
    """A frame header of 12 bits, 300 rows, 200 columns, 1 component."""
    frame = bytes([0xFF, marker]) + (17).to_bytes(2, "big") + bytes([12]) + (300).to_bytes(2, "big")
    return b"\xff\xd8" + before + frame + (200).to_bytes(2, "big") + bytes([1, 0, 0, 0])


def jpeg_2000(*, left: int = 0, top: int = 0, signed: bool = False) -> bytes:
    sizes = b"".join(value.to_bytes(4, "big") for value in (200 + left, 300 + top, left, top, 0, 0, 0, 0))
    bits = 11 | (0x80 if signed else 0)
    return (
        b"\xff\x4f\xff\x51" + (41).to_bytes(2, "big") + b"\0\0" + sizes + (1).to_bytes(2, "big") + bytes([bits, 1, 1])
    )


EXPECTED = Codestream(rows=300, columns=200, components=1, bits=12)


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC3, 0xF7])
def test_jpeg_lossless_jpeg_and_jpeg_ls_tell_their_size(marker: int) -> None:
    assert read_header(jpeg(marker)) == EXPECTED


def test_tables_comments_and_fill_bytes_before_the_frame_header_are_passed_over() -> None:
    table = b"\xff\xc4" + (5).to_bytes(2, "big") + b"\1\2\3"
    assert read_header(jpeg(0xC3, before=table + b"\xff")) == EXPECTED


@pytest.mark.parametrize("boxes", [b"", b"\0" * 85])
def test_jpeg_2000_tells_its_size_bare_and_in_boxes(boxes: bytes) -> None:
    assert read_header(boxes + jpeg_2000()) == EXPECTED
    assert read_header(boxes + jpeg_2000(left=7, top=9, signed=True)) == EXPECTED, "an offset is no part of the size"


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\2", b"GIF89a" * 9, jpeg_2000()[:30]])
def test_what_has_no_frame_header_has_no_size(data: bytes) -> None:
    assert read_header(data) is None


def test_an_image_is_whole_with_its_end_marker_padded_or_not() -> None:
    assert is_whole(b"image\xff\xd9")
    assert is_whole(b"image\xff\xd9" + b"\0" * 9)
    assert not is_whole(b"image\xff\xd9" + b"more")
    assert not is_whole(b"image")


def test_runs_are_counted_without_unpacking_them() -> None:
    literal, run, nothing = bytes([2]) + b"abc", bytes([257 - 100]) + b"x", bytes([128])
    assert rle_size(b"\0" * 64 + literal + nothing + run, most=1000) == 3 + 100


def test_counting_stops_where_far_too_much_comes_out() -> None:
    bomb = b"\0" * 64 + bytes([129, 0]) * 1_000_000
    assert rle_size(bomb, most=1000) < 4000
