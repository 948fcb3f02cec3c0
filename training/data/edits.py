"""``medai-train edits``: a data set of what readers corrected, from the folder that ``medai edits export`` wrote.

The reader's SEG is drawn on the grid of the images (another grid is refused), and its segments get the numbers of the
model's own, as the comparison matched them. Cases and patients are named by hashes. What would teach a model wrong is
left out, with the reason: a drawing without some of the model's structures, or one that no person has changed.
Next: dicom_labels.py (the SEG), datasets.py (the folder that comes out), splits.py (whole patients on one side).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydantic import BaseModel, ConfigDict, ValidationError
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from medai.models.errors import ModelsError
from medai.training.cases import Example
from medai.training.data.datasets import write_pair, write_tables
from medai.training.data.dicom_cases import ImageSeries, case_name, image_series, patient_name, volume_of
from medai.training.data.dicom_labels import Structure, draw, merge, same_text, structures
from medai.training.errors import DataError
from medai.training.output import write_json
from medai.training.words import counted

FORMAT = "med-ai edits 1"
EXAMPLES = """\
examples:
  medai edits export --out edits/ --model ct_lungs     on the router's side, from archive and ledger
  medai-train edits edits/ --out data/                 then delete edits/, which identifies patients
  medai-train qa data/ --out qa/
"""


class _Entry(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Row(_Entry):
    """One structure of the comparison."""

    structure: str
    outcome: str
    segment: int | None
    edited_segment: int | None
    dice: float | None


class Edit(_Entry):
    """One edited reading."""

    folder: str
    model: str
    modality: str
    structures: tuple[Row, ...]
    sha256: dict[str, str]


class Manifest(_Entry):
    """manifest.json, newest edit first."""

    format: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to do where a drawing does not say everything. Without: the case is left out."""

    missing_is_background: bool = False
    """A structure of the model that the reader's SEG lacks is not there."""
    unchanged: bool = False
    """Take drawings that a machine made and nobody changed."""
    higher_wins: bool = False
    """Where structures overlap."""


class LeftOut(Exception):
    """Why a case is not in the data set."""


def make(source: Path, out: Path, *, model: str = "", policy: Policy | None = None) -> dict[str, Any]:
    """Write the data set and return its manifest. Raises DataError."""
    edits = _chosen(read_manifest(source), model)
    names = _names(edits)
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: choose another folder")
    patients: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for edit in tqdm(edits, desc="edits", unit="case"):
        try:
            series, example = _example(source, edit, policy or Policy())
            if case_name(series) in patients:
                raise LeftOut("an older drawing on the same images")
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        patients[case_name(series)] = patient_name(series)
        write_pair(example, case_name(series), out)
    if not patients:
        raise DataError(f"{source} gives no case ({_told(left_out)})")
    write_tables(out, patients, names)
    made = {
        "model": edits[0].model,
        "modality": edits[0].modality,
        "cases": len(patients),
        "patients": len(set(patients.values())),
        "labels": {str(value): name for value, name in sorted(names.items())},
        "left_out": dict(left_out.most_common()),
    }
    write_json(out / "manifest.json", made)
    return made


def read_manifest(source: Path) -> Manifest:
    """The manifest of an export. Raises DataError."""
    path = source / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: is {source} what 'medai edits export' wrote, and whole?") from error
    except ValidationError as error:
        raise DataError(f"{path} is no manifest of 'medai edits export'") from error
    if manifest.format != FORMAT:
        raise DataError(f"{path} has the format {manifest.format!r}; this program reads {FORMAT!r}")
    if any(Path(edit.folder).name != edit.folder or edit.folder in ("", "..") for edit in manifest.edits):
        raise DataError(f"{path} names a folder outside {source}")
    return manifest


def _chosen(manifest: Manifest, model: str) -> Sequence[Edit]:
    found = [edit for edit in manifest.edits if model in ("", edit.model)]
    models = sorted({edit.model for edit in manifest.edits})
    if not found:
        raise DataError(f"there is no edit of {model or 'any model'}; there are edits of {', '.join(models) or 'none'}")
    if not model and len(models) > 1:
        raise DataError(f"there are edits of several models, name one with --model: {', '.join(models)}")
    return found


