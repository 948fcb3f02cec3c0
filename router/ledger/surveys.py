"""``ledger.surveys``: what people say of a reading's usefulness, and of the system's usability.

Two forms. Five questions about one reading: an account's later answer replaces its earlier one. The System Usability
Scale about the whole: every answer is kept, the newest of each account counts. Answers carry a reader's number; the
account's name is in one table, beside that number. Next: reports/survey_summary.py, reports/survey_csv.py,
console/surveys.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from medai.router.errors import MedaiError
from medai.router.ledger import schema as t
from medai.router.ledger.actions import ActionRefused
from medai.router.ledger.database import Part, upsert
from medai.router.ledger.history import noted
from medai.router.ledger.rows import first, rows

SCALE = range(1, 6)
COMMENT_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and what the ends of its scale mean. Another meaning is another question, with its own key."""

    key: str
    text: str
    low: str
    """What a 1 says."""
    high: str
    """What a 5 says."""


USEFULNESS = (
    Question(key="correct", text="The result was correct on this study", low="wrong throughout",
             high="correct throughout"),
    Question(key="time", text="It saved me time on this study", low="it cost me time", high="it saved a lot of time"),
    Question(key="changed", text="It changed what I did or looked for", low="not at all", high="decisively"),
    Question(key="contours", text="I could use the contours without editing them", low="redrawn from scratch",
             high="used as they are"),
    Question(key="again", text="I would want it on the next such study", low="certainly not", high="certainly"),
)  # fmt: skip
"""Our own. "changed" asks for influence, not for praise: a 5 may have led right or wrong."""

STATEMENTS = (
    "I think that I would like to use this system frequently",
    "I found the system unnecessarily complex",
    "I thought the system was easy to use",
    "I think that I would need the support of a technical person to be able to use this system",
    "I found the various functions in this system were well integrated",
    "I thought there was too much inconsistency in this system",
    "I would imagine that most people would learn to use this system very quickly",
    "I found the system very cumbersome to use",
    "I felt very confident using the system",
    "I needed to learn a lot of things before I could get going with this system",
)
"""Brooke J. SUS: a "quick and dirty" usability scale. In: Usability Evaluation in Industry. Taylor & Francis, 1996,
189-194. © Digital Equipment Corporation, 1986: free to use where the source is named."""

SUS = tuple(
    Question(key=f"q{number}", text=text, low="strongly disagree", high="strongly agree")
    for number, text in enumerate(STATEMENTS, 1)
)


class SurveyFault(MedaiError):
    """An answer that can't be kept; the text says why."""


def sus_score(answers: Sequence[int]) -> float:
    """0 (worst) to 100 of ten answers (Brooke 1996): odd ones count x - 1, even ones 5 - x, the sum 2.5 times."""
    if len(answers) != len(SUS) or any(each not in SCALE for each in answers):
        raise SurveyFault("the System Usability Scale takes ten answers from 1 to 5; mark 3 where you can't answer")
    return 2.5 * sum(each - 1 if number % 2 == 0 else 5 - each for number, each in enumerate(answers))


@dataclass(frozen=True, kw_only=True)
class Usefulness:
    """What an account said of a reading; None for what it did not answer. Its fields are the keys of USEFULNESS."""

    job_id: str
    answered_at: float
    correct: int | None
    time: int | None
    changed: int | None
    contours: int | None
    again: int | None


@dataclass(frozen=True, kw_only=True)
class OwnUsefulness(Usefulness):
    """With its comment, for the account itself."""

    comment: str


@dataclass(frozen=True, kw_only=True)
class Judged(Usefulness):
    """With the reading that it was said of."""

    study_id: int
    route: str
    model: str
    model_version: str


@dataclass(frozen=True, kw_only=True)
class UsefulnessAnswer(Usefulness):
    """With who said it (by number, and by name) and of which reading, for exports."""

    id: int
    reader_id: int
    account: str
    comment: str
    route: str
    model: str
    model_version: str
    modality: str


