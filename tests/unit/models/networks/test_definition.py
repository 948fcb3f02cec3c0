"""Which code a bundle's definition may choose: ours under its name of today and of before, and a list of MONAI's."""

from __future__ import annotations

import pytest

from medai.models.errors import ModelUnavailable
from medai.models.networks.definition import build


@pytest.mark.parametrize(
    ("before", "today"),
    [
        ("models.networks.SmallUNet", "medai.models.networks.definition.SmallUNet"),
        ("models.architectures.DenseNetSegmenter", "medai.models.networks.architectures.DenseNetSegmenter"),
        ("models.architectures.DeepLabV3Plus", "medai.models.networks.architectures.DeepLabV3Plus"),
    ],
)
def test_a_bundle_made_before_our_packages_were_called_medai_is_still_read(before: str, today: str) -> None:
    old, new = build({"_target_": before}), build({"_target_": today})
    assert type(old) is type(new)
    assert f"{type(new).__module__}.{type(new).__name__}" == today


@pytest.mark.parametrize(
    "target", ["", "os.system", "models.networks.Other", "monai.networks.nets.Nothing", "torch.nn.Linear"]
)
def test_any_other_code_is_not_a_bundles_to_choose(target: str) -> None:
    with pytest.raises(ModelUnavailable, match="a bundle may name one of ours or"):
        build({"_target_": target})
