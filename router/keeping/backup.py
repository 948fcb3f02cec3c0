"""What goes into a backup, while the site runs: the ledger, its settings and keys; models and images where asked for.

The audit trail's head is copied before the ledger, and the ledger before the archive: what follows may be newer, which
each of them bears. Orthanc's storage is copied as it lies, index and all, with Orthanc stopped: it locks its index for
itself, and an export by REST would lose the change log, in which the ledger's cursor stands.
Next: tape.py (the file), restore.py.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, make_url, text

from medai.router.errors import LedgerUnreachable, MedaiError, SettingsError
from medai.router.keeping.tape import ABOUT, About, Recorder, clear_when_full, described, recording
from medai.router.ledger import Ledger
from medai.router.onebox.site import Site, port_is_taken
from medai.router.settings.tables import Settings
from medai.router.version import program_version

FORMAT = 1
SQLITE, POSTGRESQL = "sqlite", "postgresql"
LEDGER = {SQLITE: "ledger.sqlite", POSTGRESQL: "ledger.pgdump"}
CONFIG, SITE, TLS, MODELS, IMAGES, AUDIT = "medai.toml", "site.json", "tls", "models", "orthanc-db", "audit"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is backed up: a configuration, and the folder of ``medai up`` where there is one."""

    config: Path
    settings: Settings
    site: Site | None


def file_in(to: Path, now: float) -> Path:
    """The file itself, or one by the time in a folder."""
    if not to.is_dir():
        return to
    return to / f"medai-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.backup"


def backup(
    source: Source, ledger: Ledger, to: Path, now: float, *, by: str, models: bool, images: bool,
    passphrase: bytes | None,
) -> About:  # fmt: skip
    """Write a backup to ``to``, which is not there yet."""
    if images and source.site is None:
        raise SettingsError("--images is for a site of 'medai up': back up an Orthanc of your own as you do others")
    _require_stopped(source.site if images else None)
    parts = ["ledger", "settings", "keys", *(["models"] if models else []), *(["images"] if images else [])]
    words = f"{', '.join(parts)}; {'encrypted' if passphrase else 'not encrypted'}"
    with recording(to, passphrase) as recorder:
        ledger.accounts.note_action(by, "backup", now, detail=words)
        about = _record(recorder, source, ledger, now, tuple(parts))
        _require_stopped(source.site if images else None)  # still
        return about


def _require_stopped(site: Site | None) -> None:
    if site is not None and any(map(port_is_taken, (site.ports["orthanc_http"], site.archive_dicom_port))):
        raise SettingsError(
            "images are copied with Orthanc stopped: 'medai down --part orthanc', then this again, then "
            "'medai up --part orthanc'; what is refused meanwhile is sent again by its sender"
        )


def _record(recorder: Recorder, source: Source, ledger: Ledger, now: float, parts: tuple[str, ...]) -> About:
    url = make_url(source.settings.ledger.url)
    kind = url.get_backend_name()
    keys = ledger.database.trail.copy()
    beside = Path(url.database or "").resolve().parent if kind == SQLITE else None
    with (
        clear_when_full(str(beside or tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix=".medai-backup-", dir=beside) as folder,
    ):
        copy = Path(folder) / LEDGER[kind]
        copy_sqlite(Path(url.database or ""), copy) if kind == SQLITE else _dump(url, copy)
        with ledger.begin(reads_only=True) as db:
            revision = str(db.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        about = About(
            format=FORMAT, program=program_version(), made_at=datetime.fromtimestamp(now, UTC).isoformat(),
            schema_revision=revision, database=kind, folder=str(source.site.folder) if source.site else "", parts=parts,
        )  # fmt: skip
        recorder.text(ABOUT, described(about))
        recorder.file(copy.name, copy)
    for name, content in keys.items():
        recorder.text(f"{AUDIT}/{name}", content)
    recorder.file(CONFIG, source.config)
    if source.site is not None:
        recorder.file(SITE, source.site.folder / SITE)
        recorder.tree(TLS, source.site.folder / TLS)
    if "models" in parts:
        recorder.tree(MODELS, source.settings.models.adds_to)
    if "images" in parts and source.site is not None:
        recorder.tree(IMAGES, source.site.folder / IMAGES)
    return about


def copy_sqlite(source: Path, target: Path) -> None:
    """One moment of a database that is written to meanwhile, whole and sound."""
    try:
        with closing(sqlite3.connect(source, timeout=30.0)) as db, closing(sqlite3.connect(target)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            sound = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_FULL":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent.parent)) from error
        raise LedgerUnreachable(f"the ledger can't be copied ({error.sqlite_errorname})") from error
    if sound != ("ok",):
        raise MedaiError("the ledger's file is damaged (PRAGMA quick_check): restore an older backup")


def postgresql_program(name: str) -> str:
    """pg_dump or pg_restore; SettingsError where it isn't installed."""
    found = shutil.which(name)
    if found is None:
        raise SettingsError(f"{name} is not installed: install PostgreSQL's client programs (postgresql-client)")
    return found


def reached(url: URL) -> tuple[list[str], dict[str, str]]:
    """How PostgreSQL's programs reach the ledger; the password is on no command line."""
    address = URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database, query=url.query
    ).render_as_string()
    password = {"PGPASSWORD": str(url.password)} if url.password else {}
    return [f"--dbname={address}", "--no-password"], {**os.environ, **password}


def _dump(url: URL, target: Path) -> None:
    options, environment = reached(url)
    program = postgresql_program("pg_dump")
    command = [program, *options, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - found above
    if done.returncode and "No space left" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent))
    if done.returncode:
        raise MedaiError(f"pg_dump failed ({done.returncode}): is it at least as new as the server?")
