"""The findings as Comprehensive 3D SR, TID 1500 (PS3.16): a measurement group (TID 1411) for each segment and total.

The SR points to the SEG and to the images; its tracking identifiers are the SEG's. It is complete but preliminary
and unverified: no person has looked. A person who opens it reads the numbers first, in the model's order, segments and
then totals; then TID 1500's Qualitative Evaluations: the verdict of the plausibility checks as a code, their findings
as text. What only the network's makers understand (its parameters) is in the SEG alone.

A total is a measurement group whose Referenced Segment names all its segments (Referenced Segment Number has a value
multiplicity of 1-n). TID 1420, which derives numbers from others, refers to them by reference, and highdicom cannot
read a report that holds such items; a group without a segment (TID 1501) beside those with one is an error to
PixelMed's validator. Next: key_image.py.
"""

from __future__ import annotations

import highdicom.sr as hd
import numpy as np
from pydicom import Dataset

from medai.models.volume import Code, ModelCard, Segment, Segmentation, Total
from medai.router.contract import Measurement
from medai.workers.results import identity
from medai.workers.results.codes import (
    ARTIFICIAL_INTELLIGENCE,
    ASSESSMENT,
    QUANTITIES,
    VERDICTS,
)
from medai.workers.results.context import Context
from medai.workers.results.contours import Mask, area, outlines
from medai.workers.results.dicom_object import concept, contributing_equipment, device_observer, equipment, finish
from medai.workers.results.measure import MEAN_ATTENUATION, TOTAL
from medai.workers.results.request import performed_procedures, referenced_requests, reported_procedure

Group = hd.VolumetricROIMeasurementsAndQualitativeEvaluations
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
        series_description=identity.series_description(context.model, "measurements", context.job.revision),
        is_complete=True,
        is_final=False,
        is_verified=False,
        performed_procedure_codes=[concept(code) for code in performed_procedures(context)] or None,
        requested_procedures=referenced_requests(context) or None,
        previous_versions=_predecessors(context),
        contributing_equipment=[contributing_equipment(context)],
        **equipment(context),
    )
    finish(sr, context)
    return sr


def _content(context: Context, seg: Dataset) -> hd.MeasurementReport:
    segmentation = context.segmentation
    report = hd.MeasurementReport(
        observation_context=hd.ObservationContext(observer_device_context=device_observer(context)),
        procedure_reported=concept(reported_procedure(context)),
        imaging_measurements=[
            *(_segment_group(context, seg, segment) for segment in segmentation.segments),
            *(_total_group(context, seg, number, total) for number, total in enumerate(segmentation.totals, start=1)),
        ],
    )
    report[0].ContentSequence.append(_evaluations(segmentation))
    return report


def _segment_group(context: Context, seg: Dataset, segment: Segment) -> Group:
    job = context.job
    return _group(
        context,
        seg,
        (identity.tracking_id(job, segment), identity.tracking_uid(job, segment)),
        (segment,),
        [m for m in context.measurements if m.segment_number == segment.number],
    )


def _total_group(context: Context, seg: Dataset, number: int, total: Total) -> Group:
    """Of several segments together; it says of them what they have in common."""
    parts = tuple(segment for segment in context.segmentation.segments if segment.number in total.segments)
    numbers = [m for m in context.measurements if m.segment_number == TOTAL and m.segment_name == total.name]
    return _group(context, seg, identity.total_tracking(context.job, number, total.name), parts, numbers)


def _group(
    context: Context,
    seg: Dataset,
    tracking: tuple[str, str],
    segments: tuple[Segment, ...],
    numbers: list[Measurement],
) -> Group:
    """TID 1411: what is tracked, in which segments, what and where it is, who found it, and the numbers."""
    inside = np.isin(context.segmentation.labels, [segment.number for segment in segments])
    what = _shared([segment.type for segment in segments]) or segments[0].category
    where = _shared([segment.site or segment.type for segment in segments])
    side, part = _shared([s.modifier for s in segments]), _shared([s.topography for s in segments])
    reference = hd.ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=segments[0].number,
        source_images=_source_images(context, inside),
    )
    if len(segments) > 1:  # highdicom's parameter takes one
        reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber = [segment.number for segment in segments]
    site = hd.FindingSite(
        concept(where),
        laterality=concept(side) if side else None,
        topographical_modifier=concept(part) if part else None,
    ) if where else None  # fmt: skip
    group = Group(
        tracking_identifier=hd.TrackingIdentifier(identifier=tracking[0], uid=tracking[1]),
        referenced_segment=reference,
        finding_type=concept(what),
        algorithm_id=_algorithm(context.model),
        finding_sites=[site] if site else None,
        measurements=[_number(m) for m in numbers],
    )
    _point_out(group, _where(context, inside))
    return group


def _point_out(group: Group, where: hd.CoordinatesForMeasurement) -> None:
    """Under each number; highdicom takes none in a group of a volume, though TID 1411 is extensible."""
    for number in (item for item in group[0].ContentSequence if item.ValueType == "NUM"):
        children = number.get("ContentSequence") or hd.ContentSequence()
        children.append(where)
        number.ContentSequence = children


def _shared(codes: list[Code | None] | list[Code]) -> Code | None:
    """The code that all of several segments have."""
    return codes[0] if all(code == codes[0] for code in codes) else None


def _algorithm(model: ModelCard) -> hd.AlgorithmIdentification:
    """111001 name, 111003 version, 122405 manufacturer, 111000 family."""
    return hd.AlgorithmIdentification(
        name=identity.algorithm_name(model),
        version=identity.algorithm_version(model),
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


def _where(context: Context, inside: Mask) -> hd.CoordinatesForMeasurement:
    """Where a viewer jumps to: the outline of the largest part in the slice that shows most; of nothing, a whole slice.

    The number is of the whole segment, which the SEG holds; OHIF 3.13 opens no report with a number that has no place.
    """
    areas = np.count_nonzero(inside, axis=(1, 2))
    index = int(areas.argmax()) if areas.any() else len(areas) // 2
    shown = inside[index] if areas.any() else np.ones_like(inside[index])
    outline = max(outlines(shown), key=area)
    image = context.source.clean[index]
    return hd.CoordinatesForMeasurement(
        graphic_type=hd.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*outline, outline[0]], dtype=np.float32),
        source_image=hd.SourceImageForRegion(
            referenced_sop_class_uid=image.SOPClassUID, referenced_sop_instance_uid=image.SOPInstanceUID
        ),
    )


def _source_images(context: Context, inside: Mask) -> list[hd.SourceImageForSegmentation]:
    """Three images that show them: its first slice, its largest and its last (the middle one if it is empty).

    The evidence lists every image; here a few suffice, and validators take long over many.
    """
    areas = np.count_nonzero(inside, axis=(1, 2))
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


def _evaluations(segmentation: Segmentation) -> hd.ContainerContentItem:
    """The verdict and what led to it, under Qualitative Evaluations (TID 1500 rows 12 to 14)."""
    plausibility = segmentation.plausibility
    texts = [f"Plausibility: {plausibility.summary}"]
    texts += [f"Check: {identity.plain(text, 1000)}" for text in plausibility.findings]
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
