"""A patient's rejected files are found by their bytes, however they are written and however broken they are."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import dicom_cases
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medai.router.hl7.patients import Patient
from medai.router.keeping import rejected

KNOWN = (Patient("PAT4711", "H"), Patient("PAT0815"))


def written(patient_id: str, syntax: str = ExplicitVRLittleEndian, **values: str) -> bytes:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    image.PatientID = patient_id
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def zipped(*members: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"{number}.dcm", member)
    return buffer.getvalue()


def looked(folder: Path, data: bytes) -> rejected.Rejected:
    (folder / "deep").mkdir()
    (folder / "deep" / "a.dcm").write_bytes(data)
    (folder / "deep" / "a.dcm.reason.txt").write_text("broken")
    return rejected.of_patient(folder, KNOWN)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize("patient_id", ["PAT4711", "PAT0815"])
def test_a_file_in_every_transfer_syntax_is_found_and_removed_with_its_reason(
    syntax: str, patient_id: str, tmp_path: Path
) -> None:
    (tmp_path / "other.dcm").write_bytes(written("PAT47110", syntax))
    found = looked(tmp_path, written(patient_id, syntax))
    assert (found.files, found.shared, found.unread) == ((tmp_path / "deep" / "a.dcm",), (), 0)
    assert rejected.remove(found) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "other.dcm"]
    assert rejected.of_patient(tmp_path, KNOWN).files == ()


@pytest.mark.parametrize(
    "data",
    [
        written("PAT4711")[132:],
        b"\xff" * 1000 + written("PAT4711"),
        zipped(written("PAT4711"), written("PAT0815")),
    ],
    ids=["no preamble", "behind rubbish", "zip"],
)
def test_a_broken_file_is_found(data: bytes, tmp_path: Path) -> None:
    assert len(looked(tmp_path, data).files) == 1


def test_another_issuers_patient_is_another_patient(tmp_path: Path) -> None:
    assert looked(tmp_path, written("PAT4711", IssuerOfPatientID="ELSEWHERE")).files == ()


def test_a_zip_that_holds_other_patients_is_for_a_person(tmp_path: Path) -> None:
    found = looked(tmp_path, zipped(written("PAT4711"), written("OTHER")))
    assert (found.files, len(found.shared)) == ((), 1)


def test_what_names_nobody_is_counted_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.dcm"
    outside.write_bytes(written("PAT4711"))
    folder = tmp_path / "rejected"
    folder.mkdir()
    (folder / "link.dcm").symlink_to(outside)
    found = looked(folder, b"\x89PNG and so on")
    assert found == rejected.Rejected(unread=1)
    assert rejected.of_patient(tmp_path / "nowhere", KNOWN) == rejected.Rejected()


def test_pixels_that_look_like_the_attribute_name_nobody(tmp_path: Path) -> None:
    noise = b"\x10\x00\x20\x00\x08\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08" * 100
    (image,) = dicom_cases.study_files("noise", slices=1, PatientID="PAT4711")
    found = looked(tmp_path, image + noise)
    assert (len(found.files), found.shared) == (1, ())
