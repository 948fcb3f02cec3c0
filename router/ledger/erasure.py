"""``ledger.erasure``: all that the ledger knows of one patient, found and erased in one transaction.

A study is the patient's where the archive's id of it follows from the identifier (contract.orthanc_id), so no name need
be kept to find it. What is in work is refused, not broken off. Of an erased study the row stays, empty: its number is
in the audit trail and must mean no other study, and what the archive keeps must not be read again. The audit trail
stays, as the law asks; the line about the erasure itself holds a pseudonym. Next: keeping/erase.py (archive, files).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal, or_, select, update

from medai.router.contract import DeliveryState, JobState, orthanc_id
from medai.router.errors import MedaiError
from medai.router.hl7.patients import Patient, patient_of
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part
from medai.router.ledger.edits import EditState
from medai.router.ledger.history import FROM_RIS, noted
from medai.router.ledger.identities import told_key
from medai.router.ledger.orders import as_order
from medai.router.ledger.retention import ERASED
from medai.router.ledger.transitions import OPEN, WAITING
from medai.router.ledger.workitems import UNDER_WAY
from medai.router.words import counted

_OPEN = [state.value for state in OPEN]
_OWED = [state.value for state in WAITING]


class ErasureRefused(MedaiError):
    """Not now, or not without being asked more precisely; the text says why, and names nobody."""


def several_issuers(issuers: Sequence[str]) -> ErasureRefused:
    """Two patients may have one identifier."""
    return ErasureRefused(
        f"several issuers gave this identifier out ({', '.join(issuers)}): say whose is meant with --issuer"
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study of the patient."""

    id: int
    uid: str
    orthanc_id: str
    accession: str
    patient_id: str


