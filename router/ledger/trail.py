"""The audit trail's chain: each line's seal holds the line before it, so that no line can be changed unnoticed.

A seal is an HMAC of the line and of the seal before. Its key, and the newest line's number and seal, are kept in two
files beside an SQLite ledger (or in [ledger] audit_folder): who can write the ledger alone can neither forge a line nor
take the last ones away. The newest seal also goes to the log. A trail that does not fit what was kept is not sealed
over: the file stays as it was and ``medai audit verify`` tells. What is committed is done, whether or not its seal
could be kept: a file that can't be written (a full disk) is said, counted, and written with the next line or some
seconds later. Lines may be pruned from the old end alone (retention.py): a line of the trail then says where it begins.
Next: history.py (who writes lines), cli/audit.py.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, func, select, text, update

from medai.router.errors import TemporaryError
from medai.router.ledger import schema as t
from medai.router.log import describe
from medai.router.words import counted

log = structlog.get_logger(__name__)
PENDING = "audit_head"
"""Where a transaction keeps its newest line until it is committed."""
LOCK = 7_041_776_239
"""PostgreSQL's advisory lock: lines follow each other, whoever writes them."""
WIDTH = 256
"""Bytes of the file with the head, always: it is written over in place, which a full disk allows."""
AGAIN_S = 5.0
"""A head that could not be kept is tried again after this time, whatever is written then."""
COLUMNS = ("id", "at", "account", "action", "study_id", "job_id", "detail")
SEALED = (*COLUMNS, "address")
"""What a seal covers; lines of before there were addresses have none, and their seals hold as they are."""
PRUNED = "audit pruned"
"""The action of a line that says which older ones were taken away."""
_CUT = re.compile(r"([0-9]+) lines? in all, up to number ([0-9]+), whose seal was ([0-9a-f]{64})")


class AuditFilesFault(TemporaryError):
    """The key or the head of the audit trail can't be read or written; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest line of the trail, and how many there are."""

    id: int
    count: int
    seal: str


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the trail begins since its oldest lines were pruned: it is kept by a line of the trail, sealed like all."""

    id: int
    """Of the last line that is gone."""
    lines: int
    """How many are gone, all in all."""
    seal: str
    """Of the last line that is gone: the first that is left rests on it."""

    @property
    def words(self) -> str:
        """What its line says."""
        return f"{counted(self.lines, 'line')} in all, up to number {self.id}, whose seal was {self.seal}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What ``medai audit verify`` found."""

    lines: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


