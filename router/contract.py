"""The typed messages that flow through Med-AI; the standard library only, so that anything may import it.

What flows: ``StudyFacts`` (what the router saw) -> ``Decision`` -> ``Job`` -> (worker) -> ``Delivered``.
Every identifier that a result carries derives from ``job_id``: doing a job twice writes the same objects.
Next: routing/completeness.py (when a study is complete), routing/rules.py (which route takes it), ledger/__init__.py
(where it is kept).
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NewType

StudyUID = NewType("StudyUID", str)
SeriesUID = NewType("SeriesUID", str)
OrthancId = NewType("OrthancId", str)
JobId = NewType("JobId", str)

NAMESPACE = uuid.UUID("6d656461-6920-5275-b074-657220763031")
"""Root of every derived identifier; changing it would give every study a second result."""


class Priority(IntEnum):
    """Urgency of a job. Celery on Redis serves 0 first."""

    STAT = 0
    URGENT = 3
    ROUTINE = 6
    BACKGROUND = 9

    @classmethod
    def parse(cls, text: str) -> Priority:
        """From DICOM (0040,1003)/(0032,000C) or HL7 table 0485 ('S', 'A', 'R', 'STAT', 'HIGH', …).

        An unknown or empty word is ROUTINE: a typing error at the RIS must not stop a study.
        """
        return _PRIORITY_WORDS.get(text.strip().upper(), cls.ROUTINE)


_PRIORITY_WORDS = {
    "S": Priority.STAT,
    "STAT": Priority.STAT,
    "A": Priority.URGENT,
    "ASAP": Priority.URGENT,
    "HIGH": Priority.URGENT,
    "URGENT": Priority.URGENT,
    "R": Priority.ROUTINE,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "LOW": Priority.BACKGROUND,
    "BACKGROUND": Priority.BACKGROUND,
}


class Verdict(StrEnum):
    """What the router decided about a study or about one route of it."""

    WAIT = "wait"
    COMPLETE = "complete"
    ROUTE = "route"
    SKIP = "skip"
    SUPERSEDE = "supersede"
    FAIL = "fail"


class JobState(StrEnum):
    """Where a job stands. ``PENDING`` waits for a worker, ``DELIVERING`` is read and waits for a destination; the
    last four are final, and FAILED ones are the dead letters."""

    PENDING = "pending"
    RUNNING = "running"
    DELIVERING = "delivering"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


ARCHIVE = "archive"
RIS = "ris"
"""The two destinations that have their names here; others are named in [destinations]."""


SCATTERED = 3
"""So many series of one slice and one number are one series whose writer gave every slice a Series UID of its own."""


class Form(StrEnum):
    """A form in which a DICOM destination may get a result. The archive gets SEG, SR and SC; the others only leave."""

    SEG = "seg"
    """DICOM Segmentation, BINARY."""
    SEG_DEFLATED = "seg-deflated"
    """The same object in Deflated Explicit VR Little Endian."""
    LABELMAP = "labelmap"
    """Label Map Segmentation."""
    SR = "sr"
    """Comprehensive 3D SR."""
    SC = "sc"
    """The key image, a Secondary Capture."""
    OVERLAY = "overlay"
    """Every slice with the contours drawn in, a multi-frame Secondary Capture."""
    RTSTRUCT = "rtstruct"
    """RT Structure Set."""
    GSPS = "gsps"
    """Grayscale Softcopy Presentation State with the contours as graphics."""
    PDF = "pdf"
    """One page as Encapsulated PDF: key image, table, disclaimer."""


FINAL_STATES = frozenset({JobState.DONE, JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED})


class Failure(StrEnum):
    """Why a job is FAILED or was put aside: whether another try can help follows from it."""

    IMAGES = "images"
    """Its images can't be read, or its model refuses them: only other images or another model help."""
    CRASH = "crash"
    GAVE_UP = "gave_up"
    DELIVERY = "delivery"
    DELETED = "deleted"
    VERSION = "version"
    DROPPED = "dropped"
    CANCELLED = "cancelled"
    """A person took it out of the queue."""
    WITHDRAWN = "withdrawn"
    """A person took its result back."""


class DeliveryState(StrEnum):
    """Where a delivery stands; ``PARKED`` ones are dead letters."""

    PENDING = "pending"
    DONE = "done"
    PARKED = "parked"
    DROPPED = "dropped"
    CANCELLED = "cancelled"


