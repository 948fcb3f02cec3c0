"""What the survey part of the API answers of oneself; figures of all are a report. Next: surveys.py."""

from __future__ import annotations

from pydantic import Field

from medai.router.reports.report import Report


class OwnUsefulness(Report):
    """What this account said of a reading; null: can't say."""

    job_id: str
    answered_at: float = Field(description="Seconds since the epoch.")
    correct: int | None
    time: int | None
    changed: int | None
    contours: int | None
    again: int | None
    comment: str


class OwnSus(Report):
    """One of this account's answers to the System Usability Scale."""

    answered_at: float = Field(description="Seconds since the epoch.")
    q1: int
    q2: int
    q3: int
    q4: int
    q5: int
    q6: int
    q7: int
    q8: int
    q9: int
    q10: int
    score: float = Field(description="0 (worst) to 100.")
    newest: bool = Field(description="It is the one that counts.")


class Score(Report):
    """What an answer to the System Usability Scale came to."""

    score: float = Field(description="0 (worst) to 100.")
