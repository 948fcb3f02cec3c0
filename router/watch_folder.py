"""A folder whose DICOM files and zips are sent to Orthanc: for a modality or a person that has no DICOM connection.

A file is taken when its size and time have not changed for ``settle_s``, sent, and removed only then. What Orthanc
can't read goes to ``rejected/`` with ``<name>.reason.txt`` beside it. Zips are read member by member and never unpacked
to disk, so a path within one leads nowhere. Symbolic links are not followed. Next: orthanc.py (where the images go).
"""

from __future__ import annotations

import os
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from router.errors import OrthancRefused, TemporaryError
from router.settings import WatchFolderSettings

REJECTED = "rejected"
RESCAN_S = 5.0
"""How often the folder is read where no event wakes us (network folders send none)."""
PAUSE_S = 0.2
"""Shortest time between two readings, however many events come."""
RETRY_S = 5.0
EMPTY_AFTER_S = 60.0
"""A subfolder that we emptied is removed after this long: a copy into it may still be under way."""
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", "~")
JUNK = frozenset({"dicomdir", "thumbs.db", "desktop.ini", "autorun.inf"})
FILE_LIMIT = 1024**3
"""Bytes of one DICOM file; it is held in memory while it is sent."""
MEMBER_LIMIT = 200_000
RATIO_LIMIT = 500
RATIO_FROM = 1024**3
"""A zip that unpacks to more than this must not be packed more than RATIO_LIMIT times smaller."""
UNREADABLE = frozenset({400, 413, 415, 422})
"""Orthanc's answers that speak of the file; others (401, 403, 404, …) speak of the configuration."""
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
log = structlog.get_logger(__name__)


class _Unreadable(Exception):
    """A file that no retry makes readable; the text is for the person who dropped it."""


@dataclass
class _Seen:
    """A file as it was when it last changed, and what became of it."""

    signature: tuple[int, int]
    since: float
    stuck: bool = False
    sent_members: int = 0
    bad_members: list[str] = field(default_factory=list)


