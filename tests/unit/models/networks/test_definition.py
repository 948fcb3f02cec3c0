"""A network is built of its definition, and of nothing else."""

from __future__ import annotations

import torch

from medai.models.networks.definition import SmallUNet


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