class StampName(StrEnum):
    """Moments of a study's journey, in their order (docs/standards.md, section 6)."""

    ORDERED = "ordered"
    ACQUIRED = "acquired"
    FIRST_INSTANCE = "first_instance"
    LAST_INSTANCE = "last_instance"
    STUDY_COMPLETE = "study_complete"
    ENQUEUED = "enqueued"
    STARTED = "started"
    FETCHED = "fetched"
    PREPARED = "prepared"
    INFERRED = "inferred"
    ENCODED = "encoded"
    STORED = "stored"
    ORU_SENT = "oru_sent"
    ORU_ACKNOWLEDGED = "oru_acknowledged"


MODALITIES = frozenset(("CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "RF", "RTIMAGE", "SC", "SEG", "SM", "US", "XA"))


_NOT_IMAGES = (
    "SEG SR PR KO DOC OT REG FID RWV AU PLAN RTSTRUCT RTPLAN RTDOSE RTRECORD RTINTENT ECG HD EPS SMR STAIN TEXTUREMAP "
    "M3D ANN ASMT CTPROTOCOL XAPROTOCOL"
)
NOT_IMAGES = frozenset(_NOT_IMAGES.split())
"""Modalities that no model reads and that do not count for ``study.Modality``."""


def known_modality(text: str) -> str:
    """A modality as metrics and traces may tell it: what a header holds instead of one is "other"."""
    return text if text in MODALITIES else "other"


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """One series as the router sees it: ``attributes`` are DICOM keywords of one of its instances.

    Values are str, int, float or a tuple of them (multi-valued); sequences are tuples of dicts.
    Computed keys are added beside the DICOM ones: ``NumberOfInstances`` (int), ``Orientation``
    ("axial", "coronal", "sagittal", "oblique" or "").
    """

    series_uid: SeriesUID
    orthanc_id: OrthancId
    instances: int
    attributes: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """One study as the router sees it.

    ``attributes`` are its patient- and study-level DICOM keywords plus ``Modality`` (that of most of its
    image series) and ``ModalitiesInStudy`` (tuple). ``order`` is the order that its accession number names.
    """

    study_uid: StudyUID
    orthanc_id: OrthancId
    attributes: Mapping[str, Any] = field(hash=False)
    series: tuple[SeriesFacts, ...]
    order: Order | None = None


@dataclass(frozen=True, kw_only=True)
class Order:
    """An imaging order from the RIS (ORM, OMG or OMI); empty text where no message said it.

    What the RIS numbers itself is kept whole, HL7 encoded with the usual delimiters, and goes back as it came.
    """

    placer: str
    """Placer order number, an EI (ORC-2, OBR-2): number^namespace^universal id^type. Empty where there is only a
    filler number."""
    filler: str = ""
    """Filler order number, an EI (ORC-3, OBR-3)."""
    accession: str = ""
    study_uid: str = ""
    priority: Priority = Priority.ROUTINE
    patient_id: str = ""
    """Of the repetition of PID-3 that is the medical record number, else the first."""
    patient_id_authority: str = ""
    patient_identifiers: tuple[str, ...] = ()
    """Every repetition of PID-3, each a CX."""
    patient_account: str = ""
    """PID-18, a CX."""
    patient_name: str = ""
    """As in PID-5, HL7 encoded (family^given)."""
    birth_date: str = ""
    sex: str = ""
    procedure: tuple[str, str, str] = ("", "", "")
    """OBR-4: identifier, text, coding system."""
    requested_procedure_id: str = ""
    scheduled_step_id: str = ""
    modality: str = ""
    ordered_by: str = ""
    """OBR-16, else ORC-12: every repetition, an XCN each."""
    patient_class: str = ""
    """PV1-2."""
    location: str = ""
    """PV1-3, a PL."""
    visit_number: str = ""
    """PV1-19, a CX."""
    ordered_at: float | None = None
    """Seconds since the epoch (ORC-9, else the message's time)."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict with its reason in words that a PACS administrator understands."""

    verdict: Verdict
    reason: str
    route: str | None = None
    due_at: float | None = None
    """For WAIT: when to look again, seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """The delivered result that a job supersedes."""

    job_id: JobId
    sr_series_uid: str
    sr_sop_uid: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One reading of one study by one model, as the worker gets it from the ledger."""

    job_id: JobId
    study_uid: StudyUID
    twin: int = 0
    """How many other studies with this UID were known before it: two patients may share one."""
    study_orthanc_id: OrthancId
    series_orthanc_ids: tuple[OrthancId, ...]
    sources_hash: str
    sources_count: int
    content_hash: str = ""
    """Hash over the files' bytes, where the same images were sent again with other content; else empty."""
    route: str
    slot: str = ""
    """Which of several series of the study the route reads (``take = "all"``); empty where it reads one."""
    model: str
    model_version: str
    priority: Priority = Priority.ROUTINE
    queue: str = "cpu"
    revision: int = 1
    attempt: int = 1
    destinations: tuple[str, ...] = ("archive", "ris")
    order: Order | None = None
    """The best match; whether it is of the images' patient is seen when they are here."""
    other_orders: tuple[Order, ...] = ()
    """Others that name this study or its accession number, which another hospital may have given, too."""
    predecessor: Predecessor | None = None

    @property
    def filler(self) -> str:
        """OBR-3, stable for every revision of this series' result on this route (at most 20 characters)."""
        return filler_number(self.study_uid, self.route + self.slot, self.twin)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number about one segment, or about several together. ``unit`` is UCUM (``ml``, ``[hnsf'U]``)."""

    segment_number: int
    """0 for a total of several segments; then ``segment_name`` is the total's name."""
    segment_name: str
    quantity: str
    """``volume`` or ``mean_attenuation``."""
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What a finished job left behind: SOP Instance UIDs in the archive and the RIS's acknowledgement."""

    job_id: JobId
    seg_uid: str
    sr_uid: str
    key_image_uid: str
    oru_control_id: str
    oru_ack: str
    measurements: tuple[Measurement, ...] = ()


def sources_hash(sop_uids: Iterable[str]) -> str:
    """SHA-256 (hex) of a set of SOP Instance UIDs: the same images give the same hash in any order."""
    return hashlib.sha256("\n".join(sorted(set(sop_uids))).encode("ascii")).hexdigest()


def content_hash(md5s: Iterable[str]) -> str:
    """SHA-256 (hex) over the MD5s of a series' files, in any order: other content under the same UIDs shows here."""
    return hashlib.sha256("\n".join(sorted(md5s)).encode("ascii")).hexdigest()


def make_job_id(*, study_uid: str, sources: str, route: str, model: str, version: str) -> JobId:
    """UUIDv5 over (study, hash of the SOP Instance UIDs read, route, model, version)."""
    return JobId(str(uuid.uuid5(NAMESPACE, "|".join((study_uid, sources, route, model, version)))))


def is_uid(text: str) -> bool:
    """Whether a text is a DICOM UID as PS3.5 chapter 9 has them."""
    return 0 < len(text) <= UID_LENGTH and _UID.fullmatch(text) is not None


UID_LENGTH = 64
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


def derived_uid(job_id: str, *parts: str) -> str:
    """A DICOM UID under 2.25 (PS3.5 B.2) that is the same each time it is derived."""
    return f"2.25.{uuid.uuid5(uuid.UUID(job_id), '|'.join(parts)).int}"


def orthanc_id(*identifiers: str) -> str:
    """Orthanc's id of a resource: SHA-1 of "PatientID|Study|Series|SOP" in five groups (Orthanc Book)."""
    digest = hashlib.sha1("|".join(identifiers).encode("utf-8"), usedforsecurity=False).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


def short_id(seed: str, *, length: int = 20) -> str:
    """Base-32 text of a SHA-256, for HL7 fields of a limited length (MSH-10: 20 characters)."""
    return base64.b32encode(hashlib.sha256(seed.encode()).digest()).decode()[:length]


def filler_number(study_uid: str, route: str, twin: int = 0) -> str:
    """OBR-3: stable per study and route, so that a correction carries the number it corrects.

    ``twin``: of several patients' studies with one UID, which; never do two patients share a number.
    """
    return "AI" + short_id(f"{NAMESPACE}|filler|{twin_uid(study_uid, twin)}|{route}", length=16)


def twin_uid(study_uid: str, twin: int) -> str:
    """What tells a study from others with its UID, to derive numbers from."""
    return f"{study_uid}#{twin}" if twin else study_uid


def control_id(job_id: str, destination: str) -> str:
    """MSH-10 of a job's ORU: the same on every retry, at most 20 characters."""
    return short_id(f"{job_id}|oru|{destination}")
