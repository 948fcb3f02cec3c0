"""The names that a result carries: UIDs, series numbers, tracking ids, descriptions. All derived, none random.

Next: source.py.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from medai.models.volume import ModelCard, Segment
from medai.router.contract import NAMESPACE, Job, derived_uid
from medai.router.settings.tables import ResultSettings

KINDS = ("seg", "sr", "sc")
"""The three objects that every job stores."""
SERIES = (*KINDS, "rejection", "labelmap", "overlay", "rtstruct", "gsps", "pdf")
"""All objects that a job may make, in the order of their series' numbers."""


@dataclass(frozen=True, kw_only=True)
class ResultUids:
    """The Series and SOP Instance UIDs of a job's three objects, known before they are made."""

    seg_series: str
    seg: str
    sr_series: str
    sr: str
    sc_series: str
    sc: str

    @classmethod
    def of(cls, job_id: str) -> ResultUids:
        """Those of this job, at every attempt."""
        series = {f"{kind}_series": series_uid(job_id, kind) for kind in KINDS}
        return cls(**series, **{kind: instance_uid(job_id, kind) for kind in KINDS})

    def of_kind(self, kind: str) -> tuple[str, str]:
        """Series and SOP Instance UID of one of ``KINDS``."""
        known = {"seg": (self.seg_series, self.seg), "sr": (self.sr_series, self.sr), "sc": (self.sc_series, self.sc)}
        return known[kind]


def named_uid(*parts: str) -> str:
    """A UID that belongs to no job: a device, or the frame of reference that a source lacks."""
    return f"2.25.{uuid.uuid5(NAMESPACE, '|'.join(parts)).int}"


def device_uid(model: ModelCard) -> str:
    """Device UID (0018,1002) of a model: changes when its weights change (IHE AIR)."""
    return named_uid("device", model.name, model.version, model.fingerprint)


def frame_of_reference_uid(series_uid: str) -> str:
    """The frame of reference of a series that names none: the same for every result of that series."""
    return named_uid("frame_of_reference", series_uid)


def tracking_id(job: Job, segment: Segment) -> str:
    """(0062,0020), stable per study, route and segment: a revision carries the id of what it revises."""
    return f"{job.filler}.{segment.number} {plain(segment.name, 40)}"


def tracking_uid(job: Job, segment: Segment) -> str:
    """(0062,0021), the same in SEG and SR, and of what the tracking id names: a revision carries it on (IHE AIR)."""
    return named_uid("tracking", tracking_id(job, segment))


def total_tracking(job: Job, number: int, name: str) -> tuple[str, str]:
    """Tracking id and UID of the measurement group of a total, T1, T2 …"""
    identifier = f"{job.filler}.T{number} {plain(name, 40)}"
    return identifier, named_uid("tracking", identifier)


def series_number(settings: ResultSettings, job: Job, kind: str) -> int:
    """Distinct for each kind of SERIES (SEG 1, SR 2, SC 3 …) and for each revision, which adds ten."""
    return settings.series_number_base + 10 * (job.revision - 1) + SERIES.index(kind) + 1


def series_uid(job_id: str, kind: str) -> str:
    """Series Instance UID of a job's object of a kind of SERIES."""
    return derived_uid(job_id, kind, "series")


def instance_uid(job_id: str, kind: str) -> str:
    """SOP Instance UID of a job's object of a kind of SERIES."""
    return derived_uid(job_id, kind, "instance")


def series_description(model: ModelCard, what: str, revision: int) -> str:
    """Says that an AI made it, which revision it is and that nobody verified it; at most 64 characters (LO)."""
    later = f", revision {revision}" if revision > 1 else ""
    tail = f" {what}{later}, unverified"
    return plain(f"AI {model.name} {model.version}", 64 - len(tail)) + tail


def algorithm_name(model: ModelCard) -> str:
    """The same in the SEG, in the SR (111001) and in the Contributing Equipment Sequence, letter by letter (IHE AIR).

    It is the model's name, not its title: the name stays, where a title may be reworded.
    """
    return plain(model.name, 64) or "AI"


def algorithm_version(model: ModelCard) -> str:
    """As ``algorithm_name``: of SEG, SR (111003) and Contributing Equipment Sequence."""
    return plain(model.version, 64) or "0"


def content_label(model: ModelCard) -> str:
    """(0070,0080): CS, so upper case, 16 characters."""
    return re.sub(r"[^A-Z0-9_ ]+", "_", plain(model.name, 16).upper()).strip() or "AI"


def software_versions(model: ModelCard) -> list[str]:
    """Ours and the model's, for (0018,1020)."""
    return [f"med-ai {_our_version()}", plain(f"{model.name} {model.version}", 64)]


@cache
def _our_version() -> str:
    try:
        return metadata.version("med-ai")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "0"


def plain(text: str, length: int) -> str:
    """ASCII without backslash or control characters, so that any source's character set can hold it."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^\x20-\x5b\x5d-\x7e]+", " ", folded)[:length].strip()
