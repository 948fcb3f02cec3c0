"""The brain is looked for in the whole head and drawn in its box; the two networks are stood in for here."""

from __future__ import annotations

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
from medai.models.segmenters import deepbet
from medai.models.segmenters.deepbet import LARGE_SIDE, SMALL_SIDE, DeepBet
from medai.models.volume import ModelCard, Volume


class Seen:
    """Stands in for a network: bright is brain; remembers what it was shown."""

    def __init__(self) -> None:
        self.sides: list[int] = []
        self.means: list[float] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.sides.append(images.shape[-1])
        self.means.append(float(images.mean()))
        bright = (images > images.min() + 0.5 * (images.max() - images.min())).float()
        return torch.cat([1 - bright, bright], dim=1)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    made: list[Seen] = []

    def load(*_: Any) -> Seen:
        made.append(Seen())
        return made[-1]

    monkeypatch.setattr(deepbet, "torchscript", load)
    return made


def segmenter() -> DeepBet:
    card = ModelCard(name="b", title="B", version="1", fingerprint="0" * 64)
    bundle = Bundle(
        name="b", folder=Path(), card=card, segmenter="deepbet", spec=InputSpec(modalities=frozenset({"MR"})),
        segments=(), plausible={}, parameters={"threshold": 0.5, "box_margin": 0.1}, weights=(Path("c"), Path("f")),
    )  # fmt: skip
    return DeepBet(bundle, torch.device("cpu"))


def head(axes: str = "LPS") -> tuple[Volume, np.ndarray]:
    """A bright box with a hole in dark surroundings, and a bright crumb beside it; the box filled is the brain."""
    shape = (50, 60, 40)
    brain = np.zeros(shape, np.uint8)
    brain[15:40, 20:48, 10:32] = 1
    voxels = brain * 500.0
    voxels[25:28, 30:33, 20:23] = 0
    voxels[2:4, 2:4, 2:4] = 500
    geometry = Geometry(origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(2, 2, 2), shape=shape)
    volume = Volume(voxels=voxels.astype(np.int16), geometry=geometry, modality="MR")
    turned, turn = reorient(volume, axes)
    return turned, turn.apply(brain)


@pytest.mark.parametrize("axes", ["LPS", "PSR", "IRA"])
def test_the_largest_piece_is_drawn_filled_in_its_place_however_the_head_is_stored(
    axes: str, networks: list[Seen]
) -> None:
    volume, brain = head(axes)
    labels = segmenter().labels(volume)
    assert labels.shape == volume.geometry.shape
    overlap = 2 * np.count_nonzero((labels > 0) & (brain > 0)) / (labels.sum() + brain.sum())
    assert overlap > 0.99


def test_the_whole_head_is_seen_small_and_its_brain_large_both_scaled_alike(networks: list[Seen]) -> None:
    segmenter().labels(head()[0])
    coarse, fine = networks
    assert (coarse.sides, fine.sides) == ([SMALL_SIDE], [LARGE_SIDE])
    assert coarse.means + fine.means == pytest.approx([0.449, 0.449], abs=1e-4)


def test_an_empty_image_is_refused(networks: list[Seen]) -> None:
    volume, _ = head()
    flat = Volume(voxels=np.full_like(volume.voxels, 7), geometry=volume.geometry, modality="MR")
    with pytest.raises(ModelRefused, match="the image is empty"):
        segmenter().labels(flat)


def test_a_head_in_which_nothing_is_found_is_refused(networks: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    model = segmenter()
    monkeypatch.setattr(model, "_coarse", lambda images: torch.zeros((1, 2, *images.shape[2:])))
    with pytest.raises(ModelRefused, match="no brain was found"):
        model.labels(head()[0])


def test_values_that_are_no_numbers_do_not_spoil_the_rest(networks: list[Seen]) -> None:
    volume, brain = head()
    voxels = volume.voxels.astype(np.float32)
    voxels[0, 0, :5] = np.nan
    labels = segmenter().labels(Volume(voxels=voxels, geometry=volume.geometry, modality="MR"))
    assert 2 * np.count_nonzero((labels > 0) & (brain > 0)) / (labels.sum() + brain.sum()) > 0.99
