"""What a compressed image says of itself, read before a decoder sees it.

Some decoders end the whole process on an image whose size is not the one in the DICOM header (GDCM 3.2 aborts on
JPEG-LS), and some fill a cut image with noise. So size, components and end are checked here first.
Next: decode.py.
"""

from __future__ import annotations

from dataclasses import dataclass

START = b"\xff\xd8"
END = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS (ITU-T T.81 table B.1, T.87), EOC of JPEG 2000 (T.800 table A.2)."""
JPEG_2000 = b"\xff\x4f\xff\x51"
"""SOC and SIZ, with which each JPEG 2000 codestream starts (T.800 A.4.1, A.5.1)."""
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""SOF markers: T.81 table B.1, and SOF55 of JPEG-LS."""


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 image."""

    rows: int
    columns: int
    components: int
    bits: int


def is_whole(data: bytes) -> bool:
    """Whether the image ends with its end marker (padding may follow)."""
    return data[-64:].rstrip(b"\x00").endswith(END)


def read_header(data: bytes) -> Codestream | None:
    """The frame header; None where there is none."""
    start = data.find(JPEG_2000, 0, 1024)  # some writers wrap the codestream in JP2 boxes
    if start >= 0:
        return _jpeg_2000(data[start + 4 :])
    return _jpeg(data) if data.startswith(START) else None


def rle_size(data: bytes, *, most: int) -> int:
    """Bytes that an RLE frame unpacks to (PS3.5 annex G), counted without unpacking; stops soon after ``most``."""
    total, at = 0, 64  # behind the header of segment offsets
    while at < len(data) and total <= most + most // 8 + 1024:
        count = data[at]
        if count < 128:
            total, at = total + count + 1, at + count + 2
        elif count > 128:
            total, at = total + 257 - count, at + 2
        else:
            at += 1
    return total


def _jpeg_2000(segment: bytes) -> Codestream | None:
    # Lsiz 2, Rsiz 2, Xsiz 4, Ysiz 4, XOsiz 4, YOsiz 4, four more of 4, Csiz 2, Ssiz 1.
    if len(segment) < 39:
        return None
    right, bottom, left, top = (int.from_bytes(segment[at : at + 4], "big") for at in (4, 8, 12, 16))
    return Codestream(
        rows=bottom - top,
        columns=right - left,
        components=int.from_bytes(segment[36:38], "big"),
        bits=(segment[38] & 0x7F) + 1,
    )


def _jpeg(data: bytes) -> Codestream | None:
    at = len(START)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in FRAME_HEADERS:
            rows, columns = (int.from_bytes(data[place : place + 2], "big") for place in (at + 5, at + 7))
            return Codestream(rows=rows, columns=columns, components=data[at + 9], bits=data[at + 4])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
