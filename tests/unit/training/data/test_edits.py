"""A data set of what readers corrected: their masks under the model's numbers, whole patients, no identifiers; or a reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_cases import PLANTED, slice_of, to_bytes
from edit_cases import BRAIN, HIPPOCAMPUS, Drawn, human_seg
from pydicom import Dataset

from medai.training.cli import main
from medai.training.config import SplitConfig
from medai.training.data.datasets import open_dataset
from medai.training.data.edits import FORMAT, Policy, make
from medai.training.data.splits import split
from medai.training.errors import DataError


def block(low: int, high: int) -> np.ndarray:
    mask = np.zeros((16, 16, 16), dtype=bool)
    mask[low:high, low:high, low:high] = True
    return mask


A, B = block(2, 6), block(8, 13)
ROWS = (
    {"structure": "Hippocampus", "outcome": "matched", "segment": 1, "edited_segment": 2, "dice": 0.8},
    {"structure": "Brain", "outcome": "matched", "segment": 2, "edited_segment": 1, "dice": 0.9},
)


def images(study: str, **changes: Any) -> list[Dataset]:
    return [slice_of(index, study=study, **changes) for index in range(16)]


def both(study: str, **more: Any) -> Dataset:
    drawn = [Drawn(more.pop("brain", B), "whole brain", BRAIN), Drawn(A, "HC", HIPPOCAMPUS)]
    return human_seg(images(study), drawn, **more)


def put(
    root: Path, study: str, seg: Dataset, rows: Sequence[dict[str, Any]] = ROWS, *, model: str = "m", **changes: Any
) -> None:
    """Add an edited reading to an export."""
    folder = root / f"job-{study}"
    (folder / "images").mkdir(parents=True)
    files = {"edited.dcm": to_bytes(seg)}
    files |= {f"images/{n:05d}.dcm": to_bytes(image) for n, image in enumerate(images(study, **changes), start=1)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    path = root / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {"format": FORMAT, "notice": "", "edits": []}
    manifest["edits"].append(
        {"folder": folder.name, "model": model, "model_version": "1", "tool": "x", "modality": "MR",
         "structures": list(rows), "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    )  # fmt: skip
    path.write_text(json.dumps(manifest))


def test_the_readers_masks_come_out_under_the_models_numbers(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    assert main(["edits", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    dataset = open_dataset(str(tmp_path / "out"))
    assert dataset.label_names == {1: "Hippocampus", 2: "Brain"}
    example = dataset.cases[0].load()
    assert np.array_equal(example.labels == 1, A)
    assert np.array_equal(example.labels == 2, B)


def test_all_readings_of_a_patient_are_on_one_side_of_a_split(tmp_path: Path) -> None:
    for number in range(8):
        name = f"case{number}"
        put(tmp_path / "in", name, both(name), PatientID=f"patient-{number // 2}")
    made = make(tmp_path / "in", tmp_path / "out")
    assert (made["cases"], made["patients"]) == (8, 4)
    sides = split(open_dataset(str(tmp_path / "out")), SplitConfig(validation=0.25, test=0.25)).sides()
    assert [len(sides[name]) for name in ("train", "validation", "test")] == [4, 2, 2]
    found = [{case.patient for case in cases} for cases in sides.values()]
    assert not found[0] & found[1]
    assert not found[0] & found[2]


def test_nothing_of_the_patient_is_in_the_data_set(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    make(tmp_path / "in", tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files) + " ".join(map(str, files)).encode()
    assert not [value for value in PLANTED.values() if value.encode() in content]


def left_out(root: Path, policy: Policy | None = None) -> str:
    with pytest.raises(DataError) as refused:
        make(root / "in", root / "out", policy=policy)
    return str(refused.value)


def test_a_drawing_that_lacks_a_structure_is_left_out_unless_that_means_it_is_not_there(tmp_path: Path) -> None:
    rows = (
        ROWS[1],
        {"structure": "Hippocampus", "outcome": "removed", "segment": 1, "edited_segment": None, "dice": None},
    )
    put(tmp_path / "in", "one", both("one"), rows)
    assert "lacks some of the model's structures" in left_out(tmp_path)
    make(tmp_path / "in", tmp_path / "out", policy=Policy(missing_is_background=True))
    labels = open_dataset(str(tmp_path / "out")).cases[0].load().labels
    assert set(np.unique(labels)) == {0, 2}


def test_what_nobody_changed_is_no_teacher(tmp_path: Path) -> None:
    same = [{**row, "dice": 1.0} for row in ROWS]
    put(tmp_path / "in", "one", both("one", algorithm="AUTOMATIC"), same)
    assert "nobody changed it" in left_out(tmp_path)
    assert make(tmp_path / "in", tmp_path / "out", policy=Policy(unchanged=True))["cases"] == 1


def test_what_a_person_drew_is_taken_also_where_it_is_the_same(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"), [{**row, "dice": 1.0} for row in ROWS])
    assert make(tmp_path / "in", tmp_path / "out")["cases"] == 1


def test_overlapping_structures_are_left_out_unless_an_order_is_given(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one", brain=B | A))
    assert "overlap" in left_out(tmp_path)
    make(tmp_path / "in", tmp_path / "out", policy=Policy(higher_wins=True))
    labels = open_dataset(str(tmp_path / "out")).cases[0].load().labels
    assert np.array_equal(labels == 2, A | B)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    between = [slice_of(i, study="one", ImagePositionPatient=[-24, -24, i * 3 + 1.0]) for i in range(16)]
    drawn = [Drawn(B, "brain", BRAIN), Drawn(A, "HC", HIPPOCAMPUS)]
    put(tmp_path / "in", "one", human_seg(between, drawn))
    assert "another grid" in left_out(tmp_path)


def test_a_file_that_is_not_the_exported_one_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    (tmp_path / "in" / "job-one" / "images" / "00003.dcm").write_bytes(b"something else")
    assert "not the one that was exported" in left_out(tmp_path)


def test_an_image_that_is_missing_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    (tmp_path / "in" / "job-one" / "images" / "00003.dcm").unlink()
    assert "an image is not there" in left_out(tmp_path)


def test_the_newest_of_two_drawings_on_the_same_images_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    put(tmp_path / "in", "two", both("one", brain=block(9, 12), seed="older"))
    (tmp_path / "in" / "job-two" / "images").rename(tmp_path / "gone")
    (tmp_path / "in" / "job-two" / "images").symlink_to(tmp_path / "in" / "job-one" / "images")
    path = tmp_path / "in" / "manifest.json"
    manifest = json.loads(path.read_text())
    first, second = manifest["edits"]
    second["sha256"] = {**first["sha256"], "edited.dcm": second["sha256"]["edited.dcm"]}
    path.write_text(json.dumps(manifest))
    made = make(tmp_path / "in", tmp_path / "out")
    assert (made["cases"], made["left_out"]) == (1, {"an older drawing on the same images": 1})
    labels = open_dataset(str(tmp_path / "out")).cases[0].load().labels
    assert np.array_equal(labels == 2, B)


def test_edits_of_several_models_are_not_mixed(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    put(tmp_path / "in", "two", both("two"), model="other")
    with pytest.raises(DataError, match="name one with --model: m, other"):
        make(tmp_path / "in", tmp_path / "out")
    assert make(tmp_path / "in", tmp_path / "out", model="other")["cases"] == 1


def test_versions_that_number_differently_are_not_mixed(tmp_path: Path) -> None:
    put(tmp_path / "in", "one", both("one"))
    put(tmp_path / "in", "two", both("two"), [{**row, "segment": 3 - row["segment"]} for row in ROWS])
    with pytest.raises(DataError, match="in one edit and"):
        make(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no manifest"), ('{"format": "other 2", "edits": []}', "has the format 'other 2'"),
        (json.dumps({"format": FORMAT, "edits": [{"folder": "../up", "model": "m", "modality": "MR", "structures": [], "sha256": {}}]}), "outside"),
        (json.dumps({"format": FORMAT, "edits": []}), "no edit of any model"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_export_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=words):
        make(tmp_path, tmp_path / "out")


def test_half_an_export_is_no_export(tmp_path: Path) -> None:
    assert main(["edits", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    with pytest.raises(DataError, match="and whole"):
        make(tmp_path, tmp_path / "out")
