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
from datetime import datetime

import highdicom.sr as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from medai.models.volume import Code, Segment, Segmentation
from medai.router.contract import Job, Measurement
from medai.router.settings.tables import ResultSettings
from medai.workers.results import identity
from medai.workers.results.measure import MEAN_ATTENUATION, TOTAL, VOLUME
from medai.workers.results.seg import ARTIFICIAL_INTELLIGENCE, concept, contributing_equipment, equipment, finish
from medai.workers.results.source import Source

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
PROCEDURES = {
    "CT": Code(value="25045-6", scheme="LN", meaning="CT unspecified body region"),
    "MR": Code(value="25056-3", scheme="LN", meaning="MRI unspecified body region"),
    "PT": Code(value="44136-0", scheme="LN", meaning="PET unspecified body region"),
    "NM": Code(value="49118-3", scheme="LN", meaning="NM unspecified body region"),
    "CR": Code(value="43468-8", scheme="LN", meaning="XR unspecified body region"),
    "DX": Code(value="43468-8", scheme="LN", meaning="XR unspecified body region"),
}
"""Procedure reported (121058) by modality, of CID 100: the imaging, not the algorithm."""
ANY_PROCEDURE = Code(value="363679005", scheme="SCT", meaning="Imaging procedure")
QUANTITIES = {
    VOLUME: Code(value="118565006", scheme="SCT", meaning="Volume"),
    MEAN_ATTENUATION: Code(value="112031", scheme="DCM", meaning="Attenuation Coefficient"),
}
UNITS = {
    "ml": Code(value="cm3", scheme="UCUM", meaning="cubic centimeter"),
    "[hnsf'U]": Code(value="[hnsf'U]", scheme="UCUM", meaning="Hounsfield unit"),
}
"""Of a measurement's unit; a millilitre is a cubic centimetre, the unit that TID 1419 knows for volumes."""
MEAN = Code(value="373098007", scheme="SCT", meaning="Mean")
QUALITATIVE_EVALUATIONS = Code(value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations")
COMMENT = Code(value="121106", scheme="DCM", meaning="Comment")
ASSESSMENT = Code(value="111005", scheme="DCM", meaning="Assessment Category")
"""Assignment of an overall result to a general category (PS3.16 annex D)."""
VERDICTS = {
    "plausible": Code(value="PLAUSIBLE", scheme="99MEDAI", meaning="Plausible by automatic checks"),
    "check": Code(value="CHECK", scheme="99MEDAI", meaning="To be checked by a person"),
}
"""Of the plausibility checks; no standard context group has such categories."""


def encode_sr(
    source: Source,
    seg: Dataset,
    segmentation: Segmentation,
    measurements: Sequence[Measurement],
    job: Job,
    settings: ResultSettings,
    created_at: datetime,
) -> Dataset:
    """The report on ``seg``; with ``job.predecessor`` it names the report that it replaces."""
    uids, model = identity.ResultUids.of(job.job_id), segmentation.model
    sr: Dataset = hd.Comprehensive3DSR(
        evidence=[*source.clean, seg],
        content=_content(source, seg, segmentation, measurements, job, settings)[0],
        series_instance_uid=uids.sr_series,
        series_number=identity.series_number(settings, job, "sr"),
        sop_instance_uid=uids.sr,
        instance_number=1,
        series_description=identity.series_description(model, "measurements"),
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=_predecessors(source, job),
        contributing_equipment=[contributing_equipment(model, source.moment(created_at))],
        **equipment(model, settings),
    )
    finish(sr, source, settings, created_at)
    return sr


def _content(
    source: Source,
    seg: Dataset,
    segmentation: Segmentation,
    measurements: Sequence[Measurement],
    job: Job,
    settings: ResultSettings,
) -> hd.MeasurementReport:
    report = hd.MeasurementReport(
        observation_context=_observer(segmentation, settings),
        procedure_reported=concept(PROCEDURES.get(source.volume.modality, ANY_PROCEDURE)),
        imaging_measurements=[
            _group(source, seg, segmentation, segment, measurements, job) for segment in segmentation.segments
        ],
    )
    report[0].ContentSequence.append(_evaluations(segmentation, measurements))
    return report


def _observer(segmentation: Segmentation, settings: ResultSettings) -> hd.ObservationContext:
    """The device that reports, by its Device UID (121012): the model, as in the Contributing Equipment Sequence."""
    model = segmentation.model
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


def _group(
    source: Source,
    seg: Dataset,
    segmentation: Segmentation,
    segment: Segment,
    measurements: Sequence[Measurement],
    job: Job,
) -> hd.VolumetricROIMeasurementsAndQualitativeEvaluations:
    algorithm = _algorithm(segmentation)
    site = segment.site or segment.type
    return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(
            uid=identity.tracking_uid(job, segment), identifier=identity.tracking_id(job, segment)
        ),
        referenced_segment=hd.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment.number,
            source_images=_source_images(source, segmentation, segment),
        ),
        finding_type=concept(segment.type),
        algorithm_id=algorithm,
        finding_sites=[
            hd.FindingSite(
                concept(site),
                laterality=concept(segment.modifier) if segment.modifier else None,
                topographical_modifier=concept(segment.topography) if segment.topography else None,
            )
        ],
        measurements=[_number(m) for m in measurements if m.segment_number == segment.number],
    )


def _algorithm(segmentation: Segmentation) -> hd.AlgorithmIdentification:
    """111001 name, 111003 version, 111002 parameters, 122405 manufacturer, 111000 family."""
    model = segmentation.model
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


def _source_images(source: Source, segmentation: Segmentation, segment: Segment) -> list[hd.SourceImageForSegmentation]:
    """Three images that show the segment: its first slice, its largest and its last (the middle one if it is empty).

    The evidence lists every image; here a few suffice, and validators take long over many.
    """
    areas = np.count_nonzero(segmentation.labels == segment.number, axis=(1, 2))
    shown = np.flatnonzero(areas)
    chosen = {int(shown[0]), int(areas.argmax()), int(shown[-1])} if shown.size else {len(areas) // 2}
    return [
        hd.SourceImageForSegmentation(
            referenced_sop_class_uid=source.clean[index].SOPClassUID,
            referenced_sop_instance_uid=source.clean[index].SOPInstanceUID,
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


def _predecessors(source: Source, job: Job) -> list[Dataset] | None:
    if job.predecessor is None:
        return None
    earlier = Dataset()
    earlier.SOPClassUID = COMPREHENSIVE_3D_SR
    earlier.SOPInstanceUID = job.predecessor.sr_sop_uid
    earlier.SeriesInstanceUID = job.predecessor.sr_series_uid
    earlier.StudyInstanceUID = source.first.StudyInstanceUID
    return [earlier]
