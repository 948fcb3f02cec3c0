"""Whether images that came together are one series of one patient, read once.

Archives and senders mix things: a structure set that carries its series' UID, the same image twice, two images under
one UID, two patients under one study, two passes of a scanner in one series. What does no harm is left out; what could
put one patient's or one phase's values into another's result is refused, with the reason. Texts name images by their
Instance Numbers. Next: slices.py (where they lie), preprocess.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from pydicom import Dataset

from medai.models.errors import NotAVolume
from medai.models.images.header import items, text, value, whole
from medai.models.images.slices import MIN_SLICES, image_name

PASSES: Mapping[str, str] = {
    "AcquisitionNumber": "acquisitions",
    "TemporalPositionIdentifier": "phases",
    "TemporalPositionIndex": "phases",
    "NominalPercentageOfCardiacPhase": "cardiac phases",
    "EchoNumbers": "echoes",
    "EchoTime": "echoes",
    "InversionTime": "inversion times",
    "FlipAngle": "flip angles",
    "DiffusionBValue": "diffusion weightings",
    "ContrastBolusAgent": "states of contrast agent",
    "ConvolutionKernel": "kernels",
    "KVP": "tube voltages",
    "ImageType": "kinds of image",
    "PhotometricInterpretation": "grey scales",
    "RescaleType": "units",
    "Units": "units",
    "BodyPartExamined": "body parts",
    "SeriesDescription": "descriptions",
    "ReconstructionDiameter": "fields of view",
}
"""Attributes whose value belongs to one pass of the scanner, and what images with several of them are called."""


def one_series(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The images among what came as one series, each once.

    Raises NotAVolume: no image, several series, modalities or patients, one SOP Instance UID with different content.
    """
    if not datasets:
        raise NotAVolume("the series has no images")
    images = [dataset for dataset in datasets if is_image(dataset)] or list(datasets)
    if _count(images, "SeriesInstanceUID") > 1:
        if len(images) >= MIN_SLICES and _count(images, "SeriesInstanceUID") == len(images):
            raise NotAVolume(
                f"each of the {len(images)} images has a Series Instance UID of its own (as some exports write them): "
                "send them as one series"
            )
        raise NotAVolume("the images belong to more than one series")
    if _count(images, "Modality") > 1:
        raise NotAVolume("the images of the series name different modalities")
    require_one_patient(images)
    return _without_copies(images)


def is_image(dataset: Dataset) -> bool:
    """Whether a dataset has pixels in rows and columns: a structure set, report or key object selection has not."""
    try:
        return bool(value(dataset, "Rows")) and bool(value(dataset, "Columns"))
    except NotAVolume:
        return True  # damaged: said where it is read


def require_one_patient(images: Sequence[Dataset]) -> None:
    """Raise NotAVolume where images name different patients: one result would be filed under the other's name.

    An issuer that only some of them name is no other patient.
    """
    for keyword, words in (("PatientID", "Patient IDs"), ("StudyInstanceUID", "Study Instance UIDs")):
        if _count(images, keyword) > 1:
            raise NotAVolume(f"the images of the series carry {_count(images, keyword)} {words}: whose are they?")
    for keyword, words in (("IssuerOfPatientID", "issuers of the Patient ID"), ("PatientBirthDate", "birth dates")):
        named = {found for image in images if (found := text(image, keyword).strip())}
        if len(named) > 1:
            raise NotAVolume(f"the images of the series carry {len(named)} {words}: whose are they?")


def require_one_pass(ordered: Sequence[Dataset]) -> None:
    """Raise NotAVolume where images of several passes alternate along the stack.

    Two phases, each a little higher than the other, make a regular grid of half the spacing that shows neither. An
    attribute that changes once along the stack (blocks one after another) or with each slice is no such sign.
    """
    for keyword, words in PASSES.items():
        values = [text(image, keyword).strip() for image in ordered]
        kinds = len(set(values))
        if 1 < kinds <= len(values) // MIN_SLICES and _alternate(values):
            raise NotAVolume(
                f"slices of {kinds} {words} alternate along the series: together they look like one volume, "
                "but each must be a series of its own"
            )


def require_one_object(images: Sequence[Dataset]) -> None:
    """Raise NotAVolume where enhanced objects of a series are not the parts of one, all of them here."""
    if len(images) == 1:
        return
    names = {text(image, "ConcatenationUID") for image in images}
    if len(names) > 1 or not names - {""}:
        raise NotAVolume(
            f"the series holds {len(images)} enhanced multi-frame objects that are not parts of one (a concatenation): "
            "each must be a series of its own"
        )
    parts = sorted(whole(image, "InConcatenationNumber") or 0 for image in images)
    total = max(whole(image, "InConcatenationTotalNumber") or 0 for image in images)
    if parts != list(range(1, max(total, len(images)) + 1)):
        raise NotAVolume(
            f"the image was written in {max(total, *parts)} parts (a concatenation), and parts are missing"
        )


def _alternate(values: Sequence[str]) -> bool:
    """Whether the values come back again and again: more than a third of the neighbours differ, and each recurs."""
    changes = sum(one != other for one, other in itertools.pairwise(values))
    least = min(values.count(kind) for kind in set(values))
    return least >= MIN_SLICES and changes >= len(values) / 3


def _count(images: Sequence[Dataset], keyword: str) -> int:
    return len({text(image, keyword).strip() for image in images})


def _without_copies(images: Sequence[Dataset]) -> list[Dataset]:
    """The same instance sent twice counts once; two images under one UID are refused."""
    seen: dict[str, Dataset] = {}
    for number, image in enumerate(images):
        uid = text(image, "SOPInstanceUID") or str(number)
        first = seen.setdefault(uid, image)
        if first is not image and not _same(first, image):
            raise NotAVolume(
                f"{image_name(first)} and {image_name(image)} have one SOP Instance UID and different content: "
                "one of them would be lost"
            )
    return list(seen.values())


def _same(one: Dataset, other: Dataset) -> bool:
    """Whether two images show the same at the same place."""
    keywords: tuple[str, ...] = (
        *("PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
        *("RescaleSlope", "RescaleIntercept", "InstanceNumber"),
    )
    reads: Callable[[Dataset, str], object] = value
    return all(reads(one, keyword) == reads(other, keyword) for keyword in keywords) and len(
        items(one, "PerFrameFunctionalGroupsSequence")
    ) == len(items(other, "PerFrameFunctionalGroupsSequence"))
