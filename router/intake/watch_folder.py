"""A folder whose DICOM files and zips are sent to Orthanc: for a modality or a person that has no DICOM connection.

A file is taken when its size and time have not changed for ``settle_s``, sent, and removed only then. What Orthanc
can't read, or can't survive, goes to ``rejected/`` with ``<name>.reason.txt`` beside it. Zips are read member by member
and never unpacked to disk, so a path within one leads nowhere. Symbolic links are not followed.
Next: files/zips.py and files/dicom_scan.py (what is refused unread), orthanc/client.py (where the images go).
"""

from __future__ import annotations

import os
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from medai.router.errors import OrthancBroke, OrthancRefused, OrthancUnreachable, TemporaryError
from medai.router.files import dicom_scan, zips
from medai.router.settings.tables import WatchFolderSettings
from medai.router.words import counted

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
BREAKS_LIMIT = 3
"""A file on which Orthanc failed so often is rejected, if it took another one meanwhile."""
LISTED = 200
"""Members of a zip that a reason names one by one."""
NAME_BYTES = 255
"""Longest name of a file on usual file systems."""
FILE_FAULTS = frozenset({15, 21})
"""Orthanc's own codes that do so whatever the answer: bad file format, inexistent tag (404 for many a picture)."""
UNREADABLE = frozenset({400, 413, 415, 422})
"""Orthanc's answers that speak of the file; others (401, 403, 404, …) speak of the configuration."""
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
    tries: int = 0
    breaks: int = 0
    taken_before: int = 0
    retry_at: float = 0.0


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
        self._file_limit = int(settings.max_file_gb * 1024**3)
        self._taken = 0
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
        # A file that may be what Orthanc fails on must not keep the others waiting.
        for path in sorted(ready, key=lambda path: self._seen[path].tries):
            if self._stopping.is_set() or self._clock() < self._retry_at:
                break
            self._take(path)
        self._remove_emptied()
        return self._pause()

    def _settled(self, path: Path, signature: tuple[int, int], now: float) -> bool:
        seen = self._seen.get(path)
        if seen is None or seen.signature != signature or seen.since > now:
            seen = self._seen[path] = _Seen(signature=signature, since=now)
        return not seen.stuck and now - seen.since >= self._settle_s and now >= seen.retry_at

    def _pause(self) -> float:
        waits = [max(s.since + self._settle_s, s.retry_at) - self._clock() for s in self._seen.values() if not s.stuck]
        return min(RESCAN_S, max([0.0, self._retry_at - self._clock(), min(waits, default=RESCAN_S)]))

    def _take(self, path: Path) -> None:
        seen = self._seen[path]
        try:
            self._send(path, seen)
            self._finish(path, seen)
        except _Unreadable as error:
            self._reject(path, str(error))
        except OrthancBroke as error:
            seen.tries += 1
            self._broke(path, seen, error)
        except TemporaryError as error:
            seen.tries += not isinstance(error, OrthancUnreachable)
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

    def _broke(self, path: Path, seen: _Seen, error: OrthancBroke) -> None:
        """Orthanc failed while it took this file: by chance or because of it, which its other files tell."""
        if not seen.breaks:
            seen.taken_before = self._taken
        seen.breaks += 1
        if seen.breaks >= BREAKS_LIMIT and self._taken > seen.taken_before:
            self._reject(path, f"Orthanc failed {seen.breaks} times on this file and accepted others meanwhile")
            return
        self._retry_at = self._clock() + RETRY_S
        seen.retry_at = self._clock() + RETRY_S * 2 ** min(seen.breaks - 1, 6)
        log.warning("watch_folder_waits", reason=str(error), times=seen.breaks)

    def _send(self, path: Path, seen: _Seen) -> None:
        # A name may have become a link or a pipe since it was listed: neither is followed, neither blocks the watch.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not _is_plain(os.fstat(file.fileno())):
                raise _Unreadable("this is no file of its own (a pipe, a device, or a second name of another file)")
            start = file.read(132)
            file.seek(0)
            if start.startswith(zips.STARTS):
                self._send_zip(file, seen)
                return
            if not start:
                raise _Unreadable("the file is empty")
            if path.name.lower() in JUNK:
                raise _Unreadable("this file is an index or a helper file of a medium, not an image")
            self._check_size(seen.signature[0], start)
            data = file.read(self._file_limit + 1)
            self._check_size(len(data), start)  # it may have grown
            self._offer(data)

    def _check_size(self, size: int, start: bytes) -> None:
        if size > self._file_limit:
            kind = "DICOM file" if start[128:132] == b"DICM" else "file, which is not DICOM,"
            limit = f"{self._file_limit / 1024**3:.3g} GiB (watch_folder.max_file_gb)"
            raise _Unreadable(f"the {kind} has {size / 1024**3:.1f} GiB, more than {limit}")

    def _offer(self, data: bytes) -> None:
        """Send the bytes of one file; a refusal that speaks of our configuration keeps the file."""
        reason = dicom_scan.refusal(data, unpacked_limit=self._file_limit)
        if reason:
            raise _Unreadable(f"it {reason}, so it was not sent to Orthanc")
        try:
            self._upload(data)
            self._taken += 1
        except OrthancRefused as error:
            if error.status in UNREADABLE or error.code in FILE_FAULTS:
                raise _Unreadable(f"Orthanc cannot read it as DICOM ({error.status})") from error
            raise TemporaryError(f"Orthanc accepts no images from the watch folder ({error.status})") from error

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

    def _send_zip(self, file: BinaryIO, seen: _Seen) -> None:
        """Send each member; raises _Unreadable with the list of bad ones after the good ones are sent."""
        archive, members = self._members(file)
        for index, member in enumerate(members):
            if index < seen.sent_members:
                continue  # sent before Orthanc went away
            try:
                self._offer(self._content(archive, member))
            except _Unreadable as error:
                seen.bad_members.append(f"{zips.shown(member.filename)}: {error}")
            seen.sent_members = index + 1
        if seen.bad_members:
            bad, good = len(seen.bad_members), len(members) - len(seen.bad_members)
            more = [f"and {bad - LISTED} more"] if bad > LISTED else []
            raise _Unreadable(
                f"refused {bad} of the {counted(len(members), 'file')} in the zip, sent {good}:\n"
                + "\n".join([*seen.bad_members[:LISTED], *more])
            )

    def _members(self, file: BinaryIO) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
        try:
            archive, members = zips.open_zip(file, max_bytes=self._zip_limit, limit_name="watch_folder.max_zip_gb")
        except zips.BadZip as error:
            raise _Unreadable(str(error)) from error
        wanted = [member for member in members if not _is_junk(member)]
        if not wanted:
            raise _Unreadable("the zip holds no file")
        return archive, wanted

    def _content(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
        try:
            data = zips.read_member(archive, member, max_bytes=self._file_limit)
        except zips.BadZip as error:
            raise _Unreadable(str(error)) from error
        if not data:
            raise _Unreadable("it is empty")
        if data.startswith(zips.STARTS):
            raise _Unreadable("a zip within a zip is not opened")
        return data

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


def _is_plain(found: os.stat_result) -> bool:
    """A regular file with one name: a hard link may be made to what its maker can't read, but the router can."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _free_name(path: Path) -> Path:
    """The path, or with " (2)", " (3)" … before its suffix where something lies there.

    A name so long that ``.reason.txt`` finds no room behind it is shortened.
    """
    room = NAME_BYTES - len(".reason.txt (99999)") - len(os.fsencode(path.suffix))
    if len(os.fsencode(path.stem)) > room > 0:
        path = path.with_name(os.fsdecode(os.fsencode(path.stem)[:room]) + path.suffix)
    number, free = 1, path
    while os.path.lexists(free) or os.path.lexists(f"{free}.reason.txt"):
        number += 1
        free = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return free


def _is_junk(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return member.is_dir() or hidden or "__MACOSX" in parts or parts[-1].lower() in JUNK
