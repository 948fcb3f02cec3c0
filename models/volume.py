"""Voxels with their geometry, and what a model made of them.

Next: images/preprocess.py (from DICOM to Volume), segmenters/load.py (from Volume to Segmentation).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from medai.models.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

Voxels = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept: value, scheme (SCT, DCM, LN, …) and meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One structure of a label map. ``number`` is its value in the labels and its DICOM Segment Number."""

    number: int
    name: str
    category: Code
    type: Code
    modifier: Code | None = None
    """Laterality, where the type has none (SCT Right 24028007, Left 7771000)."""
    topography: Code | None = None
    """Which part of the type, where it has no code of its own (SCT Anterior 255549009, Posterior 255551008)."""
    site: Code | None = None
    """Finding site for the report when it differs from ``type``."""
    colour: tuple[int, int, int] = (255, 160, 0)
    """RGB, 0-255, for the contour and RecommendedDisplayCIELabValue."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """``voxels`` is [slice, row, column], in ``unit``: "HU" for CT, "arbitrary" otherwise."""

    voxels: Voxels = field(repr=False, hash=False, compare=False)
    geometry: Geometry
    modality: str
    unit: str = "arbitrary"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A series in slice order: the image of ``volume.voxels[i]`` is ``datasets[i]``.

    The datasets have lost their PixelData (results need their headers alone). Of enhanced multi-frame objects
    ``datasets[i]`` is the object and ``frames[i]`` the frame, numbered from 1, of ``volume.voxels[i]``; of single-frame
    images ``frames`` is empty.
    """

    volume: Volume
    datasets: tuple[Dataset, ...] = field(repr=False, hash=False, compare=False)
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a result says of the model that made it."""

    name: str
    """The bundle's folder name, e.g. ``mr_brain``."""
    title: str
    """For people, e.g. "Brain mask of a T1 head"."""
    version: str
    fingerprint: str
    """SHA-256 (hex) of the weights: changes when the model changes; Device UID derives from it."""
    manufacturer: str = "Med-AI"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One look at a result: ``text`` says what was seen, in words for a radiographer."""

    name: str
    """What was looked at, the same for every study: "Left lung: volume"."""
    passed: bool | None
    """None: it could not be looked at, and ``text`` says why."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Plausibility:
    """What the checks of a result come to. Where nothing was checked, a person must."""

    findings: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Literal["plausible", "check"]:
        """``check``: something did not pass, or something else was noted, or nothing could be looked at."""
        good = self.passed > 0 and not self.findings and all(check.passed is not False for check in self.checks)
        return "plausible" if good else "check"

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(check.passed is True for check in self.checks)

    @property
    def made(self) -> int:
        """How many checks could be made."""
        return sum(check.passed is not None for check in self.checks)

    @property
    def summary(self) -> str:
        """In one line."""
        if not self.checks:
            return "nothing was checked"
        skipped = len(self.checks) - self.made
        return f"{self.passed} of {self.made} checks passed" + (f", {skipped} could not be made" if skipped else "")


@dataclass(frozen=True, kw_only=True)
class Total:
    """Several segments taken together under a name of their own, such as both parts of the left hippocampus."""

    name: str
    segments: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """``labels`` is uint8 [slice, row, column] on exactly the source's grid; 0 is background."""

    labels: Labels = field(repr=False, hash=False, compare=False)
    segments: tuple[Segment, ...]
    geometry: Geometry
    model: ModelCard
    warnings: tuple[str, ...] = ()
    """What a person should look at ("the mask touches the edge of the field of view")."""
    checks: tuple[Check, ...] = ()
    """Every look that was taken at the result, and what came of it."""
    totals: tuple[Total, ...] = ()
    """Groups of segments whose volume is reported too."""

    @property
    def plausibility(self) -> Plausibility:
        """The verdict, and what led to it."""
        return Plausibility(findings=self.warnings, checks=self.checks)

    def checked(self, check: Check) -> Segmentation:
        """The same with one more check; what did not pass is a warning."""
        warnings = (*self.warnings, check.text) if check.passed is False else self.warnings
        return replace(self, checks=(*self.checks, check), warnings=warnings)
