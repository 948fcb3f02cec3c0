"""What every segmentation object of ours shares, whichever way its pixels are kept (PS3.3 C.8.20 and C.8.23).

Only frames that show something are written (sparse): a hippocampus in a whole head is a hundredth of the grid. Their
positions and the spacing place them on the source's slices. highdicom builds the object from the label map and the
headers alone; what highdicom has no parameter for (laterality, part, Device UID) and what it draws at random or from
the clock is set here. Of a binary one it builds a shell with one frame, which binary.py fills.
Next: seg.py, labelmap.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation as HighdicomSegmentation
from highdicom.seg import SegmentDescription
from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.uid import UID

from medai.models.errors import GeometryMismatch
from medai.models.volume import Labels, ModelCard, Segment, Segmentation
from medai.router.contract import Job, derived_uid
from medai.workers.results import identity
from medai.workers.results.binary import frames_of, put_frames
from medai.workers.results.body_part import name_body_part
from medai.workers.results.codes import ARTIFICIAL_INTELLIGENCE
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import (
    concept,
    contributing_equipment,
    equipment,
    finish,
    referenced_image,
    referenced_series,
)
from medai.workers.results.request import name_request
from medai.workers.results.source import Source


def encode_segmentation(
    context: Context,
    *,
    kind: Literal["seg", "labelmap"],
    segmentation_type: Literal["BINARY", "LABELMAP"],
    what: str,
    transfer_syntax_uid: UID,
) -> Dataset:
    """The mask of this job, the same bytes at every attempt; raises GeometryMismatch when it does not fit.

    ``what`` is its name in the series description.
    """
    context.source.require_fits(context.segmentation)
    _check_labels(context.segmentation)
    images, labels = _shown(context)
    if segmentation_type == "LABELMAP" or not labels.any():
        return build(context, kind, segmentation_type, what, transfer_syntax_uid, images, labels)
    spot = np.zeros_like(labels[:1])
    spot[0, 0, 0] = 1
    shell = build(context, kind, segmentation_type, what, transfer_syntax_uid, images[:1], spot)
    frames = frames_of(labels, images, len(context.segmentation.segments))
    put_frames(shell, frames, labels, images, context.source.frames)
    return _plain(shell)


def build(
    context: Context,
    kind: Literal["seg", "labelmap"],
    segmentation_type: Literal["BINARY", "LABELMAP"],
    what: str,
    transfer_syntax_uid: UID,
    images: Sequence[Dataset],
    labels: Labels,
) -> Dataset:
    """The whole object by highdicom, with a frame for each segment in each of these images that shows it."""
    source, segmentation, job, model = context.source, context.segmentation, context.job, context.model
    made: Dataset = HighdicomSegmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type=segmentation_type,
        segment_descriptions=[describe(segment, model, job) for segment in segmentation.segments],
        series_instance_uid=identity.series_uid(job.job_id, kind),
        series_number=identity.series_number(context.settings.results, job, kind),
        sop_instance_uid=identity.instance_uid(job.job_id, kind),
        instance_number=1,
        series_description=identity.series_description(model, what, job.revision),
        content_label=identity.content_label(model),
        content_description=identity.plain(f"AI: {model.title}", 64),
        transfer_syntax_uid=transfer_syntax_uid,
        omit_empty_frames=bool(labels.any()),
        contributing_equipment=[contributing_equipment(context)],
        **equipment(context),
    )
    made.SourceImageSequence = _sources(made.SourceImageSequence[0], source)
    made.ReferencedSeriesSequence = referenced_series(source)
    name_body_part(made, source, segmentation)
    name_request(made, context)
    _fix_dimension_organization(made, derived_uid(job.job_id, kind, "dimensions"))
    finish(made, context)
    return made


def _sources(pattern: Dataset, source: Source) -> list[Dataset]:
    """Source Image Sequence (0008,2112): every image of the series, as the pattern says one."""
    items = []
    for header in source.clean:
        item = Dataset()
        item.update(pattern)
        item.update(referenced_image(header))
        items.append(item)
    return items


def _plain(shell: Dataset) -> Dataset:
    """The elements alone, since highdicom's class remembers the one frame that it was built with.

    They are said to be encoded as the frames are, so that pydicom writes those as they stand.
    """
    made = Dataset()
    made.update(shell)
    made.file_meta = shell.file_meta
    made.set_original_encoding(False, True, convert_encodings(shell.get("SpecificCharacterSet")))
    return made


def describe(segment: Segment, model: ModelCard, job: Job) -> SegmentDescription:
    """One item of the Segment Sequence."""
    item = SegmentDescription(
        segment_number=segment.number,
        segment_label=identity.plain(segment.name, 64),
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=identity.algorithm_name(model),
            family=concept(ARTIFICIAL_INTELLIGENCE),
            version=identity.algorithm_version(model),
            source=identity.plain(model.manufacturer, 64),
            parameters=dict(model.parameters) or None,
        ),
        tracking_uid=identity.tracking_uid(job, segment),
        tracking_id=identity.tracking_id(job, segment),
        anatomic_regions=[concept(segment.site)] if segment.site is not None else None,
        display_color=CIELabColor(*lab(segment.colour)),
    )
    modifiers = [concept(code) for code in (segment.modifier, segment.topography) if code is not None]
    if modifiers:  # highdicom has no parameter for them
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = modifiers
    return item


def lab(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """CIELab of an sRGB colour under D50, the white point of (0062,000D) (PS3.3 C.10.7.1.1, ICC PCS).

    sRGB to XYZ by the Bradford-adapted matrix of the sRGB ICC profile.
    """
    rgb = np.asarray(colour, dtype=float) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    )
    scaled = to_xyz @ linear / np.array([0.96422, 1.0, 0.82521])
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness, a, b = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    return float(np.clip(lightness, 0, 100)), float(np.clip(a, -128, 127)), float(np.clip(b, -128, 127))


def _check_labels(segmentation: Segmentation) -> None:
    numbers = [segment.number for segment in segmentation.segments]
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        raise GeometryMismatch(f"segments must be numbered 1, 2, 3 …, as DICOM asks; the model has {numbers}")
    highest = int(segmentation.labels.max(initial=0))
    if highest > len(numbers):
        raise GeometryMismatch(f"the mask holds label {highest}, and the model describes only {len(numbers)} segments")


def _shown(context: Context) -> tuple[Sequence[Dataset], Labels]:
    """The images and their labels to make frames of. Nothing found is told by the first image's frames, all zero: an
    object without a frame is none, and a grid of zeros would be as large as the series."""
    images, labels = context.source.clean, context.segmentation.labels
    return (images, labels) if labels.any() else (images[:1], labels[:1])


def _fix_dimension_organization(seg: Dataset, uid: str) -> None:
    """highdicom draws this UID at random; a retry must write the same object."""
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
