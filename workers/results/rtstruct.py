"""The mask as RT Structure Set: closed planar contours along the pixels' edges, one for each part of a slice.

Filled, they are the mask again, and their area is that of its pixels. A hole is let in by a keyhole, a channel of no
width along a row's edge (PS3.3 C.8.8.6.3): every reader fills that, whether it takes the contours of a slice together
by XOR or by OR. Written in Implicit VR: the 64 KiB of an Explicit VR decimal string are too few for a large contour.
Next: gsps.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from medai.models.volume import Segment
from medai.workers.results import identity
from medai.workers.results.context import Context
from medai.workers.results.contours import Outline, keyholes
from medai.workers.results.dicom_object import concept, finish, referenced_image, start_object
from medai.workers.results.measure import VOLUME

DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: what RT Referenced Study Sequence takes for the class of a study."""
ANATOMICAL_STRUCTURE = "91723000"


def encode_rtstruct(context: Context, seg: Dataset) -> Dataset:
    """The structure set of this job, made from the same labels as ``seg``, which it names as its source.

    A segment that was not found is a region without contours.
    """
    context.source.require_fits(context.segmentation)
    made = start_object(
        context,
        "rtstruct",
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        what="structures",
        transfer_syntax_uid=ImplicitVRLittleEndian,
    )
    lead, moment = context.source.clean[0], context.moment
    made.OperatorsName = ""
    made.FrameOfReferenceUID = lead.FrameOfReferenceUID
    made.PositionReferenceIndicator = lead.PositionReferenceIndicator
    made.StructureSetLabel = identity.content_label(context.model)
    made.StructureSetName = identity.plain(f"AI: {context.model.title}", 64)
    made.StructureSetDescription = "Made by AI, not verified by a person"
    made.StructureSetDate, made.StructureSetTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(context)]
    segments = context.segmentation.segments
    made.StructureSetROISequence = [_region(context, seg, segment) for segment in segments]
    made.ROIContourSequence = [_drawn(context, segment) for segment in segments]
    made.RTROIObservationsSequence = [_observed(segment) for segment in segments]
    finish(made, context)
    return made


def _frame_of_reference(context: Context) -> Dataset:
    lead, frame, study, series = context.source.clean[0], Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = lead.SeriesInstanceUID
    series.ContourImageSequence = [referenced_image(header) for header in context.source.clean]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, lead.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = lead.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _region(context: Context, seg: Dataset, segment: Segment) -> Dataset:
    """An item of the Structure Set ROI Sequence."""
    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = context.source.clean[0].FrameOfReferenceUID
    item.ROIName = identity.plain(segment.name, 64)
    item.ROIDescription = identity.plain(identity.tracking_id(context.job, segment), 1024)
    volume = [m.value for m in context.measurements if (m.segment_number, m.quantity) == (segment.number, VOLUME)]
    if volume:
        item.ROIVolume = f"{volume[0]:.3f}"
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = identity.plain(
        f"AI: {identity.algorithm_name(context.model)} {identity.algorithm_version(context.model)}", 64
    )
    origin = referenced_image(seg)
    origin.ReferencedSegmentNumber = segment.number
    item.DefinitionSourceSequence = [origin]
    return item


def _drawn(context: Context, segment: Segment) -> Dataset:
    """An item of the ROI Contour Sequence."""
    item = Dataset()
    item.ReferencedROINumber = segment.number
    item.ROIDisplayColor = list(segment.colour)
    contours = list(_contours(context, segment.number))
    if contours:
        item.ContourSequence = contours
    return item


def _contours(context: Context, number: int) -> Iterator[Dataset]:
    count = 0
    for header, plane in zip(context.source.clean, context.segmentation.labels, strict=True):
        for outline in keyholes(plane == number):
            count += 1
            item = Dataset()
            item.ContourImageSequence = [referenced_image(header)]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(outline)
            item.ContourNumber = count
            item.ContourData = _points(context, header, outline)
            yield item


def _points(context: Context, header: Dataset, outline: Outline) -> list[str]:
    """x, y, z of each vertex in the patient (mm, to a micrometre): vertex (0.5, 0.5) is the first pixel's middle."""
    affine = context.source.volume.geometry.affine
    index = np.asarray(outline, dtype=float) - 0.5
    origin = np.asarray([float(v) for v in header.ImagePositionPatient])
    points = origin + index[:, :1] * affine[:3, 0] + index[:, 1:] * affine[:3, 1]
    return [f"{value:.3f}" for value in points.ravel().tolist()]


def _observed(segment: Segment) -> Dataset:
    """An item of the RT ROI Observations Sequence: what the region is, in the codes of the SEG."""
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = segment.number
    item.ROIObservationLabel = identity.plain(segment.name, 16)
    item.SegmentedPropertyCategoryCodeSequence = [concept(segment.category)]
    kind = concept(segment.type)
    modifiers = [concept(code) for code in (segment.modifier, segment.topography) if code is not None]
    if modifiers:
        kind.SegmentedPropertyTypeModifierCodeSequence = modifiers
    item.RTROIIdentificationCodeSequence = [kind]
    if segment.site is not None:
        item.AnatomicRegionSequence = [concept(segment.site)]
    item.RTROIInterpretedType = "ORGAN" if segment.category.value == ANATOMICAL_STRUCTURE else ""
    item.ROIInterpreter = ""
    return item
