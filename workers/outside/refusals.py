"""Images that are never sent, since what they show or hold may say whose they are, and no attribute tells where.

Pixels are not read for text: what is let through is of a kind that scanners make of a body and nothing else, and says
nothing to the contrary. Everything else is refused, with the reason. Next: deidentify.py, docs/gateway.md.
"""

from __future__ import annotations

from typing import NoReturn

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medai.models.images.header import text, whole
from medai.router.contract import is_uid
from medai.router.errors import PermanentError

_STORAGE = "1.2.840.10008.5.1.4.1.1."
CLEAN = {
    f"{_STORAGE}{ending}"
    for ending in ("2", "2.1", "2.2", "4", "4.1", "4.4", "20", "128", "128.1", "130")
}  # fmt: skip
"""CT, MR, NM and PET, single, enhanced and converted: their pixels are what was measured."""
IF_SAID = {
    f"{_STORAGE}{ending}"
    for ending in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1",
                   "13.1.2", "13.1.3")
}  # fmt: skip
"""Radiographs, mammograms and angiograms, where Burned In Annotation must say NO: many have text in their pixels."""
MODALITIES = frozenset({"CT", "MR", "NM", "PT", "CR", "DX", "MG", "IO", "XA", "RF"})
SCREENS = frozenset({"SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE", "DISPLAY", "REPORT", "CSA REPORT", "DOSE_INFO"})
_CAPTURED = ("ConversionType", "SecondaryCaptureDeviceID", "SecondaryCaptureDeviceManufacturer")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DRAWN = ("GraphicAnnotationSequence", "TextObjectSequence", "GraphicObjectSequence", "EncapsulatedDocument")


class NotSent(PermanentError):
    """An image that may not leave; the text is the reason."""


def require_sendable(image: Dataset) -> None:
    """Raise NotSent, with the reason, for an image that can't be taken off its patient with certainty."""
    kind, burned_in = UID(text(image, "SOPClassUID").strip()), text(image, "BurnedInAnnotation").strip().upper()
    if burned_in not in ("", "NO"):
        _refuse("it says that text is burned into its pixels (Burned In Annotation)")
    if not all(is_uid(text(image, keyword)) for keyword in _UIDS):
        _refuse("it lacks a UID of its study, its series or its own")
    if kind not in CLEAN and kind not in IF_SAID:
        name = kind.name if kind.is_valid and kind.name != kind else "an unknown or private class"
        _refuse(f"images of its kind ({name}) often have text in their pixels, or are none")
    if kind in IF_SAID and burned_in != "NO":
        _refuse("an image of its kind must say that no text is burned into its pixels (Burned In Annotation: NO)")
    if any(keyword in image for keyword in _CAPTURED) or _image_types(image) & SCREENS:
        _refuse("it is a picture of a screen or of a film")
    if {tag.group & 0xFF00 for tag in list(image.keys())} & {0x5000, 0x6000}:
        _refuse("it has overlays or curves, which may be text")
    if any(keyword in image for keyword in _DRAWN):
        _refuse("it has graphics or a document in it")
    if text(image, "Modality").strip() not in MODALITIES:
        _refuse("its Modality is not one of an image of its kind")
    grey = text(image, "PhotometricInterpretation").strip() in ("MONOCHROME1", "MONOCHROME2")
    if "PixelData" not in image or not grey or whole(image, "SamplesPerPixel") != 1:
        _refuse("it has no grey pixels: colour in such an image is a picture of a screen")


def _image_types(image: Dataset) -> set[str]:
    return {each.strip().upper() for each in text(image, "ImageType").split("\\")}


def _refuse(reason: str) -> NoReturn:
    raise NotSent(f"an image can't be sent de-identified: {reason}")
