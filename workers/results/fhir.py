"""The result for an electronic record: a FHIR R5 transaction, the same bytes at every attempt.

One DiagnosticReport for a study and route, with an Observation for each measurement group (segment, total, verdict),
an ImagingSelection for each segment of the SEG, the ImagingStudy and the model as Device. Everything is PUT under an id
that derives from the filler number, the study or the model: a retry changes nothing, and a revision updates the very
report, observations and selections of the result that it supersedes. The patient is named by identifier and never made
up.

A report that was not final yet and has changed is ``modified`` in R5 (``amended`` and ``corrected`` are for reports
that were final, which no result of ours is); an Observation stays ``preliminary``. router/delivery/fhir.py sends it,
and makes the Bundle that takes it back. Next: fhir_text.py, ../deliver.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import Code, Segment, Segmentation
from medai.router.contract import NAMESPACE, Job, Measurement, short_id
from medai.router.settings.destinations import FhirDestination
from medai.workers.results import identity
from medai.workers.results.codes import (
    ARTIFICIAL_INTELLIGENCE,
    ASSESSMENT,
    LATERALITY,
    QUANTITIES,
    QUANTITY_WORDS,
    TOPOGRAPHY,
    VERDICTS,
)
from medai.workers.results.context import Context
from medai.workers.results.fhir_text import (
    LOCAL_SYSTEM,
    Json,
    authority,
    coding,
    concept,
    date_time,
    hl7_concept,
    identifier,
    instant,
    present,
    printable,
    quantity,
    uid_identifier,
    unescaped,
)
from medai.workers.results.hl7_text import IMAGED, first_moment
from medai.workers.results.measure import TOTAL
from medai.workers.results.source import usable

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
REFERENCED_SEGMENT = Code(value="121191", scheme="DCM", meaning="Referenced Segment")
META = {"security": hl7_concept("v3-ObservationValue", "AIAST")["coding"]}
"""Asserted by artificial intelligence: the label that FHIR has for it."""


def encode_fhir(context: Context, destination: FhirDestination) -> bytes:
    """The transaction Bundle for one destination, JSON in UTF-8."""
    record = _Record(context, destination)
    observations = [*_groups(record), *_totals(record), _verdict(record)]
    resources = [
        _study(record),
        _device(record),
        *(_selection(record, segment) for segment in context.segmentation.segments),
        *observations,
        _report(record, observations),
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [_entry(item) for item in resources]}
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def study_uid(context: Context) -> str:
    """The study's UID as text, whatever a file holds there."""
    return printable(text(context.header, "StudyInstanceUID"))


class _Record:
    """A job's context for one destination, with the ids of the resources and the patient as that server knows it."""

    def __init__(self, context: Context, destination: FhirDestination) -> None:
        self.context = context
        self.filler = context.job.filler
        self.study_id = f"study-{_short('study|' + study_uid(context))}"
        self.device_id = f"device-{_short(identity.device_uid(context.model))}"
        self.subject = _subject(context, destination.patient_systems)
        self.observed = _observed(context.header)
        self.issued = instant(context.moment)

    def part_id(self, part: object) -> str:
        """Of an Observation or ImagingSelection: the segment number, T1 … for totals, V for the verdict."""
        return f"{self.filler}-{part}"


def _short(name: str) -> str:
    return short_id(f"{NAMESPACE}|fhir|{name}", length=26)


def _entry(resource: Json) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": url}}


def _reference(kind: str, identity_: str) -> Json:
    return {"reference": f"{kind}/{identity_}"}


def _study(record: _Record) -> Json:
    """What is true of the study whatever read it, so that two routes write the same."""
    header, accession = record.context.header, record.context.accession
    root = record.context.settings.orthanc.wado_root
    endpoint = {
        "resourceType": "Endpoint",
        "id": "wado",
        "status": "active",
        "connectionType": [hl7_concept("endpoint-connection-type", "dicom-wado-rs")],
        "address": root,
    }
    return present(
        resourceType="ImagingStudy",
        id=record.study_id,
        contained=[endpoint] if root else [],
        identifier=[
            uid_identifier(study_uid(record.context)),
            *([identifier(accession, "ACSN")] if accession else []),
        ],
        status="available",
        subject=record.subject,
        started=date_time(*first_moment(header, "Study"), str(usable(header, "TimezoneOffsetFromUTC") or "")),
        endpoint=[{"reference": "#wado"}] if root else [],
    )


def _device(record: _Record) -> Json:
    model = record.context.model
    return present(
        resourceType="Device",
        id=record.device_id,
        identifier=[uid_identifier(identity.device_uid(model))],
        status="active",
        manufacturer=model.manufacturer,
        name=[{"value": model.title or model.name, "type": "user-friendly-name"}],
        modelNumber=model.name,
        version=[{"value": model.version}],
        type=[concept(ARTIFICIAL_INTELLIGENCE)],
    )


def _selection(record: _Record, segment: Segment) -> Json:
    """One segment of the SEG, by its number."""
    context = record.context
    instance = {
        "uid": context.uids.seg,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{SEGMENTATION_STORAGE}"},
        "subset": [str(segment.number)],
    }
    return present(
        resourceType="ImagingSelection",
        id=record.part_id(segment.number),
        meta=META,
        status="available",
        subject=record.subject,
        issued=record.issued,
        performer=[{"actor": _reference("Device", record.device_id)}],
        code=concept(REFERENCED_SEGMENT, segment.name),
        studyUid=study_uid(context),
        derivedFrom=[_reference("ImagingStudy", record.study_id)],
        seriesUid=context.uids.seg_series,
        frameOfReferenceUid=str(context.source.clean[0].FrameOfReferenceUID),
        bodySite={"concept": concept(segment.site or segment.type, segment.name)},
        instance=[instance],
    )


