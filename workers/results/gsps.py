"""Outlines over the hospital's own images: a Grayscale Softcopy Presentation State.

A layer for each segment, its outlines along the pixels' edges, and one for the banner. It sets grey levels, too, and so
repeats the images' rescaling (without it a viewer would take none). Next: pdf.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise

import numpy as np
from highdicom import ModalityLUTTransformation, ReferencedImageSequence
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import Segment
from medai.workers.results import identity
from medai.workers.results.body_part import name_body_part, name_side
from medai.workers.results.context import Context
from medai.workers.results.contours import Outline, outlines
from medai.workers.results.dicom_object import contributing_equipment, equipment, finish
from medai.workers.results.drawing import BANNER_TEXT
from medai.workers.results.segments import lab
from medai.workers.results.windowing import choose_window

LONGEST = 8000
"""Vertices of a polyline: its coordinates must fit the 64 KiB that Explicit VR gives them. A longer one is parted."""
BANNER_LAYER = "AI_BANNER"
AMBER_LAB = (80.0, 20.0, 78.0)
Scaling = tuple[float, float, str]


def encode_gsps(context: Context) -> Dataset:
    """The presentation state of this job, for every image that was read."""
    source, job, model = context.source, context.job, context.model
    source.require_fits(context.segmentation)
    images = [_image(header) for header in source.clean]
    segments = context.segmentation.segments
    scalings = [_scaling(header, source.volume.unit) for header in source.headers]
    alike = scalings[0] if len(set(scalings)) == 1 else None
    made: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=identity.series_uid(job.job_id, "gsps"),
        series_number=identity.series_number(context.settings.results, job, "gsps"),
        sop_instance_uid=identity.instance_uid(job.job_id, "gsps"),
        instance_number=1,
        content_label=identity.content_label(model),
        content_description=identity.plain(f"AI: {model.title}, unverified", 64),
        series_description=identity.series_description(model, "outlines", job.revision),
        graphic_layers=[*(_layer(segment) for segment in segments), _banner_layer(len(segments) + 1)],
        graphic_annotations=[
            *(each for segment in segments for each in _annotations(context, images, segment)),
            _banner(images),
        ],
        modality_lut_transformation=_modality_lut(alike),
        voi_lut_transformations=_windows(context, images, scalings),
        contributing_equipment=[contributing_equipment(context)],
        **equipment(context),
    )
    for area in made.DisplayedAreaSelectionSequence:  # highdicom takes pixels for square
        del area.PresentationPixelAspectRatio
        area.pop("PixelOriginInterpretation", None)
        area.PresentationPixelSpacing = source.clean[0].PixelSpacing
    name_body_part(made, source, context.segmentation)
    name_side(made, source, context.segmentation)
    del made.GraphicAnnotationSequence[-1].ReferencedImageSequence  # absent: it is for all images
    if context.source.volume.unit != "HU" and _inverted(source.first):
        made.PresentationLUTShape = "INVERSE"
    date, time = context.moment.strftime("%Y%m%d"), context.moment.strftime("%H%M%S")
    made.PresentationCreationDate, made.PresentationCreationTime = date, time
    finish(made, context)
    return made


def _image(header: Dataset) -> Dataset:
    image = deepcopy(header)
    image.SamplesPerPixel = 1
    return image


def _layer(segment: Segment) -> GraphicLayer:
    return GraphicLayer(
        layer_name=f"SEGMENT_{segment.number}",
        order=segment.number,
        description=identity.plain(segment.name, 64),
        display_color=CIELabColor(*lab(segment.colour)),
    )


def _banner_layer(order: int) -> GraphicLayer:
    return GraphicLayer(
        layer_name=BANNER_LAYER, order=order, description=BANNER_TEXT, display_color=CIELabColor(*AMBER_LAB)
    )


def _annotations(context: Context, images: list[Dataset], segment: Segment) -> Iterator[GraphicAnnotation]:
    """One for each slice that shows the segment."""
    for image, plane in zip(images, context.segmentation.labels, strict=True):
        lines = [part for outline in outlines(plane == segment.number) for part in _parts(outline)]
        if lines:
            yield GraphicAnnotation(
                referenced_images=[image],
                graphic_layer=_layer(segment),
                graphic_objects=[_polyline(context, segment, line) for line in lines],
            )


def _polyline(context: Context, segment: Segment, line: Outline) -> GraphicObject:
    return GraphicObject(
        graphic_type="POLYLINE",
        graphic_data=np.asarray(line, dtype=float),
        units="PIXEL",
        tracking_id=identity.tracking_id(context.job, segment),
        tracking_uid=identity.tracking_uid(context.job, segment),
    )


def _parts(outline: Outline) -> Iterator[Outline]:
    """The closed outline, in parts that each begin where the one before ended."""
    closed = [*outline, outline[0]]
    cuts = [*range(0, len(closed) - 1, LONGEST - 1), len(closed) - 1]
    return (closed[start : end + 1] for start, end in pairwise(cuts))


def _banner(images: list[Dataset]) -> GraphicAnnotation:
    box = TextObject(
        text_value=f"{BANNER_TEXT}; unverified", units="DISPLAY", bounding_box=(0.0, 0.0, 1.0, 0.06)
    )  # fmt: skip
    return GraphicAnnotation(referenced_images=images[:1], graphic_layer=_banner_layer(1), text_objects=[box])


def _scaling(header: Dataset, unit: str) -> Scaling | None:
    """Slope, intercept and type; None where the image is not rescaled (models/images/decode.py)."""
    if not text(header, "RescaleSlope") and not text(header, "RescaleIntercept"):
        return None
    slope = float(text(header, "RescaleSlope") or 1)
    return (
        slope,
        float(text(header, "RescaleIntercept") or 0),
        text(header, "RescaleType") or ("HU" if unit == "HU" else "US"),
    )


def _modality_lut(scaling: Scaling | None) -> ModalityLUTTransformation | None:
    if scaling is None:
        return None
    slope, intercept, kind = scaling
    return ModalityLUTTransformation(rescale_slope=slope, rescale_intercept=intercept, rescale_type=kind)


def _windows(
    context: Context, images: list[Dataset], scalings: list[Scaling | None]
) -> list[SoftcopyVOILUTTransformation] | None:
    """One window for all; where each image is rescaled in its own way, one for each, in its stored values.

    None for images whose low values are white and mean nothing by themselves: what was read of them was turned round.
    """
    volume = context.source.volume
    if volume.unit != "HU" and _inverted(context.source.first):
        return None
    planes = [p.astype(float) for p, mask in zip(volume.voxels, context.segmentation.labels, strict=True) if mask.any()]
    planes = planes or [volume.voxels[len(volume.voxels) // 2].astype(float)]
    window = choose_window(volume, context.segmentation, context.measurements, planes)
    centre, width = (window.low + window.high) / 2, max(window.high - window.low, 1.0)
    if len(set(scalings)) == 1:
        return [SoftcopyVOILUTTransformation(window_center=centre, window_width=width)]
    made = []
    for image, scaling in zip(images, scalings, strict=True):
        slope, intercept, _kind = scaling or (1.0, 0.0, "")
        made.append(
            SoftcopyVOILUTTransformation(
                window_center=(centre - intercept) / slope,
                window_width=max(width / abs(slope), 1.0),
                referenced_images=ReferencedImageSequence([image]),
            )
        )
    return made


def _inverted(header: Dataset) -> bool:
    return text(header, "PhotometricInterpretation") == "MONOCHROME1"