@dataclass(frozen=True, kw_only=True)
class _Order:
    """An order, and the patients whom it names."""

    id: int
    placer: str
    study_uid: str
    accession: str
    names: tuple[Patient, ...]

    def names_study(self, study: Study) -> bool:
        by_accession = bool(self.accession) and self.accession == study.accession
        return self.study_uid == study.uid or by_accession


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is of a patient. ``counts``: rows by what they are; ``in_work``: why they can't be erased now."""

    known_as: tuple[Patient, ...]
    """The patient as asked for, and under the identifiers of before or after merges."""
    issuers: tuple[str, ...]
    """Who gave out the identifier that was asked for, as far as it is said."""
    studies: tuple[Study, ...] = ()
    orders: tuple[_Order, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    in_work: tuple[str, ...] = ()
    told: Mapping[str, int] = field(default_factory=dict)
    """Destination -> how many results it has of the patient."""
    audit_lines: int = 0
    mentions: int = 0
    """Comments and reasons, elsewhere, into which somebody wrote the identifier."""
    strangers: int = 0
    """Studies under the same identifier that another issuer gave out."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The identifiers alone."""
        return tuple(dict.fromkeys(each.identifier for each in self.known_as))


class Erasure(Part):
    """Finds and erases a patient."""

    def known_as(self, patient: Patient) -> tuple[Patient, ...]:
        """The patient under every identifier of before or after merges."""
        with self._database.begin(reads_only=True) as db:
            return tuple(sorted(_known_as(db, patient)[0]))

    def find(self, patient: Patient, issuers: Mapping[str, str]) -> Found:
        """What there is. ``issuers``: the archive's id of a study -> who gave out the identifier in its images."""
        with self._database.begin(reads_only=True) as db:
            return _find(db, patient, issuers)

    def erase(
        self, patient: Patient, issuers: Mapping[str, str], now: float, *, updates: Mapping[str, str], by: str,
        pseudonym: str,
    ) -> Found:  # fmt: skip
        """Erase all of it, and return what it was.

        ``updates``: the archive's id of each study that it has -> when that was updated last: so it is not read again.
        Raises ErasureRefused where anything is in work.
        """
        with self._database.wiping() as db:
            found = _find(db, patient, issuers)
            if db.dialect.name == "postgresql":  # of these studies nobody makes a job until this is committed
                of_patient = t.studies.c.id.in_([study.id for study in found.studies])
                db.execute(select(t.studies.c.id).where(of_patient).with_for_update())
                found = _find(db, patient, issuers)
            if found.in_work:
                raise ErasureRefused("; ".join(found.in_work))
            if not found.counts:
                return found
            _delete(db, found)
            for study in found.studies:
                _empty(db, study, updates.get(study.orthanc_id), now)
            words = ", ".join(f"{what}: {count}" for what, count in found.counts.items())
            noted(db, by, "patient erased", now, detail=f"patient {pseudonym}; {words}")
        return found

    def archive_forgot(self, orthanc_ids: Sequence[str]) -> None:
        """The archive has these erased studies no more: the ledger forgets their ids, too."""
        c = t.studies.c
        with self._database.wiping() as db:
            mine = and_(c.orthanc_id.in_(orthanc_ids), c.study_uid == "")
            for (number,) in db.execute(select(c.id).where(mine)).all():
                db.execute(update(t.studies).where(c.id == number).values(orthanc_id=f"{ERASED}{number}"))


# -- who


def _find(db: Connection, asked: Patient, issuers: Mapping[str, str]) -> Found:
    known, merged = _known_as(db, asked)
    orders, others = _orders(db, known)
    studies = _studies(db, known)
    strangers = {each.id for each in studies if _is_strangers(each, known, orders, others, issuers)}
    mine = [study for study in studies if study.id not in strangers]
    named = [*merged, *(each for row in orders for each in row.names)]
    named += [Patient.of(asked.identifier, issuers.get(study.orthanc_id, "")) for study in mine]
    stated = sorted({each.authority for each in named if each.identifier == asked.identifier} - {""})
    if not asked.authority and len(stated) > 1:
        raise several_issuers(stated)
    found = Found(
        known_as=tuple(sorted(known)), issuers=tuple(stated), studies=tuple(mine), orders=tuple(orders),
        strangers=len(strangers),
    )  # fmt: skip
    return _counted(db, found)


def _known_as(db: Connection, asked: Patient) -> tuple[set[Patient], list[Patient]]:
    """The patient under every identifier that was merged into this one, or this one into; and all that were merged."""
    c = t.patient_aliases.c
    rows = db.execute(select(c.prior_id, c.prior_authority, c.patient_id, c.patient_authority)).all()
    pairs = [(Patient.of(row[0], row[1]), Patient.of(row[2], row[3])) for row in rows]
    known, grown = {asked}, True
    while grown:
        more = {each for pair in pairs if any(_is_one(each, known) for each in pair) for each in pair}
        grown = not more <= known
        known |= more
    return known, [each for pair in pairs for each in pair]


def _is_one(patient: Patient, known: Iterable[Patient]) -> bool:
    return any(patient.matches(each) for each in known)


def _orders(db: Connection, known: set[Patient]) -> tuple[list[_Order], list[_Order]]:
    """The patient's orders, and those of the same identifier that another issuer gave out."""
    content, names = t.orders.c.content, {each.identifier for each in known}
    listed = content["patient_identifiers"].as_string()
    maybe = or_(content["patient_id"].as_string().in_(names), *(listed.contains(n, autoescape=True) for n in names))
    columns = (t.orders.c[name] for name in ("id", "placer", "study_uid", "accession", "content"))
    mine, others = [], []
    for row in db.execute(select(*columns).where(maybe)).all():
        order = as_order(row.content)
        named = (
            *(patient_of(each) for each in order.patient_identifiers),
            Patient.of(order.patient_id, order.patient_id_authority),
        )
        found = _Order(id=row.id, placer=row.placer, study_uid=row.study_uid, accession=row.accession, names=named)
        if any(_is_one(each, known) for each in named):
            mine.append(found)
        elif any(each.identifier in names for each in named):
            others.append(found)
    return mine, others


def _studies(db: Connection, known: set[Patient]) -> list[Study]:
    """Every study whose id in the archive follows from one of the patient's identifiers."""
    c = t.studies.c
    ids = {each.identifier for each in known}
    return [
        Study(id=row.id, uid=row.study_uid, orthanc_id=row.orthanc_id, accession=row.accession, patient_id=name)
        for row in db.execute(select(c.id, c.study_uid, c.orthanc_id, c.accession).where(c.study_uid != ""))
        for name in ids
        if orthanc_id(name, row.study_uid) == row.orthanc_id
    ]


def _is_strangers(
    study: Study, known: set[Patient], mine: list[_Order], others: list[_Order], issuers: Mapping[str, str]
) -> bool:
    """Whether images or, where these say nothing, orders name another issuer of the same identifier."""
    issuer = issuers.get(study.orthanc_id, "")
    if issuer:
        return not _is_one(Patient.of(study.patient_id, issuer), known)
    return any(each.names_study(study) for each in others) and not any(each.names_study(study) for each in mine)


# -- what


def _counted(db: Connection, found: Found) -> Found:
    numbers, jobs = [study.id for study in found.studies], _jobs(db, found)
    counts = {what: _count(db, table, where) for what, (table, where) in _places(db, found, jobs).items()}
    a, d = t.audit.c, t.deliveries.c
    received = and_(d.job_id.in_(jobs), d.state == DeliveryState.DONE.value, d.kind == "result")
    told = db.execute(select(d.destination, func.count()).where(received).group_by(d.destination))
    says = [*found.ids, *(order.placer for order in found.orders if order.placer)]
    by_name = and_(a.account == FROM_RIS, or_(*(a.detail.contains(each, autoescape=True) for each in says)))
    return replace(
        found,
        counts={what: count for what, count in counts.items() if count},
        in_work=tuple(_in_work(db, numbers, jobs)),
        told={str(name): int(count) for name, count in told},
        mentions=_mentions(db, found, jobs),
        audit_lines=_count(db, t.audit, or_(a.study_id.in_(numbers), a.job_id.in_(jobs), by_name)),
    )


def _mentions(db: Connection, found: Found, jobs: list[str]) -> int:
    u, j, h = t.usefulness_answers.c, t.jobs.c, t.held_orders.c
    texts = (
        (t.usefulness_answers, u.comment, u.job_id.not_in(jobs)),
        (t.jobs, j.reason, j.id.not_in(jobs)),
        (t.held_orders, h.reason, h.study_id.is_(None) | h.study_id.not_in([study.id for study in found.studies])),
    )
    named = (
        (table, or_(*(text.contains(each, autoescape=True) for each in found.ids)), other)
        for table, text, other in texts
    )
    return sum(_count(db, table, and_(says, other)) for table, says, other in named)


def _jobs(db: Connection, found: Found) -> list[str]:
    of_studies = t.jobs.c.study_id.in_([study.id for study in found.studies])
    return [str(name) for name in db.execute(select(t.jobs.c.id).where(of_studies)).scalars()]


def _places(db: Connection, found: Found, jobs: list[str]) -> dict[str, tuple[Any, ColumnElement[bool]]]:
    """What there is -> its table, and which of its rows are the patient's."""
    numbers = [study.id for study in found.studies]
    o, h, d, a, w = t.orders.c, t.held_orders.c, t.deliveries.c, t.announcements.c, t.workitems.c
    placers = {order.placer for order in found.orders} - {""}
    uids = {study.uid for study in found.studies} | {order.study_uid for order in found.orders} - {""}
    edits = select(t.edits.c.id).where(t.edits.c.job_id.in_(jobs))
    deliveries = select(d.id).where(d.job_id.in_(jobs))
    return {
        "orders": (t.orders, o.id.in_([order.id for order in found.orders])),
        "held orders": (t.held_orders, or_(h.study_id.in_(numbers), h.study_uid.in_(uids), h.placer.in_(placers))),
        "held merges": (t.held_merges, _held_merges(found.known_as)),
        "merges": (t.patient_aliases, _aliases(found.known_as)),
        "patient updates": (t.meta, t.meta.c.key.in_(_told_keys(db, found))),
        "announcements": (t.announcements, a.study_uid.in_(uids)),
        "workitems": (t.workitems, or_(w.study_id.in_(numbers), w.study_uid.in_(uids))),
        "studies": (t.studies, t.studies.c.id.in_(numbers)),
        "series": (t.series, t.series.c.study_id.in_(numbers)),
        "decisions": (t.decisions, t.decisions.c.study_id.in_(numbers)),
        "comparisons": (t.edit_comparisons, t.edit_comparisons.c.edit_id.in_(edits)),
        "edits": (t.edits, t.edits.c.job_id.in_(jobs)),
        "answers": (t.usefulness_answers, t.usefulness_answers.c.job_id.in_(jobs)),
        "tries": (t.delivery_tries, t.delivery_tries.c.delivery_id.in_(deliveries)),
        "messages": (t.deliveries, d.job_id.in_(jobs)),
        "results": (t.result_objects, t.result_objects.c.job_id.in_(jobs)),
        "pseudonyms": (t.outside_uids, t.outside_uids.c.job_id.in_(jobs)),
        "readings outside": (t.outside_jobs, t.outside_jobs.c.job_id.in_(jobs)),
        "stamps": (t.stamps, t.stamps.c.job_id.in_(jobs)),
        "attempts": (t.attempts, t.attempts.c.job_id.in_(jobs)),
        "readings": (t.jobs, t.jobs.c.id.in_(jobs)),
    }


def _aliases(known: Iterable[Patient]) -> ColumnElement[bool]:
    """Merges of the patient: each end of one was taken in with the other (``_known_as``)."""
    c = t.patient_aliases.c
    ends = [and_(c.prior_id == each.identifier, c.prior_authority == each.authority) for each in known]
    return or_(False, *ends)


def _held_merges(known: Iterable[Patient]) -> ColumnElement[bool]:
    """Merges that waited or wait for a person, of which the patient is either end."""
    c = t.held_merges.c
    ends = ((c.prior_id, c.prior_authority), (c.patient_id, c.patient_authority))
    same = [
        and_(number == each.identifier, or_(authority == each.authority, authority == "", literal(not each.authority)))
        for each in known
        for number, authority in ends
    ]
    return or_(False, *same)


def _told_keys(db: Connection, found: Found) -> list[str]:
    """Where it is kept when ADT messages told of the patient, under whatever issuer that may be the patient's."""
    said = db.execute(select(t.orders.c.content["patient_id_authority"].as_string()).distinct()).scalars()
    issuers = {"", *found.issuers, *(Patient.of("", str(each or "")).authority for each in said)}
    named = {*found.known_as, *(Patient(each, issuer) for each in found.ids for issuer in issuers)}
    return sorted(told_key(each) for each in named if _is_one(each, found.known_as))


def _in_work(db: Connection, studies: list[int], jobs: list[str]) -> Iterable[str]:
    s, j, d, w, e = t.studies.c, t.jobs.c, t.deliveries.c, t.workitems.c, t.edits.c
    if count := _count(db, t.studies, and_(s.id.in_(studies), s.due_at.is_not(None))):
        yield f"{counted(count, 'study', 'studies')} may still be arriving: wait until it is decided on"
    if count := _count(db, t.jobs, and_(j.id.in_(jobs), j.state.in_(_OPEN))):
        yield f"{counted(count, 'reading')} not over: wait, or cancel it in the console"
    if count := _count(db, t.jobs, and_(j.id.in_(jobs), j.state == JobState.FAILED.value)):
        yield f"{counted(count, 'dead letter')} of a reading: settle it with 'medai retry' or 'medai drop'"
    if count := _count(db, t.deliveries, and_(d.job_id.in_(jobs), d.state.in_(_OWED))):
        yield f"{counted(count, 'delivery', 'deliveries')} not made: wait, or settle it with 'medai drop'"
    asked = and_(w.study_id.in_(studies), w.state.in_([state.value for state in UNDER_WAY]))
    if count := _count(db, t.workitems, asked):
        yield f"{counted(count, 'workitem')} under way: wait until the worklist was told"
    if count := _count(db, t.edits, and_(e.job_id.in_(jobs), e.state == EditState.PENDING.value)):
        yield f"{counted(count, 'correction')} of a reader to be compared: wait until it is"


def _count(db: Connection, table: Any, where: ColumnElement[bool]) -> int:
    return int(db.execute(select(func.count()).select_from(table).where(where)).scalar_one())


# -- gone


def _delete(db: Connection, found: Found) -> None:
    """Every row but the studies' own."""
    for table, where in _places(db, found, _jobs(db, found)).values():
        if table is not t.studies:
            db.execute(delete(table).where(where))


def _empty(db: Connection, study: Study, updated: str | None, now: float) -> None:
    values: dict[str, Any] = {
        "study_uid": "", "accession": "", "modality": "", "instances": 0, "expected": {}, "acquired_at": None,
        "first_instance_at": now, "last_instance_at": 0.0, "complete_at": None, "due_at": None, "deleted_at": now,
        "resent_at": None, "outcome_hash": "", "archive_update": updated or "",
        "orthanc_id": f"{ERASED}{study.id}" if updated is None else study.orthanc_id,
    }  # fmt: skip
    db.execute(update(t.studies).where(t.studies.c.id == study.id).values(**values))