class Trail:
    """Seals lines, and keeps the newest seal elsewhere. ``folder`` None: without a key, and in the log alone."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._key_file = folder / f"{name}.audit-key" if folder else None
        self._head_file = folder / f"{name}.audit-head" if folder else None
        self._key: bytes | None = None
        self._late: Head | None = None
        self._again_at = 0.0
        self._lock = threading.Lock()
        self.in_log = False
        """Set by processes that have a log; a command's answer is on standard output."""

    # -- a line is written

    @staticmethod
    def lock(db: Connection) -> None:
        """Until this transaction ends nobody else writes a line: they get their numbers in the order of their seals."""
        if db.dialect.name == "postgresql":  # of SQLite's writers there is one at a time
            db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})

    def seal(self, db: Connection, line_id: int) -> None:
        """Seal a line that this transaction has just written."""
        c = t.audit.c
        row = db.execute(select(*(c[name] for name in SEALED)).where(c.id == line_id)).mappings().one()
        before = db.execute(select(c.seal).where(c.id < line_id).order_by(c.id.desc()).limit(1)).scalar()
        if before is None:
            before = self._unsealed(db, line_id)
        seal = self._seal(before, row)
        db.execute(update(t.audit).where(c.id == line_id).values(seal=seal))
        kept, fits = self._kept_if_it_fits(db)
        newer = select(func.count()).select_from(t.audit).where(c.id > (kept.id if kept else -1))
        count = int(db.execute(newer).scalar_one()) + (kept.count if kept else 0)
        db.info[PENDING] = Head(id=line_id, count=count, seal=seal) if fits else None
        if not fits:
            log.error("audit_trail_broken", next="run medai audit verify")

    def keep(self, head: Head | None) -> None:
        """The transaction is committed: this is the newest line (None: it wrote none). Raises nothing."""
        if head is not None and self.in_log:
            log.info("audit_head", line=head.id, lines=head.count, seal=head.seal)
        with self._lock:
            late = head or self._late
            if late is None or (head is None and time.monotonic() < self._again_at):
                return
            if self._late is not None and self._late.id > late.id:
                late = self._late
            was_late = self._late is not None
            self._late, self._again_at = late, time.monotonic() + AGAIN_S
        try:
            self._write(late)
        except (AuditFilesFault, OSError) as error:
            if not was_late:
                log.error("audit_head_not_kept", reason=describe(error), next="free some space, or mend audit_folder")
            return
        with self._lock:
            if self._late == late:
                self._late = None
        if was_late:
            log.info("audit_head_kept_again")

    def _write(self, head: Head) -> None:
        """In place and in one piece: a disk that is full, or a process that ends here, leaves the head that was."""
        with self._locked_head() as file:
            kept = _read(file) if file is not None else None
            if file is None or (kept is not None and kept.id >= head.id):
                return
            text = json.dumps({"id": head.id, "count": head.count, "seal": head.seal}).ljust(WIDTH - 1) + "\n"
            if os.pwrite(file.fileno(), text.encode("ascii"), 0) != WIDTH:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())

    def unkept(self, db: Connection) -> int:
        """Lines whose seal is in no second place yet; all of them where that can't be read."""
        if self._head_file is None:
            return 0
        kept, fits = self._kept_if_it_fits(db)
        newer = select(func.count()).select_from(t.audit).where(t.audit.c.seal.is_not(None))
        if kept is not None and fits:
            newer = newer.where(t.audit.c.id > kept.id)
        return int(db.execute(newer).scalar_one())

    # -- the whole is verified

    def verify(self, db: Connection) -> Verdict:
        """Every line by its seal, and the end by what was kept of it."""
        faults: list[str] = []
        notes: list[str] = []
        lines, last, begins = 0, 0, _begins(db)
        for row, fits in self._chain(db.execute(_LINES).mappings(), begins):
            lines += 1
            last = int(row["id"])
            if not fits:
                faults.append(f"line {last} was changed or written by somebody else, or a line before it is missing")
        if begins is not None:
            notes.append(f"{begins.lines} older lines, up to number {begins.id}, were pruned as [retention] says")
        faults += self._end(db, lines, last, begins, notes)
        return Verdict(lines=lines, faults=tuple(faults), notes=tuple(notes))

    def cut(self, db: Connection, until: float, most: int, *, sent: int | None = None) -> Cut | None:
        """Where the trail may be cut so that ``most`` lines or fewer, all older than ``until``, go; None: nowhere.

        The newest line stays, and so do those after ``sent``, which some receiver has not got yet, and a trail that is
        not whole: what shows it must not go. Lines of before there
        were seals go together with the first that was sealed, which stands for them.
        """
        kept, begins = self._kept(), _begins(db)
        newest = kept.id if kept else int(db.execute(select(func.max(t.audit.c.id))).scalar() or 0)
        stays = newest if sent is None else min(newest, sent + 1)
        unsealed = db.execute(select(func.count()).where(t.audit.c.seal.is_(None))).scalar_one()
        rows = db.execute(_LINES.limit(most + int(unsealed))).mappings()
        before, found = begins.lines if begins else 0, None
        for gone, (row, fits) in enumerate(self._chain(rows, begins), start=before + 1):
            if not fits:
                log.error("audit_trail_broken", next="run medai audit verify; nothing of it is pruned")
                return None
            if row["at"] >= until or row["id"] >= stays:
                break
            if row["seal"] is not None:
                found = Cut(id=int(row["id"]), lines=gone, seal=str(row["seal"]))
        return found

    def _chain(self, rows: Iterable[Any], begins: Cut | None) -> Iterator[tuple[Any, bool]]:
        """Each line, and whether its seal is the one that follows from it and from the line before."""
        before, unsealed = begins.seal if begins else "", hashlib.sha256()
        for row in rows:
            if row["seal"] is None and not before:
                unsealed.update(_line(row))
                yield row, True
                continue
            expected = self._seal(before or unsealed.hexdigest(), row)
            yield row, row["seal"] is not None and hmac.compare_digest(str(row["seal"]), expected)
            before = str(row["seal"])

    def _end(self, db: Connection, lines: int, last: int, begins: Cut | None, notes: list[str]) -> list[str]:
        if self._head_file is None:
            notes.append(
                "[ledger] audit_folder is not set: lines are sealed without a key, and their end is in the log alone"
            )
            return []
        kept = self._kept()
        if kept is None:
            return ["the file with the newest seal is missing"] if _any_sealed(db) else []
        if not self._fits(db, kept):
            return [f"line {kept.id}, which was the newest, is gone or another: lines at the end were taken away"]
        until = int(db.execute(select(func.count()).select_from(t.audit).where(t.audit.c.id <= kept.id)).scalar_one())
        until += begins.lines if begins else 0
        if until != kept.count:
            return [f"{counted(until, 'line')} up to number {kept.id} where there were {kept.count}"]
        if last > kept.id:
            newer = lines + (begins.lines if begins else 0) - kept.count
            notes.append(f"{newer} newer than the line that was kept: a process ended in between")
        return []

    # -- it is backed up and restored

    def copy(self) -> dict[str, bytes]:
        """Its two files, as far as there are any: to be copied before the ledger is, which may be newer than they."""
        with self._locked_head():
            return {name: file.read_bytes() for name, file in self._files() if file.exists()}

    def put(self, files: Mapping[str, bytes]) -> None:
        """Its two files, of a backup, where there are none yet."""
        for name, file in self._files():
            if name in files:
                number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(number, "wb") as made:
                    made.write(files[name])

    def remove(self) -> None:
        """Its two files, of a restore that failed."""
        for _, file in self._files():
            file.unlink(missing_ok=True)

    def is_kept(self) -> bool:
        """Whether there is one of its files already."""
        return any(file.exists() for _, file in self._files())

    def _files(self) -> list[tuple[str, Path]]:
        files = (("audit.key", self._key_file), ("audit.head", self._head_file))
        return [(name, file) for name, file in files if file is not None]

    # -- seals

    def _seal(self, before: str, row: Any) -> str:
        return hmac.new(self._secret(), before.encode() + _line(row), hashlib.sha256).hexdigest()

    def _unsealed(self, db: Connection, line_id: int) -> str:
        """What stands for the lines of before there were seals."""
        digest = hashlib.sha256()
        query = select(*(t.audit.c[name] for name in SEALED)).where(t.audit.c.id < line_id).order_by(t.audit.c.id)
        for row in db.execute(query).mappings():
            digest.update(_line(row))
        return digest.hexdigest()

    @staticmethod
    def _fits(db: Connection, kept: Head | None) -> bool:
        """Whether the line that was the newest is still there, as it was."""
        if kept is None:
            return True
        return db.execute(select(t.audit.c.seal).where(t.audit.c.id == kept.id)).scalar() == kept.seal

    # -- files

    def _secret(self) -> bytes:
        if self._key_file is None:
            return b""
        if self._key is None:
            try:
                self._key = _made_once(self._key_file)
            except OSError as error:
                raise AuditFilesFault(f"the audit trail's key can't be read: {error.strerror}") from error
        return self._key

    def _kept_if_it_fits(self, db: Connection) -> tuple[Head | None, bool]:
        """The newest line that was kept, and whether it is still there; one that can't be read does not fit."""
        try:
            kept = self._kept()
        except AuditFilesFault as error:
            log.error("audit_head_not_read", reason=str(error))
            return None, False
        return kept, self._fits(db, kept)

    def _kept(self) -> Head | None:
        with self._locked_head() as file:
            return _read(file) if file is not None else None

    @contextmanager
    def _locked_head(self) -> Iterator[Any]:
        """The file of the newest seal, this process's alone; None where there is no folder."""
        if self._head_file is None:
            yield None
            return
        try:
            number = os.open(self._head_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise AuditFilesFault(f"the audit trail's head can't be read: {error.strerror}") from error
        with os.fdopen(number, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file


_LINES = select(*(t.audit.c[name] for name in (*SEALED, "seal"))).order_by(t.audit.c.id)


def _begins(db: Connection) -> Cut | None:
    """What the newest line about pruning says; that it was not forged is for the chain to show."""
    said = select(t.audit.c.detail).where(t.audit.c.action == PRUNED).order_by(t.audit.c.id.desc()).limit(1)
    found = _CUT.fullmatch(str(db.execute(said).scalar() or ""))
    return Cut(lines=int(found[1]), id=int(found[2]), seal=found[3]) if found else None


def _any_sealed(db: Connection) -> bool:
    """Whether any line is sealed."""
    return db.execute(select(t.audit.c.id).where(t.audit.c.seal.is_not(None)).limit(1)).first() is not None


def _line(row: Any) -> bytes:
    values = [row[name] for name in COLUMNS]
    values += [row["address"]] if row["address"] is not None else []
    return json.dumps(values, separators=(",", ":")).encode()


def _read(file: Any) -> Head | None:
    file.seek(0)
    kept = file.read()
    if not kept.strip():
        return None
    try:
        return Head(**json.loads(kept))
    except (ValueError, TypeError) as error:
        raise AuditFilesFault("the file with the audit trail's newest seal holds something else") from error


def _made_once(file: Path) -> bytes:
    """The key, made by whoever needs it first; whole, or not at all."""
    new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    if not file.exists():
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(number, "w", encoding="ascii") as made:
                made.write(secrets.token_hex(32) + "\n")
                made.flush()
                os.fsync(made.fileno())
            os.link(new, file)  # the first one stays
        except FileExistsError:
            pass
        finally:
            new.unlink()
    key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    if len(key) < 32:
        raise OSError(errno.EIO, "it is shorter than a key")
    return key
