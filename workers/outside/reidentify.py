"""Give what came back from outside its patient: under the real UIDs, patient and study, or not at all.

What came refers to nothing but what was sent and to itself; whatever it says of a patient, a study or who approved it
goes, and is put in from the images that were read. Next: exchange.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medai.models.images.header import text
from medai.router.contract import derived_uid, is_uid
from medai.router.errors import PermanentError
from medai.workers.results.identity import plain
from medai.workers.results.source import PATIENT_AND_STUDY

_STORAGE = "1.2.840.10008.5.1.4.1.1."
KINDS = {
    f"{_STORAGE}66.4": "seg", f"{_STORAGE}66.7": "seg", f"{_STORAGE}88.11": "sr", f"{_STORAGE}88.22": "sr",
    f"{_STORAGE}88.33": "sr", f"{_STORAGE}88.34": "sr", f"{_STORAGE}481.3": "rt", f"{_STORAGE}11.1": "pr",
    f"{_STORAGE}7": "sc", f"{_STORAGE}7.1": "sc", f"{_STORAGE}7.2": "sc", f"{_STORAGE}7.3": "sc",
    f"{_STORAGE}7.4": "sc",
}  # fmt: skip
"""Classes that are taken: segmentations, reports, contours, presentation states, pictures."""
REFERRING = frozenset(
    {"StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID", "ReferencedSOPInstanceUIDInFile",
     "FrameOfReferenceUID", "ReferencedFrameOfReferenceUID", "RelatedFrameOfReferenceUID", "SourceFrameOfReferenceUID",
     "ReferencedSeriesInstanceUID", "ReferencedStudyInstanceUID", "FailedSOPInstanceUIDList", "RequestedSOPInstanceUID"}
)  # fmt: skip
"""Attributes that say what something is about."""
NOT_THEIRS = frozenset(
    {*PATIENT_AND_STUDY, "VerifyingObserverSequence", "ReferencedRequestSequence", "RequestAttributesSequence",
     "ApprovalStatusDateTime", "ReviewDate", "ReviewTime", "ReviewerName", "OtherPatientIDs", "InstitutionName",
     "InstitutionAddress", "InstitutionalDepartmentName", "SpecificCharacterSet", "DigitalSignaturesSequence",
     "OriginalAttributesSequence", "PredecessorDocumentsSequence", "IdenticalDocumentsSequence"}
) - {"StudyInstanceUID"}  # fmt: skip
"""What nobody outside may say of a patient, an examination or an approval."""
NO_PATIENT = frozenset(PATIENT_AND_STUDY) - {"StudyInstanceUID", "TimezoneOffsetFromUTC"}
MAX_DEPTH = 32


class NotTaken(PermanentError):
    """An answer that is not taken in; the text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """The way back of one reading. ``own``: UIDs of the answer's own objects and series -> what they become."""

    job_id: str
    name: str
    study_uid: str
    patient: str
    originals: Mapping[str, str]
    own: Mapping[str, str]

    @classmethod
    def of(
        cls, job_id: str, name: str, *, study_uid: str, patient: str, originals: Mapping[str, str],
        answer: Mapping[str, str],
    ) -> Way:  # fmt: skip
        """``answer``: SOP Instance UID of each object of it -> its Series Instance UID."""
        theirs = {*answer, *answer.values()}
        own = {uid: derived_uid(job_id, "outside", uid) for uid in theirs}
        return cls(job_id=job_id, name=name, study_uid=study_uid, patient=patient, originals=originals, own=own)


def reidentified(answer: Dataset, image: Dataset, way: Way, *, asked: str) -> Dataset:
    """An object of the answer under the patient and study of ``image``, which was sent; raises NotTaken.

    ``asked``: the SOP Instance UID under which it was asked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes what it warns of
        _require_ours(answer, way, asked)
        made = _level(answer, way, 0)
        if kind_of(answer) != "sc" and not _refers_to_images(answer, way.originals):
            raise _not_taken(way, "it refers to no image that was sent")
        for keyword in NO_PATIENT:
            if keyword in image:
                made.add(deepcopy(image[keyword]))
        made.StudyInstanceUID = way.originals[way.study_uid]
        _mark(made, way)
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = answer.file_meta.TransferSyntaxUID
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def kind_of(answer: Dataset) -> str:
    """What it is, in a word; empty for what is not taken."""
    return KINDS.get(text(answer, "SOPClassUID").strip(), "")


def _require_ours(answer: Dataset, way: Way, asked: str) -> None:
    if text(answer, "StudyInstanceUID") != way.study_uid:
        raise _not_taken(way, "it is of another study than the one that was sent")
    if text(answer, "SOPInstanceUID") != asked or text(answer, "SeriesInstanceUID") not in way.own:
        raise _not_taken(way, "it is another object than the one that was asked for")
    if {text(answer, "PatientID").strip(), text(answer, "PatientName").strip().rstrip("^")} - {"", way.patient}:
        raise _not_taken(way, "it names another patient than the pseudonym that was sent")
    if not kind_of(answer):
        raise _not_taken(way, "it is no segmentation, report, contours, presentation state or secondary capture")


def _level(dataset: Dataset, way: Way, depth: int) -> Dataset:
    made = Dataset()
    if depth > MAX_DEPTH:
        raise _not_taken(way, "its sequences are nested too deep")
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception as error:  # pydicom raises errors of many kinds, which quote values
            raise _not_taken(way, "it can't be read") from error
        if tag.is_private or tag.group == 0x0002 or element.keyword in NOT_THEIRS:
            continue
        if element.VR == "SQ":
            made.add(DataElement(tag, "SQ", Sequence([_level(item, way, depth + 1) for item in element.value])))
        elif element.VR == "UI":
            made.add(_uids(element, way))
        elif element.VR == "PN":
            made.add(DataElement(tag, "PN", ""))
        else:
            made.add(element)
    return made


def _uids(element: DataElement, way: Way) -> DataElement:
    found = [] if element.value in (None, "") else list(element.value) if element.VM > 1 else [element.value]
    named = [_uid(str(each), element.keyword, way) for each in found]
    return DataElement(element.tag, "UI", named, validation_mode=config.IGNORE)


def _uid(uid: str, keyword: str, way: Way) -> str:
    if not is_uid(uid):
        raise _not_taken(way, "it holds a UID that is none")
    if (original := way.originals.get(uid) or way.own.get(uid)) is not None:
        return original
    if UID(uid).name != uid:
        return uid  # one that the standard gives out
    if keyword in REFERRING:
        raise _not_taken(way, "it refers to something that was not sent")
    return derived_uid(way.job_id, "outside", uid)


def _refers_to_images(dataset: Dataset, originals: Mapping[str, str]) -> bool:
    return any(
        element.keyword == "ReferencedSOPInstanceUID" and str(element.value) in originals
        for element in dataset.iterall()
    )  # fmt: skip


def _mark(made: Dataset, way: Way) -> None:
    """Whose work it is, and that nobody approved it."""
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SeriesDescription = plain(f"{way.name} (outside AI): {made.get('SeriesDescription') or ''}", 64)
    if "VerificationFlag" in made:
        made.VerificationFlag = "UNVERIFIED"
    if "ApprovalStatus" in made:
        made.ApprovalStatus = "UNAPPROVED"


def _not_taken(way: Way, why: str) -> NotTaken:
    return NotTaken(f"the answer of the AI outside ({way.name}) is not taken in: {why}")
