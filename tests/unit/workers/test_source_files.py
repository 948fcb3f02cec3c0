"""Finding the series in what a person points at: a folder with anything in it, a zip, one file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_cases import slice_of, to_bytes
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from medai.router.errors import PermanentError
from medai.workers import source_files
from medai.workers.source_files import read_series


def files(count: int, *, series: int = 1, **changes: Any) -> dict[str, bytes]:
    """Names are in the opposite order of the slices, as file systems have it."""
    return {
        f"s{series}/{count - n:03}": to_bytes(slice_of(n, study="a", series=series, **changes)) for n in range(count)
    }


def folder(path: Path, *parts: dict[str, bytes]) -> Path:
    for name, data in ((name, data) for part in parts for name, data in part.items()):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def packed(path: Path, *parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for part in parts:
            for name, data in part.items():
                archive.writestr(name, data)
    return path


def numbers(images: Iterable[Any]) -> set[int]:
    return {int(image.InstanceNumber) for image in images}


RUBBISH = {
    "README.txt": b"hello", "s1/.DS_Store": b"\0\0\0\1", "empty": b"", "photo.dcm": b"\xff\xd8\xff\xe0",
    "s1/cut.dcm": to_bytes(slice_of(77, study="a"))[:139],
}  # fmt: skip


def test_the_series_with_the_most_images_is_taken_with_its_pixels_and_the_reason(tmp_path: Path) -> None:
    chosen = read_series(folder(tmp_path, files(3), files(5, series=2)))
    assert numbers(chosen.images) == {1, 2, 3, 4, 5}
    assert all(len(image.PixelData) == 512 for image in chosen.images)
    assert chosen.reason == "series 2: 5 images, the most of 2 series"


def test_a_series_may_be_asked_for_by_its_number(tmp_path: Path) -> None:
    chosen = read_series(folder(tmp_path, files(3), files(5, series=2)), number=1)
    assert chosen.reason == "series 1: 3 images, as asked, of 2 series"
    with pytest.raises(PermanentError, match="no series 7 here; there are 1, 2"):
        read_series(tmp_path, number=7)


def test_what_is_not_dicom_is_passed_over_however_deep_it_lies(tmp_path: Path) -> None:
    chosen = read_series(folder(tmp_path, RUBBISH, {f"deep/er/{k}": v for k, v in files(3).items()}))
    assert numbers(chosen.images) == {1, 2, 3}
    assert chosen.reason == "series 1: 3 images; passed over: 5 files that are not DICOM"


def test_a_folder_without_images_says_what_it_holds_instead(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"no image series \(0 other DICOM objects, 5 files that are not DICOM\)"):
        read_series(folder(tmp_path / "a", RUBBISH))
    with pytest.raises(PermanentError, match=r"no image series \(2 other DICOM objects, 0 files"):
        read_series(folder(tmp_path / "b", files(2, Modality="SR")))
    (tmp_path / "c").mkdir()
    with pytest.raises(PermanentError, match=r"no image series \(0 other DICOM objects, 0 files"):
        read_series(tmp_path / "c")


def test_results_and_secondary_captures_are_not_taken_for_the_study(tmp_path: Path) -> None:
    seg, capture = files(9, series=90, Modality="SEG"), files(8, series=91, Modality="OT")
    chosen = read_series(folder(tmp_path, files(3), seg, capture))
    assert chosen.reason == "series 1: 3 images"


def test_a_single_file_is_a_series_of_one(tmp_path: Path) -> None:
    folder(tmp_path, {"one.dcm": to_bytes(slice_of(0, study="a"))})
    assert len(read_series(tmp_path / "one.dcm").images) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_gives_what_the_folder_gives_and_leaves_nothing_on_the_disk(tmp_path: Path, method: int) -> None:
    path = packed(tmp_path / "study.zip", RUBBISH, files(3), files(5, series=2), method=method)
    chosen = read_series(path)
    assert numbers(chosen.images) == {1, 2, 3, 4, 5}
    assert chosen.reason == "series 2: 5 images, the most of 2 series; passed over: 5 files that are not DICOM"
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_a_zip_that_point_elsewhere_write_nothing_anywhere(tmp_path: Path) -> None:
    names = ("../../above.dcm", "/etc/absolute.dcm", "..\\windows.dcm")
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    chosen = read_series(packed(inside / "study.zip", dict(zip(names, files(3).values(), strict=True))))
    assert numbers(chosen.images) == {1, 2, 3}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [inside / "study.zip"]


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "bomb.zip", files(3))
    monkeypatch.setattr(source_files, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(PermanentError, match="unpacks to 0.0 GiB; the limit"):
        read_series(path)


def test_a_zip_that_is_damaged_inside_names_the_file(tmp_path: Path) -> None:
    path = packed(tmp_path / "study.zip", {"a.dcm": b"x" * 500}, method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"x" * 500, b"x" * 499 + b"y"))
    with pytest.raises(PermanentError, match=r"a\.dcm in the zip: it is damaged"):
        read_series(path)


def test_a_zip_with_a_password_is_explained(tmp_path: Path) -> None:
    path = packed(tmp_path / "study.zip", {"a.dcm": b"x" * 50}, method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # general purpose bit 0: encrypted
    data[6] |= 1
    path.write_bytes(data)
    with pytest.raises(PermanentError, match=r"a\.dcm in the zip: it is encrypted"):
        read_series(path)


def bare(data: bytes) -> bytes:
    """Without preamble and file meta information."""
    with BytesIO(data) as file:
        image = pydicom.dcmread(file)
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = image.original_encoding[1], image.original_encoding[0]
    del image.file_meta
    write_dataset(out, image)
    return bytes(out.getvalue())


@pytest.mark.parametrize("strip", [bare, lambda data: data[132:]], ids=["no meta", "no preamble"])
def test_files_without_their_beginning_are_read_as_the_others(tmp_path: Path, strip: Any) -> None:
    whole = files(6)
    half = {name: strip(data) if number % 2 else data for number, (name, data) in enumerate(whole.items())}
    chosen = [read_series(folder(tmp_path / "half", half)), read_series(packed(tmp_path / "half.zip", half))]
    expected = read_series(folder(tmp_path / "whole", whole))
    for found in chosen:
        assert found.reason == expected.reason == "series 1: 6 images"
        assert {image.PixelData for image in found.images} == {image.PixelData for image in expected.images}


def test_slices_that_are_each_a_series_are_refused_with_the_reason(tmp_path: Path) -> None:
    scattered = {f"{n}": to_bytes(slice_of(n, study="a", SeriesInstanceUID=f"1.2.3.{n + 1}")) for n in range(4)}
    with pytest.raises(PermanentError, match="4 images of series 1 are each a series of their own"):
        read_series(folder(tmp_path, scattered))
    assert read_series(folder(tmp_path, files(5, series=2))).reason == "series 2: 5 images, the most of 5 series"


@pytest.mark.parametrize("frames", [b"ab", b"1\\", b"1.5"])
def test_a_number_of_frames_that_is_none_costs_no_other_series(tmp_path: Path, frames: bytes) -> None:
    data = to_bytes(slice_of(0, study="a", series=7, NumberOfFrames=12))
    at = data.index(b"\x28\x00\x08\x00IS") + 8
    broken = {"odd": data[:at] + frames.ljust(2)[:2] + data[at + 2 :]}
    assert read_series(folder(tmp_path, files(3), broken)).reason == "series 1: 3 images, the most of 2 series"
