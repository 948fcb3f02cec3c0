"""The findings as Comprehensive 3D SR, TID 1500 (PS3.16): a measurement group (TID 1411) for each segment.

The SR points to the SEG and to the images; its tracking identifiers are the SEG's. It is complete but preliminary
and unverified: no person has looked. TID 1500's Qualitative Evaluations hold the verdict of the plausibility checks
as a code and their findings as text.

Totals of several segments are text there too. TID 1420, which is made for them, refers to its measurement groups by
reference, and highdicom cannot read a report that holds such items; a group without a segment (TID 1501) beside those
with one is an error to PixelMed's validator. Next: key_image.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom.sr as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from medai.models.volume import Code, ModelCard, Segment, Segmentation
from medai.router.contract import Measurement
from medai.workers.results import identity
from medai.workers.results.codes import (
    ANY_PROCEDURE,
    ARTIFICIAL_INTELLIGENCE,
    ASSESSMENT,
    PROCEDURES,
    QUANTITIES,
    VERDICTS,
)
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import concept, contributing_equipment, equipment, finish
from medai.workers.results.measure import MEAN_ATTENUATION, TOTAL

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
UNITS = {
    "ml": Code(value="cm3", scheme="UCUM", meaning="cubic centimeter"),
    "[hnsf'U]": Code(value="[hnsf'U]", scheme="UCUM", meaning="Hounsfield unit"),
}
"""Of a measurement's unit; a millilitre is a cubic centimetre, the unit that TID 1419 knows for volumes."""
MEAN = Code(value="373098007", scheme="SCT", meaning="Mean")
QUALITATIVE_EVALUATIONS = Code(value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations")
COMMENT = Code(value="121106", scheme="DCM", meaning="Comment")


def encode_sr(context: Context, seg: Dataset) -> Dataset:
    """The report on ``seg``; with ``job.predecessor`` it names the report that it replaces."""
    job, uids = context.job, context.uids
    sr: Dataset = hd.Comprehensive3DSR(
        evidence=[*context.source.clean, seg],
        content=_content(context, seg)[0],
        series_instance_uid=uids.sr_series,
        series_number=identity.series_number(context.settings.results, job, "sr"),
        sop_instance_uid=uids.sr,
        instance_number=1,
        series_description=identity.series_description(context.model, "measurements"),
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessors(context),
        contributing_equipment=[contributing_equipment(context)],
        **equipment(context),
    )
    finish(sr, context)
    return sr


def _content(context: Context, seg: Dataset) -> hd.MeasurementReport:
    report = hd.MeasurementReport(
        observation_context=_observer(context),
        procedure_reported=concept(PROCEDURES.get(context.source.volume.modality, ANY_PROCEDURE)),
        imaging_measurements=[_group(context, seg, segment) for segment in context.segmentation.segments],
    )
    report[0].ContentSequence.append(_evaluations(context.segmentation, context.measurements))
    return report


def _observer(context: Context) -> hd.ObservationContext:
    """The device that reports, by its Device UID (121012): the model, as in the Contributing Equipment Sequence."""
    model, settings = context.model, context.settings.results
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=identity.device_uid(model),
        name=identity.plain(settings.device_name, 64),
        manufacturer_name=identity.plain(model.manufacturer, 64),
        model_name=identity.plain(f"{model.name} {model.version}", 64),
        serial_number=identity.plain(settings.serial_number, 64),
    )
    return hd.ObservationContext(
        observer_device_context=hd.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _group(context: Context, seg: Dataset, segment: Segment) -> hd.VolumetricROIMeasurementsAndQualitativeEvaluations:
    job, site = context.job, segment.site or segment.type
    return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(
            uid=identity.tracking_uid(job, segment), identifier=identity.tracking_id(job, segment)
        ),
        referenced_segment=hd.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment.number,
            source_images=_source_images(context, segment),
        ),
        finding_type=concept(segment.type),
        algorithm_id=_algorithm(context.model),
        finding_sites=[
            hd.FindingSite(
                concept(site),
                laterality=concept(segment.modifier) if segment.modifier else None,
                topographical_modifier=concept(segment.topography) if segment.topography else None,
            )
        ],
        measurements=[_number(m) for m in context.measurements if m.segment_number == segment.number],
    )


def _algorithm(model: ModelCard) -> hd.AlgorithmIdentification:
    """111001 name, 111003 version, 111002 parameters, 122405 manufacturer, 111000 family."""
    return hd.AlgorithmIdentification(
        name=identity.plain(model.title, 64) or model.name,
        version=identity.plain(model.version, 64),
        parameters=[f"{name}={value}" for name, value in model.parameters] or None,
        family=concept(ARTIFICIAL_INTELLIGENCE),
        manufacturer=identity.plain(model.manufacturer, 64),
    )


def _number(measurement: Measurement) -> hd.Measurement:
    return hd.Measurement(
        name=concept(QUANTITIES[measurement.quantity]),
        value=measurement.value,
        unit=concept(UNITS[measurement.unit]),
        derivation=concept(MEAN) if measurement.quantity == MEAN_ATTENUATION else None,
    )


def _source_images(context: Context, segment: Segment) -> list[hd.SourceImageForSegmentation]:
    """Three images that show the segment: its first slice, its largest and its last (the middle one if it is empty).

    The evidence lists every image; here a few suffice, and validators take long over many.
    """
    areas = np.count_nonzero(context.segmentation.labels == segment.number, axis=(1, 2))
    shown = np.flatnonzero(areas)
    images = context.source.clean
    chosen = {int(shown[0]), int(areas.argmax()), int(shown[-1])} if shown.size else {len(areas) // 2}
    return [
        hd.SourceImageForSegmentation(
            referenced_sop_class_uid=images[index].SOPClassUID,
            referenced_sop_instance_uid=images[index].SOPInstanceUID,
        )
        for index in sorted(chosen)
    ]


def _evaluations(segmentation: Segmentation, measurements: Sequence[Measurement]) -> hd.ContainerContentItem:
    """The verdict, what led to it, and totals, under Qualitative Evaluations (TID 1500 rows 12 to 14)."""
    plausibility = segmentation.plausibility
    texts = [f"Plausibility: {plausibility.summary}"]
    texts += [f"Check: {identity.plain(text, 1000)}" for text in plausibility.findings]
    texts += [
        f"Total: {identity.plain(each.segment_name, 100)}, volume {each.value:g} cm3"
        for each in measurements
        if each.segment_number == TOTAL
    ]
    container = hd.ContainerContentItem(
        name=concept(QUALITATIVE_EVALUATIONS), relationship_type=hd.RelationshipTypeValues.CONTAINS
    )
    verdict = hd.CodeContentItem(
        name=concept(ASSESSMENT),
        value=concept(VERDICTS[plausibility.verdict]),
        relationship_type=hd.RelationshipTypeValues.CONTAINS,
    )
    container.ContentSequence = hd.ContentSequence([verdict, *(_comment(text) for text in texts)])
    return container


def _comment(text: str) -> hd.TextContentItem:
    return hd.TextContentItem(name=concept(COMMENT), value=text, relationship_type=hd.RelationshipTypeValues.CONTAINS)


def _predecessors(context: Context) -> list[Dataset] | None:
    job = context.job
    if job.predecessor is None:
        return None
    earlier = Dataset()
    earlier.SOPClassUID = COMPREHENSIVE_3D_SR
    earlier.SOPInstanceUID = job.predecessor.sr_sop_uid
    earlier.SeriesInstanceUID = job.predecessor.sr_series_uid
    earlier.StudyInstanceUID = context.header.StudyInstanceUID
    return [earlier]
