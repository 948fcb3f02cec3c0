"""What the console shows of a result is what was stored; who the patient is stays hidden until asked for."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from dicom_cases import to_bytes
from drawn_cases import SHAPE, block, ct_slices, seg
from pydicom import Dataset, dcmread

from medai.router.console.looks import Looks
from medai.router.console.pictures import arrange, srgb
from medai.router.console.viewer import INSTANCE, NAME, WITHIN_STUDY, Bits, folder
from medai.router.errors import PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import ConsoleSettings
from medai.workers.results.segments import lab

ORU = "MSH|^~\\&|MED-AI||RIS||20260101||ORU^R01|1|P|2.5.1\rPID|1||MRN-PLANTED-77^^^H||Plantedname^Test||19010203|O\rOBX|1|NM|volume||4.2|mL\r"


class Archive:
    """Orthanc's part: tags of an instance, a file."""

    def __init__(self, files: Mapping[str, Dataset]) -> None:
        self.files = files
        self.fetched = 0

    def tags(self, name: str) -> dict[str, Any]:
        return {"WindowCenter": "40"}

    def instance_with_uid(self, uid: str) -> str | None:
        return uid if uid in self.files else None

    def file(self, name: str) -> bytes:
        self.fetched += 1
        return to_bytes(self.files[name])


def listed(slices: list[Dataset]) -> list[dict[str, Any]]:
    return [
        {"ID": f"i{d.InstanceNumber}", "MainDicomTags": {
            "SOPInstanceUID": str(d.SOPInstanceUID), "InstanceNumber": str(d.InstanceNumber),
            "ImagePositionPatient": "\\".join(str(v) for v in d.ImagePositionPatient)}}
        for d in slices
    ]  # fmt: skip


def test_slices_lie_in_order_and_each_knows_its_masks() -> None:
    slices = ct_slices("a")
    masks = {"left": block((4, 2, 2), (8, 6, 6)), "right": block((6, 8, 8), (10, 12, 12))}
    found = arrange(seg(slices, masks), listed(slices[::-1]), cast(Orthanc, Archive({})))
    assert [frame.instance for frame in found.frames] == [f"i{n + 1}" for n in range(SHAPE[0])]
    on = [[number for number in (1, 2) if (frame.origin, number) in found.masks] for frame in found.frames]
    assert on == [[]] * 4 + [[1], [1], [1, 2], [1, 2], [2], [2]] + [[]] * 6
    assert [each.name for each in found.segments] == ["left", "right"]
    assert found.letters == ("R", "L", "A", "P")
    assert found.spacing_mm == (3.0, 3.0)


@pytest.mark.parametrize("written", ["ab", "1\\2", "", "nan"])
def test_numbers_that_are_none_cost_the_page_nothing(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archive, "tags", lambda self, name: {"NumberOfFrames": written})
    slices = ct_slices("a")
    instances = listed(slices[::-1])
    for instance in instances[:3]:  # of slices without a mask: those with one have a place in the segmentation
        instance["MainDicomTags"] |= {"ImagePositionPatient": f"0\\0\\{written}", "InstanceNumber": written}
    found = arrange(seg(slices, {"one": block((4, 2, 2), (8, 6, 6))}), instances, cast(Orthanc, Archive({})))
    assert {frame.instance for frame in found.frames} == {f"i{n + 1}" for n in range(SHAPE[0])}


def test_frames_without_a_voxel_count_for_nothing() -> None:
    slices = ct_slices("a")
    whole = seg(slices, {"one": block((4, 2, 2), (8, 6, 6))}, omit_empty_frames=False)
    found = arrange(whole, listed(slices), cast(Orthanc, Archive({})))
    assert len(whole.PerFrameFunctionalGroupsSequence) == 16
    assert len(found.masks) == 4


def test_a_fractional_segmentation_is_left_to_the_viewer() -> None:
    slices = ct_slices("a")
    made = seg(
        slices, {"one": block((4, 2, 2), (8, 6, 6))}, segmentation_type="FRACTIONAL", fractional_type="PROBABILITY"
    )
    with pytest.raises(PermanentError, match="open it in the viewer"):
        arrange(made, listed(slices), cast(Orthanc, Archive({})))


def test_images_that_are_gone_are_said() -> None:
    slices = ct_slices("a")
    with pytest.raises(PermanentError, match="none of the images"):
        arrange(seg(slices, {"one": block((4, 2, 2), (8, 6, 6))}), [], cast(Orthanc, Archive({})))


