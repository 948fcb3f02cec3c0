"""Write a file so that it is either there whole or not there, even when the power fails.

Next: inbox.py, orders.py.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class FolderInUseError(RuntimeError):
    """Another process keeps its data in this folder."""


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read: messages hold patients."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside, flush to disk, rename, flush the folder. Raises OSError with the old file untouched."""
    beside = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clear_parts(folder: Path) -> None:
    """Remove what an interrupted write left behind; nothing of it was ever acknowledged."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def lock_folder(folder: Path) -> IO[bytes]:
    """Hold a folder for this process until the returned file is closed; raises FolderInUseError."""
    make_private(folder)
    file = (folder / ".lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise FolderInUseError(f"{folder} is used by another mock RIS: stop it, or choose another --data") from error
    return file
