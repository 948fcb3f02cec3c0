"""Every slice that shows something, with the contours drawn in: a multi-frame Secondary Capture that any viewer pages.

Each slice that holds a segment, and its neighbours, in the order and the pixels of the series, enlarged by a whole
number where they are few. No patient identifier is drawn. JPEG 2000 lossless: RLE would hardly shrink noise, and its
colour transform makes three equal channels as small as one. Next: gsps.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, MultiFrameTrueColorSecondaryCaptureImageStorage

from medai.models.volume import Code
from medai.workers.results import identity
from medai.workers.results.body_part import name_body_part, name_side
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import (
    concept,
    finish,
    name_capture,
    referenced_image,
    referenced_series,
    start_object,
)
from medai.workers.results.drawing import BANNER_TEXT, Rgb, Window, page, shade
from medai.workers.results.request import name_request
from medai.workers.results.windowing import choose_window

SOURCE_PURPOSE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")
SMALLEST = 512
"""Pixels of a frame's longer side, at least."""


def encode_overlay(context: Context) -> Dataset:
    """The slices as Multi-frame True Color Secondary Capture; of an empty mask the middle one."""
    source, segmentation = context.source, context.segmentation
    source.require_fits(segmentation)
    slices = shown(segmentation.labels)
    made = start_object(
        context,
        "overlay",
        sop_class_uid=MultiFrameTrueColorSecondaryCaptureImageStorage,
        modality="OT",
        what="contours",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.BurnedInAnnotation = "NO"
    made.PatientOrientation = None
    name_body_part(made, source, segmentation)
    name_side(made, source, segmentation)
    made.ImageComments = identity.plain(f"{BANNER_TEXT}; unverified result of {segmentation.model.title}", 1024)
    made.DerivationDescription = "Slices with contours of an AI segmentation"
    references = [referenced_image(source.clean[index]) for index in slices]
    for item in references:
        item.PurposeOfReferenceCodeSequence = [concept(SOURCE_PURPOSE)]
    made.SourceImageSequence = references
    made.ReferencedSeriesSequence = referenced_series(source)
    _set_pixels(made, context, slices)
    name_request(made, context)
    finish(made, context)
    name_capture(made)
    return made


def shown(labels: npt.NDArray[np.uint8]) -> list[int]:
    """Which slices: those that hold something and their neighbours."""
    held = np.asarray(labels.any(axis=(1, 2)))
    if not held.any():
        return [len(held) // 2]
    near = held.copy()
    near[1:] |= held[:-1]
    near[:-1] |= held[1:]
    return [int(index) for index in np.flatnonzero(near)]


def _set_pixels(made: Dataset, context: Context, slices: list[int]) -> None:
    volume = context.source.volume
    planes = [volume.voxels[index].astype(float) for index in slices]
    window = choose_window(volume, context.segmentation, context.measurements, planes)
    times = max(1, -(-SMALLEST // max(volume.geometry.shape[1:])))
    frames = np.stack([_frame(context, window, index, times) for index in slices])
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "YBR_RCT", 0  # so it is encoded
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.NumberOfFrames, made.Rows, made.Columns = frames.shape[:3]
    made.PixelSpacing = [f"{float(mm) / times:.10g}"[:16] for mm in context.source.clean[0].PixelSpacing]
    made.LossyImageCompression = context.source.clean[0].LossyImageCompression
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in context.source.clean[0]:
            setattr(made, keyword, context.source.clean[0][keyword].value)
    made.FrameLabelVector = [_label(context, index) for index in slices]
    made.FrameIncrementPointer = Tag("FrameLabelVector")
    made.compress(JPEG2000Lossless, frames if len(frames) > 1 else frames[0], generate_instance_uid=False)


def _frame(context: Context, window: Window, index: int, times: int) -> Rgb:
    labels = context.segmentation.labels[index]
    grey = np.kron(context.source.volume.voxels[index].astype(float), np.ones((times, times)))
    here = [segment for segment in context.segmentation.segments if (labels == segment.number).any()]
    coverage = {s.number: np.kron((labels == s.number).astype(float), np.ones((times, times))) for s in here}
    return page(shade(grey, coverage, window, here), f"{_label(context, index)}  {window.text}", here)


def _label(context: Context, index: int) -> str:
    """The slice by its number in the volume, from 1."""
    return f"Slice {index + 1} of {len(context.source.clean)}"
