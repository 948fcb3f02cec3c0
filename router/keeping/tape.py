"""A backup as a file: a tar whose last member lists every other one with size and SHA-256, encrypted where asked for.

Written to a name of its own and given its right one when it is whole and on the disk. Read from its beginning to its
end: what lacks the list is not whole, and what differs from it was changed. Next: backup.py (what goes in), restore.py.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from medai.router.errors import DiskFull, MedaiError, SettingsError
from medai.router.keeping.sealed import MAGIC, BackupDamaged, Sealing, Unsealing
from medai.router.reports.report import Report

ABOUT, LIST = "about.json", "manifest.json"
SMALL = 4 * 1024**2
"""Longest of these two that is read (bytes)."""
_PIECE = 1024**2
_PART = r"(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+"
_NAME = re.compile(f"{_PART}(?:/{_PART})*")
"""No path that leads out of a folder."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class About(Report):
    """What a backup says of itself."""

    format: int
    program: str
    """Version of Med-AI that made it."""
    made_at: str
    schema_revision: str
    """Of the ledger's tables."""
    database: str
    """sqlite or postgresql."""
    folder: str
    """Of the site that was backed up; empty: there was only a configuration."""
    parts: tuple[str, ...]


class _Listed(Report):
    size: int
    sha256: str


class _Manifest(Report):
    files: dict[str, _Listed]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A backup that is as it was written."""

    about: About
    files: int
    size: int
    encrypted: bool


class Sink(Protocol):
    """Takes the bytes of a member."""

    def write(self, data: bytes, /) -> int:
        """Some of them."""
        ...


@contextmanager
def clear_when_full(what: str) -> Iterator[None]:
    """A full disk as an error that names which."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"the disk of {what} is full: nothing was left there") from error
        where = error.filename or what
        raise MedaiError(f"{where}: {error.strerror or type(error).__name__}") from error


class Recorder:
    """Adds members to a backup, and keeps the list."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._listed: dict[str, _Listed] = {}

    def text(self, name: str, content: bytes) -> None:
        """A member from memory."""
        self._add(name, io.BytesIO(content), len(content))

    def file(self, name: str, path: Path) -> None:
        """A member from a file, as long as it is now."""
        with path.open("rb") as source:
            self._add(name, source, os.fstat(source.fileno()).st_size)

    def tree(self, name: str, folder: Path) -> int:
        """Every regular file under a folder; how many."""
        count = 0
        for root, _, names in sorted(os.walk(folder)):
            for each in sorted(names):
                path = Path(root) / each
                if path.is_file() and not path.is_symlink():
                    self.file(f"{name}/{path.relative_to(folder).as_posix()}", path)
                    count += 1
        return count

    def close(self) -> None:
        """The list."""
        self.text(LIST, _Manifest(files=dict(self._listed)).model_dump_json().encode())

    def _add(self, name: str, source: BinaryIO, size: int) -> None:
        if not _NAME.fullmatch(name):
            raise MedaiError(f"a file's name can't be backed up ({name.partition('/')[0]}/…): rename it")
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        reader = _Hashing(source)
        self._tar.addfile(info, reader)  # type: ignore[arg-type]  # it reads, and that is all that is asked of it
        self._listed[name] = _Listed(size=size, sha256=reader.digest.hexdigest())


class _Hashing:
    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


@contextmanager
def recording(path: Path, passphrase: bytes | None) -> Iterator[Recorder]:
    """Write a backup; nothing is left of it where anything fails. Raises SettingsError for a file that is there."""
    if os.path.lexists(path):
        raise SettingsError(f"{path} is there already: name another file")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with clear_when_full(str(path.parent)):
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                sealing = Sealing(file, passphrase) if passphrase else None
                with tarfile.open(fileobj=sealing or file, mode="w|") as tar:  # type: ignore[call-overload]  # it writes
                    recorder = Recorder(tar)
                    yield recorder
                    recorder.close()
                if sealing:
                    sealing.close()
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def play(path: Path, passphrase: bytes | None, take: Callable[[str], Sink | None]) -> Checked:
    """Read a whole backup and hold it against its list. ``take``: where the bytes of a member go; None: nowhere.

    Raises BackupDamaged for anything else than what was written: then nothing that was taken may be used.
    """
    player = _Player(take)
    try:
        with path.open("rb") as file:
            sealed = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            if sealed and passphrase is None:
                raise SettingsError(f"{path} is encrypted: name the file with its passphrase (--passphrase-file)")
            source = Unsealing(file, passphrase) if sealed and passphrase else file
            with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]  # it reads
                for member in tar:
                    player.play(tar, member)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BackupDamaged(f"{path} is no backup, or is not whole") from error
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise MedaiError(f"{path} can't be read: {error.strerror or type(error).__name__}") from error
    return player.checked(path, encrypted=sealed)


class _Player:
    """Takes one member after the other."""

    def __init__(self, take: Callable[[str], Sink | None]) -> None:
        self._take = take
        self._about: About | None = None
        self._found: dict[str, _Listed] = {}
        self._listed: _Manifest | None = None

    def play(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        known = member.name in self._found or self._listed is not None
        reader = None if known or not member.isreg() or not _NAME.fullmatch(member.name) else tar.extractfile(member)
        if reader is None:
            raise BackupDamaged("the backup holds what no backup of ours holds")
        if member.name == LIST:
            self._listed = _Manifest.model_validate_json(_small(reader, member.size))
            return
        if member.name == ABOUT:
            content = _small(reader, member.size)
            self._about = About.model_validate_json(content)
            reader = io.BytesIO(content)
        self._found[member.name] = _copied(reader, self._take(member.name), member.size)

    def checked(self, path: Path, *, encrypted: bool) -> Checked:
        if self._listed is None or self._about is None:
            raise BackupDamaged(f"{path} is not whole: its end is missing")
        if self._listed.files != self._found:
            raise BackupDamaged(f"{path} was changed: its files are not those that its list names")
        size = sum(each.size for each in self._found.values())
        return Checked(about=self._about, files=len(self._found), size=size, encrypted=encrypted)


def _small(reader: IO[bytes], size: int) -> bytes:
    if size > SMALL:
        raise BackupDamaged("the backup is damaged: what it says of itself is too long")
    return reader.read()


def _copied(reader: IO[bytes], sink: Sink | None, size: int) -> _Listed:
    digest = hashlib.sha256()
    left = size
    while left:
        data = reader.read(min(left, _PIECE))
        if not data:
            raise BackupDamaged("the backup is not whole")
        left -= len(data)
        digest.update(data)
        if sink is not None:
            sink.write(data)
    return _Listed(size=size, sha256=digest.hexdigest())


def described(about: About) -> bytes:
    """As a member."""
    return json.dumps(about.model_dump(mode="json"), indent=2).encode()
