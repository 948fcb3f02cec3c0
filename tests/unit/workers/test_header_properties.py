"""Whatever bytes a file holds, it is read or refused in words; and a sound series always makes a volume."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from broken_cases import before_pixels, with_raw
from dicom_cases import slice_of, study_files, to_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medai.models.errors import ModelsError
from medai.models.images.preprocess import series_to_volume
from medai.router.errors import PermanentError, TemporaryError
from medai.router.files import dicom_scan
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import WorkerSettings
from medai.workers import fetch, pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom tells of what is odd in these files

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
OURS = (ModelsError, PermanentError, TemporaryError)
SERIES = study_files("a", slices=4, RescaleSlope="1", RescaleIntercept="0", NumberOfFrames="1")
IMPORTANT = (
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "NumberOfFrames", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "InstanceNumber",
    "PhotometricInterpretation", "Modality", "ImageType", "FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID",
    "TransferSyntaxUID", "SpecificCharacterSet", "SliceThickness",
)  # fmt: skip
VRS = st.sampled_from(
    [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "OB",
        "OW",
        "PN",
        "SH",
        "SL",
        "SQ",
        "SS",
        "ST",
        "TM",
        "UC",
        "UI",
        "UL",
        "UN",
        "US",
        "UT",
        "XX",
    ]
)
NUMBERS = st.one_of(
    st.floats(width=64).map(repr),
    st.integers().map(str),
    st.sampled_from(["nan", "-inf", "1e999", "1e-999", "", "1,5", "-0"]),
)
TEXTS = st.one_of(
    st.binary(max_size=40),
    st.lists(NUMBERS, max_size=7).map(lambda parts: "\\".join(parts).encode()),
    st.integers(min_value=0, max_value=2**32 - 1).map(lambda n: struct.pack("<I", n)),
    st.integers(min_value=0, max_value=2**16 - 1).map(lambda n: struct.pack("<H", n)),
)


class OneFile:
    """Orthanc with one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def file(self, name: str) -> bytes:
        return self.data


def read(data: bytes) -> Dataset:
    return fetch._read(cast(Orthanc, OneFile(data)), "1", 2**26)[0]


def prepared(files: list[bytes]) -> None:
    """Read them all; only our own errors may come out."""
    try:
        stack = pipeline.prepare([read(data) for data in files], WorkerSettings(max_series_gb=0.01))
    except OURS:
        return
    assert stack.volume.voxels.shape == stack.volume.geometry.shape


@EXAMPLES
@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for start in (b"", bytes(128) + b"DICM"):
        with pytest.raises(PermanentError):
            read(start + data)


@EXAMPLES
@given(st.data())
def test_a_file_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    file = bytearray(SERIES[1])
    for place, byte in data.draw(
        st.dictionaries(st.integers(132, len(file) - 1), st.integers(0, 255), max_size=8)
    ).items():
        file[place] = byte
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(file))))
    prepared([SERIES[0], bytes(file[:cut]), *SERIES[2:]])


@EXAMPLES
@given(st.sampled_from(IMPORTANT), TEXTS, st.booleans())
def test_an_attribute_with_any_value_is_read_or_refused(keyword: str, raw: bytes, everywhere: bool) -> None:
    prepared([with_raw(data, keyword, raw) if everywhere or n == 1 else data for n, data in enumerate(SERIES)])


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), VRS, st.binary(max_size=30)), min_size=1, max_size=6))
def test_any_attributes_beside_the_others_are_read_or_refused(extra: list[tuple[int, str, bytes]]) -> None:
    made = b"".join(
        struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        + (
            struct.pack("<HI", 0, len(raw))
            if vr in ("OB", "OW", "SQ", "UN", "UT", "UC")
            else struct.pack("<H", len(raw))
        )
        + raw
        for tag, vr, raw in extra
    )
    prepared([before_pixels(data, made) if n == 1 else data for n, data in enumerate(SERIES)])


@EXAMPLES
@given(st.binary(max_size=600), st.booleans())
def test_the_look_at_the_structure_never_fails_and_ends(data: bytes, implicit: bool) -> None:
    syntax = b"1.2.840.10008.1.2\0" if implicit else b"1.2.840.10008.1.2.1\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    many = b"\xfe\xff\x00\xe0\0\0\0\0" * 40  # so that it looks at all
    assert isinstance(dicom_scan.refusal(bytes(128) + b"DICM" + meta + data + many, unpacked_limit=2**20), str)


@EXAMPLES
@given(
    size=st.integers(2, 24),
    count=st.integers(3, 12),
    spacing_mm=st.floats(0.05, 9.0),
    increment_mm=st.floats(0.2, 20.0),
    origin_mm=st.tuples(*[st.floats(-500, 500)] * 3),
    slope=st.floats(1e-3, 1e3),
    intercept=st.floats(-2000, 2000),
    order=st.randoms(use_true_random=False),
)
def test_a_sound_series_always_makes_a_volume(
    size: int,
    count: int,
    spacing_mm: float,
    increment_mm: float,
    origin_mm: Any,
    slope: float,
    intercept: float,
    order: Any,
) -> None:
    def text(value: float) -> str:
        return f"{value:.8g}"[:16]

    x, y, z = origin_mm
    images = [
        slice_of(
            n, study="s", size=size, PixelSpacing=[text(spacing_mm)] * 2, RescaleSlope=text(slope), RescaleIntercept=text(intercept),
            ImagePositionPatient=[text(x), text(y), text(z + n * increment_mm)],
        )
        for n in range(count)
    ]  # fmt: skip
    order.shuffle(images)
    volume = series_to_volume([read(to_bytes(image)) for image in images]).volume
    assert volume.voxels.shape == (count, size, size)
    assert volume.geometry.spacing_mm[2] == pytest.approx(increment_mm, rel=0.01, abs=1e-3)
