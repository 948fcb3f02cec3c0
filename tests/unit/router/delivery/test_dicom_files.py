"""A DICOM file leaves as it came, unless its patient or its transfer syntax has to be another."""

from __future__ import annotations

import io

import numpy as np
import pytest
from dicom_cases import slice_of, to_bytes
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from medai.router.delivery.dicom_files import deflated, reference, under_patient, variants


def opened(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


@pytest.fixture
def image() -> Dataset:
    return slice_of(0, study="files")


def test_a_file_is_named_by_its_class_and_instance(image: Dataset) -> None:
    assert reference(to_bytes(image)) == (image.SOPClassUID, image.SOPInstanceUID)


def test_a_deflated_object_is_the_same_object(image: Dataset) -> None:
    content = deflated(to_bytes(image))
    found = opened(content)
    assert found.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert found == image
    assert len(content) < len(to_bytes(image))


def test_a_node_is_offered_the_file_as_it_is_then_in_the_two_syntaxes_that_every_node_knows(image: Dataset) -> None:
    content = to_bytes(image)
    found = list(variants(content))
    assert found[0] == content
    assert [opened(each).file_meta.TransferSyntaxUID for each in found] == [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    ]
    assert all(np.array_equal(opened(each).pixel_array, image.pixel_array) for each in found)
    assert [opened(each).file_meta.TransferSyntaxUID for each in variants(deflated(content))] == [
        DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian,
    ]  # fmt: skip


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_frames_in_rle_are_unpacked_without_an_array_library(
    colours: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (3, 5, 7, colours) if colours > 1 else (3, 5, 7)
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(f"u{bits // 8}")
    image = slice_of(0, study="rle")
    image.NumberOfFrames, image.Rows, image.Columns = shape[:3]
    image.SamplesPerPixel, image.PlanarConfiguration = colours, 0
    image.PhotometricInterpretation = "RGB" if colours > 1 else "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = bits
    image.HighBit, image.PixelRepresentation = bits - 1, 0
    image.compress(RLELossless, pixels, encoding_plugin="pydicom", generate_instance_uid=False)
    content = to_bytes(image)
    with monkeypatch.context() as without:
        without.setattr("pydicom.pixels.decoders.base.HAVE_NP", False)
        found = list(variants(content))
    assert found[0] == content
    assert [opened(each).file_meta.TransferSyntaxUID for each in found[1:]] == [
        ExplicitVRLittleEndian, ImplicitVRLittleEndian,
    ]  # fmt: skip
    assert all(np.array_equal(opened(each).pixel_array, pixels) for each in found)


def test_what_every_node_takes_is_offered_as_it_is_alone(image: Dataset) -> None:
    content = list(variants(to_bytes(image)))[-1]
    assert list(variants(content)) == [content]


def test_other_compressed_frames_stay_as_they_are(image: Dataset) -> None:
    image.compress(JPEGLSLossless, generate_instance_uid=False)
    content = to_bytes(image)
    assert list(variants(content)) == [content]
    assert deflated(content) == content


def test_the_same_patient_changes_no_byte(image: Dataset) -> None:
    like = slice_of(1, study="files")
    like.PatientName = f"{image.PatientName}^^ "
    assert under_patient(to_bytes(image), to_bytes(like)) == to_bytes(image)


def test_a_file_takes_the_patient_and_the_character_set_of_the_archives_object(image: Dataset) -> None:
    image.SpecificCharacterSet, image.SeriesDescription = "ISO_IR 100", "Größe"
    like = slice_of(1, study="files")
    like.SpecificCharacterSet = "ISO_IR 192"
    like.PatientID, like.PatientName, like.IssuerOfPatientID = "NEW-1", "Łukasz^Jan", "HOSP"
    found = opened(under_patient(to_bytes(image), to_bytes(like)))
    assert (found.PatientID, str(found.PatientName), found.IssuerOfPatientID) == ("NEW-1", "Łukasz^Jan", "HOSP")
    assert (found.SeriesDescription, found.PatientBirthDate) == ("Größe", image.PatientBirthDate)
    assert found.SOPInstanceUID == image.SOPInstanceUID
    assert found.PixelData == image.PixelData
