"""What the survey part of the API answers, field by field. Next: surveys.py."""

from __future__ import annotations

from pydantic import Field

from medai.router.console.responses import Answer


class OwnUsefulness(Answer):
    """What this account said of a reading; null: can't say."""

    job_id: str
    answered_at: float = Field(description="Seconds since the epoch.")
    correct: int | None
    time: int | None
    changed: int | None
    contours: int | None
    again: int | None
    comment: str


class OwnSus(Answer):
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


class QuestionFigures(Answer):
    """What one question got; figures are null where nobody answered it."""

    key: str
    text: str
    counts: list[int] = Field(description="How often 1, 2, 3, 4 and 5 were given.")
    number: int
    mean: float | None
    median: float | None
    agree: float | None = Field(description="Share of 4 and 5.")
    agree_interval: tuple[float, float] | None = Field(description="95 %, Wilson.")


class GroupFigures(Answer):
    """Usefulness of one model on one route."""

    model: str
    route: str
    readers: int
    readings: int
    questions: list[QuestionFigures]


class SusFigures(Answer):
    """The System Usability Scale over each account's newest answer."""

    readers: int
    mean: float | None
    deviation: float | None
    interval: tuple[float, float] | None = Field(description="95 %, Student; null for fewer than two.")
    adjective: str | None = Field(description="The word whose mean score is nearest (Bangor 2009).")


class SurveySummary(Answer):
    """Both surveys."""

    usefulness: list[GroupFigures]
    sus: SusFigures
