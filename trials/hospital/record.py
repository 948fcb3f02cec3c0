"""What happened in a trial, as it is kept: one row a study, one an event, one a look at the queue, one a fault.

Times are real seconds since the arm began, unless the name says ``hospital``; NaN is "has not happened". Written as
Parquet (any tool reads it) and a JSON file of everything else. No identifier is kept: a study is its number.
Next: arm.py writes it, report/page.py and simulation/simulate.py read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from medai.router.files.whole import whole
from medai.trials.scenario import Scenario, ScenarioError

WITH_AI, WITHOUT_AI = "with-ai", "without-ai"
ARMS = (WITH_AI, WITHOUT_AI)
NEVER = math.nan


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One live study in one arm (or an old one of a migration: ``migrated``)."""

    arm: str
    number: int
    case: str
    modality: str
    priority: str
    """As it was when the study was made; ``order_changed`` raises it to stat."""
    positive: bool
    flagged: bool
    migrated: bool
    habits: str
    """Names of habits, joined by spaces."""
    images: int
    """That the scanner made, each counted once."""
    resent: int
    scheduled_s: float
    """When the patient came."""
    ordered_s: float = NEVER
    first_image_s: float = NEVER
    """First C-STORE response."""
    last_image_s: float = NEVER
    """Last C-STORE response: from here the turnaround counts."""
    complete_s: float = NEVER
    """The router called it complete (first job)."""
    enqueued_s: float = NEVER
    started_s: float = NEVER
    fetched_s: float = NEVER
    prepared_s: float = NEVER
    inferred_s: float = NEVER
    encoded_s: float = NEVER
    stored_s: float = NEVER
    result_s: float = NEVER
    """The RIS acknowledged the ORU."""
    first_look_s: float = NEVER
    """A radiologist opened it."""
    report_s: float = NEVER
    """The final report left the RIS."""
    reader: int = -1
    ai_when_read: bool = False
    """The AI's result was there at the first look."""
    reading_hospital_s: float = NEVER
    route: str = ""
    model: str = ""
    state: str = ""
    """State of its newest job; ``skipped`` where no route took it, ``cancelled`` where nobody came."""
    attempts: int = 0
    jobs: int = 0
    expected: bool = True
    """Whether a result must come: made, by a route's conditions to be read."""
    results_at_ris: int = 0
    """Results that hold now (a superseded one counts no more)."""
    objects: int = 0
    """SEG, SR and key images of it in the archive."""
    lost: bool = False
    duplicate: bool = False

    @property
    def turnaround_s(self) -> float:
        """Last image to result acknowledged; NaN where there is none."""
        return self.result_s - self.last_image_s


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """Something that happened: ``study`` is its number, -1 for none."""

    arm: str
    at_s: float
    hospital_s: float
    name: str
    study: int = -1
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A look at the system, about each second."""

    arm: str
    at_s: float
    waiting_stat: int = 0
    waiting_urgent: int = 0
    waiting_routine: int = 0
    running: int = 0
    delivering: int = 0
    parked: int = 0
    oldest_wait_s: float = 0.0
    unread: int = 0
    """Studies that wait for a radiologist."""
    readers_busy: int = 0
    readers: int = 0
    cpu: float = 0.0
    """Share of the machine's cores in use, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """A fault as it was played."""

    arm: str
    name: str
    began_s: float
    ended_s: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """Everything about one trial: ``arms`` in the order in which they were run."""

    scenario: Scenario
    accelerate: float
    began: str
    """ISO 8601, with the zone."""
    arms: tuple[str, ...]
    length_s: Mapping[str, float]
    """Arm -> real seconds from its begin until everything was answered."""
    studies: tuple[StudyRow, ...]
    events: tuple[EventRow, ...] = ()
    samples: tuple[SampleRow, ...] = ()
    faults: tuple[FaultRow, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Cores, memory, versions."""

    def write(self, folder: Path) -> None:
        """studies.parquet, events.parquet, samples.parquet, faults.parquet and trial.json."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "studies.parquet", self.studies, StudyRow)
        _write(folder / "events.parquet", self.events, EventRow)
        _write(folder / "samples.parquet", self.samples, SampleRow)
        _write(folder / "faults.parquet", self.faults, FaultRow)
        rest = {
            "scenario": self.scenario.model_dump(mode="json"),
            "accelerate": self.accelerate,
            "began": self.began,
            "arms": list(self.arms),
            "length_s": dict(self.length_s),
            "machine": dict(self.machine),
        }
        (folder / "trial.json").write_text(json.dumps(rest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> TrialRun:
        """What ``write`` wrote; raises ScenarioError where the folder holds no trial, or one that can't be read."""
        try:
            rest = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise ScenarioError(
                f"{folder} holds no trial: make one with 'medai trial run SCENARIO --out DIR'"
            ) from error
        except ValueError as error:
            raise ScenarioError(f"{folder}/trial.json is damaged ({error})") from error
        try:
            return cls(
                scenario=Scenario.model_validate(rest["scenario"]),
                accelerate=rest["accelerate"],
                began=rest["began"],
                arms=tuple(rest["arms"]),
                length_s=rest["length_s"],
                machine=rest["machine"],
                studies=_read(folder / "studies.parquet", StudyRow),
                events=_read(folder / "events.parquet", EventRow),
                samples=_read(folder / "samples.parquet", SampleRow),
                faults=_read(folder / "faults.parquet", FaultRow),
            )
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            text = f"{folder} holds a trial that is damaged, or of another release ({type(error).__name__}: {error})"
            raise ScenarioError(text) from error

    def of(self, arm: str) -> tuple[StudyRow, ...]:
        """The live studies of an arm."""
        return tuple(row for row in self.studies if row.arm == arm and not row.migrated)


Row = TypeVar("Row")
_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


def _write(path: Path, rows: Sequence[Any], kind: type[Any]) -> None:
    schema = pa.schema([(each.name, _TYPES[str(each.type)]) for each in fields(kind)])
    with whole(path) as part:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema), part)


def _read(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    rows: Iterable[dict[str, Any]] = pq.read_table(path).to_pylist()
    return tuple(kind(**row) for row in rows)
