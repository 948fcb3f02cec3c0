"""Find one image series in a folder or zip of DICOM files, and say why it was taken.

Nothing of a zip is unpacked to disk; members that are not DICOM are passed over and counted, and so are files that are
too large to be read or that no parser should be given. Next: process.py.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from medai.models.errors import NotAVolume
from medai.models.images.header import text, whole
from medai.router.contract import SCATTERED
from medai.router.errors import PermanentError
from medai.router.files import zips
from medai.router.settings.tables import WorkerSettings
from medai.router.words import counted
from medai.workers.dicom_file import Unreadable, begins_a_data_set, read_image

NOT_READ = frozenset({"SEG", "SR", "PR", "KO", "DOC", "OT", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE"})
MAX_UNPACKED_BYTES = 16 * 2**30
DEFAULTS = WorkerSettings()
NO_DICOM = "not DICOM"
Items = dict[str, list[tuple[Any, Dataset, int]]]
"""Series Instance UID -> where each image is, its header, and the bytes of its file."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The images of one series, with pixels, and why it was this one."""

    images: list[Dataset]
    reason: str


@dataclass
class _Found:
    """What lies in a folder or zip: series, and how many files were passed over for which reason."""

    series: Items = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)

    def add(self, source: Any, header: Dataset | str, size: int) -> None:
        if isinstance(header, str):
            self.passed_over[header] += 1
            return
        try:
            uid = text(header, "SeriesInstanceUID")
        except NotAVolume:
            uid = ""
        if uid:
            self.series.setdefault(uid, []).append((source, header, size))
        else:
            self.passed_over[NO_DICOM] += 1

    @property
    def others(self) -> str:
        """In words."""
        told = self.passed_over or {NO_DICOM: 0}
        return ", ".join(
            f"{counted(count, 'file')} that {'is' if count == 1 else 'are'} {why}"
            if why == NO_DICOM
            else f"{counted(count, 'file')} {why}"
            for why, count in told.items()
        )


def read_series(path: Path, *, number: int | None = None, worker: WorkerSettings = DEFAULTS) -> Chosen:
    """The image series with the most images (or with SeriesNumber ``number``), within the limits of ``worker``.

    Raises PermanentError.
    """
    found = _Found()
    for source, header, size in _headers(path, worker):
        found.add(source, header, size)
    images = {uid: kept for uid, items in found.series.items() if (kept := [one for one in items if _readable(one[1])])}
    if not images:
        others = counted(sum(map(len, found.series.values())), "other DICOM object")
        raise PermanentError(f"{path} holds no image series ({others}, {found.others})")
    uid = _pick(images, number)
    _require_together(images, uid)
    _require_small([size for _, _, size in images[uid]], worker)
    why = f"series {_number(images[uid][0][1])}: {counted(len(images[uid]), 'image')}"
    if len(images) > 1:
        why += f", the most of {len(images)} series" if number is None else f", as asked, of {len(images)} series"
    if found.passed_over.total():
        why += f"; passed over: {found.others}"
    return Chosen(images=list(_full(path, [source for source, _, _ in images[uid]], worker)), reason=why)


def _require_together(images: Items, uid: str) -> None:
    """Refuse the slices of a writer that gave each a series of its own: which belong together is not said anywhere."""
    alone = [items for items in images.values() if len(items) == 1 and _is_one_slice(items[0][1])]
    numbers = Counter(_number(items[0][1]) for items in alone)
    mine = _number(images[uid][0][1])
    if len(images[uid]) == 1 and numbers[mine] >= SCATTERED:
        raise PermanentError(
            f"{numbers[mine]} images of series {mine} are each a series of their own (Series Instance UID): "
            "which of them are one volume is not known; have the archive join them into one series"
        )


def _is_one_slice(header: Dataset) -> bool:
    try:
        return (whole(header, "NumberOfFrames") or 1) == 1
    except NotAVolume:  # whoever reads that image says so; it is no word on the others
        return False


def _require_small(sizes: Sequence[int], worker: WorkerSettings) -> None:
    if sum(sizes) > worker.max_series_bytes:
        raise PermanentError(
            f"the series has {sum(sizes) / 2**30:.2f} GiB in {counted(len(sizes), 'image')}: "
            f"the limit is {worker.max_series_gb:g} GiB (worker.max_series_gb)"
        )


def _pick(images: Items, number: int | None) -> str:
    if number is None:
        return max(sorted(images), key=lambda uid: len(images[uid]))
    for uid, items in images.items():
        if _number(items[0][1]) == str(number):
            return uid
    there = ", ".join(sorted(_number(items[0][1]) for items in images.values()))
    raise PermanentError(f"there is no series {number} here; there are {there}")


def _number(header: Dataset) -> str:
    try:
        return text(header, "SeriesNumber") or "?"
    except NotAVolume:
        return "?"


def _readable(header: Dataset) -> bool:
    try:
        return "Rows" in header and text(header, "Modality") not in NOT_READ
    except NotAVolume:
        return False


def _headers(path: Path, worker: WorkerSettings) -> Iterator[tuple[Any, Dataset | str, int]]:
    """Each file: where it is, its header or why it has none, and its size."""
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            yield file, *_header_of_file(file, worker)
    elif zipfile.is_zipfile(path):
        with path.open("rb") as packed:
            archive, members = zips.open_zip(
                packed, max_bytes=MAX_UNPACKED_BYTES, limit_name=f"{MAX_UNPACKED_BYTES // 2**30} GiB"
            )
            for item in sorted(members, key=lambda item: item.filename):
                yield item, _header(_member(archive, item, worker), worker), item.file_size
    else:
        yield path, *_header_of_file(path, worker)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, worker: WorkerSettings) -> bytes:
    try:
        return zips.read_member(archive, member, max_bytes=worker.max_image_bytes)
    except zips.BadZip as error:
        raise PermanentError(f"{zips.shown(member.filename)} in the zip: {error}") from error


def _header_of_file(path: Path, worker: WorkerSettings) -> tuple[Dataset | str, int]:
    size = path.stat().st_size
    if size > worker.max_image_bytes:
        return f"of more than {worker.max_image_gb:g} GiB (worker.max_image_gb)", size
    with path.open("rb") as file:
        start = file.read(132)
        if start[128:] != b"DICM" and not begins_a_data_set(start):
            return NO_DICOM, size
    return _header(path.read_bytes(), worker), size


def _header(data: bytes, worker: WorkerSettings) -> Dataset | str:
    try:
        return read_image(data, max_bytes=worker.max_image_bytes, headers_only=True)
    except Unreadable as error:
        return str(error) or NO_DICOM


def _full(path: Path, sources: Sequence[Any], worker: WorkerSettings) -> Iterator[Dataset]:
    if isinstance(sources[0], Path):
        for source in sources:
            yield _image(source.read_bytes(), source.name, worker)
        return
    with zipfile.ZipFile(path) as archive:
        for source in sources:
            yield _image(_member(archive, source, worker), source.filename, worker)


def _image(data: bytes, name: str, worker: WorkerSettings) -> Dataset:
    try:
        return read_image(data, max_bytes=worker.max_image_bytes)
    except Unreadable as error:
        raise PermanentError(f"an image of the series is damaged: {zips.shown(Path(name).name)}") from error
