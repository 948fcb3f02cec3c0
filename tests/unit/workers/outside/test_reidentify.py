"""What an AI outside says of a patient, an approval or anything that was not sent never gets under the real patient."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from dicom_cases import to_bytes
from outside_cases import NAME, NUMBER, patient_slice
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medai.models.images.isolated import GdcmProcess
from medai.router.contract import make_job_id
from medai.workers.outside.deidentify import deidentified
from medai.workers.outside.pseudonyms import Pseudonyms
from medai.workers.outside.reidentify import NotTaken, Way, reidentified

JOB = make_job_id(study_uid="1.2", sources="s", route="away", model="theirs", version="outside")
REPORT = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture(scope="module")
def sent() -> tuple[Dataset, Dataset, Pseudonyms]:
    """The image, what was sent of it, and the way back."""
    image, pseudonyms = patient_slice(), Pseudonyms(b"k" * 32, JOB)
    with GdcmProcess() as gdcm:
        return image, deidentified(image, pseudonyms, gdcm, max_bytes=2**28), pseudonyms


def report_of(made: Dataset) -> Dataset:
    """A report about the image that was sent."""
    answer = Dataset()
    answer.file_meta = deepcopy(made.file_meta)
    answer.SOPClassUID, answer.Modality, answer.SeriesDescription = REPORT, "SR", "findings"
    answer.StudyInstanceUID, answer.PatientID = made.StudyInstanceUID, made.PatientID
    answer.SeriesInstanceUID, answer.SOPInstanceUID = generate_uid(), generate_uid()
    item, tracked = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    tracked.ValueType, tracked.UID, tracked.PersonName = "UIDREF", generate_uid(), "Doctor^Who"
    tracked.ReferencedSOPSequence = [item]
    answer.ContentSequence = [tracked]
    answer.VerificationFlag, answer.CompletionFlag = "VERIFIED", "COMPLETE"
    return answer


def taken(answer: Dataset, sent: tuple[Dataset, Dataset, Pseudonyms]) -> Dataset:
    image, made, pseudonyms = sent
    way = Way.of(
        JOB, "theirs", study_uid=made.StudyInstanceUID, patient=made.PatientID, originals=pseudonyms.originals,
        answer={str(answer.SOPInstanceUID): str(answer.SeriesInstanceUID)},
    )  # fmt: skip
    return reidentified(answer, image, way, asked=str(answer.SOPInstanceUID))


def test_a_report_gets_the_patient_and_the_real_references(sent: tuple[Dataset, Dataset, Pseudonyms]) -> None:
    image, made, _ = sent
    answer = report_of(made)
    back = taken(answer, sent)
    assert (back.PatientName, back.PatientID, back.AccessionNumber) == (NAME, NUMBER, image.AccessionNumber)
    assert back.StudyInstanceUID == image.StudyInstanceUID
    assert back.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert back.SOPInstanceUID == back.file_meta.MediaStorageSOPInstanceUID != answer.SOPInstanceUID
    assert to_bytes(taken(answer, sent)) == to_bytes(back), "a retry makes the same object"


def test_it_is_unverified_and_of_nobody_outside(sent: tuple[Dataset, Dataset, Pseudonyms]) -> None:
    answer = report_of(sent[1])
    observer = Dataset()
    observer.VerifyingObserverName = "Doctor^Who"
    answer.VerifyingObserverSequence = [observer]
    answer.InstitutionName, answer.PatientBirthDate, answer.AccessionNumber = "Elsewhere", "20000101", "FORGED-1"
    answer.private_block(0x0029, "THEIRS", create=True).add_new(1, "LO", "secret")
    answer.ContentSequence[0].PatientBirthDate = "20000101"
    back = taken(answer, sent)
    assert (back.VerificationFlag, back.SeriesDescription) == ("UNVERIFIED", "theirs (outside AI): findings")
    data = to_bytes(back)
    assert not [each for each in (b"Who", b"Elsewhere", b"20000101", b"FORGED-1", b"secret") if each in data]


def _of_another_study(answer: Dataset) -> None:
    answer.StudyInstanceUID = generate_uid()


def _of_another_patient(answer: Dataset) -> None:
    answer.PatientName = "Other^One"


def _about_another_image(answer: Dataset) -> None:
    answer.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = generate_uid()


def _about_another_series(answer: Dataset) -> None:
    evidence = Dataset()
    evidence.SeriesInstanceUID = generate_uid()
    answer.ContentSequence[0].ReferencedSeriesSequence = [evidence]


def _about_the_real_image(answer: Dataset) -> None:
    """Who knows the real UIDs has them from elsewhere."""
    answer.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = patient_slice().SOPInstanceUID


def _about_nothing(answer: Dataset) -> None:
    del answer.ContentSequence


def _of_a_kind_that_is_not_taken(answer: Dataset) -> None:
    answer.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"


def _without_end(answer: Dataset) -> None:
    inner = answer
    for _ in range(40):
        item = Dataset()
        inner.ContentSequence = [item]
        inner = item


@pytest.mark.parametrize(
    "forge",
    [_of_another_study, _of_another_patient, _about_another_image, _about_another_series, _about_the_real_image,
     _about_nothing, _of_a_kind_that_is_not_taken, _without_end],
)  # fmt: skip
def test_what_is_forged_is_not_taken(
    sent: tuple[Dataset, Dataset, Pseudonyms], forge: Callable[[Dataset], None]
) -> None:
    answer = report_of(sent[1])
    forge(answer)
    with pytest.raises(NotTaken, match="is not taken in: "):
        taken(answer, sent)


def test_another_object_than_the_one_that_was_asked_for_is_not_taken(
    sent: tuple[Dataset, Dataset, Pseudonyms],
) -> None:
    image, made, pseudonyms = sent
    answer = report_of(made)
    way = Way.of(
        JOB, "theirs", study_uid=made.StudyInstanceUID, patient=made.PatientID, originals=pseudonyms.originals,
        answer={"1.2.3": "1.2.4"},
    )  # fmt: skip
    with pytest.raises(NotTaken, match="another object"):
        reidentified(answer, image, way, asked="1.2.3")
