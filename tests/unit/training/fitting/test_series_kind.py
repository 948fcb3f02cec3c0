"""Slices for the classifier of series, what is done to them, and how it is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medai.models.geometry import Geometry
from medai.models.segmenters.series_kind import SIDE, standardised, turned
from medai.models.volume import Volume
from medai.training.cases import Example
from medai.training.cli import main
from medai.training.config import parse
from medai.training.data.datasets import write_pair
from medai.training.data.kind_slices import PARTS, UNKNOWN, Slices, parts_by_lungs, read_slices, slices_of
from medai.training.errors import DataError
from medai.training.fitting.series_kind import KindSlices, KindTask, by_patient, made_up
from medai.training.judging.series_kind import report_of

CONFIG = {
    "name": "kinds",
    "data": {"classes": {name: [number] for number, name in enumerate(PARTS, start=1)}, "repeat": {"a": 3}},
    "network": {"name": "densenet_classifier", "channels": [4, 1, 1]},
    "budget": {"patch": [SIDE, SIDE], "cases_per_epoch": 12, "batch": 4, "epochs": 1},
}


def volume(shape: tuple[int, int, int] = (40, 60, 50), mm: float = 4.0) -> Volume:
    """An egg whose thick end is in front."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    width = 12 + 8 * (1 - y / shape[1])
    inside = ((x - shape[2] / 2) / width) ** 2 + ((y - shape[1] / 2) / 24) ** 2 < 1
    voxels = np.where(inside, 100 + 2 * z, 0).astype(np.float32)
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(mm,) * 3, shape=shape
    )
    return Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU")


def slices() -> Slices:
    draw = np.random.default_rng(0)
    count = 24
    return Slices(
        images=draw.normal(size=(count, SIDE, SIDE)).astype(np.float16),
        parts=np.array([0, 1, 2, 3] * 5 + [UNKNOWN] * 4, dtype=np.uint8),
        axial=np.array([1] * 20 + [0] * 4, dtype=np.uint8),
        patients=np.array(["a", "b", "c"] * 8),
    )


def test_a_volume_gives_slices_that_lie_as_they_should_and_some_that_do_not() -> None:
    found = list(slices_of(volume(), np.full(40, 2, dtype=np.uint8)))
    upright = [image for image, part, axial in found if axial and part == 2]
    across = [part for _, part, axial in found if not axial]
    assert len(upright) == 40
    assert across == [UNKNOWN] * 32
    assert {image.shape for image, _, _ in found} == {(SIDE, SIDE)}
    assert abs(float(upright[20].mean())) < 1e-3
    assert float(upright[20].std()) == pytest.approx(1.0, abs=1e-3)


def test_lungs_tell_where_the_chest_is() -> None:
    drawn = np.zeros((40, 60, 50), dtype=np.uint8)
    drawn[10:20, 20:45, 10:40] = 1  # 120 square centimetres
    drawn[20:22, 20:30, 10:22] = 1  # 19: neither chest nor neck
    parts = parts_by_lungs(volume(), drawn, PARTS.index("abdomen"))
    assert set(parts[:10]) == {PARTS.index("abdomen")}
    assert set(parts[10:20]) == {PARTS.index("chest")}
    assert set(parts[20:22]) == {UNKNOWN}
    assert set(parts[22:]) == {PARTS.index("head_neck")}


def test_the_command_writes_slices_that_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((40, 60, 50), dtype=np.uint8)
    write_pair(Example(volume=volume(), labels=labels), "body", tmp_path / "lungs")
    image = tmp_path / "lungs" / "images" / "body.nii.gz"
    out = tmp_path / "slices.npz"
    command = ["kind-slices", "--lungs", str(tmp_path / "lungs"), "--out", str(out)]
    assert main([*command, "--volume", f"body,CT,abdomen,{image}", "--volume", f"brain,MR,head,{image}"]) == 0
    found = read_slices(out)
    assert set(found.patients.tolist()) == {"body", "brain"}
    assert (found.parts[found.patients == "brain"] == PARTS.index("head")).sum() == 40
    assert main([*command, "--volume", f"body,CT,tail,{image}"]) != 0
    assert "NAME,MODALITY,PART,PATH" in capsys.readouterr().err
    with pytest.raises(DataError, match="kind-slices"):
        read_slices(image)


