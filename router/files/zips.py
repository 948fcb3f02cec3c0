"""Zips from outside, read member by member into memory and within limits; nothing is ever unpacked to a disk.

A zip's directory is measured before it is parsed, its members are checked against each other before one is read, and
what a member says of its own size bounds what is read of it. Paths, links and passwords lead nowhere.
Sources: PKWARE APPNOTE 6.3 (4.3.14 to 4.3.16, 4.4.5); D. Fifield, "A better zip bomb" (overlapping entries).
Next: intake/watch_folder.py and workers/source_files.py (who read them).
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from lzma import LZMAError
from typing import BinaryIO

from medai.router.errors import PermanentError

MEMBER_LIMIT = 200_000
DIRECTORY_LIMIT = 64 * 1024**2
"""Bytes of a zip's directory; MEMBER_LIMIT usual entries take half of it."""
RATIO_LIMIT = 500
RATIO_FROM = 1024**3
"""A zip that unpacks to more than this must not be packed more than RATIO_LIMIT times smaller."""
STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
NAME_SHOWN = 120
"""Characters of a member's name that a reason repeats."""
_ENTRY = b"PK\x01\x02"
_LOCAL_HEADER = 30
_CHUNKS = {zipfile.ZIP_STORED: 1024**2, zipfile.ZIP_DEFLATED: 1024**2, zipfile.ZIP_LZMA: 4096}
"""Bytes to ask for at a time. zipfile unpacks as many packed bytes of LZMA at once, whatever becomes of them (at most
30 MB of 4 KB); of BZIP2 the same could be gigabytes, so that it is not opened."""


class BadZip(PermanentError):
    """A zip, or a member of one, that is not read; the text says why."""


def open_zip(file: BinaryIO, *, max_bytes: int, limit_name: str) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """The zip and its members without folders; raises BadZip before anything of it is unpacked.

    ``max_bytes`` bounds what all members unpack to, and ``limit_name`` is where a person can change that.
    """
    try:
        _require_small_directory(file)
        archive = zipfile.ZipFile(file)
        members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error, OverflowError) as error:
        raise BadZip("the zip is damaged or not finished") from error
    _require_apart(archive, members)
    _require_small(members, max_bytes, limit_name)
    return archive, members


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, max_bytes: int) -> bytes:
    """The bytes of one member; raises BadZip. Not more is read than it says, and never more than ``max_bytes``."""
    if member.flag_bits & 0x1:
        raise BadZip("it is encrypted")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BadZip("it is a link, and links are not followed")
    if member.compress_type not in _CHUNKS:
        raise BadZip("its compression method is not supported here: use a zip's usual one")
    if member.file_size > max_bytes:
        raise BadZip(f"it is larger than {max_bytes / 2**30:.3g} GiB")
    content = bytearray()
    try:
        with archive.open(member) as file:
            while chunk := file.read(_CHUNKS[member.compress_type]):
                content += chunk
                if len(content) > max_bytes:
                    raise BadZip(f"it is larger than {max_bytes / 2**30:.3g} GiB")
    except (
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        NotImplementedError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:
        raise BadZip("it is damaged in the zip") from error
    return bytes(content)


def shown(name: str) -> str:
    """A member's name as a person may be shown it: one line, no control characters, of a bearable length."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in name)
    return safe if len(safe) <= NAME_SHOWN else f"{safe[:NAME_SHOWN]}..."


def _require_small_directory(file: BinaryIO) -> None:
    """Refuse a directory that would fill the memory: zipfile makes an object of each entry before anyone can ask."""
    start, size = _directory(file)
    if size > DIRECTORY_LIMIT:
        raise BadZip(f"the zip's list of files is larger than {DIRECTORY_LIMIT // 1024**2} MiB")
    file.seek(max(0, start))
    entries = file.read(size).count(_ENTRY)
    file.seek(0)
    if entries > MEMBER_LIMIT:
        raise BadZip(f"the zip holds {entries} files, at most {MEMBER_LIMIT} are accepted")


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Where the directory begins and how long it is, as zipfile finds them: it ends where its end record begins."""
    length = file.seek(0, os.SEEK_END)
    tail_at = max(0, length - 65_557)  # the end record, and the longest comment behind it
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise zipfile.BadZipFile("no end record")
    end, size = tail_at + at, struct.unpack_from("<I", tail, at + 12)[0]
    locator = tail[at - 20 : at] if at >= 20 else b""
    if locator.startswith(b"PK\x06\x07"):
        file.seek(max(0, end - 76))
        record = file.read(56)
        if record.startswith(b"PK\x06\x06"):
            end, size = end - 76, struct.unpack_from("<Q", record, 40)[0]
    return end - size, size


def _require_apart(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes: so a small zip unpacks to any size."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = [member.header_offset + _LOCAL_HEADER + member.compress_size for member in ordered]
    begins = [*(member.header_offset for member in ordered[1:]), archive.start_dir]
    if any(end > begin for end, begin in zip(ends, begins, strict=False)):
        raise BadZip("the files in the zip overlap, as in a zip bomb")


def _require_small(members: Sequence[zipfile.ZipInfo], max_bytes: int, limit_name: str) -> None:
    size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if size > max_bytes:
        raise BadZip(f"the zip unpacks to {size / 1024**3:.1f} GiB; the limit is {limit_name}")
    if size > RATIO_FROM and size > RATIO_LIMIT * packed:
        raise BadZip(f"the zip unpacks to more than {RATIO_LIMIT} times its size, which images never do")
