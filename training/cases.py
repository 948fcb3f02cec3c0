"""A case: one image with its expert labels on the same grid, and the patient it belongs to.

Readers (data/datasets.py) make cases from folders, DICOM, NRRD or an Orthanc; nothing else knows where they come
from. Voxels are loaded when asked for. Next: data/datasets.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from medai.models.volume import Labels, Volume
from medai.training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Example:
    """A case in memory: ``labels`` is uint8 [slice, row, column] on exactly the volume's grid, 0 is background."""

    volume: Volume
    labels: Labels = field(repr=False, hash=False, compare=False)
    manufacturer: str = ""
    """Of the scanner, where the data say it (DICOM)."""
    device: str = ""
    """The scanner's model name, likewise."""

    def __post_init__(self) -> None:
        """Labels that do not lie on the image are never resampled silently."""
        if self.labels.shape != self.volume.geometry.shape:
            raise DataError(
                f"labels of {self.labels.shape} voxels do not lie on an image of {self.volume.geometry.shape}"
            )


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a data set. ``name`` is unique in it; splits keep all cases of a ``patient`` on one side."""

    name: str
    patient: str
    read: Callable[[], Example] = field(repr=False, hash=False, compare=False)

    def load(self) -> Example:
        """The voxels. Raises DataError, naming the case, when they cannot be read."""
        return self.read()


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """Something about a data set as a whole: what was left out and why. ``fatal``: it must not be trained on so."""

    text: str
    fatal: bool = False


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Cases in a fixed order, and what their label values mean ({1: "anterior", ...}; may be empty if unknown)."""

    name: str
    cases: tuple[Case, ...]
    label_names: dict[int, str] = field(default_factory=dict, hash=False)
    modality: str = ""
    oddities: tuple[Oddity, ...] = ()

    def named(self, names: set[str]) -> tuple[Case, ...]:
        """Those cases, in the data set's order. Raises DataError for a name that is not there."""
        missing = names - {case.name for case in self.cases}
        if missing:
            raise DataError(f"{self.name} has no case {', '.join(sorted(missing)[:5])}")
        return tuple(case for case in self.cases if case.name in names)