class WatchFolder:
    """Watches ``settings.path`` in a thread of its own; ``scan`` is one reading of it.

    ``upload`` sends the bytes of one DICOM file. It raises OrthancRefused for a file that Orthanc can't read and
    TemporaryError when Orthanc is away: the file then stays and is tried again.
    """

    def __init__(
        self, settings: WatchFolderSettings, upload: Callable[[bytes], object], clock: Callable[[], float] = time.time
    ) -> None:
        self._root = Path(settings.path).absolute()
        self._settle_s = settings.settle_s
        self._zip_limit = int(settings.max_zip_gb * 1024**3)
        self._upload = upload
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}
        self._emptied: dict[Path, float] = {}
        self._retry_at = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the folder where it is missing and watch it; raises OSError when it can't be made."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="watch-folder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the file in hand and end."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    # -- the thread

    def _run(self) -> None:
        observer = self._observe()
        try:
            while not self._stopping.is_set():
                self._wake.wait(self._round())
                self._stopping.wait(PAUSE_S)
                self._wake.clear()
        finally:
            if observer is not None:
                observer.stop()
                observer.join()

    def _round(self) -> float:
        try:
            return self.scan()
        except OSError as error:
            log.warning("watch_folder_unreadable", error=error.strerror or type(error).__name__)
            return RESCAN_S

    def _observe(self) -> BaseObserver | None:
        observer = Observer()
        observer.schedule(_Waker(self._wake), str(self._root), recursive=True)
        try:
            observer.start()
        except OSError as error:
            log.warning("watch_folder_without_events", error=error.strerror or "", rescan_s=RESCAN_S)
            return None
        return observer

    # -- one reading

    def scan(self) -> float:
        """Read the folder once and take every file that has settled; seconds until it is worth looking again."""
        now = self._clock()
        paths = dict(_files(self._root))
        self._seen = {path: seen for path, seen in self._seen.items() if path in paths}
        ready = [path for path, signature in sorted(paths.items()) if self._settled(path, signature, now)]
        for path in ready:
            if self._stopping.is_set() or self._clock() < self._retry_at:
                break
            self._take(path)
        self._remove_emptied()
        return self._pause()

    def _settled(self, path: Path, signature: tuple[int, int], now: float) -> bool:
        seen = self._seen.get(path)
        if seen is None or seen.signature != signature or seen.since > now:
            seen = self._seen[path] = _Seen(signature=signature, since=now)
        return not seen.stuck and now - seen.since >= self._settle_s

    def _pause(self) -> float:
        waits = [s.since + self._settle_s - self._clock() for s in self._seen.values() if not s.stuck]
        return min(RESCAN_S, max([0.0, self._retry_at - self._clock(), min(waits, default=RESCAN_S)]))

    def _take(self, path: Path) -> None:
        seen = self._seen[path]
        try:
            self._send(path, seen)
            self._finish(path, seen)
        except _Unreadable as error:
            self._reject(path, str(error))
        except TemporaryError as error:
            self._retry_at = self._clock() + (error.retry_after_s or RETRY_S)
            log.warning("watch_folder_waits", reason=str(error))
        except FileNotFoundError:
            self._seen.pop(path, None)  # taken away meanwhile
        except OSError as error:
            seen.stuck = True
            log.error("watch_folder_file_stuck", error=error.strerror or type(error).__name__)
        except Exception:  # one strange file must not end the watch, nor keep the others waiting
            seen.stuck = True
            log.exception("watch_folder_file_stuck")

    def _send(self, path: Path, seen: _Seen) -> None:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            start = file.read(132)
            file.seek(0)
            if start.startswith(_ZIP_STARTS):
                self._send_zip(file, seen)
                return
            if not start:
                raise _Unreadable("the file is empty")
            if path.name.lower() in JUNK:
                raise _Unreadable("this file is an index or a helper of a medium, not an image")
            self._check_size(seen.signature[0], start)
            self._offer(file.read(FILE_LIMIT + 1))

    @staticmethod
    def _check_size(size: int, start: bytes) -> None:
        if size > FILE_LIMIT:
            kind = "DICOM file" if start[128:132] == b"DICM" else "file, which is not DICOM,"
            raise _Unreadable(f"the {kind} is larger than {FILE_LIMIT // 1024**3} GiB")

    def _offer(self, data: bytes) -> None:
        """Send the bytes of one file; a refusal that speaks of our configuration keeps the file."""
        try:
            self._upload(data)
        except OrthancRefused as error:
            if error.status in UNREADABLE:
                raise _Unreadable(f"Orthanc cannot read it as DICOM ({error.status})") from error
            raise TemporaryError(f"Orthanc takes no images from the watch folder ({error.status})") from error

    def _finish(self, path: Path, seen: _Seen) -> None:
        if _signature(path.lstat()) != seen.signature:
            return  # written again while it was sent: the next scan sees a new file
        path.unlink()
        self._seen.pop(path, None)
        self._left(path)
        log.info("watch_folder_sent", size=seen.signature[0])

    def _reject(self, path: Path, reason: str) -> None:
        try:
            target = _free_name(self._root / REJECTED / path.relative_to(self._root))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(f"{target.name}.reason.txt").write_text(f"{reason}\n", encoding="utf-8")
            path.rename(target)
        except OSError as error:
            self._seen[path].stuck = True
            log.error("watch_folder_file_stuck", error=error.strerror or type(error).__name__)
            return
        self._seen.pop(path, None)
        self._left(path)
        log.warning("watch_folder_rejected", reason=reason.splitlines()[0])

    # -- zips

    def _send_zip(self, file: object, seen: _Seen) -> None:
        """Send each member; raises _Unreadable with the list of bad ones after the good ones are sent."""
        try:
            archive = zipfile.ZipFile(file)  # type: ignore[call-overload]  # any seekable binary file will do
            members = self._members(archive)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise _Unreadable("the zip is damaged or not finished") from error
        for index, member in enumerate(members):
            if index < seen.sent_members:
                continue  # sent before Orthanc went away
            try:
                self._offer(_content(archive, member))
            except _Unreadable as error:
                seen.bad_members.append(f"{member.filename}: {error}")
            seen.sent_members = index + 1
        if seen.bad_members:
            good = len(members) - len(seen.bad_members)
            raise _Unreadable(
                f"{len(seen.bad_members)} of {len(members)} files in the zip were refused; {good} were sent:\n"
                + "\n".join(seen.bad_members)
            )

    def _members(self, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        members = [member for member in archive.infolist() if not _is_junk(member)]
        size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
        if not members:
            raise _Unreadable("the zip holds no file")
        if len(members) > MEMBER_LIMIT:
            raise _Unreadable(f"the zip holds {len(members)} files, at most {MEMBER_LIMIT} are taken")
        if size > self._zip_limit:
            raise _Unreadable(f"the zip unpacks to {size / 1024**3:.1f} GiB; the limit is watch_folder.max_zip_gb")
        if size > RATIO_FROM and size > RATIO_LIMIT * packed:
            raise _Unreadable(f"the zip is packed more than {RATIO_LIMIT} times smaller, as images never are")
        return members

    # -- emptied folders

    def _left(self, path: Path) -> None:
        for folder in path.parents:
            if folder == self._root:
                break
            self._emptied[folder] = self._clock()

    def _remove_emptied(self) -> None:
        due = [folder for folder, at in self._emptied.items() if self._clock() - at >= EMPTY_AFTER_S]
        for folder in sorted(due, key=lambda f: len(f.parts), reverse=True):
            del self._emptied[folder]
            try:
                folder.rmdir()
            except OSError:
                continue  # in use again, or gone


class _Waker(FileSystemEventHandler):
    """Any change of the folder's files wakes the watch; that we ourselves opened one does not."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("created", "modified", "moved", "closed"):
            self._wake.set()


def _files(root: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Regular files under a folder with their signatures, without hidden, unfinished and rejected ones and links."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            if folder == root:
                raise
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or (folder == root and entry.name == REJECTED):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_file(follow_symlinks=False) and not entry.name.lower().endswith(UNFINISHED):
                try:
                    yield path, _signature(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue


def _signature(found: os.stat_result) -> tuple[int, int]:
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (-1, -1)


def _free_name(path: Path) -> Path:
    """The path, or with " (2)", " (3)" … before its suffix where something lies there."""
    number, free = 1, path
    while os.path.lexists(free) or os.path.lexists(f"{free}.reason.txt"):
        number += 1
        free = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return free


def _is_junk(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return member.is_dir() or hidden or "__MACOSX" in parts or parts[-1].lower() in JUNK


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of one member, bounded by FILE_LIMIT whatever its header says."""
    if member.flag_bits & 0x1:
        raise _Unreadable("it is encrypted")
    if member.file_size > FILE_LIMIT:
        raise _Unreadable(f"it is larger than {FILE_LIMIT // 1024**3} GiB")
    try:
        with archive.open(member) as file:
            data = file.read(FILE_LIMIT + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        NotImplementedError,
        ValueError,
        RuntimeError,
    ) as error:
        raise _Unreadable("it is damaged in the zip") from error
    if not data:
        raise _Unreadable("it is empty")
    if data.startswith(_ZIP_STARTS):
        raise _Unreadable("a zip within a zip is not opened")
    return data
