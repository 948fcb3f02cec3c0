"""FHIR R4 (4.0.1; R4B, 4.3.0, has the same in all that is used here): no ImagingSelection, and Media for pictures.

A segment's Observation is derived from the ImagingStudy that lists the result's series, the SEG among them. Which
segment it is, is said twice, without an extension that a server might not know: by its Tracking UID as the
Observation's identifier (0062,0021 of the SEG), and by its number as a component. Next: fhir.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from medai.models.volume import Code, Segment
from medai.workers.results.fhir_record import IMAGE, KEY_IMAGE, META, Record, reference
from medai.workers.results.fhir_text import TERMINOLOGY, Json, coding, concept, hl7_concept, present, uid_identifier

SEGMENT_NUMBER = Code(value="121191", scheme="DCM", meaning="Referenced Segment")


class R4:
    """``fhir_record.Version`` of R4."""

    revised = "preliminary"
    """R4 has no ``modified``; amended and corrected are for reports that were final, which no result of ours is."""
    studies = "imagingStudy"

    def device(self, name: str, kind: Json) -> Json:
        """Device.deviceName, and one type."""
        return {"deviceName": [{"name": name, "type": "user-friendly-name"}], "type": kind}

    def endpoint(self, address: str) -> Json:
        """One connection type, a Coding; and what the payload is, which R4 asks for."""
        return {
            "resourceType": "Endpoint",
            "id": "wado",
            "status": "active",
            "connectionType": {"system": f"{TERMINOLOGY}/endpoint-connection-type", "code": "dicom-wado-rs"},
            "payloadType": [{"text": "DICOM"}],
            "payloadMimeType": ["application/dicom"],
            "address": address,
        }

    def modality(self, value: str) -> Json:
        """A Coding."""
        return coding(value, "DCM", "")

    def selections(self, record: Record) -> Sequence[Json]:
        """None."""
        return []

    def derived_from(self, record: Record, segment: Segment) -> Json:
        """The ImagingStudy with the SEG."""
        return reference("ImagingStudy", record.series_id)

    def components(self, segment: Segment) -> Sequence[Json]:
        """The segment's number in the SEG."""
        return [{"code": concept(SEGMENT_NUMBER, "Segment number"), "valueInteger": segment.number}]

    def picture(self, record: Record, address: str) -> Json:
        """A Media."""
        return present(
            resourceType="Media",
            id=record.picture_id,
            meta=META,
            identifier=[uid_identifier(record.context.uids.sc)],
            basedOn=record.order,
            status="completed",
            type=hl7_concept("media-type", "image"),
            modality={"coding": [coding(KEY_IMAGE.modality, "DCM", "")]},
            subject=record.subject,
            issued=record.issued,
            device=record.device,
            content={"contentType": IMAGE, "url": address, "title": "Key image"},
        )
