"""What a person must say of a model before it ships: one TOML file beside the training's configuration.

    title = "Hippocampus in a T1 head"
    task = "Anterior and posterior hippocampus in T1-weighted MR"
    ...
    [input]                       # medai.models.format.bundle.InputSpec
    [[segments]]                  # number, name, codes, colour and plausible volumes, as in metadata.json
    [evaluation.anterior]         # expert label values, and the segments that answer to them
    labels = [1]
    segments = [1, 3]
    [inference]                   # further keys of inference.json, for the segmenter
    [files]                       # path in the bundle = path beside this file

An unknown key is an error that names the nearest known one; the ``medai`` tables are checked again by
models/format/bundle.py when the bundle is read back. Next: bundle.py, card.py.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medai.models.format.metadata import EvaluationClass, Guard, InputSpec
from medai.training.config import read_toml
from medai.training.errors import ConfigError

Triple = tuple[str, str, str]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlausibleText(_Strict):
    """Volumes that a segment may have, ml (models/format/bundle.py); further keys go into the bundle as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")
    ml: tuple[float, float]
    refuse_below_ml: float = 0.0
    refuse_above_ml: float | None = None
    warn_at_edge: bool = True


class SegmentText(_Strict):
    """One structure; codes are (value, scheme, meaning)."""

    number: int = Field(ge=1, le=255)
    name: str
    category: Triple
    type: Triple
    modifier: Triple | None = None
    topography: Triple | None = None
    site: Triple | None = None
    colour: tuple[int, int, int]
    plausible: PlausibleText


class Description(_Strict):
    """All that a person says of a model."""

    title: str = Field(min_length=1)
    version: str = "1.0.0"
    changelog: dict[str, str] = {}
    task: str = Field(min_length=1)
    description: str = Field(min_length=1)
    segmenter: str = "network"
    """What models/segmenters/load.py runs it with."""
    authors: str = "Med-AI contributors"
    copyright: str = "Copyright (c) Med-AI contributors"
    licence: str = Field(min_length=1)
    """Of the weights."""
    data_source: str = Field(min_length=1)
    """The training data: its name, where it is from, how to cite it."""
    data_licence: str = ""
    data_type: str = "DICOM, NIfTI"
    image_classes: str = ""
    label_classes: str = ""
    pred_classes: str = ""
    intended_use: str = Field(min_length=1)
    limits: tuple[str, ...] = Field(min_length=1)
    references: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    """The exact commands before the trainings: those that made the data set. The trainings' own are known."""
    data_folder: str = "DATA"
    """The data set, as the card's commands name it."""
    notes: str = ""
    """Markdown for the model card: how it runs, pictures, comparisons."""
    input: InputSpec
    segments: tuple[SegmentText, ...] = ()
    evaluation: dict[str, EvaluationClass] = {}
    guard: Guard | None = None
    checks: tuple[dict[str, Any], ...] = ()
    """Plausibility across segments, as models/segmenters/plausibility.py knows it."""
    inference: dict[str, Any] = {}
    files: dict[str, str] = {}
    hashed: tuple[str, ...] = ()
    """Those of ``files`` that change what is drawn: they count as weights, after the network's."""
    base: Path = Field(default=Path(), exclude=True)
    """The folder that ``files`` are looked for in."""

    @model_validator(mode="after")
    def _sound(self) -> Description:
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
                raise ValueError(f"files: {name} must be a path in a folder of the bundle, such as docs/picture.png")
        stray = sorted(set(self.hashed) - self.files.keys())
        if stray:
            raise ValueError(f"hashed: {', '.join(stray)} is not among files")
        numbers = [segment.number for segment in self.segments]
        if len(set(numbers)) < len(numbers):
            raise ValueError("segments: two have the same number")
        for name, entry in self.evaluation.items():
            if not set(entry.segments) <= set(numbers):
                raise ValueError(f"evaluation.{name}: names segments that are not there ({list(entry.segments)})")
        return self

    @property
    def copies(self) -> Mapping[str, Path]:
        """Path in the bundle -> file to copy there."""
        return {inside: self.base / source for inside, source in self.files.items()}


def read_description(path: Path) -> Description:
    """A description from a TOML file. Raises ConfigError with every fault in it."""
    table = read_toml(path)
    try:
        found = Description.model_validate({**table, "base": path.parent})
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(fault)}" for fault in error.errors())
        raise ConfigError(f"{path.name}:\n{faults}") from error
    absent = [str(source) for source in found.copies.values() if not source.is_file()]
    if absent:
        raise ConfigError(f"{path.name}: files: {', '.join(absent)} is not there")
    return found


def _fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg']}" if place else str(fault["msg"])
    near = difflib.get_close_matches(str(fault["loc"][-1]), _keys(Description, fault["loc"][:-1]), n=1)
    return f"{place}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")


def _keys(model: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """The keys of the table at a place of the description."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            found = _model_in(model.model_fields[part].annotation)
            if found is None:
                return []
            model = found
    return [name for name in model.model_fields if name != "base"]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as ``tuple[SegmentText, ...] | None`` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _model_in(inner))), None)
