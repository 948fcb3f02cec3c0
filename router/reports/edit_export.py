"""``medai edits export``: the series that were read, with what readers drew on them, as a folder for ``medai-train``.

The files are copied as the archive holds them: they name patients, and so does nothing else here. The newest compared
drawing of each reading is taken. manifest.json is written last, so that a folder without it is not whole.
Next: agreement.py (which edits), training/data/edits.py (who reads the folder).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from medai.router.errors import OrthancRefused, PermanentError
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.edits import EditState
from medai.router.orthanc.client import Orthanc
from medai.router.reports import agreement

FORMAT = "med-ai edits 1"
NOTICE = (
    "The DICOM files in these folders identify patients. Keep them as you keep images, and delete them when the data "
    "set is made: medai-train edits writes one without identifiers in names or headers."
)
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How many readings were exported, and why others were not."""

    cases: int
    left_out: tuple[str, ...]


def export(
    ledger: Ledger, orthanc: Orthanc, out: Path, *, model: str | None = None, since: float | None = None
) -> Exported:
    """Copy every edited reading into ``out``, which must be new or empty. Raises PermanentError, TemporaryError."""
    _prepare(out)
    entries: list[dict[str, Any]] = []
    left_out: list[str] = []
    done: set[str] = set()
    after: int | None = None
    while page := agreement.edits(ledger, state=EditState.COMPARED, model=model, since=since, after=after, limit=PAGE):
        after = page[-1]["id"]
        for edit in page:
            if edit["kind"] == "seg" and edit["job_id"] not in done:
                done.add(edit["job_id"])
                reason = _case(ledger, orthanc, out, edit, entries)
                left_out += [f"job {edit['job_id']}: {reason}"] if reason else []
    manifest = {"format": FORMAT, "notice": NOTICE, "edits": entries}
    _write(out / "manifest.json", (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    return Exported(cases=len(entries), left_out=tuple(left_out))


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = any(out.iterdir())
    except OSError as error:
        raise PermanentError(f"{out} cannot be made a folder: {error.strerror}") from error
    if taken:
        raise PermanentError(f"{out} is not empty: name a new folder")


def _case(ledger: Ledger, orthanc: Orthanc, out: Path, edit: Mapping[str, Any], entries: list[dict[str, Any]]) -> str:
    """Copy one reading's images and the reader's SEG; why not, where that can't be done."""
    structures = [
        {name: row[name] for name in ("structure", "outcome", "segment", "edited_segment", "dice")}
        for row in edit["comparisons"]
    ]
    if not any(row["outcome"] == "matched" for row in structures):
        return "the drawing holds none of the structures that were read"
    folder = out / str(edit["job_id"])
    (folder / "images").mkdir(parents=True, mode=0o700)
    with ledger.begin(reads_only=True) as db:
        job = db.execute(select(t.jobs).where(t.jobs.c.id == edit["job_id"])).mappings().one()
        name = str(db.execute(select(t.edits.c.orthanc_id).where(t.edits.c.id == edit["id"])).scalar_one())
    try:
        files = {"edited.dcm": _copy(orthanc, name, folder / "edited.dcm")}
        instances = [str(item["ID"]) for series in job["series"] for item in orthanc.instances(series)]
        for number, instance in enumerate(sorted(instances), start=1):
            file = f"images/{number:05d}.dcm"
            files[file] = _copy(orthanc, instance, folder / file)
    except OrthancRefused as error:
        if error.status != 404:
            raise
        _forget(folder)
        return "its images or the drawing are no longer in the archive"
    facts = {key: edit[key] for key in ("model", "model_version", "tool")}
    entries.append(
        {"folder": folder.name, **facts, "modality": job["modality"], "structures": structures, "sha256": files}
    )
    return ""


def _copy(orthanc: Orthanc, instance: str, path: Path) -> str:
    """Copy a file; its SHA-256."""
    data = orthanc.file(instance)
    _write(path, data)
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise PermanentError(f"{path} cannot be written: {error.strerror}") from error


def _forget(folder: Path) -> None:
    for file in (*(folder / "images").iterdir(), folder / "edited.dcm"):
        file.unlink(missing_ok=True)
    (folder / "images").rmdir()
    folder.rmdir()
