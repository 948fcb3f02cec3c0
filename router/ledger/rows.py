"""The rows of studies, series and jobs as the ledger gives them out: frozen, with a name and a type for each column.

A test holds them against the tables of schema.py. What a part of the ledger gives out beside them is in that part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, select

from medai.router.ledger import schema as t

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """One series of a study."""

    orthanc_id: str
    study_id: int
    series_uid: str
    instances: int
    expected: Mapping[str, int]
    last_instance_at: float


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One study. Moments are seconds since the epoch, None for what has not come yet."""

    id: int
    study_uid: str
    orthanc_id: str
    accession: str
    modality: str
    instances: int
    expected: Mapping[str, int]
    acquired_at: float | None
    first_instance_at: float
    last_instance_at: float
    complete_at: float | None
    due_at: float | None
    deleted_at: float | None
    resent_at: float | None
    archive_update: str
    outcome_hash: str


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job. JSON columns are as they were written; ``state`` and ``failure`` are words of the contract."""

    id: str
    study_id: int
    route: str
    slot: str
    model: str
    model_version: str
    modality: str
    series: list[str]
    sources_hash: str
    sources_count: int
    queue: str
    priority: int
    revision: int
    predecessor: str | None
    destinations: list[str]
    quiet_s: float
    state: str
    reason: str
    failure: str
    retried_at: float | None
    salt: str
    content_digest: str
    attempts: int
    crashes: int
    not_before: float
    sent_at: float | None
    lease_owner: str | None
    lease_token: str | None
    lease_until: float | None
    lease_beat: int
    lease_process: str
    storing_at: float | None
    stored_at: float | None
    created_at: float
    finished_at: float | None
    results: Mapping[str, Mapping[str, str]] | None
    measurements: list[Mapping[str, Any]] | None
    warnings: list[str] | None
    verdict: str | None
    plausibility: Mapping[str, Any] | None
    figures: Mapping[str, float | str] | None


def rows(db: Connection, query: Select[Any], kind: type[Row], values: Mapping[str, Any] | None = None) -> list[Row]:
    """What a query finds, each as one of ``kind``, whose fields are the query's columns."""
    return [kind(**row) for row in db.execute(query, values).mappings()]


def first(db: Connection, query: Select[Any], kind: type[Row]) -> Row | None:
    """The first of what a query finds; None for nothing."""
    row = db.execute(query).mappings().first()
    return None if row is None else kind(**row)


def job(db: Connection, job_id: str) -> JobRow | None:
    """A job by its id."""
    return first(db, select(t.jobs).where(t.jobs.c.id == job_id), JobRow)


def study(db: Connection, study_id: int) -> StudyRow:
    """A study by its number, which is there."""
    (found,) = rows(db, select(t.studies).where(t.studies.c.id == study_id), StudyRow)
    return found
