"""``medai models add``: from a folder or file that somebody brings to a model that can be routed to, step by step.

Each step is reported with its result; the first that fails ends it, and nothing has changed then. What is copied is
what was checked: the weights, the texts and the configuration that was translated, never code.
Next: read.py (what it is), format/archives.py (no pickled code), codes.py, dry_run.py (the dry run),
format/versions.py (the folder).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medai.models.codes import faults_in, remarks_on
from medai.models.errors import ModelUnavailable
from medai.models.files import json_object, sha256_of
from medai.models.foreign import dry_run
from medai.models.foreign.read import Candidate, read
from medai.models.format.archives import is_torchscript, read_checkpoint, require_torchscript
from medai.models.format.metadata import faults_of
from medai.models.format.versions import NAME, Installed, current, fingerprint_of, install
from medai.models.registry import SHIPPED

PICKLES = (".pt", ".pth", ".ts", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib")
"""Endings of files that may hold pickled code."""
NOT_READ = ("validation", ".cache", ".git", "__pycache__")
"""Folders whose files are neither looked at nor copied (nnU-Net keeps its results on training cases there)."""
HINTS = {
    "title": 'what it draws, for people: "Lungs in CT"',
    "input": 'what it reads: {"modalities": ["CT"], "unit": "HU", "min_extent_mm": [200, 150, 30]}',
    "segments": "one entry for each class of the network but the background",
    "category": 'coded category: ["91723000", "SCT", "Anatomical Structure"]',
    "type": 'coded structure: ["39607008", "SCT", "Lung"]',
    "plausible": 'plausible volumes, ml: {"ml": [1500, 9000], "refuse_below_ml": 50}',
    "ml": "the least and the most that is expected, ml: [1500, 9000]",
    "name": 'what reports call it: "Lungs"',
    "number": "its value in the labels: 1, 2, ...",
    "modalities": 'for example ["CT"]',
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One check and its result."""

    what: str
    text: str


Report = Callable[[Step], None]


def _silent(_: Step) -> None:
    """Nobody listens."""


def add(
    path: Path,
    folder: Path,
    *,
    name: str | None = None,
    codes: Path | None = None,
    replace: bool = False,
    limit_s: float = 600.0,
    report: Report | None = None,
) -> Installed:
    """Check a model and put it into a folder of models. Raises ModelUnavailable with the reason.

    ``name`` is what routes call it (default: from the path). The same again changes nothing; another content under a
    name that is taken needs ``replace``, and the former one is kept (format/versions.py).
    """
    report = report or _silent
    path = path.expanduser().absolute()
    name = name or name_of(path)
    if not NAME.fullmatch(name):
        raise ModelUnavailable(f"{name!r} cannot be a model's name (a-z, 0-9, - and _): give one with --name")
    report(Step(what="files", text=_files(path)))
    candidate = read(path, codes)
    report(Step(what="form", text="; ".join([candidate.kind, *candidate.remarks])))
    _require_inside(candidate, path)
    with tempfile.TemporaryDirectory(prefix="medai-add-") as place:
        bundle = Path(place) / name
        hashes = _write(candidate, bundle)
        report(Step(what="hashes", text=", ".join(f"{file} {digest[:8]}" for file, digest in hashes.items())))
        metadata = json_object(bundle / "configs" / "metadata.json")
        report(Step(what="description", text=_description(metadata["medai"])))
        there = current(folder, name) if folder.is_dir() else None
        if there is not None and there.fingerprint == fingerprint_of(bundle):
            report(Step(what="installed", text=f"{name} {there.version} is there already: nothing changed"))
            return there
        _require_free(name, there, replace=replace)
        report(Step(what="dry run", text=_dry_run(bundle, limit_s)))
        installed = install(bundle, folder, name)
    kept = f"; {there.version} is kept as an earlier version" if there else ""
    report(Step(what="installed", text=f"{name} {installed.version} in {folder}{kept}"))
    return installed


def name_of(path: Path) -> str:
    """A model's name from where it lies: lower case, other characters become _."""
    stem = path.stem if path.suffix else path.name
    return re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_-")[:40]


# -- files


def _files(path: Path) -> str:
    """Look at every file, the model's or not: links that lead out and pickled code end it here."""
    if not path.exists():
        raise ModelUnavailable(f"{path.name} does not exist")
    root = path.resolve()
    count = 0
    for file in _walk(root):
        if file.is_symlink() and root not in file.resolve().parents:
            raise ModelUnavailable(
                f"{file.relative_to(root)} is a link that leads out of the folder: copy what it names"
            )
        if file.is_file() and file.suffix.lower() in PICKLES:
            _require_no_pickle(file)
            count += 1
    return f"no link leads out; none of {count} weight files holds pickled code"