def test_patients_are_drawn_alike_but_for_those_that_are_repeated() -> None:
    rows = by_patient(np.arange(24), slices().patients, {"a": 3})
    assert [len(group) for group in rows] == [8] * 5
    assert [set(slices().patients[group]) for group in rows] == [{"a"}] * 3 + [{"b"}] + [{"c"}]


def test_an_item_is_the_same_for_the_same_epoch_and_index_only() -> None:
    config = parse(CONFIG, where="test")
    rows = np.arange(24)
    first, again, later = (KindSlices(slices(), rows, config, epoch) for epoch in (0, 0, 1))
    for index in range(12):
        image, target = first[index]
        torch.testing.assert_close(image, again[index][0])
        assert image.shape == (1, SIDE, SIDE)
        assert abs(float(image.mean())) < 1e-3
        assert int(target[0]) in {*range(5), UNKNOWN}
    assert not torch.equal(first[0][0], later[0][0])


def test_turned_slices_are_turned() -> None:
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    ways = [turned(image, way) for way in range(4)]
    assert not any(np.array_equal(image, way) for way in ways)
    np.testing.assert_array_equal(ways[0][::-1], image)
    np.testing.assert_array_equal(np.rot90(ways[2], 2), image)


def test_made_up_slices_are_scaled_like_real_ones() -> None:
    image = made_up(np.random.default_rng(3))
    np.testing.assert_allclose(image, standardised(image), atol=1e-3)


def test_the_loss_leaves_out_what_is_not_known() -> None:
    task = KindTask(parse(CONFIG, where="test"), slices(), {"a", "b"}, {"c"})
    logits = torch.zeros((2, len(PARTS) + 1))
    unknown = torch.full((2, 2), UNKNOWN)
    assert float(task.loss(logits, unknown)) == 0.0
    known = torch.tensor([[1, 1], [UNKNOWN, UNKNOWN]])
    assert float(task.loss(logits, known)) == pytest.approx(np.log(5) + np.log(2), abs=1e-4)


def test_a_report_counts_right_and_wrong_slices() -> None:
    data, rows = slices(), np.arange(24)
    logits = np.full((24, len(PARTS) + 1), -5.0, dtype=np.float32)
    logits[:, 1] = 5.0  # everything is called head and neck
    when_turned = np.zeros((4, 24), dtype=np.float32)
    logits[:12, -1] = 5.0
    report = report_of(logits, when_turned, data, rows)
    assert report["structures"]["head_neck"] == {"slices": 5, "sensitivity": 1.0, "specificity": 0.0}
    assert report["structures"]["chest"]["sensitivity"] == 0.0
    assert report["upright"] == {"slices": 20, "sensitivity": pytest.approx(12 / 20)}
    assert report["patients"]["a"]["upright"] == pytest.approx(4 / 7, abs=0.02)
    assert report["patients"]["a"]["part"] == "head_neck"


def test_a_small_classifier_is_trained_exported_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], project_root: Path
) -> None:
    data = slices()
    path = tmp_path / "slices.npz"
    np.savez(path, images=data.images, parts=data.parts, axial=data.axial, patients=data.patients)
    config = project_root / "training" / "configs" / "series_kind.toml"
    run, bundle, figures = tmp_path / "run", tmp_path / "bundle", tmp_path / "figures.json"
    small = {
        **{"network.channels": "[4,1,1]", "budget.epochs": "1", "budget.cases_per_epoch": "8", "budget.batch": "4"},
        **{"split.test_cases": "['c']", "split.validation": "0.5", "data.repeat": "{}", "compute.threads": "1"},
    }
    changes = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    assert main(["fit", str(config), "--data", str(path), "--out", str(run), *changes]) == 0
    description = config.with_suffix("").with_suffix(".description.toml")
    assert main(["export", str(run), "--bundle", str(bundle), "--describe", str(description)]) == 0
    assert main(["evaluate", str(bundle), "--data", str(path), "--json", str(figures)]) == 0
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert set(report["patients"]) == {"c"}
    assert "upright" in capsys.readouterr().out
