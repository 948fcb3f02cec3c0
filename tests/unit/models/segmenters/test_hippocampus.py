"""Two crops of a whole head, one of them mirrored, come back as numbered segments; network and pose are stood in for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle
from medai.models.format.metadata import InputSpec
from medai.models.geometry import Geometry
from medai.models.images.preprocess import reorient
from medai.models.images.registration import Pose
from medai.models.segmenters import hippocampus, network
from medai.models.segmenters.hippocampus import Hippocampus
from medai.models.volume import Code, ModelCard, Segment, Volume

FRONT, BACK = 100.0, 200.0
CODE = Code(value="1", scheme="SCT", meaning="x")


def head(axes: str = "LPS", *, sides: tuple[int, ...] = (1, -1), moved_mm: float = 0.0) -> tuple[Volume, np.ndarray]:
    """100 mm of a head of 2 mm voxels with two bars 22 mm beside the middle, front and back of each told by value."""
    shape = (50, 50, 50)
    geometry = Geometry(
        origin_mm=(-49, -49, -49), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(2, 2, 2), shape=shape
    )
    z, y, x = np.meshgrid(*(np.arange(n) * 2.0 - 49 for n in shape), indexing="ij")
    voxels, truth = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for number, side in enumerate(sides):
        inside = (abs(x - side * 22) < 7) & (abs(y - moved_mm) < 11) & (abs(z) < 7)
        for part, (value, here) in enumerate(((FRONT, y < moved_mm), (BACK, y > moved_mm)), start=1):
            voxels[inside & here] = value
            truth[inside & here] = 2 * number + part
    turned, turn = reorient(Volume(voxels=voxels, geometry=geometry, modality="MR"), axes)
    return turned, turn.apply(truth)


Made = Callable[..., tuple[Hippocampus, list[np.ndarray]]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """A segmenter whose network tells front from back by value, with every crop that it was shown."""

    def make(*, known_side: str = "left", **inferer: Any) -> tuple[Hippocampus, list[np.ndarray]]:
        crops: list[np.ndarray] = []

        def runner(images: torch.Tensor) -> torch.Tensor:
            crops.append(images[0, 0].numpy().copy())
            front = ((images > 50) & (images < 150)).float()
            back = (images >= 150).float()
            return 20 * torch.cat([1 - front - back, front, back], dim=1)

        monkeypatch.setattr(network, "make_runner", lambda *_, **__: runner)
        monkeypatch.setattr(hippocampus, "read_bundle", lambda *_: None)
        monkeypatch.setattr(hippocampus, "DeepBet", lambda *_: None)
        monkeypatch.setattr(hippocampus, "nifti_to_volume", lambda *_, **__: None)
        pose = Pose(matrix=np.eye(3), offset=np.zeros(3))
        monkeypatch.setattr(Hippocampus, "_pose", lambda *_: pose)
        parameters = {
            "localise": {
                "template": "t.nii.gz", "known_side": known_side,
                "centre_mm": {"left": [22.0, 0.0, 0.0], "right": [-22.0, 0.0, 0.0]},
            },
            "feed": {"axes": "RAS", "intensity": {"kind": "none"}}, "inferer": {"multiple": 1, **inferer},
        }  # fmt: skip
        segments = tuple(Segment(number=n, name=str(n), category=CODE, type=CODE) for n in (1, 2, 3, 4))
        bundle = Bundle(
            name="h", folder=Path(), card=ModelCard(name="h", title="H", version="1", fingerprint="0" * 64),
            segmenter="hippocampus", spec=InputSpec(modalities=frozenset({"MR"})), segments=segments, plausible={},
            parameters=parameters, weights=(Path("model.safetensors"),),
        )  # fmt: skip
        return Hippocampus(bundle, torch.device("cpu")), crops

    return make


@pytest.mark.parametrize("axes", ["LPS", "PIR"])
@pytest.mark.parametrize("known_side", ["left", "right"])
def test_left_comes_before_right_and_front_before_back_in_any_orientation(
    axes: str, known_side: str, made: Made
) -> None:
    volume, truth = head(axes)
    labels = made(known_side=known_side)[0].draw(volume)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    for number in (1, 2, 3, 4):
        ours, theirs = labels == number, truth == number
        assert 2 * np.count_nonzero(ours & theirs) / (ours.sum() + theirs.sum()) > 0.8, number


def test_the_other_side_is_shown_mirrored_so_that_the_network_knows_it(made: Made) -> None:
    model, crops = made()
    model.draw(head()[0])
    left, right = crops[1], crops[3]
    assert left.shape == (36, 52, 36)
    assert np.allclose(left, right, atol=1e-3)


def test_the_second_look_is_around_what_the_first_one_found(made: Made) -> None:
    model, crops = made()
    volume, truth = head(moved_mm=8.0)
    labels = model.draw(volume)
    rows = [np.flatnonzero((crop > 50).any(axis=(0, 2))).mean() for crop in crops[:2]]
    usual = 0.60 * 51
    assert abs(rows[1] - usual) < 1.0 < abs(rows[0] - usual)
    assert 2 * np.count_nonzero((labels > 0) & (truth > 0)) / ((labels > 0).sum() + (truth > 0).sum()) > 0.9


def test_only_the_second_look_is_averaged_over_mirrored_crops(made: Made) -> None:
    model, crops = made(mirror=[0])
    model.draw(head()[0])
    assert len(crops) == 2 * (1 + 2)


def test_a_side_that_is_not_found_is_refused_by_its_name(made: Made) -> None:
    model, _ = made()
    with pytest.raises(ModelRefused, match="the right hippocampus was not found: is it a whole T1 head?"):
        model.draw(head(sides=(1,))[0])


def test_a_crop_as_in_training_is_one_hippocampus_of_the_known_side(made: Made) -> None:
    volume, truth = head()
    part = volume.voxels[:, :, 25:]
    grid = replace(volume.geometry, shape=part.shape, origin_mm=(1.0, -49.0, -49.0))
    crop = Volume(voxels=part, geometry=grid, modality="MR")
    expected = truth[:, :, 25:]
    assert np.array_equal(made(known_side="left")[0].draw(crop), expected)
    assert np.array_equal(made(known_side="right")[0].draw(crop), np.where(expected > 0, expected + 2, 0))
