"""Broken DICOM files, series and zips, made by code, each with the words that its recorded reason must hold.

``SERIES`` go to Orthanc or to a folder, ``FILES`` and ``ZIPS`` to the watch folder and to ``medai process``. Nothing
here is large: what claims gigabytes is small or sparse.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_cases import slice_of, to_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

MIB = 1024**2
DEFLATED_UID = b"1.2.840.10008.1.2.1.99\0"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """``make`` gets the study's name, which seeds its UIDs, and gives its files."""

    name: str
    make: Callable[[str], Sequence[bytes]]
    words: str

    def __str__(self) -> str:
        return self.name


@contextmanager
def peak_of() -> Iterator[Callable[[], int]]:
    """What this process's memory grows by while the block runs, in bytes, at the most; ask when it has ended."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before, grown = _memory("VmRSS"), [0]
    try:
        yield lambda: grown[0]
    finally:
        grown[0] = _memory("VmHWM") - before


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


# -- bytes


def with_raw(data: bytes, keyword: str, raw: bytes) -> bytes:
    """The file with other bytes as an attribute's value (of a short VR), whatever its VR would allow."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    at = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    (length,) = struct.unpack_from("<H", data, at + 6)
    raw += b" " * (len(raw) % 2)
    return data[: at + 6] + struct.pack("<H", len(raw)) + raw + data[at + 8 + length :]


def before_pixels(data: bytes, extra: bytes) -> bytes:
    """The file with more attributes in front of its Pixel Data."""
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"O")
    return data[:at] + extra + data[at:]


