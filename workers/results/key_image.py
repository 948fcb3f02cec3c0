"""The key image: a Secondary Capture that any viewer shows, for those that show neither SEG nor SR.

``render_key_image`` draws it (planes.py cuts, drawing.py draws); ``encode_key_image`` makes it DICOM. No patient
identifier is drawn. Next: oru.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from highdicom.sc import SCImage
from PIL import Image
from pydicom import Dataset

from medai.models.volume import Code, Segmentation, Volume
from medai.router.contract import Measurement
from medai.workers.results import identity
from medai.workers.results.body_part import name_body_part, name_side
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import (
    concept,
    contributing_equipment,
    equipment,
    finish,
    name_capture,
    referenced_image,
    referenced_series,
)
from medai.workers.results.drawing import BANNER_TEXT, PANEL, compose
from medai.workers.results.planes import VIEWS, cut, find_field
from medai.workers.results.request import name_request
from medai.workers.results.source import Source
from medai.workers.results.windowing import choose_window

REFORMATTING = Code(value="113072", scheme="DCM", meaning="Multiplanar reformatting")
SOURCE_PURPOSE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")


def render_key_image(volume: Volume, segmentation: Segmentation, measurements: Sequence[Measurement]) -> Image.Image:
    """RGB picture of 1024 x 1072: axial, coronal and sagittal cuts with contours, and a legend."""
    field = find_field(segmentation.labels, volume.geometry)
    cuts = [cut(volume.voxels, segmentation.labels, volume.geometry, field, view, PANEL) for view in VIEWS]
    window = choose_window(volume, segmentation, measurements, [each.grey for each in cuts])
    return compose(cuts, window, segmentation, measurements)


def encode_key_image(context: Context) -> Dataset:
    """The picture as Secondary Capture in a series of its own.

    BurnedInAnnotation is NO: it means text that identifies the patient (PS3.3 C.7.6.1.1.1), and none is drawn.
    """
    source, segmentation, uids = context.source, context.segmentation, context.uids
    source.require_fits(segmentation)
    lead = source.clean[0]
    image: Dataset = SCImage.from_ref_dataset(
        ref_dataset=lead,
        pixel_array=np.asarray(render_key_image(source.volume, segmentation, context.measurements)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=uids.sc_series,
        series_number=identity.series_number(context.settings.results, context.job, "sc"),
        sop_instance_uid=uids.sc,
        instance_number=1,
        series_description=identity.series_description(context.model, "key image", context.job.revision),
        contributing_equipment=[contributing_equipment(context)],
        specific_character_set=lead.get("SpecificCharacterSet"),
        **equipment(context),
    )
    image.copy_patient_and_study_information(lead)
    _describe(image, source, segmentation)
    _refer(image, source)
    name_request(image, context)
    finish(image, context)
    name_capture(image)
    return image


def to_png(image: Image.Image) -> bytes:
    """As a PNG file."""
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _describe(image: Dataset, source: Source, segmentation: Segmentation) -> None:
    """What the picture is. PatientOrientation is empty: its three panels have three orientations."""
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    image.BurnedInAnnotation = "NO"
    image.PatientOrientation = None
    name_body_part(image, source, segmentation)
    name_side(image, source, segmentation)
    image.ImageComments = identity.plain(f"{BANNER_TEXT}; unverified result of {segmentation.model.title}", 1024)
    image.DerivationDescription = "Three reformatted planes with contours of an AI segmentation"
    image.DerivationCodeSequence = [concept(REFORMATTING)]


def _refer(image: Dataset, source: Source) -> None:
    """The whole series is the source: coronal and sagittal planes cut through every image of it."""
    references = [referenced_image(header) for header in source.clean]
    for item in references:
        item.PurposeOfReferenceCodeSequence = [concept(SOURCE_PURPOSE)]
    image.SourceImageSequence = references
    image.ReferencedSeriesSequence = referenced_series(source)
