"""A network is built of its definition, and of nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from medai.models.errors import ModelUnavailable
from medai.models.networks.definition import DEFINITIONS, SmallUNet, build, definition


def test_folding_the_normalisation_changes_nothing() -> None:
    torch.manual_seed(0)
    network = SmallUNet((4, 8, 8, 8)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr,operator] # tensors, by torch's documentation
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator] # as above
    images = torch.rand(1, 1, 32, 40)
    with torch.inference_mode():
        before = network(images)
        after = network.fused()(images)
    assert after.shape == images.shape
    assert torch.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_training_names_is_plain_and_can_be_built(name: str) -> None:
    definition_ = definition(name, dims=2, channels_in=1, channels_out=3, channels=(4, 2, 2))
    assert json.loads(json.dumps(definition_)) == definition_
    network = build(definition_).eval()
    with torch.inference_mode():
        logits = network(torch.zeros((1, 1, 32, 32)))
    assert logits.shape[:2] == (1, 3)


def test_single_parameters_can_be_overridden() -> None:
    found = definition("unet", dims=3, channels_in=1, channels_out=2, channels=(4, 8), norm="BATCH")
    assert (found["norm"], found["strides"]) == ("BATCH", [2])


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ModelUnavailable, match="no network 'vnet'; there are unet, densenet"):
        definition("vnet", dims=3, channels_in=1, channels_out=2, channels=(4, 8))


def test_a_bundle_made_before_the_packages_were_renamed_is_still_built() -> None:
    assert isinstance(build({"_target_": "models.networks.SmallUNet", "channels": [2, 2, 2, 2]}), SmallUNet)


@pytest.mark.parametrize(
    ("network_def", "words"),
    [
        ({}, "network_def names no _target_"),
        ({"_target_": "os.system", "command": "true"}, "names os.system; a bundle may name one of ours"),
        ({"_target_": "monai.networks.nets.Regressor"}, "names monai.networks.nets.Regressor"),
        ({"_target_": "models.networks.SmallUNet", "channels": ["$print(1)"]}, "expressions are code and are not run"),
        ({"_target_": "models.networks.SmallUNet", "a": {"b": "@c"}}, r"network_def.a.b is the expression '@c'"),
        ({"_target_": "models.networks.SmallUNet", "channels": [1, 2]}, "cannot be built of these parameters"),
        ({"_target_": "models.networks.SmallUNet", "depth": 3}, "cannot be built of these parameters"),
    ],
)
def test_what_is_not_listed_or_not_plain_is_not_built(network_def: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        build(network_def)
