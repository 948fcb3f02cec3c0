"""Find one image series in a folder or zip of DICOM files, and say why it was taken.

Nothing of a zip is unpacked to disk; members that are not DICOM are passed over and counted. Next: process.py.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from router.errors import PermanentError
from workers.fetch import UNREADABLE

NOT_READ = frozenset({"SEG", "SR", "PR", "KO", "DOC", "OT", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE"})
MAX_UNPACKED_BYTES = 16 * 2**30
Opener = Any


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The images of one series, with pixels, and why it was this one."""

    images: list[Dataset]
    reason: str


def read_series(path: Path, *, number: int | None = None) -> Chosen:
    """The image series with the most images (or with SeriesNumber ``number``). Raises PermanentError."""
    found: dict[str, list[tuple[Any, Dataset]]] = {}
    passed_over = 0
    for source, header in _headers(path):
        if header is None or "SOPInstanceUID" not in header or "SeriesInstanceUID" not in header:
            passed_over += 1
        else:
            found.setdefault(str(header.SeriesInstanceUID), []).append((source, header))
    images = {uid: items for uid, items in found.items() if _readable(items[0][1])}
    if not images:
        raise PermanentError(
            f"{path} holds no image series ({sum(map(len, found.values()))} other DICOM objects, "
            f"{passed_over} files that are not DICOM)"
        )
    uid = _pick(images, number)
    why = f"series {images[uid][0][1].get('SeriesNumber', '?')}: {len(images[uid])} images"
    if len(images) > 1:
        why += f", the most of {len(images)} series" if number is None else f", as asked, of {len(images)} series"
    return Chosen(images=[_full(path, source) for source, _ in images[uid]], reason=why)


def _pick(images: dict[str, list[tuple[Any, Dataset]]], number: int | None) -> str:
    if number is None:
        return max(sorted(images), key=lambda uid: len(images[uid]))
    for uid, items in images.items():
        if str(items[0][1].get("SeriesNumber", "")) == str(number):
            return uid
    there = ", ".join(sorted(str(items[0][1].get("SeriesNumber", "?")) for items in images.values()))
    raise PermanentError(f"there is no series {number} here; there are {there}")


def _readable(header: Dataset) -> bool:
    return "Rows" in header and str(header.get("Modality", "")) not in NOT_READ


def _headers(path: Path) -> Iterator[tuple[Any, Dataset | None]]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            yield file, _header(file)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            if sum(item.file_size for item in members) > MAX_UNPACKED_BYTES:
                raise PermanentError(f"{path} unpacks to more than {MAX_UNPACKED_BYTES // 2**30} GiB: refused")
            for item in sorted(members, key=lambda item: item.filename):
                yield item.filename, _header(BytesIO(_member(archive, item.filename)))
    else:
        yield path, _header(path)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PermanentError(f"{name} in the zip is damaged, encrypted or packed in an unknown way") from error


def _header(source: Any) -> Dataset | None:
    try:
        return pydicom.dcmread(source, stop_before_pixels=True)
    except UNREADABLE:
        return None


def _full(path: Path, source: Any) -> Dataset:
    try:
        if isinstance(source, Path):
            return pydicom.dcmread(source)
        with zipfile.ZipFile(path) as archive:
            return pydicom.dcmread(BytesIO(_member(archive, source)))
    except UNREADABLE as error:
        raise PermanentError(f"an image of the series is damaged: {Path(str(source)).name}") from error
