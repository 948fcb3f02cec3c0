"""The ledger's eleventh part: what people say of a reading's usefulness, and of the system's usability.

Two forms. Five questions about one reading: an account's later answer replaces its earlier one. The System Usability
Scale about the whole: every answer is kept, the newest of each account counts. Answers carry a reader's number; the
account's name is in one table, beside that number. Next: reports/survey_summary.py, reports/survey_csv.py,
console/surveys.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from medai.router.errors import MedaiError
from medai.router.ledger import schema as t
from medai.router.ledger.accounts import noted
from medai.router.ledger.actions import ActionRefused
from medai.router.ledger.database import Database

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


class Surveys(Database):
    """What people said."""

    def _reader_number(self, db: Connection, account: str) -> int:
        """The number under which an account answers, given with its first answer."""
        known = select(t.survey_readers.c.id).where(t.survey_readers.c.account == account)
        found = db.execute(known).scalar_one_or_none()
        if found is None:  # only then: each try to insert would use up a number
            db.execute(self._insert(t.survey_readers).values(account=account).on_conflict_do_nothing())
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
        with self.begin() as db:
            _require_result(db, job_id)
            row = {"reader_id": self._reader_number(db, account), "job_id": job_id, **values}
            statement = self._insert(t.usefulness_answers).values(**row)
            key = ["reader_id", "job_id"]
            db.execute(statement.on_conflict_do_update(index_elements=key, set_=values))
            noted(db, account, "survey usefulness", now)  # not of which reading: answers are pseudonymous

    def usefulness_of(self, account: str, job_id: str) -> dict[str, Any] | None:
        """What somebody said of a reading; None for nothing."""
        query = select(*ANSWERED, t.usefulness_answers.c.comment).join(t.survey_readers)
        query = query.where(t.survey_readers.c.account == account, t.usefulness_answers.c.job_id == job_id)
        with self.begin(reads_only=True) as db:
            row = db.execute(query).mappings().first()
        return dict(row) if row else None

    def usefulness_by(self, account: str, *, study_id: int | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """What somebody said, newest first, with the readings it was said of."""
        about = (t.jobs.c.study_id, t.jobs.c.route, t.jobs.c.model, t.jobs.c.model_version)
        query = select(*ANSWERED, *about).join(t.survey_readers).join(t.jobs, t.jobs.c.id == ANSWERED[0])
        query = query.where(t.survey_readers.c.account == account)
        if study_id is not None:
            query = query.where(t.jobs.c.study_id == study_id)
        query = query.order_by(t.usefulness_answers.c.answered_at.desc(), t.usefulness_answers.c.id.desc())
        with self.begin(reads_only=True) as db:
            return [dict(row) for row in db.execute(query.limit(limit)).mappings()]

    def reading_to_judge(self, job_id: str) -> dict[str, Any] | None:
        """Which reading this is, and whether it has a result; None for none."""
        names = ("id", "study_id", "route", "model", "model_version", "revision")
        query = select(
            *(t.jobs.c[name] for name in names), t.studies.c.accession, t.jobs.c.storing_at.is_not(None).label("result")
        ).join(t.studies)
        with self.begin(reads_only=True) as db:
            row = db.execute(query.where(t.jobs.c.id == job_id)).mappings().first()
        return dict(row) if row else None

    def usefulness_answers(self, *, after: int = 0, limit: int = 500) -> list[dict[str, Any]]:
        """A page of everybody's answers in the order in which they were first given, each with its reading."""
        a, about = t.usefulness_answers, ("route", "model", "model_version", "modality")
        query = select(a, t.survey_readers.c.account, *(t.jobs.c[name] for name in about))
        query = query.join(t.survey_readers).join(t.jobs, t.jobs.c.id == a.c.job_id)
        with self.begin(reads_only=True) as db:
            return [
                dict(row) for row in db.execute(query.where(a.c.id > after).order_by(a.c.id).limit(limit)).mappings()
            ]

    def usefulness_counts(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(model, route) -> readers, readings, and for each question how often 1, 2, 3, 4 and 5 was answered."""
        a, group = t.usefulness_answers, (t.jobs.c.model, t.jobs.c.route)
        whole = (func.count(a.c.reader_id.distinct()), func.count(a.c.job_id.distinct()))
        found: dict[tuple[str, str], dict[str, Any]] = {}
        with self.begin(reads_only=True) as db:
            for model, route, readers, readings in db.execute(select(*group, *whole).join(t.jobs).group_by(*group)):
                counts = {question.key: [0] * len(SCALE) for question in USEFULNESS}
                found[model, route] = {"readers": readers, "readings": readings, "counts": counts}
            for question in USEFULNESS:
                value = a.c[question.key]
                query = select(*group, value, func.count()).join_from(a, t.jobs).where(value.is_not(None))
                for model, route, answer, number in db.execute(query.group_by(*group, value)):
                    if (model, route) in found:  # else its first answer came this moment
                        found[model, route]["counts"][question.key][answer - 1] = number
        return found

    # -- usability of the whole

    def answer_sus(self, account: str, answers: Sequence[int], now: float) -> float:
        """Keep ten answers beside the earlier ones; returns their score. Raises SurveyFault."""
        score = sus_score(answers)
        row = {question.key: answer for question, answer in zip(SUS, answers, strict=True)}
        with self.begin() as db:
            db.execute(insert(t.sus_answers).values(reader_id=self._reader_number(db, account), answered_at=now, **row))
            noted(db, account, "survey usability", now)
        return score

    def sus_answers(self, *, account: str | None = None) -> list[dict[str, Any]]:
        """What everybody, or one account, said, newest first, with its score; the ``newest`` of an account counts."""
        query = select(t.sus_answers, t.survey_readers.c.account).join(t.survey_readers)
        if account is not None:
            query = query.where(t.survey_readers.c.account == account)
        query = query.order_by(t.sus_answers.c.answered_at.desc(), t.sus_answers.c.id.desc())
        with self.begin(reads_only=True) as db:
            rows = [dict(row) for row in db.execute(query).mappings()]
        counted: set[int] = set()
        for row in rows:
            row["score"] = sus_score([row[question.key] for question in SUS])
            row["newest"] = row["reader_id"] not in counted
            counted.add(row["reader_id"])
        return rows


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