@pytest.mark.parametrize("colour", [(255, 170, 0), (0, 114, 178), (1, 2, 3), (255, 255, 255), (90, 130, 255)])
def test_colours_come_back_as_the_model_gave_them(colour: tuple[int, int, int]) -> None:
    lightness, a, b = lab(colour)
    stored = [round(lightness * 65535 / 100), round((a + 128) * 65535 / 255), round((b + 128) * 65535 / 255)]
    shown = [int(srgb(stored)[i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(np.array(shown) - colour).max() <= 1


def bits_of(study: str, columns: int) -> tuple[Dataset, np.ndarray]:
    """A segmentation whose frames begin in the middle of a byte."""
    mask = np.random.default_rng(1).random((5, 3, columns)) > 0.5
    d = dcmread(BytesIO(to_bytes(seg(ct_slices(study), {"one": block((4, 2, 2), (8, 6, 6))}))))
    d.Rows, d.Columns, d.NumberOfFrames = 3, columns, 5
    data = np.packbits(mask.ravel(), bitorder="little").tobytes()
    d.PixelData = data + b"\0" * (len(data) % 2)
    return d, mask


@pytest.mark.parametrize("columns", [8, 5, 1])
def test_each_frame_begins_with_a_byte_of_its_own(columns: int) -> None:
    dataset, mask = bits_of("a", columns)
    archive = Archive({"9.9": dataset})
    bits = Bits()
    found = bits.of(str(dataset.StudyInstanceUID), "9.9", cast(Orthanc, archive))
    assert found is not None
    for number in range(1, 6):
        frame = np.unpackbits(np.frombuffer(found.frame(number), np.uint8), bitorder="little")[: 3 * columns]
        assert (frame.reshape(3, columns) == mask[number - 1]).all()
    assert bits.of(str(dataset.StudyInstanceUID), "9.9", cast(Orthanc, archive)) is found
    assert bits.was_asked("9.9")
    assert archive.fetched == 1


def test_frames_of_another_study_are_not_given_out() -> None:
    dataset, _mask = bits_of("a", 5)
    bits, archive = Bits(), cast(Orthanc, Archive({"9.9": dataset}))
    assert bits.of(str(dataset.StudyInstanceUID), "9.9", archive) is not None
    assert bits.of("1.2.3", "9.9", archive) is None


def test_images_are_no_bits() -> None:
    image = ct_slices("a")[0]
    assert Bits().of(str(image.StudyInstanceUID), "9.9", cast(Orthanc, Archive({"9.9": image}))) is None


def test_looking_is_written_down_once_in_a_while() -> None:
    now = [0.0]
    looks = Looks(lambda: now[0])
    assert [
        looks.is_new("ann", "192.0.2.1", "study", 1),
        looks.is_new("ann", "192.0.2.1", "study", 1),
        looks.is_new("ann", "192.0.2.1", "study", 2),
        looks.is_new("bob", "192.0.2.1", "study", 1),
        looks.is_new("ann", "192.0.2.2", "study", 1),
    ] == [
        True,
        False,
        True,
        True,
        True,
    ]
    now[0] = 1000.0
    assert looks.is_new("ann", "192.0.2.1", "study", 1)


@pytest.mark.parametrize(
    "path", ["../system", "1.2/../../system", "1.2/series/1.3//", "instances", "1.2/series/1.3/%2e%2e", "1.2 /series"]
)
def test_only_what_lies_within_a_study_is_passed_on(path: str) -> None:
    assert not WITHIN_STUDY.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    [
        "1.2/series",
        "1.2/series/1.3/metadata",
        "1.2/series/1.3/instances/1.4/frames/1,2",
        "1.2/series/1.3/instances/1.4/bulk/00420011",
    ],
)
def test_what_a_viewer_asks_for_is_passed_on(path: str) -> None:
    assert WITHIN_STUDY.fullmatch(path)
    assert bool(INSTANCE.fullmatch(path)) == ("frames" in path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/../b", "/etc/passwd", ".git", "a//b"])
def test_no_file_outside_the_viewer_has_a_name(name: str) -> None:
    assert not NAME.fullmatch(name)


def test_a_viewer_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert folder(ConsoleSettings(viewer=str(tmp_path))) is None
    (tmp_path / "index.html").write_text("<html>")
    assert folder(ConsoleSettings(viewer=str(tmp_path))) == tmp_path
