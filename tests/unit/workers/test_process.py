"""A reading with no server: files in, the same results out each time, and a reason when it can't be done."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ball_model import BALL, CARD, SPEC, BallModel
from dicom_cases import slice_of, study_files, study_uid
from PIL import Image

from medai.models.errors import ModelUnavailable
from medai.models.registry import Registry
from medai.models.volume import Segment
from medai.router.errors import PermanentError, TemporaryError
from medai.router.settings.tables import Settings
from medai.workers import process

FILES = {"seg.dcm", "sr.dcm", "sc.dcm", "key_image.png", "oru.hl7"}


@dataclass
class Entry:
    """What a registry says of one model."""

    name: str
    modalities: frozenset[str] = frozenset({"MR"})
    available: bool = True
    segments: tuple[Segment, ...] = (BALL,)

    @property
    def spec(self) -> Any:
        return SPEC.model_copy(update={"modalities": self.modalities})


class Models:
    """A registry of ball models."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.name: entry for entry in entries or (Entry("mr_brain"), Entry("ct", frozenset({"CT"})))}
        self.loaded: list[str] = []

    def names(self) -> tuple[str, ...]:
        return tuple(self.entries)

    def describe(self) -> tuple[Entry, ...]:
        return tuple(self.entries.values())

    def metadata(self, name: str) -> Entry:
        return self.entries[name]

    def guard(self, name: str) -> None:
        """They read anything."""

    def classifier(self) -> None:
        """There is none."""

    def load(self, name: str) -> BallModel:
        if name not in self.entries or not self.entries[name].available:
            raise ModelUnavailable(f"there is no model {name!r}")
        self.loaded.append(name)
        return BallModel(spec=self.entries[name].spec, card=replace(CARD, name=name))


def read(path: Path, out: Path, models: Models | None = None, **changes: Any) -> dict[str, Any]:
    said: list[str] = []
    choices: dict[str, Any] = {"model": None, "series": None, **changes}
    registry = cast(Registry, models or Models())
    told = process.process(path, out, settings=Settings(), registry=registry, report=said.append, **choices)
    assert said, "what it is doing is visible"
    return told


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for number, data in enumerate(study_files("a")):
        (folder / f"IM{number:04}").write_bytes(data)
    return folder


def test_a_folder_gives_every_result_as_a_file(study: Path, tmp_path: Path) -> None:
    told = read(study, tmp_path / "new" / "out")
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == set(told["files"]) == FILES
    assert all(Path(name).is_file() for name in told["files"].values())
    seg = pydicom.dcmread(told["files"]["seg.dcm"])
    assert (seg.Modality, seg.StudyInstanceUID) == ("SEG", study_uid("a"))
    with Image.open(told["files"]["key_image.png"]) as picture:
        assert min(picture.size) > 100
    assert Path(told["files"]["oru.hl7"]).read_bytes().startswith(b"MSH|")
    assert (told["model"], told["model_version"]) == ("mr_brain", "1")
    assert json.loads(process.to_json(told)) == json.loads(json.dumps(told))


def test_the_volume_that_is_told_is_that_of_the_mask(study: Path, tmp_path: Path) -> None:
    told = read(study, tmp_path / "out")
    bright = sum(int((slice_of(n, study="a").pixel_array > 400).sum()) for n in range(16))
    assert told["measurements"][0]["value"] == pytest.approx(bright * 0.027, rel=1e-4)


