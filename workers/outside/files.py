"""``medai deidentify``: a folder of DICOM files to one without patients, for research.

What can't be sent is not written, and counted with its reason. Next: deidentify.py, cli.py.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medai.models.errors import ModelsError
from medai.models.images.isolated import GdcmProcess
from medai.router.errors import MedaiError, PermanentError
from medai.router.files.whole import whole
from medai.router.settings.tables import WorkerSettings
from medai.workers.dicom_file import Unreadable, begins_a_data_set, read_image
from medai.workers.outside.deidentify import deidentified
from medai.workers.outside.pseudonyms import LEAST_KEY_BYTES, Pseudonyms
from medai.workers.results.parcels import to_bytes

PURPOSE = "research"


@dataclass(kw_only=True)
class Outcome:
    """What became of a folder."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> how many images of it."""
    passed_over: int = 0
    """Files that are no DICOM."""


def deidentify_folder(source: Path, out: Path, key: bytes, *, worker: WorkerSettings) -> Outcome:
    """Write each image of a file or folder that may leave to ``out``, by series; raises PermanentError."""
    _require_apart(source, out)
    pseudonyms, outcome = Pseudonyms(key, PURPOSE), Outcome()
    with GdcmProcess() as gdcm:
        for file in _files(source):
            data = _dicom(file, worker)
            if data is None:
                outcome.passed_over += 1
                continue
            try:
                image = read_image(data, max_bytes=worker.max_image_bytes)
                made = deidentified(image, pseudonyms, gdcm, max_bytes=worker.max_image_bytes)
            except Unreadable:
                outcome.left_out["a file can't be read: it is damaged, or no image"] += 1
            except (MedaiError, ModelsError) as error:
                outcome.left_out[str(error)] += 1
            else:
                folder = out / str(made.StudyInstanceUID) / str(made.SeriesInstanceUID)
                folder.mkdir(parents=True, exist_ok=True)
                with whole(folder / f"{made.SOPInstanceUID}.dcm") as partial:
                    partial.write_bytes(to_bytes(made))
                outcome.written += 1
    return outcome


def key_of(path: Path | None) -> bytes:
    """The key in a file, made there if it is absent; without a file, one that nobody gets to know."""
    if path is None:
        return secrets.token_bytes(32)
    if not path.exists():
        with whole(path) as partial:
            partial.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    key = path.read_bytes().strip()
    if len(key) < LEAST_KEY_BYTES:
        raise PermanentError(f"{path} holds no key: it has less than {LEAST_KEY_BYTES} bytes")
    return key


def _require_apart(source: Path, out: Path) -> None:
    if not source.exists():
        raise PermanentError(f"{source} is not there")
    inside = out.resolve().is_relative_to(source.resolve())
    if inside or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise PermanentError(f"{out} must be a new or empty folder outside {source}: so nothing of a patient is in it")


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    else:
        yield from sorted(path for path in source.rglob("*") if path.is_file())


def _dicom(file: Path, worker: WorkerSettings) -> bytes | None:
    """What a file holds, None where it is no DICOM or too large."""
    if file.stat().st_size > worker.max_image_bytes:
        return None
    data = file.read_bytes()
    return data if data[128:132] == b"DICM" or begins_a_data_set(data[:8]) else None