@dataclass(frozen=True, kw_only=True)
class ToJudge:
    """A reading that somebody may say something of; ``result``: whether it has one."""

    id: str
    study_id: int
    route: str
    model: str
    model_version: str
    revision: int
    accession: str
    result: bool


@dataclass(frozen=True, kw_only=True)
class UsefulnessCounts:
    """All that was said of one model on one route; ``counts``: question's key -> how often 1, 2, 3, 4 and 5."""

    model: str
    route: str
    readers: int
    readings: int
    counts: Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class SusAnswer:
    """An account's answers to the System Usability Scale. Of its answers the ``newest`` counts."""

    id: int
    reader_id: int
    account: str
    answered_at: float
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
    score: float
    newest: bool


class Surveys(Part):
    """What people said."""

    def _reader_number(self, db: Connection, account: str) -> int:
        """The number under which an account answers, given with its first answer."""
        known = select(t.survey_readers.c.id).where(t.survey_readers.c.account == account)
        found = db.execute(known).scalar_one_or_none()
        if found is None:  # only then: each try to insert would use up a number
            db.execute(upsert(db, t.survey_readers).values(account=account).on_conflict_do_nothing())
            found = db.execute(known).scalar_one()
        return int(found)

    # -- usefulness of one reading

    def answer_usefulness(
        self, account: str, job_id: str, answers: Mapping[str, int | None], comment: str, now: float
    ) -> None:
        """Keep what somebody says of a reading, instead of what they said before.

        ``answers``: question's key -> 1 to 5; a question that is missing or None was not answered. Raises SurveyFault
        where none was, or one can't be; ActionRefused for a reading without a result.
        """
        values: dict[str, Any] = {question.key: answers.get(question.key) for question in USEFULNESS}
        _require_answers(answers, comment)
        values |= {"comment": comment.strip(), "answered_at": now}
        with self._database.begin() as db:
            _require_result(db, job_id)
            row = {"reader_id": self._reader_number(db, account), "job_id": job_id, **values}
            statement = upsert(db, t.usefulness_answers).values(**row)
            key = ["reader_id", "job_id"]
            db.execute(statement.on_conflict_do_update(index_elements=key, set_=values))
            noted(db, account, "survey usefulness", now)  # not of which reading: answers are pseudonymous

    def usefulness_of(self, account: str, job_id: str) -> OwnUsefulness | None:
        """What somebody said of a reading; None for nothing."""
        query = select(*ANSWERED, t.usefulness_answers.c.comment).join(t.survey_readers)
        query = query.where(t.survey_readers.c.account == account, t.usefulness_answers.c.job_id == job_id)
        with self._database.begin(reads_only=True) as db:
            return first(db, query, OwnUsefulness)

    def usefulness_by(self, account: str, *, study_id: int | None = None, limit: int = 50) -> list[Judged]:
        """What somebody said, newest first, with the readings it was said of."""
        about = (t.jobs.c.study_id, t.jobs.c.route, t.jobs.c.model, t.jobs.c.model_version)
        query = select(*ANSWERED, *about).join(t.survey_readers).join(t.jobs, t.jobs.c.id == ANSWERED[0])
        query = query.where(t.survey_readers.c.account == account)
        if study_id is not None:
            query = query.where(t.jobs.c.study_id == study_id)
        query = query.order_by(t.usefulness_answers.c.answered_at.desc(), t.usefulness_answers.c.id.desc())
        with self._database.begin(reads_only=True) as db:
            return rows(db, query.limit(limit), Judged)

    def reading_to_judge(self, job_id: str) -> ToJudge | None:
        """Which reading this is, and whether it has a result; None for none."""
        names = ("id", "study_id", "route", "model", "model_version", "revision")
        query = select(
            *(t.jobs.c[name] for name in names), t.studies.c.accession, t.jobs.c.storing_at.is_not(None).label("result")
        ).join(t.studies)
        with self._database.begin(reads_only=True) as db:
            return first(db, query.where(t.jobs.c.id == job_id), ToJudge)

    def usefulness_answers(self, *, after: int = 0, limit: int = 500) -> list[UsefulnessAnswer]:
        """A page of everybody's answers in the order in which they were first given, each with its reading."""
        a, about = t.usefulness_answers, ("route", "model", "model_version", "modality")
        query = select(a, t.survey_readers.c.account, *(t.jobs.c[name] for name in about))
        query = query.join(t.survey_readers).join(t.jobs, t.jobs.c.id == a.c.job_id)
        with self._database.begin(reads_only=True) as db:
            return rows(db, query.where(a.c.id > after).order_by(a.c.id).limit(limit), UsefulnessAnswer)

    def usefulness_counts(self) -> list[UsefulnessCounts]:
        """How often each question was answered by 1, 2, 3, 4 and 5, by model and route, in their order."""
        a, group = t.usefulness_answers, (t.jobs.c.model, t.jobs.c.route)
        whole = (func.count(a.c.reader_id.distinct()), func.count(a.c.job_id.distinct()))
        counts: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(
            lambda: {question.key: [0] * len(SCALE) for question in USEFULNESS}
        )
        with self._database.begin(reads_only=True) as db:
            groups = db.execute(select(*group, *whole).join(t.jobs).group_by(*group)).all()
            for question in USEFULNESS:
                value = a.c[question.key]
                query = select(*group, value, func.count()).join_from(a, t.jobs).where(value.is_not(None))
                for model, route, answer, number in db.execute(query.group_by(*group, value)):
                    counts[model, route][question.key][answer - 1] = number
        return [
            UsefulnessCounts(
                model=model, route=route, readers=readers, readings=readings, counts=counts[model, route]
            )
            for model, route, readers, readings in sorted(groups, key=lambda row: (row.model, row.route))
        ]  # fmt: skip

    # -- usability of the whole

    def answer_sus(self, account: str, answers: Sequence[int], now: float) -> float:
        """Keep ten answers beside the earlier ones; returns their score. Raises SurveyFault."""
        score = sus_score(answers)
        row = {question.key: answer for question, answer in zip(SUS, answers, strict=True)}
        with self._database.begin() as db:
            db.execute(insert(t.sus_answers).values(reader_id=self._reader_number(db, account), answered_at=now, **row))
            noted(db, account, "survey usability", now)
        return score

    def sus_answers(self, *, account: str | None = None) -> list[SusAnswer]:
        """What everybody, or one account, said, newest first, with its score; the ``newest`` of an account counts."""
        query = select(t.sus_answers, t.survey_readers.c.account).join(t.survey_readers)
        if account is not None:
            query = query.where(t.survey_readers.c.account == account)
        query = query.order_by(t.sus_answers.c.answered_at.desc(), t.sus_answers.c.id.desc())
        with self._database.begin(reads_only=True) as db:
            found = db.execute(query).mappings().all()
        newest = {row["account"]: row["id"] for row in reversed(found)}
        return [
            SusAnswer(
                **row,
                score=sus_score([row[question.key] for question in SUS]),
                newest=newest[row["account"]] == row["id"],
            )
            for row in found
        ]


ANSWERED = (
    t.usefulness_answers.c.job_id, t.usefulness_answers.c.answered_at,
    *(t.usefulness_answers.c[question.key] for question in USEFULNESS),
)  # fmt: skip


def _require_answers(answers: Mapping[str, int | None], comment: str) -> None:
    unknown = set(answers) - {question.key for question in USEFULNESS}
    if unknown:
        raise SurveyFault(f"there is no question named {min(unknown)!r}")
    given = [answer for answer in answers.values() if answer is not None]
    if not given:
        raise SurveyFault("answer one question at least")
    if any(answer not in SCALE for answer in given):
        raise SurveyFault("an answer is a number from 1 to 5")
    if len(comment) > COMMENT_MAX:
        raise SurveyFault(f"a comment has {COMMENT_MAX} characters at most")


def _require_result(db: Connection, job_id: str) -> None:
    row = db.execute(select(t.jobs.c.storing_at).where(t.jobs.c.id == job_id)).first()
    if row is None:
        raise ActionRefused("there is no such reading")
    if row.storing_at is None:
        raise ActionRefused("the reading has no result yet: there is nothing to judge")
