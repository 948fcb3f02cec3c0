"""No byte of what leaves says whose images these are, and nothing leaves of which that is not sure."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pydicom
import pytest
from dicom_cases import enhanced, slice_of, to_bytes
from outside_cases import NAME, NUMBER, SECRETS, patient_slice, planted_everywhere
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from medai.models.images.isolated import GdcmProcess
from medai.workers.outside.deidentify import deidentified
from medai.workers.outside.pseudonyms import Pseudonyms
from medai.workers.outside.refusals import NotSent

KEY = b"k" * 32
MAX = 2**28


@pytest.fixture(scope="module")
def gdcm() -> Iterator[GdcmProcess]:
    with GdcmProcess() as process:
        yield process


def made_of(image: Dataset, gdcm: GdcmProcess, purpose: str = "a") -> Dataset:
    """As the receiver reads it: from bytes to bytes."""
    read = pydicom.dcmread(BytesIO(to_bytes(image)))
    return deidentified(read, Pseudonyms(KEY, purpose), gdcm, max_bytes=MAX)


def said_in(data: bytes) -> list[str]:
    """Which secrets the bytes say, in whatever case."""
    return [each for each in SECRETS if each.encode() in data.lower()]


@pytest.mark.filterwarnings("ignore")
def test_a_patient_planted_in_every_attribute_at_every_level_is_in_no_byte_that_leaves(gdcm: GdcmProcess) -> None:
    image = planted_everywhere(patient_slice())
    assert len(image) > 2000
    assert set(said_in(to_bytes(image))) == set(SECRETS)
    sent = to_bytes(made_of(image, gdcm))
    assert said_in(sent) == []
    assert b"1.2.19420718.1" not in sent
    again = pydicom.dcmread(BytesIO(sent))
    assert not [element.tag for element in again.iterall() if element.tag.is_private]


def test_what_a_model_needs_stays_and_it_says_what_was_done(gdcm: GdcmProcess) -> None:
    image = patient_slice(3)
    made = made_of(image, gdcm)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "EchoTime", "Modality", "Rows"):
        assert made[keyword].value == image[keyword].value, keyword
    assert made.PixelData == image.PixelData
    assert (made.PatientSex, made.PatientAge, float(made.PatientWeight)) == ("F", "084Y", 61.5)
    assert made.PatientIdentityRemoved == "YES"
    assert made.LongitudinalTemporalInformationModified == "REMOVED"
    assert [code.CodeValue for code in made.DeidentificationMethodCodeSequence] == ["113100", "113108"]
    assert made.PatientID.startswith("ANON-")
    assert "PatientBirthDate" not in made or not made.PatientBirthDate


def test_a_great_age_is_one_and_nonsense_about_a_patient_is_nothing(gdcm: GdcmProcess) -> None:
    assert made_of(patient_slice(PatientAge="097Y"), gdcm).PatientAge == "090Y"
    odd = made_of(patient_slice(PatientSex="FZ"), gdcm)
    assert not odd.PatientSex


def test_uids_are_the_same_wherever_they_stand_and_at_each_try_and_others_for_another_purpose(
    gdcm: GdcmProcess,
) -> None:
    first, second = patient_slice(0), patient_slice(1)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = second.SOPClassUID, second.SOPInstanceUID
    first.ReferencedImageSequence = [reference]
    one, two = made_of(first, gdcm), made_of(second, gdcm)
    assert one.ReferencedImageSequence[0].ReferencedSOPInstanceUID == two.SOPInstanceUID
    assert one.SOPClassUID == first.SOPClassUID == one.ReferencedImageSequence[0].ReferencedSOPClassUID
    assert one.StudyInstanceUID == two.StudyInstanceUID != first.StudyInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID != first.FrameOfReferenceUID
    assert made_of(first, gdcm) == one
    assert made_of(first, gdcm, "b").SOPInstanceUID != one.SOPInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID


def test_the_map_leads_back(gdcm: GdcmProcess) -> None:
    image, pseudonyms = patient_slice(), Pseudonyms(KEY, "a")
    made = deidentified(image, pseudonyms, gdcm, max_bytes=MAX)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert pseudonyms.originals[str(made[keyword].value)] == image[keyword].value


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_leave_bare_and_equal(gdcm: GdcmProcess, syntax: str) -> None:
    image = patient_slice(5, size=64)
    plain = image.PixelData
    if syntax == RLELossless:
        image.compress(syntax, generate_instance_uid=False)
    else:
        image.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    assert made_of(image, gdcm).PixelData == plain


def test_bytes_behind_the_pixels_and_in_their_unused_bits_do_not_leave(gdcm: GdcmProcess) -> None:
    image = patient_slice()
    values = np.frombuffer(image.PixelData, "<u2")
    image.PixelData = (values | 0x8000).astype("<u2").tobytes()
    assert made_of(image, gdcm).PixelData == values.tobytes()
    image = patient_slice()
    image.PixelData += NAME.encode() + b" "
    assert made_of(image, gdcm).PixelData == values.tobytes()


def test_an_enhanced_image_loses_what_its_frames_say(gdcm: GdcmProcess) -> None:
    image = enhanced([patient_slice(index) for index in range(4)])
    for frame in image.PerFrameFunctionalGroupsSequence:
        content = Dataset()
        content.FrameComments, content.FrameAcquisitionDateTime = f"{NAME} {NUMBER}", "19420718101010"
        frame.FrameContentSequence = [content]
    made = made_of(image, gdcm)
    assert said_in(to_bytes(made)) == []
    assert len(made.PerFrameFunctionalGroupsSequence) == 4
    assert made.PixelData == image.PixelData


def _overlay(image: Dataset) -> None:
    image.add_new(0x60000010, "US", 16)


REFUSED = {
    "burned in": {"BurnedInAnnotation": "YES"},
    "an answer that is none": {"BurnedInAnnotation": "MAYBE"},
    "secondary capture": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    "ultrasound": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"},
    "a document": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
    "a vendor's own class": {"SOPClassUID": "1.3.12.2.1107.5.9.1"},
    "a radiograph that does not say": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX"},
    "a screen": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    "a digitized film": {"ConversionType": "DF"},
    "colour": {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
    "a modality of its own": {"Modality": "OT"},
    "no UID": {"SeriesInstanceUID": ""},
    "pixels that lie": {"Rows": 4000},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_show_a_name_is_refused_with_the_reason(gdcm: GdcmProcess, case: str) -> None:
    with pytest.raises(NotSent, match="can't be sent de-identified: ") as caught:
        made_of(patient_slice(**REFUSED[case]), gdcm)
    assert said_in(str(caught.value).encode()) == []


def test_overlays_are_refused(gdcm: GdcmProcess) -> None:
    image = patient_slice()
    _overlay(image)
    with pytest.raises(NotSent, match="overlays"):
        made_of(image, gdcm)


def test_a_radiograph_that_says_that_nothing_is_burned_in_leaves(gdcm: GdcmProcess) -> None:
    image = patient_slice(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1", Modality="DX", BurnedInAnnotation="NO")
    assert said_in(to_bytes(made_of(image, gdcm))) == []


def test_a_short_name_takes_no_word_of_others(gdcm: GdcmProcess) -> None:
    made = made_of(slice_of(0, study="short", PatientName="Te^T", Manufacturer="Test"), gdcm)
    assert made.Manufacturer == "Test"
    made = made_of(slice_of(0, study="short", PatientName="Test^T", Manufacturer="Test"), gdcm)
    assert "Manufacturer" not in made