def nested(depth: int, *, explicit_length: bool = False) -> bytes:
    """A Request Attributes Sequence that holds one that holds one …"""
    if explicit_length:
        inner = b""
        for _ in range(depth):
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
            inner = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, len(item)) + item
        return inner
    begin = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def deflated(data: bytes, *, zeros: int) -> bytes:
    """The file in Deflated Explicit VR Little Endian, with a private attribute of so many zeros."""
    at = data.index(struct.pack("<HH", 0x0008, 0x0005), 132)  # Specific Character Set, the first of the data set
    meta = with_raw(data[:at], "TransferSyntaxUID", DEFLATED_UID)
    (length,) = struct.unpack_from("<I", meta, 140)
    meta = meta[:140] + struct.pack("<I", length + len(meta) - at) + meta[144:]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head, tail = data[at:], struct.pack("<HH2sHI", 0x7FE1, 0x0010, b"OB", 0, zeros)
    body = [packer.compress(head + tail)]
    body += [packer.compress(bytes(MIB)) for _ in range(zeros // MIB)]
    return meta + b"".join([*body, packer.flush()])


def jpeg_2000(rows: int, columns: int) -> bytes:
    """A codestream that claims a size and holds nothing."""
    siz = struct.pack(">HIIIIIIIIH", 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + bytes([15, 1, 1])
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz + bytes(40) + b"\xff\xd9"


def rle_bomb(size: int) -> bytes:
    """One segment of runs of 128 zeros."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + bytes([129, 0]) * (size // 128)


def compressed(dataset: Dataset, syntax: str, frame: bytes, **changes: Any) -> bytes:
    """The image with compressed pixels that are what we say."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return to_bytes(dataset)


def sparse(path: Path, size: int, start: bytes = b"") -> Path:
    """A file that begins so, is as long as that and takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def huge_image(study: str) -> bytes:
    """The beginning of an image whose Pixel Data claims 4 GB."""
    whole = to_bytes(slice_of(0, study=study))
    at = whole.index(struct.pack("<HH", 0x7FE0, 0x0010) + b"OW")
    return whole[: at + 8] + struct.pack("<I", 0xFFFFFFF0)


# -- series


def _all(change: Callable[[bytes], bytes], slices: int = 5) -> Callable[[str], list[bytes]]:
    return lambda study: [change(to_bytes(slice_of(n, study=study))) for n in range(slices)]


def _third(change: Callable[[bytes], bytes]) -> Callable[[str], list[bytes]]:
    return lambda study: [change(d) if n == 2 else d for n, d in enumerate(_all(lambda d: d)(study))]


def _raw(keyword: str, raw: bytes) -> Callable[[str], list[bytes]]:
    return _all(lambda data: with_raw(data, keyword, raw))


def _set(**changes: Any) -> Callable[[str], list[bytes]]:
    return lambda study: [to_bytes(slice_of(n, study=study, **changes)) for n in range(5)]


def _each(**changes: Callable[[int], Any]) -> Callable[[str], list[bytes]]:
    return lambda study: [
        to_bytes(slice_of(n, study=study, **{key: make(n) for key, make in changes.items()})) for n in range(5)
    ]


def _gigapixels(study: str) -> list[bytes]:
    return [
        compressed(slice_of(n, study=study), JPEG2000Lossless, jpeg_2000(60000, 60000), Rows=60000, Columns=60000)
        for n in range(5)
    ]


def _other_size(study: str) -> list[bytes]:
    return [compressed(slice_of(n, study=study), JPEG2000Lossless, jpeg_2000(60000, 60000)) for n in range(5)]


def _rle(study: str) -> list[bytes]:
    return [compressed(slice_of(n, study=study), RLELossless, rle_bomb(512 * MIB)) for n in range(3)]


def _without_pixels(study: str) -> list[bytes]:
    images = [slice_of(n, study=study) for n in range(5)]
    del images[3].PixelData
    return [to_bytes(image) for image in images]


def _two_series_at_one_place(study: str) -> list[bytes]:
    return [to_bytes(slice_of(n // 2, study=study, SOPInstanceUID=f"2.25.{n + 1}{len(study)}")) for n in range(10)]


SERIES = (
    Broken(name="rows_lie", make=_set(Rows=4096, Columns=4096), words="was cut short: it has 512 of"),
    Broken(name="rows_lie_small", make=_set(Rows=4, Columns=4), words="but it has 512 bytes"),
    Broken(name="rows_missing", make=_set(Rows=None), words="number of rows"),
    Broken(name="columns_zero", make=_set(Columns=0), words="16 x 0 pixels"),
    Broken(name="gigapixels", make=_gigapixels, words="would unpack to 33.5 GiB"),
    Broken(name="codestream_of_another_size", make=_other_size, words="but 60000 x 60000 are compressed in it"),
    Broken(name="rle_bomb", make=_rle, words="unpack to more than the size that it says"),
    Broken(name="frames_lie", make=_set(NumberOfFrames=1_000_000), words="multi-frame images without positions"),
    Broken(name="frames_negative", make=_set(NumberOfFrames=-7), words="Number of Frames below zero"),
    Broken(name="bits_lie", make=_set(BitsAllocated=64), words="does not say how its pixels are stored"),
    Broken(name="spacing_nan", make=_raw("PixelSpacing", b"nan\\nan"), words="Pixel Spacing"),
    Broken(name="spacing_infinite", make=_raw("PixelSpacing", b"1e999\\1e999"), words="Pixel Spacing"),
    Broken(name="spacing_zero", make=_raw("PixelSpacing", b"0\\0"), words="Pixel Spacing of 0 x 0 mm"),
    Broken(name="spacing_negative", make=_raw("PixelSpacing", b"-1\\-1"), words="Pixel Spacing of -1 x -1 mm"),
    Broken(name="spacing_huge", make=_raw("PixelSpacing", b"1e30\\1e30"), words="Pixel Spacing of 1e+30 x 1e+30 mm"),
    Broken(name="spacing_text", make=_raw("PixelSpacing", b"one\\one"), words="Pixel Spacing"),
    Broken(name="spacing_alone", make=_raw("PixelSpacing", b"3"), words="Pixel Spacing"),
    Broken(name="position_nan", make=_raw("ImagePositionPatient", b"0\\0\\nan"), words="Image Position"),
    Broken(name="position_far", make=_raw("ImagePositionPatient", b"0\\0\\9e99"), words="Image Position"),
    Broken(
        name="kilometres_long",
        make=_each(ImagePositionPatient=lambda n: [0, 0, 9000.0 * n]),
        words="the volume would be 45 m long",
    ),
    Broken(
        name="orientation_zero", make=_raw("ImageOrientationPatient", b"0\\0\\0\\0\\0\\0"), words="Image Orientation"
    ),
    Broken(
        name="orientation_infinite",
        make=_raw("ImageOrientationPatient", b"inf\\0\\0\\0\\1\\0"),
        words="Image Orientation",
    ),
    Broken(name="slope_zero", make=_set(RescaleSlope="0", RescaleIntercept="0"), words="Rescale Slope of 0"),
    Broken(name="slope_huge", make=_set(RescaleSlope="1e300", RescaleIntercept="0"), words="Rescale Slope of 1e+300"),
    Broken(name="one_place", make=_each(ImagePositionPatient=lambda n: [0, 0, 0]), words="lie at the same place"),
    Broken(name="repeats", make=_two_series_at_one_place, words="lie at the same place"),
    Broken(
        name="frames_of_reference", make=_each(FrameOfReferenceUID=lambda n: f"2.25.{n}"), words="frames of reference"
    ),
    Broken(name="two_slices", make=_all(lambda d: d, slices=2), words="at least 3"),
    Broken(name="no_pixels", make=_without_pixels, words="no pixel data"),
    Broken(name="cut_short", make=_third(lambda data: data[:-300]), words="cut short"),
    Broken(name="syntax_unknown", make=_raw("TransferSyntaxUID", b"1.2.3.4.5.6"), words="something unknown"),
    Broken(
        name="deflate_bomb",
        make=lambda study: [deflated(to_bytes(slice_of(n, study=study)), zeros=128 * MIB) for n in range(3)],
        words="deflated data set that unpacks to more than",
    ),
    Broken(
        name="nested", make=_third(lambda data: before_pixels(data, nested(2000))), words="nested more than 32 deep"
    ),
    Broken(
        name="many_attributes",
        make=_third(lambda data: before_pixels(data, b"\x41\x00\x10\x00LO\0\0" * 600_000)),
        words="more than 500000 attributes",
    ),
)
ORTHANC_DIES_OF = frozenset({"nested"})
"""Cases that must not be sent to Orthanc 1.10 by HTTP: it ends."""
ORTHANC_REFUSES = frozenset({"syntax_unknown"})
LIMITS = {"max_image_gb": 0.1, "max_series_gb": 4.0}
"""[worker] settings with which every case above gives its reason."""


# -- single files


FILES: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("empty", lambda: b"", "the file is empty"),
    ("text", lambda: b"hello", "cannot read it as DICOM"),
    ("picture", lambda: b"\xff\xd8\xff\xe0" + bytes(500), "cannot read it as DICOM"),
    ("cut_in_the_header", lambda: to_bytes(slice_of(0, study="cut"))[:300], "cannot read it as DICOM"),
    ("nested", lambda: before_pixels(to_bytes(slice_of(0, study="n")), nested(60)), "nested more than 32 deep"),
    (
        "nested_by_length",
        lambda: before_pixels(to_bytes(slice_of(0, study="nl")), nested(60, explicit_length=True)),
        "nested more than 32 deep",
    ),
    ("deflate_bomb", lambda: deflated(to_bytes(slice_of(0, study="d")), zeros=128 * MIB), "deflated data set"),
    (
        "attributes",
        lambda: before_pixels(to_bytes(slice_of(0, study="at")), b"\x41\x00\x10\x00LO\0\0" * 600_000),
        "more than 500000 attributes",
    ),
)
"""Name, content, and the words of the watch folder's reason."""


# -- zips


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def ratio() -> bytes:
    """Two members that unpack to 800 MB each, as the directory of such a zip says it."""
    data = bytearray(packed({"a.dcm": bytes(MIB), "b.dcm": bytes(MIB)}, zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    for entry in (at, data.index(b"PK\x01\x02", at + 4)):
        data[entry + 24 : entry + 28] = struct.pack("<I", 800 * MIB)
    return bytes(data)


def overlapping() -> bytes:
    """A directory with many entries for the same bytes."""
    data = packed({"a": bytes(1000)}, zipfile.ZIP_DEFLATED)
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry, count = data[at:end], 50
    record = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, at, 0)
    return data[:at] + entry * count + record


def crowded(count: int = 300_000) -> bytes:
    """A zip whose directory has more entries than are taken; none of them has content."""
    entry = (
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    )
    local = struct.pack("<4s2B4HL2L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0x21, 0, 0, 0, 1, 0) + b"a"
    directory = entry * count
    record = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), len(local), 0)
    return local + directory + record


def lying() -> bytes:
    """A member that says that it has 100 bytes and unpacks to 50 MB."""
    data = bytearray(packed({"a.dcm": bytes(50 * MIB)}, zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    data[22:26] = struct.pack("<I", 100)
    return bytes(data)


def encrypted() -> bytes:
    """A member with the flag of a password."""
    data = bytearray(packed({"a.dcm": b"x" * 50}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def linked() -> bytes:
    """A symbolic link, as Unix zips keep it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link.dcm")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def misnamed() -> bytes:
    """A name that claims to be UTF-8 and is not."""
    data = packed({"n\u00e4me.dcm": b"x" * 50})
    return data.replace("n\u00e4me".encode(), b"n\xff\xfeme")


ZIPS: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("ratio", ratio, "times its size"),
    ("overlapping", overlapping, "overlap"),
    ("crowded", crowded, "at most 200000 are accepted"),
    ("lying", lying, "it is damaged in the zip"),
    ("encrypted", encrypted, "it is encrypted"),
    ("linked", linked, "it is a link"),
    ("misnamed", misnamed, "damaged or not finished"),
    ("cut", lambda: packed({"a.dcm": b"x" * 5000})[:3000], "damaged or not finished"),
    ("in_a_zip", lambda: packed({"in.zip": packed({"a.dcm": b"x"})}), "zip"),
    ("bzip2", lambda: packed({"a.dcm": bytes(20 * MIB)}, zipfile.ZIP_BZIP2), "compression method is not supported"),
    ("lzma_bomb", lambda: packed({"a.dcm": bytes(110 * MIB)}, zipfile.ZIP_LZMA), "larger than"),
    ("nothing", lambda: packed({}), "no file"),
)
"""Name, content, and the words of the watch folder's reason (with a limit of 0.1 GiB for a file)."""
