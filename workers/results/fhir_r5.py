"""FHIR R5 (5.0.0): a segment is an ImagingSelection, the key image a DocumentReference. Next: fhir.py."""

from __future__ import annotations

from collections.abc import Sequence

from medai.models.volume import Code, Segment
from medai.workers.results.fhir_record import IMAGE, KEY_IMAGE, META, SEG, Record, reference
from medai.workers.results.fhir_text import (
    Json,
    coding,
    concept,
    hl7_concept,
    present,
    sop_class,
    uid_identifier,
)

REFERENCED_SEGMENT = Code(value="121191", scheme="DCM", meaning="Referenced Segment")


class R5:
    """``fhir_record.Version`` of R5."""

    revised = "modified"
    """``amended`` and ``corrected`` are for reports that were final, which no result of ours is."""
    studies = "study"

    def device(self, name: str, kind: Json) -> Json:
        """Device.name, and several types."""
        return {"name": [{"value": name, "type": "user-friendly-name"}], "type": [kind]}

    def endpoint(self, address: str) -> Json:
        """Several connection types, each a CodeableConcept."""
        return {
            "resourceType": "Endpoint",
            "id": "wado",
            "status": "active",
            "connectionType": [hl7_concept("endpoint-connection-type", "dicom-wado-rs")],
            "address": address,
        }

    def modality(self, value: str) -> Json:
        """A CodeableConcept."""
        return {"coding": [coding(value, "DCM", "")]}

    def selections(self, record: Record) -> Sequence[Json]:
        """An ImagingSelection for each segment of the SEG, by its number."""
        return [_selection(record, segment) for segment in record.context.segmentation.segments]

    def derived_from(self, record: Record, segment: Segment) -> Json:
        """The segment itself."""
        return reference("ImagingSelection", record.part_id(segment.number))

    def components(self, segment: Segment) -> Sequence[Json]:
        """None: the ImagingSelection says it."""
        return []

    def picture(self, record: Record, address: str) -> Json:
        """A DocumentReference: R5 has no Media."""
        attachment = {"contentType": IMAGE, "url": address, "title": "Key image"}
        return present(
            resourceType="DocumentReference",
            id=record.picture_id,
            meta=META,
            identifier=[uid_identifier(record.context.uids.sc)],
            basedOn=record.order,
            status="current",
            docStatus="preliminary",
            modality=[self.modality(KEY_IMAGE.modality)],
            subject=record.subject,
            date=record.issued,
            author=[record.device],
            content=[{"attachment": attachment}],
        )


def _selection(record: Record, segment: Segment) -> Json:
    context = record.context
    instance = {
        "uid": context.uids.seg,
        "sopClass": sop_class(SEG.sop_class),
        "subset": [str(segment.number)],
    }
    return present(
        resourceType="ImagingSelection",
        id=record.part_id(segment.number),
        meta=META,
        status="available",
        subject=record.subject,
        issued=record.issued,
        performer=[{"actor": record.device}],
        code=concept(REFERENCED_SEGMENT, segment.name),
        studyUid=record.study_uid,
        derivedFrom=[reference("ImagingStudy", record.study_id)],
        seriesUid=context.uids.seg_series,
        frameOfReferenceUid=str(context.source.clean[0].FrameOfReferenceUID),
        bodySite={"concept": concept(segment.site or segment.type, segment.name)},
        instance=[instance],
    )
