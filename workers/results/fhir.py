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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset

from medai.models.volume import Code, Segment, Segmentation
from medai.router.contract import NAMESPACE, Job, Measurement, short_id
from medai.router.settings.destinations import FhirDestination
from medai.workers.results import identity
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
    quantity,
    uid_identifier,
    unescaped,
)
from medai.workers.results.hl7_text import issuer
from medai.workers.results.measure import TOTAL
from medai.workers.results.oru import ACCESSION_MAX, QUANTITIES
from medai.workers.results.seg import ARTIFICIAL_INTELLIGENCE
from medai.workers.results.source import Source, usable
from medai.workers.results.sr import ANY_PROCEDURE, ASSESSMENT, PROCEDURES, VERDICTS

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
REFERENCED_SEGMENT = Code(value="121191", scheme="DCM", meaning="Referenced Segment")
LATERALITY = Code(value="272741003", scheme="SCT", meaning="Laterality")
TOPOGRAPHY = Code(value="106233006", scheme="SCT", meaning="Topographical modifier")
META = {"security": hl7_concept("v3-ObservationValue", "AIAST")["coding"]}
"""Asserted by artificial intelligence: the label that FHIR has for it."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the resources need of the job."""

    job: Job
    source: Source
    segmentation: Segmentation
    measurements: Sequence[Measurement]
    objects: identity.ResultUids
    destination: FhirDestination
    wado_root: str
    created_at: datetime

    @property
    def header(self) -> Dataset:
        return self.source.first

    @property
    def study_id(self) -> str:
        return f"study-{short_id(f'{NAMESPACE}|fhir|study|{self.header.StudyInstanceUID}', length=26)}"

    @property
    def device_id(self) -> str:
        return f"device-{short_id(f'{NAMESPACE}|fhir|{identity.device_uid(self.segmentation.model)}', length=26)}"

    def part_id(self, part: object) -> str:
        """Of an Observation or ImagingSelection: the segment number, T1 … for totals, V for the verdict."""
        return f"{self.job.filler}-{part}"


def encode_fhir(
    job: Job,
    measurements: Sequence[Measurement],
    segmentation: Segmentation,
    source: Source,
    objects: identity.ResultUids,
    destination: FhirDestination,
    wado_root: str,
    created_at: datetime,
) -> bytes:
    """The transaction Bundle for one destination, JSON in UTF-8."""
    record = _Record(
        job=job,
        source=source,
        segmentation=segmentation,
        measurements=measurements,
        objects=objects,
        destination=destination,
        wado_root=wado_root,
        created_at=source.moment(created_at),
    )
    observations = [*_groups(record), *_totals(record), _verdict(record)]
    resources = [
        _study(record),
        _device(record),
        *(_selection(record, segment) for segment in segmentation.segments),
        *observations,
        _report(record, observations),
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [_entry(item) for item in resources]}
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _entry(resource: Json) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": url}}


def _reference(kind: str, identity_: str) -> Json:
    return {"reference": f"{kind}/{identity_}"}


def _study(record: _Record) -> Json:
    """What is true of the study whatever read it, so that two routes write the same."""
    header = record.header
    accession = _accession(record)
    endpoint = {
        "resourceType": "Endpoint",
        "id": "wado",
        "status": "active",
        "connectionType": [hl7_concept("endpoint-connection-type", "dicom-wado-rs")],
        "address": record.wado_root.rstrip("/"),
    }
    return present(
        resourceType="ImagingStudy",
        id=record.study_id,
        contained=[endpoint],
        identifier=[
            uid_identifier(str(header.StudyInstanceUID)),
            *([identifier(accession, "ACSN")] if accession else []),
        ],
        status="available",
        subject=_subject(record),
        started=date_time(*_when(header, "Study")),
        endpoint=[{"reference": "#wado"}],
    )


def _device(record: _Record) -> Json:
    model = record.segmentation.model
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
    instance = {
        "uid": record.objects.seg,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{SEGMENTATION_STORAGE}"},
        "subset": [str(segment.number)],
    }
    return present(
        resourceType="ImagingSelection",
        id=record.part_id(segment.number),
        meta=META,
        status="available",
        subject=_subject(record),
        issued=instant(record.created_at),
        performer=[{"actor": _reference("Device", record.device_id)}],
        code=concept(REFERENCED_SEGMENT, segment.name),
        studyUid=str(record.header.StudyInstanceUID),
        derivedFrom=[_reference("ImagingStudy", record.study_id)],
        seriesUid=record.objects.seg_series,
        frameOfReferenceUid=str(record.source.clean[0].FrameOfReferenceUID),
        bodySite={"concept": concept(segment.site or segment.type, segment.name)},
        instance=[instance],
    )


