"""Images with a patient planted wherever an attribute can hold one, for the tests of what leaves."""

from __future__ import annotations

from typing import Any

import pydicom
from dicom_cases import slice_of
from pydicom.datadict import DicomDictionary, RepeatersDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

NAME, NUMBER, BIRTH, ACCESSION = "Quandorf^Zilberta", "KX-99417-ZZ", "19420718", "ACZX0042"
SECRETS = ("quandorf", "zilberta", "kx-99417", "19420718", "aczx0042")
"""No byte of what is sent may say one of these."""
PLANTS: dict[str, Any] = {
    "AE": "QUANDORF", "AS": "042Y", "CS": "QUANDORF", "DA": BIRTH, "DS": "19420718", "DT": BIRTH + "120000",
    "IS": "19420718", "LO": f"for {NAME}", "LT": f"Mrs {NAME} {NUMBER}", "OB": NAME.encode() + b" ", "OW":
    NAME.encode() + b" ", "PN": NAME, "SH": "Quandorf", "ST": NUMBER, "TM": "194207", "UC": NAME, "UI":
    "1.2.19420718.1", "UN": NAME.encode() + b" ", "UR": f"http://x/{NUMBER}", "UT": f"{NAME} {BIRTH}",
}  # fmt: skip
UNTOUCHED = frozenset({0x00020010, 0x00080005, 0x00080016, 0x00080060, 0x00080008, 0x00280301})
"""What says how to read the file and of what kind it is; another value there is another case."""


def patient_slice(index: int = 0, *, study: str = "outside", **changes: Any) -> Dataset:
    """A slice of the planted patient."""
    values = {
        "PatientName": NAME, "PatientID": NUMBER, "PatientBirthDate": BIRTH, "AccessionNumber": ACCESSION,
        "PatientSex": "F", "PatientAge": "084Y", "PatientWeight": "61.5",
    }  # fmt: skip
    return slice_of(index, study=study, **{**values, **changes})


def planted_everywhere(image: Dataset) -> Dataset:
    """The image with the patient in every attribute of the dictionary that can hold text, at two levels, and private."""
    inner = Dataset()
    for level in (inner, image):
        for tag in _tags(image):
            vr = DicomDictionary[tag][0].split(" or ")[0]
            if vr in PLANTS and tag not in level:
                level.add(pydicom.DataElement(tag, vr, PLANTS[vr], validation_mode=pydicom.config.IGNORE))
        block = level.private_block(0x0029, f"VENDOR {NAME}", create=True)
        block.add_new(0x10, "LO", NAME)
        block.add_new(0x11, "OB", NAME.encode() + b" ")
        block.add_new(0x12, "SQ", Sequence([_named()]))
    image.SharedFunctionalGroupsSequence = Sequence([inner])
    image.ReferencedImageSequence = Sequence([_named()])
    image.RequestAttributesSequence = Sequence([_named()])
    image.ContentSequence = Sequence([_named()])
    return image


def _named() -> Dataset:
    item = Dataset()
    item.PatientName, item.TextValue, item.CodeMeaning = NAME, f"{NAME} {NUMBER}", NAME
    item.ReferencedSOPInstanceUID = PLANTS["UI"]
    return item


def _tags(image: Dataset) -> list[int]:
    drawn = {"GraphicAnnotationSequence", "TextObjectSequence", "GraphicObjectSequence", "EncapsulatedDocument",
             "ConversionType", "SecondaryCaptureDeviceID", "SecondaryCaptureDeviceManufacturer",
             "BurnedInAnnotation"}  # fmt: skip
    return [
        tag
        for tag in DicomDictionary
        if tag not in UNTOUCHED and tag not in RepeatersDictionary and keyword_for_tag(tag) not in drawn
        and Tag(tag).group not in (0x0000, 0x0002, 0x0028, 0x7FE0) and Tag(tag).element != 0
    ]  # fmt: skip


def segmented(images: list[Dataset], **changes: Any) -> Dataset:
    """What an AI that knows no more than these images makes of them: a SEG, by highdicom."""
    import highdicom as hd  # heavy
    import numpy as np
    from pydicom.sr.codedict import codes

    ordered = sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))
    mask = np.stack([image.pixel_array > 400 for image in ordered])
    ball = hd.seg.SegmentDescription(
        1, "Ball", codes.SCT.Organ, codes.SCT.Brain, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence("ball", codes.cid7162.ArtificialIntelligence, "1"),
    )  # fmt: skip
    made = hd.seg.Segmentation(
        ordered, mask, hd.seg.SegmentationTypeValues.BINARY, [ball], hd.UID(), 900, hd.UID(), 1, "Others", "AI", "1", "7",
        content_creator_name="Stranger^Doctor", series_description="ball",
    )  # fmt: skip
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made
