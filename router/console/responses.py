"""What the API answers, as programs may depend on it; what the ledger holds beyond this comes along. Next: api.py.

A test holds these against what the ledger says: whoever adds to an answer describes it here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from medai.router.contract import JobState
from medai.router.ledger.accounts import Role


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="allow")


class Fault(BaseModel):
    """Why a request was not served."""

    detail: str


class Health(Answer):
    """That the process answers."""

    status: str


class Token(Answer):
    """A token, told this once."""

    token: str
    expires_at: float = Field(description="Seconds since the epoch, as every moment here.")


class Me(Answer):
    """Who asks."""

    name: str
    role: Role


class AccountEntry(Answer):
    """An account, without its password."""

    name: str
    role: Role
    created_at: float
    disabled: bool


class TokenEntry(Answer):
    """A token that holds, without what opens the door."""

    id: int
    account: str
    kind: str = Field(description="session or api")
    label: str
    created_at: float
    expires_at: float


# -- the whole system


class Percentiles(Answer):
    """Of some readings, in seconds; null of none."""

    n: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class QueueEntry(Answer):
    """What waits in one queue with one priority."""

    queue: str
    priority: str
    depth: int
    oldest_s: float


class WorkerEntry(Answer):
    """A worker, and what it does."""

    name: str
    queues: list[str]
    device: str
    started_at: float
    seen_at: float
    alive: bool
    job_id: str | None = Field(description="What it reads now.")
    models: dict[str, str] | None = Field(description="Model -> version.")
    load: dict[str, float] | None
    alarm: str = Field(description="What it needs a person for.")


class ModelEntry(Answer):
    """A model that workers announced."""

    name: str
    version: str
    available: bool
    reason: str = Field(description="Why it can't run.")
    seen_at: float


class HeldModel(ModelEntry):
    """The same, with who has it."""

    held: list[str] = Field(description="The versions that live workers have.")


class VerdictCount(Answer):
    """How many readings of a model came to a verdict."""

    model: str
    verdict: str
    count: int


class DestinationEntry(Answer):
    """A destination, what waits for it, and whether it is away."""

    name: str
    pending: int
    oldest_s: float
    away: bool
    since: float | None
    reason: str


class DeliveryCount(Answer):
    """How many deliveries to a destination stand so."""

    destination: str
    state: str
    count: int


class HourOfArrivals(Answer):
    """Studies whose last image came within an hour of this moment."""

    since: float = Field(alias="from")
    studies: int


class PartEntry(Answer):
    """A part that the system needs, and whether it answers."""

    name: str
    up: bool
    reason: str


class Status(Answer):
    """What waits, who works, what is away, what needs a person."""

    at: float
    queues: list[QueueEntry]
    queue_depth: int
    oldest_waiting_s: float
    jobs: dict[str, int] = Field(description="State -> readings.")
    studies: int
    studies_arriving: int
    workers: list[WorkerEntry]
    models: list[ModelEntry]
    verdicts: list[VerdictCount]
    destinations: list[DestinationEntry]
    deliveries: list[DeliveryCount]
    attempts: dict[str, int] = Field(description="How they ended -> attempts.")
    dead_letters: dict[str, int] = Field(description="reading, delivery -> how many.")
    overdue: dict[str, int] = Field(description="Priority -> readings past their objective.")
    arrivals: list[HourOfArrivals]
    turnaround: dict[str, Percentiles] = Field(description="Priority -> of the last day.")
    objectives: dict[str, float] = Field(description="Priority -> seconds.")
    parts: list[PartEntry]


class TurnaroundGroup(Answer):
    """How long a group of readings took."""

    group: str
    done: int
    failed: int
    turnaround: Percentiles
    stages: dict[str, Percentiles]


# -- studies


class StudyHead(Answer):
    """What arrived of a study."""

    id: int
    study_uid: str
    orthanc_id: str
    accession: str
    modality: str
    instances: int
    first_instance_at: float
    last_instance_at: float
    complete_at: float | None
    due_at: float | None
    deleted_at: float | None


class ReadingHead(Answer):
    """A reading, as a list shows it."""

    job_id: str
    route: str
    model: str
    model_version: str
    state: JobState
    failure: str
    reason: str
    priority: str
    revision: int
    verdict: str | None
    created_at: float
    finished_at: float | None


class FoundStudy(StudyHead):
    """A study with its readings, newest first."""

    readings: list[ReadingHead]


class StudyPage(Answer):
    """Studies, newest first."""

    studies: list[FoundStudy]
    next: str | None = Field(description="Give this as after for the next page; null: this is the last one.")


class DecisionEntry(Answer):
    """What was decided, and why."""

    at: float
    verdict: str
    route: str | None
    reason: str
    job_id: str | None


class AttemptEntry(Answer):
    """One try to read."""

    number: int
    worker: str
    started_at: float
    ended_at: float | None
    outcome: str
    error: str


class DeliveryEntry(Answer):
    """What is owed to a destination, and how it stands."""

    destination: str
    kind: str
    state: str
    attempts: int
    control_id: str
    receipt: str
    error: str
    first_try_at: float | None
    next_try_at: float
    done_at: float | None


class DeliveryTry(Answer):
    """Tries of a delivery that ended alike, one after the other."""

    destination: str
    kind: str
    outcome: str
    text: str
    count: int
    first_at: float
    last_at: float


class Reading(ReadingHead):
    """All that is known of one reading."""

    study_uid: str
    study_orthanc_id: str
    modality: str
    queue: str
    supersedes: str | None = Field(description="The job id of the revision before.")
    images: int
    attempt: int
    next_try_at: float | None
    worker: str | None
    stamps: dict[str, float] = Field(description="Moment of the journey -> when.")
    stages: dict[str, float] = Field(description="Stage -> seconds.")
    turnaround_s: float | None
    quiet_s: float
    results: dict[str, Any]
    measurements: list[dict[str, Any]]
    warnings: list[Any]
    plausibility: dict[str, Any] | None
    oru: dict[str, Any] | None
    deliveries: list[DeliveryEntry]
    attempts: list[AttemptEntry]
    delivery_tries: list[DeliveryTry]
    edits: list[dict[str, Any]] = Field(description="What readers made of it, as in /api/edits.")


class ActionEntry(Answer):
    """What somebody did or asked to see."""

    id: int
    at: float
    account: str
    action: str
    study_id: int | None
    job_id: str | None
    detail: str


class Story(StudyHead):
    """All that is known of one study."""

    decisions: list[DecisionEntry]
    readings: list[Reading]
    actions: list[ActionEntry]


class Patient(Answer):
    """Whose study it is."""

    name: str
    id: str
    birth_date: str
    sex: str


# -- the rest


class DeadLetterEntry(Answer):
    """What can't go on, and why."""

    id: str
    job_id: str
    destination: str = Field(description="Empty for a reading.")
    kind: str
    route: str
    model: str
    failure: str
    reason: str
    parked_at: float
    attempts: int
    revision: int
    retry_helps: bool = Field(description="Whether trying the same again may end differently.")


