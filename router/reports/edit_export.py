"""``medai edits export``: the series that were read, with what readers drew on them, as a folder for ``medai-train``.

The files are copied as the archive holds them: they name patients, and so does nothing else here. The newest compared
drawing of each reading is taken. manifest.json is written last, so that a folder without it is not whole.
Next: agreement.py (which edits), training/data/edits.py (who reads the folder).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import select

from medai.router.errors import OrthancRefused, PermanentError
from medai.router.ledger import schema as t
from medai.router.ledger.edits import EditState
from medai.router.orthanc.client import Orthanc
from medai.router.reports import agreement
from medai.router.reports.agreement import EditEntry
from medai.router.reports.report import Tables

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


@dataclass(frozen=True, kw_only=True)
class ExportedStructure:
    """A structure of a reader's drawing, and how it is like ours."""

    structure: str
    outcome: str
    segment: int | None
    edited_segment: int | None
    dice: float | None


@dataclass(frozen=True, kw_only=True)
class ExportedCase:
    """A reading's folder, as the manifest tells of it."""

    folder: str
    model: str
    model_version: str
    tool: str
    modality: str
    structures: tuple[ExportedStructure, ...]
    sha256: dict[str, str]
    """File -> SHA-256."""


def export(
    ledger: Tables, orthanc: Orthanc, out: Path, *, model: str | None = None, since: float | None = None
) -> Exported:
    """Copy every edited reading into ``out``, which must be new or empty. Raises PermanentError, TemporaryError."""
    _prepare(out)
    entries: list[ExportedCase] = []
    left_out: list[str] = []
    done: set[str] = set()
    after: int | None = None
    while page := agreement.edits(ledger, state=EditState.COMPARED, model=model, since=since, after=after, limit=PAGE):
        after = page[-1].id
        for edit in page:
            if edit.kind == "seg" and edit.job_id not in done:
                done.add(edit.job_id)
                case = _case(ledger, orthanc, out, edit)
                if isinstance(case, str):
                    left_out.append(f"job {edit.job_id}: {case}")
                else:
                    entries.append(case)
    manifest = {"format": FORMAT, "notice": NOTICE, "edits": [asdict(entry) for entry in entries]}
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


def _case(ledger: Tables, orthanc: Orthanc, out: Path, edit: EditEntry) -> ExportedCase | str:
    """Copy one reading's images and the reader's SEG; why not, where that can't be done."""
    structures = tuple(
        ExportedStructure(
            structure=part.structure, outcome=part.outcome, segment=part.segment, edited_segment=part.edited_segment,
            dice=part.dice,
        )
        for part in edit.comparisons
    )  # fmt: skip
    if not any(part.outcome == "matched" for part in structures):
        return "the drawing holds none of the structures that were read"
    folder = out / edit.job_id
    (folder / "images").mkdir(parents=True, mode=0o700)
    with ledger.begin(reads_only=True) as db:
        job = db.execute(select(t.jobs.c.series, t.jobs.c.modality).where(t.jobs.c.id == edit.job_id)).one()
        name = str(db.execute(select(t.edits.c.orthanc_id).where(t.edits.c.id == edit.id)).scalar_one())
    try:
        files = {"edited.dcm": _copy(orthanc, name, folder / "edited.dcm")}
        instances = [str(item["ID"]) for series in job.series for item in orthanc.instances(series)]
        for number, instance in enumerate(sorted(instances), start=1):
            file = f"images/{number:05d}.dcm"
            files[file] = _copy(orthanc, instance, folder / file)
    except OrthancRefused as error:
        if error.status != 404:
            raise
        _forget(folder)
        return "its images or the drawing are no longer in the archive"
    return ExportedCase(
        folder=folder.name, model=edit.model, model_version=edit.model_version, tool=edit.tool, modality=job.modality,
        structures=structures, sha256=files,
    )  # fmt: skip


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
