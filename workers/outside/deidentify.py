"""Take an image off its patient: the walk through all levels of its header.

``deidentified`` makes a new dataset and never returns a half-done one: what can't be read is left out, what can't be
judged is refused (refusals.py). What is kept is looked through for the words that name the patient in the attributes
that went. Next: profile.py (what becomes of which attribute), pixels.py.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from medai.models.images.header import joined, text
from medai.models.images.isolated import GdcmProcess
from medai.workers.outside import profile
from medai.workers.outside.pixels import bare_pixels
from medai.workers.outside.profile import Action, action_of
from medai.workers.outside.pseudonyms import Pseudonyms
from medai.workers.outside.refusals import require_sendable

IDENTIFIERS = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate", "PatientTelephoneNumbers", "PatientAddress",
    "MedicalRecordLocator", "AdmissionID", "MilitaryRank", "PatientMotherBirthName", "OtherPatientNames",
    "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest", "RequestedProcedureID",
)  # fmt: skip
"""What names the patient or the examination, besides names of people: kept words are held against them."""
MAX_DEPTH = 16
CHARACTER_SET, PIXELS = 0x00080005, 0x7FE00010
"""Made anew."""
_WORD_CHARS, _NUMBER_CHARS, _LONG_CHARS = 3, 4, 6
_DUMMIES = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y", "PN": "ANON", "DS": "0", "IS": "0",
    "CS": "ANON", "SH": "ANON", "LO": "ANON", "LT": "ANON", "ST": "ANON", "UC": "ANON", "UT": "ANON", "AE": "ANON",
    "UR": "urn:anon",
}  # fmt: skip
_NUMBERS = frozenset({"FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"})


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """The words that name a patient: by each alone, and those long enough to be looked for inside others."""

    words: frozenset[str]
    parts: tuple[str, ...]
    numbers: frozenset[str]
    """Identifiers too long to be a measurement by chance."""

    def is_in(self, value: str) -> bool:
        folded = value.casefold()
        return not self.words.isdisjoint(_words(folded)) or any(part in folded for part in self.parts)


def deidentified(image: Dataset, pseudonyms: Pseudonyms, gdcm: GdcmProcess, *, max_bytes: int) -> Dataset:
    """A new image without its patient, Explicit VR Little Endian; raises NotSent where that can't be made sure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes what it warns of
        require_sendable(image)
        pixels = bare_pixels(image, gdcm, max_bytes=max_bytes)
        naming = _naming(image)
        made = _level(image, pseudonyms, naming, depth=0)
        made.add(_element(PIXELS, "OW" if image.BitsAllocated > 8 else "OB", pixels))
        _say_so(made, pseudonyms.patient(text(image, "PatientID"), text(image, "IssuerOfPatientID")))
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def _level(dataset: Dataset, pseudonyms: Pseudonyms, naming: _Naming, *, depth: int) -> Dataset:
    made = Dataset()
    for tag in sorted(dataset.keys()):
        kept = None if tag in (CHARACTER_SET, PIXELS) else _kept(dataset, tag, pseudonyms, naming, depth)
        if kept is not None:
            made.add(kept)
    return made


def _kept(dataset: Dataset, tag: BaseTag, pseudonyms: Pseudonyms, naming: _Naming, depth: int) -> DataElement | None:
    try:
        element = dataset[tag]
    except Exception:  # noqa: BLE001 - pydicom raises errors of many kinds; what can't be read is left out
        return None
    action = action_of(element.tag, element.VR)
    if action is Action.REMOVE:
        return None
    if element.VR == "SQ":
        return _sequence(element, action, pseudonyms, naming, depth)
    if action is Action.UID:
        return _element(tag, "UI", [pseudonyms.uid(str(each)) for each in _values(element)])
    if action is Action.EMPTY:
        return _element(tag, element.VR, None)
    return _dummy(element) if action is Action.DUMMY else _looked_through(element, naming)


def _sequence(element: DataElement, action: Action, pseudonyms: Pseudonyms, naming: _Naming, depth: int) -> DataElement:
    keep = action is Action.KEEP and depth < MAX_DEPTH
    items = [_level(item, pseudonyms, naming, depth=depth + 1) for item in element.value] if keep else []
    return DataElement(element.tag, "SQ", Sequence(items))


def _dummy(element: DataElement) -> DataElement | None:
    if element.VR in _NUMBERS:
        return _element(element.tag, element.VR, 0)
    value = _DUMMIES.get(element.VR)
    return None if value is None else _element(element.tag, element.VR, value)


def _looked_through(element: DataElement, naming: _Naming) -> DataElement | None:
    """What is kept, unless it names the patient."""
    keyword, value = element.keyword, joined(element.value) if not isinstance(element.value, bytes) else ""
    if element.VR in ("DS", "IS") and naming.numbers.intersection(value.split("\\")):
        return None
    if keyword in profile.CHARACTERISTICS:
        return _element(element.tag, element.VR, profile.characteristic(keyword, value) or None)
    if keyword == "ImageType":  # of which no image can do without the first two values, and those are the standard's
        return _element(element.tag, "CS", [each for each in value.split("\\") if not naming.is_in(each)])
    if element.VR in ("CS", "SH", "LO", "AS") and naming.is_in(value):
        return None
    return _element(element.tag, element.VR, element.value)


def _say_so(made: Dataset, patient: str) -> None:
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientID, made.PatientName = patient, f"{patient}^"  # a name of one component ends so
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = profile.METHOD
    made.DeidentificationMethodCodeSequence = [_code(*profile.BASIC), _code(*profile.RETAIN_PATIENT)]
    made.LongitudinalTemporalInformationModified = "REMOVED"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _element(tag: BaseTag | int, vr: str, value: object) -> DataElement:
    return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _values(element: DataElement) -> list[object]:
    if element.value is None or element.value == "":
        return []
    return list(element.value) if element.VM > 1 else [element.value]


# -- words that name the patient


def _naming(image: Dataset) -> _Naming:
    said = list(_said(image, 0))
    words = {each for value, is_name in said if is_name for each in _words(value) if len(each) >= _WORD_CHARS}
    whole = {value for value, is_name in said if not is_name and len(value) >= _NUMBER_CHARS}
    words |= {each for value in whole for each in _words(value) if len(each) >= _NUMBER_CHARS}
    long = {each for each in whole | words if len(each) >= _LONG_CHARS}
    return _Naming(words=frozenset(words), parts=tuple(sorted(whole | long)), numbers=frozenset(long))


def _said(dataset: Dataset, depth: int) -> Iterator[tuple[str, bool]]:
    """Every name of a person and every identifier, at all levels, and whether it is a name."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                for item in element.value if depth < MAX_DEPTH else ():
                    yield from _said(item, depth + 1)
            elif element.VR == "PN" or element.keyword in IDENTIFIERS:
                for value in _values(element):
                    yield str(value).strip().casefold(), element.VR == "PN"
        except Exception:  # noqa: BLE001,S112 - what can't be read here is left out there
            continue


def _words(text_: str) -> list[str]:
    return [each for each in re.split(r"[\W_]+", text_) if each]