def test_the_same_study_gives_the_same_identifiers_from_a_folder_and_from_a_zip(study: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in sorted(study.iterdir(), reverse=True):
            archive.write(path, f"x/{path.name}")
    told = [read(path, tmp_path / f"out{n}") for n, path in enumerate((study, tmp_path / "study.zip"))]
    for name in ("seg.dcm", "sr.dcm", "sc.dcm"):
        first, second = (pydicom.dcmread(item["files"][name]) for item in told)
        assert first.SOPInstanceUID == second.SOPInstanceUID


def test_rubbish_beside_the_images_does_no_harm(study: Path, tmp_path: Path) -> None:
    (study / "DICOMDIR.txt").write_text("no")
    (study / "empty").touch()
    (study / "cut").write_bytes((study / "IM0000").read_bytes()[:139])
    assert read(study, tmp_path / "out")["measurements"]


def test_of_several_series_the_one_asked_for_is_read_and_a_wrong_number_is_explained(
    study: Path, tmp_path: Path
) -> None:
    for number, data in enumerate(study_files("a", slices=14, series=2)):
        (study / f"second{number:04}").write_bytes(data)
    for asked, taken in ((None, 1), (2, 2)):
        seg = pydicom.dcmread(read(study, tmp_path / "out", series=asked)["files"]["seg.dcm"])
        (source,) = seg.ReferencedSeriesSequence
        assert source.SeriesInstanceUID == slice_of(0, study="a", series=taken).SeriesInstanceUID
    with pytest.raises(PermanentError, match="no series 7 here; there are 1, 2"):
        read(study, tmp_path / "out", series=7)


def test_a_path_that_does_not_exist_is_told_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="nowhere does not exist"):
        read(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_make_no_volume_leave_no_half_result(study: Path, tmp_path: Path) -> None:
    for number in (7, 8):
        (study / f"IM{number:04}").unlink()
    with pytest.raises(PermanentError, match="mm apart"):
        read(study, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# -- NIfTI


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    z, y, x = np.mgrid[:20, :24, :28]
    ball = 800.0 * ((x - 14) ** 2 + (y - 12) ** 2 + (z - 10) ** 2 < 64)
    image = sitk.GetImageFromArray(ball.astype(np.float32))
    image.SetSpacing((2.0, 2.0, 2.5))
    image.SetOrigin((-20.0, 10.0, 5.0))
    path = tmp_path / "head.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def test_a_nifti_volume_gives_a_mask_on_its_own_grid_and_a_picture(nifti: Path, tmp_path: Path) -> None:
    told = read(nifti, tmp_path / "out")
    assert set(told["files"]) == {"head_mask.nii.gz", "key_image.png"}
    source, mask = sitk.ReadImage(str(nifti)), sitk.ReadImage(told["files"]["head_mask.nii.gz"])
    assert np.array_equal(sitk.GetArrayFromImage(mask) > 0, sitk.GetArrayFromImage(source) > 400)
    for read_back, given in ((mask.GetSpacing(), source.GetSpacing()), (mask.GetOrigin(), source.GetOrigin())):
        assert read_back == pytest.approx(given, abs=1e-4)
    voxels = int((sitk.GetArrayFromImage(mask) > 0).sum())
    assert told["measurements"][0]["value"] == pytest.approx(voxels * 0.01, rel=1e-4)


def test_a_nifti_file_that_is_none_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "head.nii"
    path.write_bytes(b"not an image")
    with pytest.raises(PermanentError):
        read(path, tmp_path / "out")


# -- which model


def test_the_model_is_the_only_one_that_reads_this_modality(study: Path, tmp_path: Path) -> None:
    models = Models(Entry("other", frozenset({"CT", "PT"})), Entry("mine"), Entry("away", available=False))
    assert read(study, tmp_path / "out", models)["model"] == "mine"
    assert models.loaded == ["mine"]


def test_the_usual_model_is_taken_where_several_can_read_and_the_next_where_it_cannot(
    study: Path, tmp_path: Path
) -> None:
    both = Models(Entry("another"), Entry("mr_brain"), Entry("mr_hippocampus"))
    assert read(study, tmp_path / "out", both)["model"] == "mr_hippocampus"
    one = Models(Entry("another"), Entry("mr_brain"), Entry("mr_hippocampus", available=False))
    assert read(study, tmp_path / "out", one)["model"] == "mr_brain"


def test_a_model_that_draws_nothing_reads_nothing(study: Path, tmp_path: Path) -> None:
    models = Models(Entry("series_kind", segments=()), Entry("mine"))
    assert read(study, tmp_path / "out", models)["model"] == "mine"


def test_several_models_or_none_ask_for_one_by_name(study: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="which model should read this MR series.*: one, two"):
        read(study, tmp_path / "out", Models(Entry("one"), Entry("two")))
    with pytest.raises(PermanentError, match="Name one with --model: ct"):
        read(study, tmp_path / "out", Models(Entry("ct", frozenset({"CT"}))))
    assert read(study, tmp_path / "out", Models(Entry("one"), Entry("two")), model="two")["model"] == "two"


def test_a_model_that_is_not_there_is_told_in_the_registrys_words(study: Path, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="no model 'nothing'"):
        read(study, tmp_path / "out", model="nothing")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    process.write(path, b"old")
    process.write(path, b"new")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])


def test_a_file_in_the_place_of_the_results_is_explained(study: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(PermanentError, match="cannot be made a folder"):
        read(study, tmp_path / "taken", Models(Entry("one")))
