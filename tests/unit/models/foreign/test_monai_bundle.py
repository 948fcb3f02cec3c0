"""MONAI's declarations become a recipe; its programs are refused by name and never run."""

from __future__ import annotations

from typing import Any

import pytest
from foreign_cases import UNET, monai_config

from medai.models.errors import ModelUnavailable
from medai.models.foreign.monai_bundle import translate
from medai.models.format.recipe import Recipe

COMPOSE = "preprocessing", "transforms"


def config(*, inferer: dict[str, Any] | None = None, network: dict[str, Any] | None = None) -> dict[str, Any]:
    made = monai_config([1.5, 1.6, 2.0], [96, 80, 64])
    made["inferer"] = {**made["inferer"], **(inferer or {})}
    made["network_def"] = {**made["network_def"], **(network or {})}
    return made


def with_step(step: dict[str, Any], *, after: bool = False, instead: str = "") -> dict[str, Any]:
    made = config()
    steps = made["postprocessing" if after else "preprocessing"]["transforms"]
    if instead:
        steps[:] = [one for one in steps if one["_target_"] != instead]
    steps.append(step)
    return made


def recipe(made: dict[str, Any], *, network: bool = True) -> Recipe:
    return Recipe.model_validate(translate(made, network=network)[0])


def test_the_example_of_the_model_zoo_is_translated() -> None:
    found = recipe(config())
    assert found.network_def == {**UNET, "_target_": "monai.networks.nets.UNet"}
    assert (found.feed.axes, found.feed.spacing_mm) == ("SAR", (2.0, 1.6, 1.5))
    assert found.feed.intensity.model_dump() == {
        "kind": "window", "low": -57.0, "high": 164.0, "to": (0.0, 1.0), "clip": True, "nonzero": False,
    }  # fmt: skip
    assert (found.inferer.roi, found.inferer.overlap, found.inferer.batch) == ((96, 80, 64), 0.5, 4)
    assert (found.inferer.blend, found.inferer.padding, found.inferer.activation) == ("constant", "constant", "softmax")


@pytest.mark.parametrize(
    ("step", "kind", "values"),
    [
        ({"_target_": "NormalizeIntensityd", "nonzero": True}, "zscore", {"low": 0, "high": 100, "nonzero": True}),
        (
            {"_target_": "NormalizeIntensityd", "subtrahend": 40, "divisor": 20},
            "window",
            {"low": 20, "high": 60, "to": (-1, 1), "clip": False},
        ),
        ({"_target_": "monai.transforms.ScaleIntensityD"}, "percentile", {"low": 0, "high": 100, "to": (0, 1)}),
        (
            {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1},
            "percentile",
            {"low": 1, "high": 99, "clip": False},
        ),
    ],
)
def test_intensities_have_counterparts(step: dict[str, Any], kind: str, values: dict[str, Any]) -> None:
    found = recipe(with_step({**step, "keys": "image"}, instead="ScaleIntensityRanged")).feed.intensity
    assert found.kind == kind
    assert {key: getattr(found, key) for key in values} == values


def test_references_to_plain_values_are_looked_up() -> None:
    made = config(network={"out_channels": "@classes::number"})
    made["classes"] = {"number": 2}
    assert recipe(made).network_def["out_channels"] == 2


def test_a_slice_wise_network_sees_the_plane_that_it_was_trained_on() -> None:
    found = recipe(config(inferer={"_target_": "SliceInferer", "roi_size": [64, 64], "spatial_dim": 2}))
    # Slices along z (S); in each, rows grow to the right and columns to the front, as MONAI's [x, y].
    assert (found.feed.axes, found.feed.spacing_mm, found.inferer.dims) == ("ARS", (1.6, 1.5, 2.0), 2)


def test_sigmoid_and_what_is_tidied_have_counterparts() -> None:
    made = config()
    made["postprocessing"]["transforms"] = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.4},
        {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
        {"_target_": "FillHolesd", "keys": "pred"},
    ]
    found = recipe(made)
    assert (found.inferer.activation, found.inferer.threshold) == ("sigmoid", 0.4)
    assert (found.cleaning.components, found.cleaning.fill_holes) == (1, True)


def test_a_graph_needs_no_network_def() -> None:
    made = config(network={"_target_": "some.private.Network"})
    assert recipe(made, network=False).network_def == {}
    with pytest.raises(ModelUnavailable, match=r"network_def names Network; .* put models/model\.ts"):
        recipe(made)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (with_step({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}), "uses Lambdad, which has no"),
        (with_step({"_target_": "RandAffined", "keys": "image"}), "uses RandAffined"),
        (with_step({"_target_": "NormalizeIntensityd", "keys": "image"}), "scales intensities twice"),
        (with_step({"_target_": "Spacingd", "keys": "image", "pixdim": "$[1, 1, 1]"}), "is the expression"),
        (with_step({"_target_": "Spacingd", "keys": "image", "pixdim": [1, -1, 1]}), "three sizes in millimetres"),
        (with_step({"_target_": "Orientationd", "keys": "image", "as_closest_canonical": True}), "axcodes None"),
        (with_step({"_target_": "MapLabelValued", "keys": "pred"}, after=True), "postprocessing uses MapLabelValued"),
        (config(network={"out_channels": "$1 + 1"}), "is the expression"),
        (config(network={"in_channels": 4}), "reads 4 channels"),
        (config(inferer={"roi_size": "$@patch"}), "is the expression"),
        (config(inferer={"_target_": "SaliencyInferer"}), "inferer is SaliencyInferer"),
        ({**config(), "preprocessing": "$Compose([])"}, "no preprocessing that is written out"),
        ({**config(), "inferer": "@nowhere"}, "refers to @nowhere, which is not there"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_its_name(made: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelUnavailable, match=text):
        recipe(made)


def test_references_in_a_circle_end() -> None:
    made = config(network={"out_channels": "@a"})
    made |= {"a": "@b", "b": "@a"}
    with pytest.raises(ModelUnavailable, match="form a circle"):
        recipe(made)
