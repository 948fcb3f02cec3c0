"""Files that the watch folder rejected, looked through for one patient: by the bytes of Patient ID (0010,0020).

They were rejected because nobody could read them, so nothing is parsed: wherever the attribute stands, in either byte
order, with or without value representations, it is found. Next: erase.py.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medai.router.files import dicom_scan
from medai.router.files.zips import STARTS
from medai.router.hl7.patients import Patient

LOOKED_AT = 16 * 1024**2
"""A patient is named near the beginning of a file (bytes)."""
REASON = ".reason.txt"
_LONGEST = 128
_ID = re.compile(
    rb"\x10\x00\x20\x00(?:(?P<short>LO(?:..))|(?P<long>....))|(?P<big>\x00\x10\x00\x20LO(?:..))", re.DOTALL
)
_ISSUER = re.compile(
    rb"\x10\x00\x21\x00(?:(?P<short>LO(?:..))|(?P<long>....))|(?P<big>\x00\x10\x00\x21LO(?:..))", re.DOTALL
)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """What there is of a patient, with the reason beside each."""

    files: tuple[Path, ...] = ()
    shared: tuple[Path, ...] = ()
    """Zips that hold other patients, too."""
    unread: int = 0
    """Files that name no patient in a way that can be found."""


def of_patient(folder: Path, known: Sequence[Patient]) -> Rejected:
    """Look through a folder of rejected files. Links are not followed; a folder that is not there holds nothing."""
    files: list[Path] = []
    shared: list[Path] = []
    unread = 0
    for path in _plain_files(folder):
        mine, others = _looked_at(path, known)
        if mine:
            (shared if others else files).append(path)
        elif not others:
            unread += 1
    return Rejected(files=tuple(files), shared=tuple(shared), unread=unread)


def remove(found: Rejected) -> int:
    """Remove the patient's files and their reasons; how many files."""
    for path in found.files:
        path.with_name(path.name + REASON).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return len(found.files)


def _plain_files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(root) / name
            if not name.endswith(REASON) and stat.S_ISREG(path.lstat().st_mode):
                yield path


def _looked_at(path: Path, known: Sequence[Patient]) -> tuple[bool, bool]:
    """Whether a file names the patient, and whether it names anybody else."""
    mine = others = False
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
        parts = _members(path) if start.startswith(STARTS) else iter([start])
        for part in parts:
            names = _named(part)
            is_mine = any(name.matches(each) for name in names for each in known)
            mine, others = mine or is_mine, others or (bool(names) and not is_mine)
    except _BROKEN:  # what can't be read any further names nobody from there on
        pass
    return mine, others


def _members(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            try:
                with archive.open(member) as file:
                    yield file.read(LOOKED_AT)
            except _BROKEN:
                continue


def _named(data: bytes) -> set[Patient]:
    """Whom a file names, wherever it does: also in other identifiers of the patient, which stand in a sequence."""
    data = dicom_scan.inflated(data, limit=LOOKED_AT)
    issuer = next(_values(_ISSUER, data), "")
    names = list(_values(_ID, data))
    return {Patient.of(name, issuer if at == 0 else "") for at, name in enumerate(names)}


def _values(pattern: re.Pattern[bytes], data: bytes) -> Iterator[str]:
    for found in pattern.finditer(data):
        text = _text(found, data)
        if text:
            yield text


def _text(found: re.Match[bytes], data: bytes) -> str:
    """The value after an attribute; empty where this is none (as in an image's pixels)."""
    if found["long"] is not None:
        (length,) = struct.unpack("<I", found["long"])
    else:
        part = found["short"] or found["big"]
        (length,) = struct.unpack("<H" if found["short"] else ">H", part[-2:])
    raw = data[found.end() : found.end() + length] if 0 < length <= _LONGEST else b""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.strip(" \0")
    return text if text.isprintable() else ""
