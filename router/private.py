"""What a site keeps on disk is for its own user alone: patients' images, orders, password hashes.

``keep_private`` is the first thing that a command does which writes any of it; ``mend`` closes at a start what an older
version or a copy left open, and refuses what can't be closed. Next: onebox/site.py (one folder with everything).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from medai.router.errors import SettingsError

OTHERS = 0o077
"""The rights of the group and of everybody else."""


def keep_private() -> None:
    """From here on this process and its children make files 0600 and folders 0700."""
    os.umask(OTHERS)


def mend(folder: Path) -> int:
    """Close a folder and all in it to other users; returns how much was open.

    The folder itself comes first, so that nobody slips in while the rest is closed; if it and what lies directly in it
    were closed before, nothing deeper was within reach, and an archive of a million files isn't walked at each start.
    Raises SettingsError for what another user owns: whoever owns a folder can replace what is in it.
    """
    owner = os.geteuid()
    mended = _close(folder, owner=owner)
    entries = list(_inside(folder))
    mended += sum(_close(path, owner=owner) for path in entries)
    if mended:
        mended += sum(_close(path, owner=owner) for entry in entries for path in _under(entry))
    return mended


def mend_database(path: Path) -> int:
    """The same for an SQLite database and what is kept beside it, whoever owns it; harmless where there is none."""
    beside = (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")))
    return sum(_close(file, owner=None) for file in beside if file.exists())


def is_ours(folder: Path) -> bool:
    """Whether this is a folder, and no link, that this user owns and nobody else may enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & OTHERS


def is_open(path: Path) -> bool:
    """Whether everybody may read a file. What its group may read is somebody's decision: root:medai 0640, say."""
    return bool(path.stat().st_mode & stat.S_IROTH)


def _inside(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries)


def _under(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):  # which follows no link
        yield from (Path(root) / name for name in (*folders, *files))


def _close(path: Path, *, owner: int | None) -> int:
    """1 if something had to be changed. A link is left alone: its rights are those of what it names."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return 0
        if owner is not None and found.st_uid != owner:
            raise SettingsError(
                f"{path} belongs to another user (uid {found.st_uid}), who could read or replace what is in it: "
                f"give it to the user that runs Med-AI (chown -R {owner} ...), or use another folder"
            )
        if not found.st_mode & OTHERS:
            return 0
        path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
    except FileNotFoundError:  # gone meanwhile
        return 0
    except PermissionError as error:
        raise SettingsError(f"{path} is open to other users of this machine and can't be closed to them") from error
    return 1