def _groups(record: _Record) -> Iterator[Json]:
    """An Observation a segment: its first measurement is the value, the others and where it lies are components."""
    context = record.context
    for segment in context.segmentation.segments:
        first, *others = (m for m in context.measurements if m.segment_number == segment.number)
        lies = ((LATERALITY, segment.modifier), (TOPOGRAPHY, segment.topography))
        yield _observation(
            record,
            segment.number,
            identifier=[uid_identifier(identity.tracking_uid(context.job, segment))],
            code=_measured(first),
            valueQuantity=quantity(first.value, first.unit),
            bodySite=concept(segment.site or segment.type, segment.name),
            derivedFrom=[_reference("ImagingSelection", record.part_id(segment.number))],
            component=[
                *({"code": _measured(m), "valueQuantity": quantity(m.value, m.unit)} for m in others),
                *({"code": concept(name), "valueCodeableConcept": concept(code)} for name, code in lies if code),
            ],
        )


def _totals(record: _Record) -> Iterator[Json]:
    members = {total.name: total.segments for total in record.context.segmentation.totals}
    totals = (m for m in record.context.measurements if m.segment_number == TOTAL)
    for place, total in enumerate(totals, start=1):
        yield _observation(
            record,
            f"T{place}",
            code=_measured(total),
            valueQuantity=quantity(total.value, total.unit),
            derivedFrom=[
                _reference("Observation", record.part_id(number)) for number in members.get(total.segment_name, ())
            ],
        )


def _verdict(record: _Record) -> Json:
    """What the plausibility checks came to, also when all passed; what a person should look at as notes."""
    plausibility = record.context.segmentation.plausibility
    plausible = plausibility.verdict == "plausible"
    return _observation(
        record,
        "V",
        code=concept(ASSESSMENT, "Verdict of the plausibility checks"),
        valueCodeableConcept=concept(VERDICTS[plausibility.verdict], plausibility.summary),
        interpretation=[hl7_concept("v3-ObservationInterpretation", "N" if plausible else "A")],
        note=[{"text": text} for text in plausibility.findings],
    )


def _observation(record: _Record, part: object, **elements: object) -> Json:
    """With what all observations share: status, patient, time, method and device."""
    return present(
        resourceType="Observation",
        id=record.part_id(part),
        meta=META,
        status="preliminary",
        category=[hl7_concept("observation-category", "imaging")],
        subject=record.subject,
        effectiveDateTime=record.observed,
        issued=record.issued,
        method=concept(ARTIFICIAL_INTELLIGENCE),
        device=_reference("Device", record.device_id),
        **elements,
    )


def _measured(measurement: Measurement) -> Json:
    name = f"{measurement.segment_name} {QUANTITY_WORDS[measurement.quantity]}"
    return concept(QUANTITIES[measurement.quantity], name)


def _report(record: _Record, observations: Sequence[Json]) -> Json:
    context, job = record.context, record.context.job
    return present(
        resourceType="DiagnosticReport",
        id=job.filler,
        meta=META,
        identifier=[
            identifier(job.filler, "FILL", system=LOCAL_SYSTEM),
            {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{job.job_id}"},
        ],
        basedOn=_order(job),
        status="modified" if job.revision > 1 else "preliminary",
        category=[hl7_concept("v2-0074", "RAD"), {"coding": [coding(context.source.volume.modality, "DCM", "")]}],
        code=_procedure(context),
        subject=record.subject,
        effectiveDateTime=record.observed,
        issued=record.issued,
        result=[_reference("Observation", item["id"]) for item in observations],
        study=[_reference("ImagingStudy", record.study_id)],
        conclusion=_conclusion(context.segmentation),
    )


def _conclusion(segmentation: Segmentation) -> str:
    model, plausibility = segmentation.model, segmentation.plausibility
    lines = [
        f"Result of AI ({model.title} {model.version}), not verified by anyone.",
        f"{plausibility.summary}.".capitalize(),
    ]
    return "\n".join([*lines, *(f"- {text}" for text in plausibility.findings)])


def _subject(context: Context, systems: Mapping[str, str]) -> Json:
    """By identifier, of the order where there is one, else of the images; in words where neither names one."""
    number, designator = printable(context.patient[0]), context.patient[1]
    if not number:
        return {"type": "Patient", "display": "the images name no patient identifier"}
    system, name = authority(designator, systems)
    return {"type": "Patient", "identifier": identifier(number, "MR", system=system, assigner=name)}


def _order(job: Job) -> list[Json]:
    """The order by its placer number, where there is one (an EI: number, namespace, universal id and type)."""
    if job.order is None or not job.order.placer:
        return []
    number, *rest = (unescaped(part) for part in job.order.placer.split("^"))
    system, name = authority("&".join(rest), {})
    found = identifier(number, "PLAC", system=system, assigner=name)
    return [{"type": "ServiceRequest", "identifier": found}] if number else []


def _procedure(context: Context) -> Json:
    """As in the ORU; what was ordered also in the RIS's words, as it may come without a code."""
    value, meaning, scheme = context.procedure
    text = meaning if context.ordered_procedure else ""
    return present(coding=[coding(value, scheme, meaning)] if value else [], text=text)


def _observed(header: Dataset) -> str:
    """When the patient was imaged: the acquisition, else the study; left out where no image says."""
    date, time = first_moment(header, *IMAGED)
    return date_time(date, time, str(usable(header, "TimezoneOffsetFromUTC") or ""))
