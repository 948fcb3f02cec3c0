"""The section ``medai`` of a bundle's ``metadata.json``: what a model reads, draws and needs, and what is plausible.

Its tables are checked whole when they are read; nothing here touches a file. Next: bundle.py.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medai.models.errors import ModelRefused
from medai.models.volume import Code, Segment, Volume

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


class MedaiSection(_Strict):
    """The whole section."""

    title: str
    segmenter: str
    input: InputSpec
    segments: tuple[_Segment, ...]
    weights: Weights
    evaluation: _Evaluation = _Evaluation(classes={})
    guard: Guard | None = None
    checks: tuple[AcrossCheck, ...] = ()

    @model_validator(mode="after")
    def _checks_name_segments(self) -> MedaiSection:
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


def faults_of(section: Any) -> list[tuple[str, str]]:
    """What is missing or wrong in a medai section: place ("segments.0.type") and message; empty when it is whole."""
    try:
        MedaiSection.model_validate(section)
    except ValidationError as error:
        return faults_in(error)
    return []


def faults_in(error: ValidationError) -> list[tuple[str, str]]:
    """Place and message of each fault."""
    return [(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()]