def _names(edits: Sequence[Edit]) -> dict[int, str]:
    """Our segment number -> its name. Raises DataError where versions of the model disagree."""
    names: dict[int, str] = {}
    for edit in edits:
        for row in edit.structures:
            if row.segment is not None and names.setdefault(row.segment, row.structure) != row.structure:
                raise DataError(
                    f"segment {row.segment} is {names[row.segment]!r} in one edit and {row.structure!r} in another: "
                    "export the edits of one version of the model"
                )
    return names


def _example(source: Path, edit: Edit, policy: Policy) -> tuple[ImageSeries, Example]:
    folder = source / edit.folder
    matched = [row for row in edit.structures if row.outcome == "matched"]
    if not policy.missing_is_background and any(row.outcome == "removed" for row in edit.structures):
        raise LeftOut("the drawing lacks some of the model's structures")
    seg = _read(folder / "edited.dcm", edit)
    drawn = {one.number: one for one in structures(seg)}
    numbers = [row.edited_segment for row in matched if row.edited_segment in drawn]
    if len(numbers) != len(matched) or not matched:
        raise LeftOut("the drawing does not hold the segments that were compared")
    if not policy.unchanged and all(row.dice == 1.0 and drawn[row.edited_segment or 0].by_machine for row in matched):
        raise LeftOut("a machine drew it and nobody changed it")
    images = [_read(path, edit) for path in sorted((folder / "images").glob("*.dcm"))]
    if len(images) != len(edit.sha256) - 1:
        raise LeftOut("an image is not there")
    series = image_series(images[0], lambda: images)
    try:
        volume = volume_of(images)
        wanted = [Structure(number=row.edited_segment or 0, label=row.structure, by_machine=False) for row in matched]
        values = {same_text(row.structure): row.segment or 0 for row in matched}
        labels = merge(draw(seg, volume.geometry, wanted), values, volume.geometry.shape, priority=policy.higher_wins)
        return series, Example(volume=volume, labels=labels)
    except (ModelsError, DataError) as error:
        raise LeftOut(str(error)) from error


def _read(path: Path, edit: Edit) -> pydicom.Dataset:
    """A file of the export, if it is the one that was written."""
    try:
        data = path.read_bytes()
        name = path.name if path.parent.name == edit.folder else f"{path.parent.name}/{path.name}"
        if hashlib.sha256(data).hexdigest() != edit.sha256.get(name):
            raise LeftOut("a file is not the one that was exported")
        return pydicom.dcmread(path)
    except (OSError, InvalidDicomError, ValueError, EOFError) as error:
        raise LeftOut("a file of it is not there or damaged") from error


def _told(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{count} left out: {reason}" for reason, count in sorted(left_out.items())) or "no edits in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train edits``."""
    parser.epilog = EXAMPLES
    parser.add_argument("source", type=Path, metavar="EXPORT", help="the folder that 'medai edits export' wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder for the data set")
    parser.add_argument("--model", default="", help="whose edits, if the folder holds those of several models")
    parser.add_argument(
        "--missing-is-background", action="store_true", help="a structure that the reader's SEG lacks is not there"
    )
    parser.add_argument(
        "--unchanged", action="store_true", help="include drawings that a machine made and nobody changed"
    )
    parser.add_argument("--higher-wins", action="store_true", help="where structures overlap, the higher number wins")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def run(options: argparse.Namespace) -> int:
    """0 when there is a data set."""
    policy = Policy(
        missing_is_background=options.missing_is_background,
        unchanged=options.unchanged,
        higher_wins=options.higher_wins,
    )
    made = make(options.source, options.out, model=options.model, policy=policy)
    if options.json:
        print(json.dumps(made, indent=2, ensure_ascii=False))
        return 0
    print(
        f"{options.out}: {counted(made['cases'], 'case')} of {counted(made['patients'], 'patient')}, "
        f"edits of {made['model']}"
    )
    if made["left_out"]:
        print(_told(made["left_out"]))
    print(f"{options.source} identifies patients: delete it when you no longer need it")
    return 0
