"""A scenario: what a hospital does in some hours, as a TOML file that anybody can read and change.

All times in a scenario are the hospital's own (seconds since the trial began); ``accelerate`` says how many of them
pass in one real second. ``load`` judges the file and names the key that is wrong. Next: hospital/timeline.py
(arrivals).
"""

from __future__ import annotations

import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

SHIPPED = resources.files("medai.trials") / "scenarios"
PRIORITIES = ("stat", "urgent", "routine")
PriorityName = Literal["stat", "urgent", "routine"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class ScenarioError(ValueError):
    """A scenario can't be used; the text names the file and the key, and what is allowed."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Arrivals(_Table):
    """When studies are made: a Poisson process at one rate, at a rate for each hour of the day, or a list."""

    kind: Literal["constant", "profile", "replay"] = "constant"
    per_hour: NotNegative | tuple[NotNegative, ...] = 0.0
    """Studies an hour; for ``profile`` twenty-four of them, the first for 00:00 to 01:00."""
    csv: str = ""
    """For ``replay``: a file beside the scenario with the columns at_s, case, priority (both may be empty)."""

    @model_validator(mode="after")
    def _fits(self) -> Arrivals:
        if self.kind == "constant" and isinstance(self.per_hour, tuple):
            raise ValueError("per_hour must be one number where kind is constant")
        if self.kind == "profile" and (not isinstance(self.per_hour, tuple) or len(self.per_hour) != 24):
            raise ValueError("per_hour must be a list of 24 numbers where kind is profile")
        if self.kind == "replay" and not self.csv:
            raise ValueError("csv must name a file where kind is replay")
        return self

    def at_hour(self, hour: int) -> float:
        """Studies an hour in this hour of the day (0 to 23)."""
        return self.per_hour[hour % 24] if isinstance(self.per_hour, tuple) else self.per_hour


class Reading(_Table):
    """How long a radiologist takes for a study: log-normal, hospital seconds."""

    median_s: Positive = 300.0
    sigma: NotNegative = 0.4
    """Standard deviation of the logarithm."""


class Case(_Table):
    """One kind of study in the mix."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    weight: Positive = 1.0
    """Its share of the arrivals, against the other cases' weights."""
    modality: Literal["CT", "MR", "CR"]
    scanner: str
    """The name of one of ``scanners``."""
    source: str
    """A DICOM folder: a path (``~`` allowed), or ``data:NAME``, a folder of the data directory (--data)."""
    every_nth: Annotated[int, Field(ge=1)] = 1
    """Keep each n-th slice of the source, so that studies stay small."""
    downsample: Annotated[int, Field(ge=1)] = 1
    """Keep each n-th row and column."""
    procedure: str
    """What is ordered, in words."""
    positive: Share = 0.0
    """How many of these studies show what must be seen soon."""
    reading: Reading = Reading()


class Scanner(_Table):
    """One modality."""

    name: str
    modality: Literal["CT", "MR", "CR"]
    images_per_s: Positive = 10.0
    """Pace of C-STORE, images per hospital second."""
    pause_s: NotNegative = 20.0
    """Pause between two series, hospital seconds."""


class Habits(_Table):
    """What goes otherwise than in a textbook: shares of the studies."""

    localizer: Share = 0.0
    repeated_series: Share = 0.0
    aborted_association: Share = 0.0
    late_slices: Share = 0.0
    wrong_body_part: Share = 0.0
    missing_accession: Share = 0.0
    duplicate_send: Share = 0.0
    compressed: Share = 0.0
    association_per_image: Share = 0.0
    discontinued: Share = 0.0
    no_order: Share = 0.0
    order_changed: Share = 0.0
    """Raised to STAT at the RIS after it was ordered."""
    patient_updated: Share = 0.0
    """Name corrected after the study (ADT^A08)."""
    patient_merged: Share = 0.0
    """Came under a temporary number, merged into the real one after the study (ADT^A40)."""
    order_cancelled: Share = 0.0
    """Cancelled at the RIS before it is made: nobody comes."""


class Shift(_Table):
    """Radiologists at work in a part of the trial, hospital seconds."""

    from_s: NotNegative = 0.0
    to_s: Positive
    readers: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _lasts(self) -> Shift:
        if self.to_s <= self.from_s:
            raise ValueError(f"to_s ({self.to_s:g}) must be after from_s ({self.from_s:g})")
        return self


class Staffing(_Table):
    """Who reads, and in which order."""

    shifts: tuple[Shift, ...]
    order: Literal["arrival", "priority", "ai"] = "ai"
    """``arrival``: first come, first read; ``priority``: by the order's urgency, then arrival; ``ai``: the same, and
    what the AI calls positive goes before the others of its urgency. An arm without AI reads "ai" as "priority"."""
    speed_with_ai: Positive = 1.0
    """Time for a study that has an AI result, as a share of the time without (1: no help, no hindrance)."""
    waits_for_ai_s: NotNegative = 0.0
    """How long a reader leaves a study alone that may still get its AI result."""


class Opinion(_Table):
    """How well the AI sorts studies. Drawn by the seed: the shipped models outline organs and find no disease."""

    sensitivity: Share = 0.9
    specificity: Share = 0.9


class System(_Table):
    """The system that is tried."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    models: Literal["light", "shipped"] = "light"
    """``light``: a small network that draws what is bright, so that a machine without GPU keeps up with a hospital's
    day in minutes; everything around it is real. ``shipped``: the models of this release."""
    quiet_s: Positive = 2.0
    """The routes' quiet period, real seconds."""


class Migration(_Table):
    """Old studies that arrive behind the live ones, from an archive that is given up."""

    studies: Annotated[int, Field(ge=1)]
    per_hour: Positive
    """Hospital time."""
    years_old: Positive = 3.0
    case: str
    """The name of one of ``cases``: what the old studies are made from."""
    images: Annotated[int, Field(ge=1)] = 2
    """Images of each."""


class Fault(_Table):
    """Something breaks at a moment of the trial."""

    name: str
    """A name of ``medai trial faults``; they are those of the fault harness (docs/chaos.md)."""
    at_s: NotNegative
    for_s: NotNegative = 0.0
    """How long, hospital seconds; 0 where the fault has no duration (a killed process starts again by itself)."""


class Objectives(_Table):
    """From the last image to the result at the RIS, real seconds, that p95 should keep."""

    stat_s: Positive = 60.0
    urgent_s: Positive = 300.0
    routine_s: Positive = 900.0


class Short(_Table):
    """The form for CI: the same story, fewer hours."""

    duration_s: Positive
    accelerate: Positive
    migration_studies: Annotated[int, Field(ge=0)] = 0


class Scenario(_Table):
    """Everything about one trial."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    about: str
    seed: int = 1
    starts: str = Field(default="08:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """The hospital's clock when the trial begins."""
    duration_s: Positive
    """For how long studies arrive, hospital seconds; the trial ends when all are answered."""
    accelerate: Positive = 60.0
    arrivals: Arrivals
    priorities: dict[PriorityName, Share]
    cases: tuple[Case, ...] = Field(min_length=1)
    scanners: tuple[Scanner, ...] = Field(min_length=1)
    habits: Habits = Habits()
    staffing: Staffing
    ai: Opinion = Opinion()
    system: System = System()
    migration: Migration | None = None
    faults: tuple[Fault, ...] = ()
    objectives: Objectives = Objectives()
    short: Short | None = None

    @field_validator("priorities")
    @classmethod
    def _shares(cls, given: dict[PriorityName, float]) -> dict[PriorityName, float]:
        if abs(sum(given.values()) - 1) > 1e-6:
            raise ValueError(f"the shares must add up to 1, not {sum(given.values()):g}")
        return given

    @model_validator(mode="after")
    def _names(self) -> Scenario:
        for kind, names in (
            ("cases", [case.name for case in self.cases]),
            ("scanners", [s.name for s in self.scanners]),
        ):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise ValueError(f"two {kind} are named {twice[0]!r}")
        scanners = {scanner.name: scanner.modality for scanner in self.scanners}
        for case in self.cases:
            if scanners.get(case.scanner) != case.modality:
                raise ValueError(f"case {case.name}: no {case.modality} scanner is named {case.scanner!r}")
        if self.migration and self.migration.case not in {case.name for case in self.cases}:
            raise ValueError(f"migration: no case is named {self.migration.case!r}")
        return self

    @property
    def starts_s(self) -> float:
        """Seconds between midnight and the trial's beginning."""
        hours, minutes = self.starts.split(":")
        return int(hours) * 3600.0 + int(minutes) * 60.0

    def case(self, name: str) -> Case:
        """The case of this name; raises KeyError."""
        return {case.name: case for case in self.cases}[name]

    def as_short(self) -> Scenario:
        """The form for CI; raises ScenarioError where the scenario has none."""
        if self.short is None:
            raise ScenarioError(f"{self.name} has no [short] form")
        scale = self.short.duration_s / self.duration_s
        faults = tuple(fault.model_copy(update={"at_s": fault.at_s * scale, "for_s": fault.for_s * scale})
                       for fault in self.faults)  # fmt: skip
        shifts = tuple(shift.model_copy(update={"from_s": shift.from_s * scale, "to_s": shift.to_s * scale})
                       for shift in self.staffing.shifts)  # fmt: skip
        migration = self.migration
        if migration is not None:
            migration = (
                migration.model_copy(update={"studies": self.short.migration_studies})
                if self.short.migration_studies
                else None
            )
        changes = {
            "duration_s": self.short.duration_s,
            "accelerate": self.short.accelerate,
            "faults": faults,
            "staffing": self.staffing.model_copy(update={"shifts": shifts}),
            "migration": migration,
        }
        return self.model_copy(update=changes)


def shipped() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    return tuple(sorted(each.name.removesuffix(".toml") for each in SHIPPED.iterdir() if each.name.endswith(".toml")))


def load(name: str) -> Scenario:
    """A shipped scenario by its name, or one in a file; raises ScenarioError."""
    path = Path(name).expanduser()
    if path.suffix == ".toml":
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ScenarioError(f"{path} can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{path} is not UTF-8, as TOML must be (byte {error.start})") from error
    if name not in shipped():
        raise ScenarioError(f"no scenario is named {name!r}; there are {', '.join(shipped())}, or give a .toml file")
    return parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"), name)


def beside(name: str) -> Path | None:
    """The folder in which the CSV of a scenario lies that ``load`` takes; None for a shipped one."""
    return Path(name).expanduser().parent if name.endswith(".toml") else None


def parse(text: str, source: str) -> Scenario:
    """A scenario from TOML; ``source`` is for the message of a ScenarioError."""
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ScenarioError(f"{source}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
