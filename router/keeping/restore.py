"""A backup becomes a site again: read whole and checked first, then put in place; never over anything that is there.

The settings name where things go, as they did when the backup was made; of a site of ``medai up`` its folder's path is
replaced. Until the archive was looked at once, nothing that it lacks counts as deleted (ledger/removals.py).
Next: tape.py (what is read), cli/keeping.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import inspect, make_url

from medai.router.errors import LedgerNewer, MedaiError, SettingsError
from medai.router.keeping.backup import (
    AUDIT,
    CONFIG,
    FORMAT,
    IMAGES,
    LEDGER,
    MODELS,
    POSTGRESQL,
    SITE,
    SQLITE,
    TLS,
    postgresql_program,
    reached,
)
from medai.router.keeping.tape import About, Checked, clear_when_full, play
from medai.router.ledger import Ledger
from medai.router.ledger.database import Database
from medai.router.ledger.removals import RESTORED
from medai.router.ledger.schema import metadata
from medai.router.settings import load as configuration

UNPACKED = ".restoring"


def check(path: Path, passphrase: bytes | None) -> Checked:
    """Whether a backup is whole and as it was written, and this program knows what is in it."""
    checked = play(path, passphrase, lambda _name: None)
    _require_known(checked.about)
    return checked


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What came back. ``faults``: of the audit trail, which was not whole when it was backed up."""

    about: About
    faults: tuple[str, ...]


def restore(
    path: Path, passphrase: bytes | None, now: float, *, folder: Path | None, config: Path, by: str
) -> Restored:
    """Restore into ``folder`` (a site of ``medai up``), or where the settings in ``config`` say; or change nothing."""
    place = folder or config.resolve().parent
    if folder is not None and folder.is_dir() and any(each.name != UNPACKED for each in folder.iterdir()):
        raise SettingsError(f"{folder} is not empty: a backup is restored into a folder of its own")
    with ExitStack() as undo:
        if not place.exists():
            place.mkdir(mode=0o700, parents=True)
            undo.callback(place.rmdir)
        with clear_when_full(str(place)), _unpacked(path, passphrase, place) as (about, files):
            faults = _place(undo, about, files, folder=folder, config=config, now=now, by=by)
        undo.pop_all()
    return Restored(about=about, faults=faults)


@contextmanager
def _unpacked(path: Path, passphrase: bytes | None, place: Path) -> Iterator[tuple[About, Path]]:
    """The backup's files in a folder of their own beside where they go, when all of them are right."""
    files = place / UNPACKED
    if files.is_dir() and not files.is_symlink():
        shutil.rmtree(files)  # of a restore that was broken off
    files.mkdir(mode=0o700)
    opened: list[BinaryIO] = []

    def take(name: str) -> BinaryIO:
        for file in opened:
            file.close()
        target = files / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened[:] = [os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")]
        return opened[0]

    try:
        try:
            about = play(path, passphrase, take).about
        finally:
            for file in opened:
                file.close()
        _require_known(about)
        yield about, files
    finally:
        shutil.rmtree(files, ignore_errors=True)


def _require_known(about: About) -> None:
    if about.format > FORMAT or not Database.knows(about.schema_revision):
        raise LedgerNewer(f"the backup was made by a newer Med-AI ({about.program}): update this one first")


def _place(
    undo: ExitStack, about: About, files: Path, *, folder: Path | None, config: Path, now: float, by: str
) -> tuple[str, ...]:
    if not config.exists():
        text = (files / CONFIG).read_text(encoding="utf-8")
        if folder is not None and about.folder:
            text = re.sub(re.escape(about.folder) + r"(?=[/\"'])", lambda _: str(folder), text)
        _write(config, text)
        undo.callback(config.unlink)
    settings = configuration.load(str(config))
    kind = make_url(settings.ledger.url).get_backend_name()
    if kind != about.database:
        raise SettingsError(f"the backup is of a ledger in {about.database}, and the settings name one in {kind}")
    ledger = Ledger(settings.ledger.url, audit_folder=settings.ledger.audit_folder)
    undo.callback(ledger.close)
    _put_ledger(undo, ledger, files)
    _put(undo, files / MODELS, settings.models.adds_to)
    for name in (SITE, TLS, IMAGES) if folder is not None else ():
        _put(undo, files / name, config.with_name(name))
    ledger.migrate()
    ledger.setting(RESTORED, repr(now))
    ledger.accounts.note_action(by, "restore", now, detail=f"a backup of {about.made_at}")
    faults = ledger.verify_audit().faults
    ledger.close()
    return faults


def _put_ledger(undo: ExitStack, ledger: Ledger, files: Path) -> None:
    """The ledger and the keys of its audit trail, where there are none."""
    url, trail = make_url(ledger.database.url), ledger.database.trail
    if trail.is_kept():
        raise SettingsError("there are the keys of an audit trail already: nothing is restored over them")
    if url.get_backend_name() == POSTGRESQL:
        with ledger.begin(reads_only=True) as db:
            if inspect(db).get_table_names():
                raise SettingsError("the ledger's database is not empty: nothing is restored over it")
        undo.callback(_drop_all, ledger)
        options, environment = reached(url)
        command = [postgresql_program("pg_restore"), *options, "--no-owner", "--no-privileges", "--exit-on-error"]
        command += ["--single-transaction", str(files / LEDGER[POSTGRESQL])]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: S603 - found above
        if done.returncode:
            raise MedaiError(f"pg_restore failed ({done.returncode}): is it at least as new as the pg_dump of then?")
    else:
        target = Path(url.database or "")
        _put(undo, files / LEDGER[SQLITE], target)
        for ending in ("-wal", "-shm"):
            undo.callback(target.with_name(target.name + ending).unlink, missing_ok=True)
    undo.callback(trail.remove)
    trail.put({path.name: path.read_bytes() for path in (files / AUDIT).glob("*")})


def _drop_all(ledger: Ledger) -> None:
    with ledger.begin() as db:
        metadata.drop_all(db)
        db.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")


def _put(undo: ExitStack, source: Path, target: Path) -> None:
    """A file or folder of the backup, if it holds it, where there is none."""
    if not source.exists():
        return
    if os.path.lexists(target):
        raise SettingsError(f"{target} is there already: nothing is restored over it")
    undo.callback(_remove, target)
    shutil.move(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
