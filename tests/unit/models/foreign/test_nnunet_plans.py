"""Plans of nnU-Net become a recipe that does what its own preprocessing would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_cases import ct_volume, nnunet_folder, nnunet_network

from medai.models.errors import ModelUnavailable
from medai.models.foreign.adding import add
from medai.models.foreign.nnunet_plans import translate
from medai.models.format.recipe import Recipe
from medai.models.networks.nnunet import build
from medai.models.registry import Registry


@pytest.fixture
def plans(tmp_path: Path) -> dict[str, Any]:
    folder = nnunet_folder(tmp_path / "made", folds=0)
    found: dict[str, Any] = json.loads((folder / "plans.json").read_text())
    return found


DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}}


def test_plans_become_a_recipe(plans: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(translate(plans, DATASET, "3d_fullres", mirror=(0, 1, 2)))
    # [z, y, x] = [S, P, L] transposed by (1, 0, 2) is [P, S, L]: column L, row S, slice P.
    assert (recipe.feed.axes, recipe.feed.spacing_mm) == ("LSP", (4.0, 3.0, 2.0))
    assert recipe.feed.intensity.to == pytest.approx((-9.5, 2.5))
    assert (recipe.inferer.roi, recipe.inferer.overlap, recipe.inferer.mirror) == ((16, 24, 16), 0.5, (0, 1, 2))
    assert recipe.runner == "nnunet"


def test_a_2d_configuration_keeps_the_slices(plans: dict[str, Any]) -> None:
    two = {**plans["configurations"]["3d_fullres"], "patch_size": [64, 48], "spacing": [1.0, 2.0]}
    plans["configurations"]["2d"] = two
    recipe = Recipe.model_validate(translate(plans, DATASET, "2d", mirror=(0, 1)))
    assert (recipe.feed.spacing_mm, recipe.inferer.dims, recipe.inferer.mirror) == ((2.0, 1.0, 0.0), 2, (1, 2))


def test_what_a_configuration_inherits_is_there(plans: dict[str, Any]) -> None:
    plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]}
    recipe = translate(plans, DATASET, "mine")
    assert (recipe["inferer"]["roi"], recipe["feed"]["spacing_mm"]) == ((8, 8, 8), (4.0, 3.0, 2.0))


def test_plans_of_before_2_5_name_the_same_network(plans: dict[str, Any]) -> None:
    configuration = plans["configurations"]["3d_fullres"]
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }
    network = build(translate(plans, DATASET, "3d_fullres")["network_def"])
    network.load_state_dict(nnunet_network(0).state_dict())


@pytest.mark.parametrize(
    ("change", "dataset", "text"),
    [
        ({"previous_stage": "3d_lowres"}, DATASET, "second stage of a cascade"),
        ({"normalization_schemes": ["MyNormalization"]}, DATASET, "normalisation MyNormalization"),
        ({}, {**DATASET, "channel_names": {"0": "T1", "1": "T2"}}, "reads 2 images"),
        ({}, {**DATASET, "labels": {"whole": [1, 2]}, "regions_class_order": [1]}, "overlapping regions"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    change: dict[str, Any], dataset: dict[str, Any], text: str, plans: dict[str, Any]
) -> None:
    plans["configurations"]["3d_fullres"] |= change
    with pytest.raises(ModelUnavailable, match=text):
        translate(plans, dataset, "3d_fullres")


def test_an_unknown_configuration_names_those_there_are(plans: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable, match="no configuration '3d_lowres'; there are 3d_fullres"):
        translate(plans, DATASET, "3d_lowres")


def test_a_results_folder_draws_what_its_networks_say(tmp_path: Path) -> None:
    folder = nnunet_folder(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", spacing=[8.0, 12.0, 16.0])
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["medai"]["inferer"] = {"mirror": []}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    add(folder, tmp_path / "models", name="nnunet_spleen", limit_s=300)
    # The patch is [y, z, x] = (16, 24, 16) at (8, 12, 16) mm: one window holds exactly this volume, few the phantom.
    volume = ct_volume((24, 16, 16), (16.0, 8.0, 12.0))
    found = Registry((tmp_path / "models",)).load("nnunet_spleen").draw(volume)
    known = (np.clip(volume.voxels.astype(np.float32), -900, 300) - 50) / 100
    batch = torch.from_numpy(np.ascontiguousarray(known.transpose(1, 0, 2)))[None, None]
    with torch.inference_mode():
        logits = (nnunet_network(0)(batch) + nnunet_network(1)(batch)) / 2
    expected = logits[0].argmax(0).numpy().transpose(1, 0, 2)
    assert 0.01 < expected.mean() < 0.99, "both classes are drawn"
    assert (found == expected).mean() > 0.9999