def _groups(record: _Record) -> Iterator[Json]:
    """An Observation a segment: its first measurement is the value, the others and where it lies are components."""
    for segment in record.segmentation.segments:
        first, *others = (m for m in record.measurements if m.segment_number == segment.number)
        lies = ((LATERALITY, segment.modifier), (TOPOGRAPHY, segment.topography))
        yield _observation(
            record,
            segment.number,
            identifier=[uid_identifier(identity.tracking_uid(record.job, segment))],
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
    members = {total.name: total.segments for total in record.segmentation.totals}
    totals = (m for m in record.measurements if m.segment_number == TOTAL)
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
    plausibility = record.segmentation.plausibility
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
        subject=_subject(record),
        effectiveDateTime=_observed(record),
        issued=instant(record.created_at),
        method=concept(ARTIFICIAL_INTELLIGENCE),
        device=_reference("Device", record.device_id),
        **elements,
    )


def _measured(measurement: Measurement) -> Json:
    code, word = QUANTITIES[measurement.quantity]
    return concept(code, f"{measurement.segment_name} {word}")


def _report(record: _Record, observations: Sequence[Json]) -> Json:
    job, modality = record.job, record.source.volume.modality
    return present(
        resourceType="DiagnosticReport",
        id=job.filler,
        meta=META,
        identifier=[
            identifier(job.filler, "FILL", system=LOCAL_SYSTEM),
            {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{job.job_id}"},
        ],
        basedOn=_order(record),
        status="modified" if job.revision > 1 else "preliminary",
        category=[hl7_concept("v2-0074", "RAD"), {"coding": [coding(modality, "DCM", "")]}],
        code=_procedure(record),
        subject=_subject(record),
        effectiveDateTime=_observed(record),
        issued=instant(record.created_at),
        result=[_reference("Observation", item["id"]) for item in observations],
        study=[_reference("ImagingStudy", record.study_id)],
        conclusion=_conclusion(record),
    )


def _conclusion(record: _Record) -> str:
    model, plausibility = record.segmentation.model, record.segmentation.plausibility
    lines = [
        f"Result of AI ({model.title} {model.version}), not verified by anyone.",
        f"{plausibility.summary}.".capitalize(),
    ]
    return "\n".join([*lines, *(f"- {text}" for text in plausibility.findings)])


def _subject(record: _Record) -> Json:
    """By identifier, of the order where there is one, else of the images; in words where neither names one."""
    order = record.job.order
    if order is not None and order.patient_id:
        number, designator = order.patient_id, order.patient_id_authority
    else:
        number, designator = str(record.header.get("PatientID") or "").strip(), issuer(record.header)
    if not number:
        return {"type": "Patient", "display": "the images name no patient identifier"}
    system, name = authority(designator, record.destination.patient_systems)
    return {"type": "Patient", "identifier": identifier(number, "MR", system=system, assigner=name)}


def _order(record: _Record) -> list[Json]:
    """The order by its placer number, where there is one (an EI: number, namespace, universal id and type)."""
    if record.job.order is None or not record.job.order.placer:
        return []
    number, *rest = (unescaped(part) for part in record.job.order.placer.split("^"))
    system, name = authority("&".join(rest), {})
    found = identifier(number, "PLAC", system=system, assigner=name)
    return [{"type": "ServiceRequest", "identifier": found}] if number else []


def _procedure(record: _Record) -> Json:
    """What was ordered; else what the images say was done; else the kind of imaging (CID 100)."""
    order, header = record.job.order, record.header
    if order is not None and any(order.procedure):
        value, meaning, scheme = order.procedure
        return present(coding=[coding(value, scheme, meaning)] if value else [], text=meaning)
    for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
        for item in header.get(keyword) or []:
            if item.get("CodeValue") and item.get("CodingSchemeDesignator"):
                named = (item.CodeValue, item.CodingSchemeDesignator, item.get("CodeMeaning") or "")
                return {"coding": [coding(*(str(part) for part in named))]}
    return concept(PROCEDURES.get(record.source.volume.modality, ANY_PROCEDURE))


def _accession(record: _Record) -> str:
    """As in the ORU: the order's, else the images'; one of more than 16 characters is no accession number."""
    order = record.job.order
    known = ((order.accession if order else ""), str(record.header.get("AccessionNumber") or "").strip())
    return next((text for text in known if text and len(text) <= ACCESSION_MAX), "")


def _observed(record: _Record) -> str:
    """When the patient was imaged: the acquisition, else the study; left out where no image says."""
    found = (date_time(*_when(record.header, name)) for name in ("Acquisition", "Content", "Series", "Study"))
    return next((moment for moment in found if moment), "")


def _when(header: Dataset, name: str) -> tuple[str, str, str]:
    offset = str(usable(header, "TimezoneOffsetFromUTC") or "")
    return str(header.get(f"{name}Date") or ""), str(header.get(f"{name}Time") or ""), offset
