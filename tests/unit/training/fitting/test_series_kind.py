"""Slices for the classifier of series, what is done to them, and how it is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kind_cases import slices

from medai.models.segmenters.series_kind import SIDE, standardised, turned
from medai.training.cli import main
from medai.training.config import parse
from medai.training.data.kind_slices import PARTS, UNKNOWN
from medai.training.fitting.series_kind import KindSlices, KindTask, by_patient, made_up

CONFIG = {
    "name": "kinds",
    "data": {"classes": {name: [number] for number, name in enumerate(PARTS, start=1)}, "repeat": {"a": 3}},
    "network": {"name": "densenet_classifier", "channels": [4, 1, 1]},
    "budget": {"patch": [SIDE, SIDE], "cases_per_epoch": 12, "batch": 4, "epochs": 1},
}


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