class DeadLetterPage(Answer):
    """Dead letters, newest first."""

    letters: list[DeadLetterEntry]
    next: str | None = Field(description="Give this as after for the next page; null: this is the last one.")


class ActionPage(Answer):
    """What people did, newest first."""

    actions: list[ActionEntry]
    next: int | None = Field(description="Give this as after for the next page; null: this is the last one.")


class RouteEntry(Answer):
    """A route that is in force."""

    name: str
    when: str
    model: str
    queue: str
    priority: str
    destinations: list[str]


class SeriesVerdict(Answer):
    """What a route makes of a series."""

    series: str
    qualifies: bool
    taken: bool
    reason: str


class RouteVerdict(Answer):
    """Whether a route would read a study, and why."""

    route: str
    matched: bool
    reason: str
    series: list[SeriesVerdict]


class MadeReading(Answer):
    """A reading that was asked for."""

    job_id: str


class Told(Answer):
    """Who hears of a withdrawal."""

    told: list[str]


# -- a reading's pictures, report and messages


class Slices(BaseModel):
    """The slices that a reading is about."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float] = Field(description="Between rows, between columns.")
    letters: tuple[str, str, str, str] = Field(description="Patient directions at the left, right, top, bottom edge.")
    segments: list[dict[str, Any]] = Field(description="number, name and colour (#rrggbb) of each segment.")
    slices: list[list[int]] = Field(
        description="For each slice, in order, the segments that may have an outline on it."
    )


class Outline(BaseModel):
    """A segment's edge on one slice."""

    segment: int
    path: str = Field(description="SVG path data, in pixels of the slice.")


class ReportItem(BaseModel):
    """A content item of a structured report."""

    name: str
    value: str
    items: list[ReportItem]


class Message(BaseModel):
    """A message that a destination was sent."""

    destination: str
    kind: str
    control_id: str
    state: str
    text: str
    receipt: str
    done_at: float | None
