"""The weights of runs as a bundle holds them, in 32 or 16 bits, and what rounding changes. Next: bundle.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medai.models.files import sha256_of
from medai.models.networks.definition import build
from medai.training.errors import TrainingError
from medai.training.runs import Run

WEIGHTS = "models/model.safetensors"
MOST_CHANGED = 0.001
"""Share of voxels whose class may change when weights are rounded to 16 bits."""
Weights = dict[str, torch.Tensor]


def write_weights(runs: Sequence[Run], folder: Path, *, half: bool) -> tuple[dict[str, str], float | None]:
    """The weights of each run in a file of its own: name in the bundle -> SHA-256; the most that rounding changed."""
    files, changes = {}, []
    for number, found in enumerate(runs, start=1):
        name = WEIGHTS if number == 1 else WEIGHTS.replace(".", f"_{number}.")
        weights, changed = _weights(found, half=half)
        save_file(weights, folder / name, metadata={"format": "pt"})
        files[name] = sha256_of(folder / name)
        changes += [changed] if changed is not None else []
    return files, max(changes, default=None)


def _weights(found: Run, *, half: bool) -> tuple[Weights, float | None]:
    """The weights as they will be stored, and the share of voxels whose class rounding changes."""
    path = found.folder / "best.safetensors"
    try:
        exact = load_file(path)
        network = build(found.network_def)
        network.load_state_dict(exact)
    except safetensors.SafetensorError as error:
        raise TrainingError(f"{path.name} is damaged: {error}") from error
    except RuntimeError as error:
        raise TrainingError(f"{path.name} does not fit the network of summary.json: {error}") from error
    kept = {name: tensor.contiguous() for name, tensor in sorted(network.state_dict().items())}
    bad = [name for name, tensor in kept.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise TrainingError(f"the weights {bad[0]} are not finite: the training failed")
    if not half:
        return {name: _float32(tensor) for name, tensor in kept.items()}, None
    rounded = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    large = [name for name, tensor in rounded.items() if not torch.isfinite(tensor).all()]
    if large:
        raise TrainingError(f"the weights {large[0]} are too large for 16 bits: export without --half")
    changed = _changed(found, network, rounded)
    if changed > MOST_CHANGED:
        raise TrainingError(
            f"in 16 bits the network gives {changed:.2%} of the voxels of a random image another class "
            f"(at most {MOST_CHANGED:.1%} are accepted): export without --half"
        )
    return rounded, changed


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _changed(found: Run, network: nn.Module, rounded: Weights) -> float:
    """Share of outputs (voxels, or images) whose class differs when the weights are rounded; seeded noise as input."""
    inferer = found.config.inferer
    side = inferer.roi or found.config.budget.patch
    generator = torch.Generator().manual_seed(found.config.seed)
    noise = torch.randn((1, int(found.network_def.get("in_channels", 1)), *side), generator=generator)
    before = network.eval()
    after = build(found.network_def).eval()
    after.load_state_dict(rounded)
    with torch.inference_mode():
        one, other = (_classes(each(noise), inferer.activation) for each in (before, after))
    return float((one != other).float().mean())


def _classes(logits: torch.Tensor, activation: str) -> torch.Tensor:
    return logits > 0 if activation == "sigmoid" else logits.argmax(dim=1)