def _walk(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for item in sorted(root.iterdir()):
        if item.name in NOT_READ:
            continue
        yield item
        if item.is_dir() and not item.is_symlink():
            yield from _walk(item)


def _require_no_pickle(file: Path) -> None:
    """TorchScript, or tensors and plain values; anything else with such a name is refused."""
    if file.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        raise ModelUnavailable(f"{file.name} is a pickle: it may hold code, which is never run; remove it")
    if is_torchscript(file):
        require_torchscript(file)
    else:
        read_checkpoint(file)


def _require_inside(candidate: Candidate, path: Path) -> None:
    """Every file that will be copied lies in the folder, and goes to a place in the bundle."""
    root = path.resolve() if path.is_dir() else path.resolve().parent
    for place, file in {**candidate.weights, **candidate.others}.items():
        inside = PurePosixPath(place)
        if inside.is_absolute() or ".." in inside.parts or not inside.name:
            raise ModelUnavailable(f"{place} is not a place in a bundle")
        if not file.is_file():
            raise ModelUnavailable(f"{place} is named as a weight file, but it is not there")
        if root not in file.resolve().parents:
            raise ModelUnavailable(f"{place} lies outside the folder that is added")


# -- what is said of it


def _description(section: Mapping[str, Any]) -> str:
    """Raise ModelUnavailable with a list of all that is missing or wrong, and how it is written."""
    segments = section.get("segments") or []
    faults = [f"{place}: {message}{_hint(place)}" for place, message in faults_of(section)]
    faults += faults_in(segments if isinstance(segments, list) else [])
    if not segments and not faults:
        faults.append(f"segments: {HINTS['segments']}")
    if faults:
        raise ModelUnavailable(
            "the medai section of metadata.json lacks something ('medai models add --example' prints a complete one; "
            "--codes FILE gives it for a folder that cannot be changed):\n" + "\n".join(f"  medai.{f}" for f in faults)
        )
    names = ", ".join(f"{item['number']} {item['name']}" for item in segments)
    return "; ".join([f"segments {names}, codes plausible", *remarks_on(segments)])


def _hint(place: str) -> str:
    hint = HINTS.get(place.rpartition(".")[2])
    return f" ({hint})" if hint else ""


# -- the bundle


def _write(candidate: Candidate, bundle: Path) -> dict[str, str]:
    """The candidate as a bundle; returns the SHA-256 of each weight file, which metadata.json records."""
    for place, file in {**candidate.others, **candidate.weights}.items():
        target = bundle / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if place in candidate.weights and is_torchscript(file):
            target.write_bytes(require_torchscript(file))  # what was checked, not what lay there
        else:
            shutil.copyfile(file, target)
    hashes = {place: sha256_of(bundle / place) for place in candidate.weights}
    brought = {place: sha256_of(file) for place, file in candidate.weights.items()}
    section = dict(candidate.metadata["medai"])
    said = section.get("weights") or {}
    _require_recorded(said.get("files") or {}, brought)
    section["weights"] = {
        "source": "bundle",
        "origin": str(said.get("origin", "")),
        "licence": str(said.get("licence", "")),
        "files": hashes,
    }
    _json(bundle / "configs" / "metadata.json", {**candidate.metadata, "medai": section})
    _json(bundle / "configs" / "inference.json", candidate.parameters)
    card = bundle / "docs" / "README.md"
    if not card.exists():
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text(_card(bundle.name, candidate), encoding="utf-8")
    return hashes


def _require_recorded(recorded: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    """Where the author recorded a hash, the file must have it."""
    for place, digest in hashes.items():
        expected = recorded.get(place) or recorded.get(PurePosixPath(place).name) or digest
        if expected != digest:
            raise ModelUnavailable(
                f"{place} is not the file that its metadata.json was written for (SHA-256 {digest[:8]}…, "
                f"expected {expected[:8]}…)"
            )


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _card(name: str, candidate: Candidate) -> str:
    """A model card for a model that came without one: what is known, and that nothing more is."""
    metadata = candidate.metadata
    section = metadata["medai"]
    said = section.get("weights") or {}
    lines = [
        f"# {name}: {section.get('title', '')}",
        f"**Purpose.** {metadata.get('description') or 'Its author did not say.'}",
        f"**Source.** Added as {candidate.kind}. {said.get('origin') or 'Origin not recorded.'} "
        f"Licence: {said.get('licence') or 'not recorded'}.",
        "**Limits.** Not trained or judged by this project: `medai-train evaluate` measures it on your data.",
        f"**Intended use.** {metadata.get('intended_use') or 'Its author did not say. Not for clinical use.'}",
    ]
    return "\n\n".join(lines) + "\n"


def _require_free(name: str, there: Installed | None, *, replace: bool) -> None:
    if replace:
        return
    if there is not None:
        raise ModelUnavailable(
            f"there is a model {name} already, version {there.version}: --replace uses the new one and keeps that as "
            "an earlier version; --name gives the new one a name of its own"
        )
    if (SHIPPED / name / "configs" / "metadata.json").is_file():
        raise ModelUnavailable(
            f"{name} is the name of a model that ships with Med-AI: --name gives yours another, --replace puts it first"
        )


def _dry_run(bundle: Path, limit_s: float) -> str:
    found = dry_run.run(bundle, limit_s=limit_s)
    size = " x ".join(str(side) for side in reversed(found.voxels))
    drew = f"drew segments {', '.join(map(str, found.found))}" if found.found else "drew nothing, which is allowed"
    text = (
        f"a generated volume of {size} voxels in {found.seconds:.1f} s on the CPU "
        f"(loaded in {found.load_seconds:.1f} s, {found.memory_mb} MB); {drew}"
    )
    text = f"{text}; held by {found.confined}"
    return f"{text}; {found.remark}" if found.remark else text
