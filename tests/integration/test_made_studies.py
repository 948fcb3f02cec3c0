"""Made studies before dicom3tools: dciodvfy finds in an image no error that its original does not have, whatever the
habit and the transfer syntax; dcentvfy finds that the images of a study agree with each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medai.trials.scanner.sources import HEAD, from_folder, head, radiograph, stacked_ct
from medai.trials.scanner.volumes import Request, Series, Template, make_study, thinned
from medai.trials.study import Patient, derive

pytestmark = pytest.mark.slow
FOLDERS = {
    "abdomen-ct": ("ct_abdomen_CRLM", "CT", 5),
    "brain-mr": ("mr_brain_T1_studyforrest", "MR", 40),
    "abdomen-mr": ("mr_abdomen_T2_CMB-CRC", "MR", 5),
}
"""Of the shared data: folder, modality, and which slices are taken."""
SOURCES = (*FOLDERS, "stacked-ct", "colin-mr", "film-cr", "projection-cr")
HABITS: tuple[tuple[str, ...], ...] = (
    (),
    ("localizer",),
    ("repeated_series",),
    ("wrong_body_part",),
    ("missing_accession",),
    ("discontinued",),
    ("localizer", "repeated_series", "wrong_body_part", "missing_accession"),
)
"""Those that change what is sent; the others change only how it is sent."""
SYNTAXES = (JPEGLSLossless, JPEG2000Lossless, RLELossless)


class Original:
    """Images as they came, and the template that was made of them."""

    def __init__(self, template: Template, files: Sequence[Path]) -> None:
        self.template = template
        self.files = files


@pytest.fixture(scope="module")
def originals(shared_data: Callable[[str], Path]) -> Callable[[str], Original]:
    kept: dict[str, Original] = {}

    def find(name: str) -> Original:
        if name not in kept:
            kept[name] = _original(name, shared_data)
        return kept[name]

    return find


def _original(name: str, shared_data: Callable[[str], Path]) -> Original:
    if name in FOLDERS:
        folder, modality, every_nth = FOLDERS[name]
        whole = from_folder(shared_data(folder), modality)
        kept = thinned(whole, every_nth=every_nth, downsample=4)
        return Original(kept, [Path(header.filename) for header in whole.headers[::every_nth]])
    if name == "colin-mr":
        if not HEAD.exists():
            pytest.skip(f"{HEAD} is missing: ./medai setup --test installs mricron-data")
        return Original(thinned(head(), every_nth=20, downsample=2), ())
    if name == "film-cr":
        film = Path(str(get_testdata_file("dicomdirtests/77654033/CR1/6154")))
        return Original(from_folder(film.parent, "CR"), (film,))
    ct = Path(str(get_testdata_file("CT_small.dcm")))
    if name == "stacked-ct":
        return Original(thinned(stacked_ct(), every_nth=5, downsample=1), (ct,))
    return Original(radiograph(stacked_ct()), ())


def study(template: Template, habits: Sequence[str], seed: str = "s") -> tuple[Series, ...]:
    request = Request(
        patient=Patient(patient_id="P1", name="A^B", birth_date="19700131", sex="F"), accession="A1",
        study_uid=derive(seed, "study"), seed=seed, acquired_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
        requested_procedure_id="RP1", scheduled_step_id="SPS1", procedure="A study", performed=True, image_s=0.25,
        pause_s=20.0,
    )  # fmt: skip
    return make_study(template, request, habits=habits)


def validated(program: str, *files: Path) -> list[str]:
    """The errors that a validator finds; one that could not read a file is an error, too."""
    tool = shutil.which(program, path=str(Path(sys.executable).parent))
    assert tool, f"{program} is missing: ./medai setup --test"
    done = subprocess.run([tool, *files], capture_output=True, text=True, timeout=120, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert any(not line.startswith("Error") for line in lines) or program == "dcentvfy", lines
    return [line for line in lines if line.startswith("Error")]


def complaints(images: Sequence[Dataset], folder: Path) -> set[str]:
    found: set[str] = set()
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        found |= set(validated("dciodvfy", folder / f"{number}.dcm"))
    return found


def some(series: Sequence[Series]) -> list[Dataset]:
    """First and last image of each series."""
    return [each.images[place] for each in series for place in sorted({0, len(each.images) - 1})]


@pytest.mark.parametrize("habits", HABITS, ids=lambda habits: " ".join(habits) or "plain")
@pytest.mark.parametrize("source", SOURCES)
def test_no_habit_brings_an_error_that_the_original_does_not_have(
    originals: Callable[[str], Original], source: str, habits: tuple[str, ...], tmp_path: Path
) -> None:
    original = originals(source)
    before = {error for file in original.files for error in validated("dciodvfy", file)}
    assert complaints(some(study(original.template, habits)), tmp_path) <= before


@pytest.mark.parametrize(
    ("source", "syntax"),
    [
        (source, syntax)
        for source in SOURCES
        for syntax in SYNTAXES
        if (source, syntax) != ("film-cr", JPEG2000Lossless)
    ],
    ids=lambda value: getattr(value, "keyword", value),
)
def test_no_transfer_syntax_brings_an_error_that_the_original_does_not_have(
    originals: Callable[[str], Original], source: str, syntax: pydicom.uid.UID, tmp_path: Path
) -> None:
    original = originals(source)
    before = {error for file in original.files for error in validated("dciodvfy", file)}
    for seed in range(100):
        made = some(study(original.template, ("compressed",), seed=str(seed)))
        if made[0].file_meta.TransferSyntaxUID == syntax:
            break
    assert {image.file_meta.TransferSyntaxUID for image in made} == {syntax}
    assert complaints(made, tmp_path) <= before


@pytest.mark.parametrize("source", SOURCES)
def test_the_images_of_a_study_agree_with_each_other(
    originals: Callable[[str], Original], source: str, tmp_path: Path
) -> None:
    made = study(originals(source).template, ("localizer", "repeated_series"))
    files = []
    for number, image in enumerate(image for each in made for image in each.images):
        files.append(tmp_path / f"{number:03d}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    errors = validated("dcentvfy", *files)
    step = derive("s", "performed step")  # the RIS has it: it is no file
    assert [error for error in errors if f"Missing SOPInstanceUID that was referenced - {step} " not in error] == []
    assert len(errors) == len(files)


def test_the_validators_do_find_errors(originals: Callable[[str], Original], tmp_path: Path) -> None:
    made = [image for each in study(originals("stacked-ct").template, ()) for image in each.images]
    made[1].SeriesTime = "235959"
    del made[1].ImageOrientationPatient
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for image, file in zip(made, files, strict=False):
        image.save_as(file, enforce_file_format=True)
    assert any("ImageOrientationPatient" in error for error in validated("dciodvfy", files[1]))
    assert any("SeriesTime" in error for error in validated("dcentvfy", *files))
