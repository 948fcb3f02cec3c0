"""The worker's scratch directory: where libraries put temporary files, bounded, and emptied of what the dead left.

Images and results never touch it (they go through memory and the ledger), so a full disk stops no reading by itself;
what fills it is cleared, and a disk that is full all the same raises an alarm. Next: app.py.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import structlog

from medai.router import private, processes
from medai.router.errors import DiskFull

FULL = (errno.ENOSPC, errno.EDQUOT)
OWNER = "process"
log = structlog.get_logger(__name__)


class Scratch:
    """One process's own folder under ``root``; every temporary file of this process goes there."""

    def __init__(self, root: Path, *, limit_gb: float) -> None:
        self.root = root
        self._limit = limit_gb * 1e9
        self.folder = root / "medai-unopened"

    def open(self) -> None:
        """Remove what dead processes left, then make this one's folder and send temporary files there."""
        self.clear_dead()
        self._own()

    def _own(self) -> None:
        """The folder with its owner's name; something else may have cleared the system's temporary files.

        Nobody can guess what it is called, and one that is not ours alone (a link, another user's) is never used.
        """
        if not private.is_ours(self.folder):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(prefix=f"medai-{os.getpid()}-", dir=self.root))
        owner = self.folder / OWNER
        if not owner.exists():
            owner.write_text(processes.identity(), encoding="utf-8")
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)

    def clear_dead(self) -> int:
        """Remove the folders of processes that run no more; returns how many.

        Only our own that names a dead process: others may have left a folder, or a link, that is called so too.
        """
        removed = 0
        for folder in sorted(self.root.glob("medai-*")):
            if folder == self.folder or not private.is_ours(folder) or not _was_left(folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        if removed:
            log.info("scratch_cleared", folders=removed)
        return removed

    def tidy(self) -> None:
        """Between two jobs nothing is needed: remove what a library forgot, and be there for the next job.

        Whatever the folder's state, no job may be kept from being read by it.
        """
        try:
            self._own()
            for path in self.folder.iterdir():
                _remove(path)
        except OSError as error:
            log.warning("scratch_not_tidied", reason=f"{error.strerror or type(error).__name__}")

    def used_bytes(self) -> int:
        """What lies in this process's folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())

    def check(self) -> None:
        """Raises DiskFull when the folder has outgrown its bound."""
        if self.used_bytes() > self._limit:
            raise DiskFull(f"the scratch directory holds more than {self._limit / 1e9:g} GB ([worker] scratch_max_gb)")

    def close(self) -> None:
        """Remove this process's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _was_left(folder: Path) -> bool:
    try:
        return processes.is_dead((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def _remove(path: Path) -> None:
    if path.name == OWNER:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_full(error: BaseException) -> bool:
    """Whether a disk is full: an operating system's error, or one of a library that quotes it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        if isinstance(cause, RuntimeError) and os.strerror(errno.ENOSPC) in str(cause):  # ITK, GDCM
            return True
        cause = cause.__cause__ or cause.__context__
    return False
