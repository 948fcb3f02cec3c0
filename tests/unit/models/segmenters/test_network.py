"""A network by its recipe: fed, asked, and drawn back onto exactly the source's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.format.metadata import InputSpec
from medai.models.geometry import Geometry
from medai.models.segmenters import network
from medai.models.segmenters.network import NetworkSegmenter, network_weights, read_recipe
from medai.models.volume import ModelCard, Volume


def bundle(**parameters: Any) -> Bundle:
    return Bundle(
        name="m", folder=Path(), card=ModelCard(name="m", title="M", version="1", fingerprint="0" * 64),
        segmenter="network", spec=InputSpec(modalities=frozenset({"MR"})), segments=(), plausible={},
        parameters=parameters, weights=(Path("model.safetensors"), Path("template.nii.gz"), Path("model_2.safetensors")),
    )  # fmt: skip


def bright_is_one(images: torch.Tensor) -> torch.Tensor:
    """Class 1 where a value is positive."""
    return torch.cat([-images, images], dim=1)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that the network is shown."""
    shapes: list[tuple[int, ...]] = []

    def runner(images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape))
        return bright_is_one(images)

    monkeypatch.setattr(network, "make_runner", lambda *_, **__: runner)
    return shapes


def ball(shape: tuple[int, int, int] = (20, 24, 28), mm: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> Volume:
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = ((z - 9) * mm[2]) ** 2 + ((y - 11) * mm[1]) ** 2 + ((x - 12) * mm[0]) ** 2 < 12**2
    geometry = Geometry(origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=mm, shape=shape)
    return Volume(voxels=np.where(inside, 100, -100).astype(np.float32), geometry=geometry, modality="MR")


NONE = {"intensity": {"kind": "none"}}


@pytest.mark.parametrize(
    ("feed", "inferer"),
    [
        ({}, {"multiple": 8}),
        ({"axes": "RAS"}, {"multiple": 8}),
        ({"axes": "PSR"}, {"roi": [16, 16, 16]}),
        ({}, {"dims": 2, "multiple": 4}),
        ({}, {"dims": 2, "roi": [16, 16]}),
    ],
)
def test_a_mask_lies_where_its_voxels_are_whatever_the_network_reads(
    feed: dict[str, Any], inferer: dict[str, Any], shown: list[tuple[int, ...]]
) -> None:
    volume = ball()
    model = NetworkSegmenter(bundle(feed={**NONE, **feed}, inferer=inferer), torch.device("cpu"))
    labels = model.draw(volume)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels > 0, volume.voxels > 0)
    assert {len(shape) for shape in shown} == {inferer.get("dims", 3) + 2}


def test_another_spacing_is_resampled_for_the_network_alone(shown: list[tuple[int, ...]]) -> None:
    volume = ball((10, 24, 28), (2.0, 2.0, 4.0))
    model = NetworkSegmenter(
        bundle(feed={**NONE, "spacing_mm": [2, 2, 2]}, inferer={"multiple": 1}), torch.device("cpu")
    )
    labels = model.draw(volume)
    assert shown == [(1, 1, 20, 24, 28)]
    assert labels.shape == (10, 24, 28)
    differs = np.count_nonzero((labels > 0) != (volume.voxels > 0))
    assert differs < 0.1 * np.count_nonzero(volume.voxels > 0)


def test_what_is_tidied_is_tidied_on_axial_axes(shown: list[tuple[int, ...]]) -> None:
    volume = ball()
    voxels = volume.voxels.copy()
    voxels[0, 0, 0] = 100
    model = NetworkSegmenter(
        bundle(feed=NONE, inferer={"multiple": 1}, cleaning={"components": 1}), torch.device("cpu")
    )
    labels = model.draw(replace(volume, voxels=voxels))
    assert labels[0, 0, 0] == 0
    assert np.array_equal(labels > 0, volume.voxels > 0)


def test_a_template_beside_the_weights_is_none_of_them() -> None:
    assert [path.name for path in network_weights(bundle())] == ["model.safetensors", "model_2.safetensors"]


def test_every_fault_of_a_recipe_is_told_with_its_place() -> None:
    with pytest.raises(ModelUnavailable) as told:
        read_recipe("m", {"feed": {"axes": "XYZ"}, "runner": "magic", "inferer": {"dims": 2, "roi": [1, 2, 3]}})
    text = str(told.value)
    assert text.startswith("m: inference.json: ")
    for place in ("feed.axes: ", "runner: ", "inferer: Value error, roi has 3 sides"):
        assert place in text
