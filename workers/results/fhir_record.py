"""What the resources of one result share, and what a version of FHIR must say in its own way: ``Version``.

Next: fhir_r4.py, fhir_r5.py (the versions), fhir.py (the transaction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import Segment
from medai.router.contract import NAMESPACE, short_id
from medai.router.hl7.fhir_reference import authority, order_reference
from medai.router.settings.destinations import FhirDestination
from medai.workers.results import identity
from medai.workers.results.context import Context
from medai.workers.results.fhir_text import (
    Json,
    date_time,
    hl7_concept,
    identifier,
    instant,
    printable,
)
from medai.workers.results.hl7_text import IMAGED, first_moment
from medai.workers.results.source import usable

META = {"security": hl7_concept("v3-ObservationValue", "AIAST")["coding"]}
"""Asserted by artificial intelligence: the label that FHIR has for it."""
IMAGE = "image/jpeg"
"""What a WADO-RS server renders a single frame as unless asked otherwise (PS3.18 8.7.4)."""


@dataclass(frozen=True, kw_only=True)
class ResultObject:
    """One of the DICOM objects that a result is, as an ImagingStudy lists it."""

    kind: str
    """Of ``identity.KINDS``."""
    sop_class: str
    modality: str
    what: str
    """As in its Series Description."""


SEG = ResultObject(kind="seg", sop_class="1.2.840.10008.5.1.4.1.1.66.4", modality="SEG", what="segmentation")
SR = ResultObject(kind="sr", sop_class="1.2.840.10008.5.1.4.1.1.88.34", modality="SR", what="measurements")
KEY_IMAGE = ResultObject(kind="sc", sop_class="1.2.840.10008.5.1.4.1.1.7", modality="OT", what="key image")


class Version(Protocol):
    """What R4 and R5 say in different words. Everything else of a transaction is the same in both."""

    @property
    def revised(self) -> str:
        """DiagnosticReport.status of a report that was not final and has changed."""
        ...

    @property
    def studies(self) -> str:
        """The element of a DiagnosticReport that names its ImagingStudy resources."""
        ...

    def device(self, name: str, kind: Json) -> Json:
        """The elements of a Device that say its name and its type."""
        ...

    def endpoint(self, address: str) -> Json:
        """A WADO-RS root as contained Endpoint."""
        ...

    def modality(self, value: str) -> Json:
        """A modality, as an element of an ImagingStudy's series."""
        ...

    def selections(self, record: Record) -> Sequence[Json]:
        """The resources that are the segments of the SEG, where this version has such."""
        ...

    def derived_from(self, record: Record, segment: Segment) -> Json:
        """The reference from a segment's Observation to what it was measured on."""
        ...

    def components(self, segment: Segment) -> Sequence[Json]:
        """What a segment's Observation must add so that its segment is known."""
        ...

    def picture(self, record: Record, address: str) -> Json:
        """The key image as the resource that DiagnosticReport.media links; ``address`` renders it."""
        ...


class Record:
    """A job's context for one destination, with the ids of the resources and the patient as that server knows it."""

    def __init__(self, context: Context, destination: FhirDestination, version: Version) -> None:
        self.context = context
        self.version = version
        self.filler = context.job.filler
        self.study_uid = printable(text(context.header, "StudyInstanceUID"))
        self.study_id = f"study-{_short('study|' + self.study_uid)}"
        self.device_id = f"device-{_short(identity.device_uid(context.model))}"
        self.series_id = self.part_id("S")
        self.picture_id = self.part_id("K")
        self.subject = _subject(context, destination.patient_systems)
        self.order = order_reference(context.job.order.placer) if context.job.order is not None else []
        self.observed = _observed(context.header)
        self.issued = instant(context.moment)

    def part_id(self, part: object) -> str:
        """Of a part of the result.

        An Observation or ImagingSelection has the segment number, T1 … for totals, V for the verdict; S is the
        ImagingStudy with the result's series, K the key image, P1 … the Provenance of each revision.
        """
        return f"{self.filler}-{part}"

    @property
    def device(self) -> Json:
        """The reference to the model."""
        return reference("Device", self.device_id)


def reference(kind: str, identity_: str) -> Json:
    """A reference to a resource that the transaction holds."""
    return {"reference": f"{kind}/{identity_}"}


def _short(name: str) -> str:
    return short_id(f"{NAMESPACE}|fhir|{name}", length=26)


def _subject(context: Context, systems: Mapping[str, str]) -> Json:
    """By identifier, of the order where there is one, else of the images; in words where neither names one."""
    number, designator = printable(context.patient[0]), context.patient[1]
    if not number:
        return {"type": "Patient", "display": "the images name no patient identifier"}
    system, name = authority(designator, systems)
    return {"type": "Patient", "identifier": identifier(number, "MR", system=system, assigner=name)}


def _observed(header: Dataset) -> str:
    """When the patient was imaged: the acquisition, else the study; left out where no image says."""
    date, time = first_moment(header, *IMAGED)
    return date_time(date, time, str(usable(header, "TimezoneOffsetFromUTC") or ""))
