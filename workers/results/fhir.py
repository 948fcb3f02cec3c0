"""The result for an electronic record: a FHIR transaction in R5 or R4, the same bytes at every attempt.

One DiagnosticReport for a study and route, with an Observation for each measurement group (segment, total, verdict),
the ImagingStudy, another one that lists the result's own series (SEG, SR, key image), the model as Device, and a
Provenance that says who made what from which images. An ImagingStudy may be a part of a study, and several may be of
the same one, so that two routes never overwrite each other's series. Everything is PUT under an id that derives from
the filler number, the study or the model: a retry changes nothing, and a revision updates the very report and
observations of the result that it supersedes and adds a Provenance. The patient is named by identifier and never made
up. Where WADO-RS is reached, the report has the SR as presented form and links to the rendered key image.

How R4 and R5 differ is in fhir_r4.py and fhir_r5.py alone. router/delivery/fhir.py sends the transaction, and makes
the one that takes it back. Next: fhir_record.py, fhir_text.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from medai.models.volume import Segmentation
from medai.router.contract import Measurement
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
from medai.workers.results.fhir_r4 import R4
from medai.workers.results.fhir_r5 import R5
from medai.workers.results.fhir_record import KEY_IMAGE, META, SEG, SR, Record, ResultObject, Version, reference
from medai.workers.results.fhir_text import (
    LOCAL_SYSTEM,
    Json,
    coding,
    concept,
    date_time,
    hl7_concept,
    identifier,
    present,
    quantity,
    sop_class,
    uid_identifier,
)
from medai.workers.results.hl7_text import first_moment
from medai.workers.results.measure import TOTAL
from medai.workers.results.source import usable

VERSIONS: Mapping[str, Version] = {"R4": R4(), "R5": R5()}


def encode_fhir(context: Context, destination: FhirDestination) -> bytes:
    """The transaction Bundle for one destination, JSON in UTF-8."""
    record = Record(context, destination, VERSIONS[destination.version])
    observations = [*_groups(record), *_totals(record), _verdict(record)]
    asserted = [
        _series(record),
        *record.version.selections(record),
        *observations,
        *_picture(record),
        _report(record, observations),
    ]
    resources = [_study(record), _device(record), *asserted, _provenance(record, asserted)]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [_entry(item) for item in resources]}
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _entry(resource: Json) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": url}}


def _study(record: Record) -> Json:
    """What is true of the study whatever read it, so that two routes write the same."""
    zone = str(usable(record.context.header, "TimezoneOffsetFromUTC") or "")
    return present(
        **_of_study(record, record.study_id),
        started=date_time(*first_moment(record.context.header, "Study"), zone),
    )


def _series(record: Record) -> Json:
    """The series that the result adds to the study: a part of it, as an ImagingStudy of its own."""
    model = record.context.model
    return present(
        **_of_study(record, record.series_id),
        meta=META,
        description=f"Results of AI ({model.title} {model.version}), not verified by anyone",
        numberOfSeries=3,
        numberOfInstances=3,
        series=[_one_series(record, each) for each in (SEG, SR, KEY_IMAGE)],
    )


def _of_study(record: Record, identity_: str) -> Json:
    root, accession = record.context.settings.orthanc.wado_root, record.context.accession
    return {
        "resourceType": "ImagingStudy",
        "id": identity_,
        "contained": [record.version.endpoint(root)] if root else [],
        "identifier": [uid_identifier(record.study_uid), *([identifier(accession, "ACSN")] if accession else [])],
        "status": "available",
        "subject": record.subject,
        "endpoint": [{"reference": "#wado"}] if root else [],
    }


def _one_series(record: Record, each: ResultObject) -> Json:
    context = record.context
    series, instance = context.uids.of_kind(each.kind)
    return {
        "uid": series,
        "modality": record.version.modality(each.modality),
        "description": identity.series_description(context.model, each.what, context.job.revision),
        "numberOfInstances": 1,
        "instance": [{"uid": instance, "sopClass": sop_class(each.sop_class)}],
    }


def _device(record: Record) -> Json:
    model = record.context.model
    return present(
        resourceType="Device",
        id=record.device_id,
        identifier=[uid_identifier(identity.device_uid(model))],
        status="active",
        manufacturer=model.manufacturer,
        modelNumber=model.name,
        version=[{"value": model.version}],
        **record.version.device(model.title or model.name, concept(ARTIFICIAL_INTELLIGENCE)),
    )


def _groups(record: Record) -> Iterator[Json]:
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
            derivedFrom=[record.version.derived_from(record, segment)],
            component=[
                *record.version.components(segment),
                *({"code": _measured(m), "valueQuantity": quantity(m.value, m.unit)} for m in others),
                *({"code": concept(name), "valueCodeableConcept": concept(code)} for name, code in lies if code),
            ],
        )


def _totals(record: Record) -> Iterator[Json]:
    members = {total.name: total.segments for total in record.context.segmentation.totals}
    totals = (m for m in record.context.measurements if m.segment_number == TOTAL)
    for place, total in enumerate(totals, start=1):
        yield _observation(
            record,
            f"T{place}",
            code=_measured(total),
            valueQuantity=quantity(total.value, total.unit),
            derivedFrom=[
                reference("Observation", record.part_id(number)) for number in members.get(total.segment_name, ())
            ],
        )


def _verdict(record: Record) -> Json:
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


def _observation(record: Record, part: object, **elements: object) -> Json:
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
        device=record.device,
        **elements,
    )


def _measured(measurement: Measurement) -> Json:
    name = f"{measurement.segment_name} {QUANTITY_WORDS[measurement.quantity]}"
    return concept(QUANTITIES[measurement.quantity], name)


def _report(record: Record, observations: Sequence[Json]) -> Json:
    context, job = record.context, record.context.job
    return present(
        resourceType="DiagnosticReport",
        id=job.filler,
        meta=META,
        identifier=[
            identifier(job.filler, "FILL", system=LOCAL_SYSTEM),
            {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{job.job_id}"},
        ],
        basedOn=record.order,
        status=record.version.revised if job.revision > 1 else "preliminary",
        category=[hl7_concept("v2-0074", "RAD"), {"coding": [coding(context.source.volume.modality, "DCM", "")]}],
        code=_procedure(context),
        subject=record.subject,
        effectiveDateTime=record.observed,
        issued=record.issued,
        result=[reference("Observation", item["id"]) for item in observations],
        media=[{"comment": "Key image", "link": reference(p["resourceType"], p["id"])} for p in _picture(record)],
        conclusion=_conclusion(context.segmentation),
        presentedForm=_presented(context),
        **{record.version.studies: [reference("ImagingStudy", each) for each in (record.study_id, record.series_id)]},
    )


def _picture(record: Record) -> list[Json]:
    """The key image, rendered by the WADO-RS server; none where nobody said where that is."""
    address = record.context.address(KEY_IMAGE.kind)
    return [record.version.picture(record, f"{address}/rendered")] if address else []


def _presented(context: Context) -> list[Json]:
    """The whole result as the SR says it, by its address."""
    address = context.address(SR.kind)
    return [{"contentType": "application/dicom", "url": address, "title": "DICOM SR"}] if address else []


def _provenance(record: Record, asserted: Sequence[Json]) -> Json:
    """The model made all that from the study: one for each revision, so that none loses the history of another."""
    revision = record.context.job.revision
    return present(
        resourceType="Provenance",
        id=record.part_id(f"P{revision}"),
        target=[reference(item["resourceType"], item["id"]) for item in asserted],
        occurredDateTime=record.issued,
        recorded=record.issued,
        activity=hl7_concept("v3-DataOperation", "UPDATE" if revision > 1 else "CREATE"),
        agent=[{"type": hl7_concept("provenance-participant-type", "assembler"), "who": record.device}],
        entity=[{"role": "source", "what": reference("ImagingStudy", record.study_id)}],
    )


def _conclusion(segmentation: Segmentation) -> str:
    model, plausibility = segmentation.model, segmentation.plausibility
    lines = [
        f"Result of AI ({model.title} {model.version}), not verified by anyone.",
        f"{plausibility.summary}.".capitalize(),
    ]
    return "\n".join([*lines, *(f"- {text}" for text in plausibility.findings)])


def _procedure(context: Context) -> Json:
    """As in the ORU, a LOINC code of the images beside another one too; what was ordered also in the RIS's words, as it
    may come without a code."""
    text = context.procedure[1] if context.ordered_procedure else ""
    named = [each for each in (context.procedure, context.loinc_procedure) if each and each[0]]
    return present(coding=[coding(value, scheme, meaning) for value, meaning, scheme in named], text=text)
