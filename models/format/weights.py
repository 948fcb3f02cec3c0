"""Weights between a network and a file of safetensors: what modules share is kept once.

MONAI's DynUNet registers its blocks under two names; safetensors holds no tensor twice. Next: networks/runners.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from medai.models.errors import ModelUnavailable


def unshared(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights, contiguous on the CPU, each tensor under its first name."""
    first = _first_names(network)
    return {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items() if first[name] == name
    }


def load_into(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put weights into a network, float32. Raises ModelUnavailable, naming what is missing or too much."""
    first = _first_names(network)
    missing = [name for name in first if name not in weights and first[name] not in weights]
    unknown = [name for name in weights if name not in first]
    if missing or unknown:
        raise ModelUnavailable(
            "the weights do not fit the network: "
            + "; ".join(_few(what, names) for what, names in (("missing", missing), ("unknown", unknown)) if names)
        )
    whole = {name: weights[name] if name in weights else weights[first[name]] for name in first}
    try:
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in whole.items()}
        )
    except RuntimeError as error:
        raise ModelUnavailable("the weights do not fit the network: tensors of another shape") from error


def _first_names(network: torch.nn.Module) -> dict[str, str]:
    """Each name of the state -> the first name of the same tensor."""
    seen: dict[tuple[int, torch.Size], str] = {}
    return {
        name: seen.setdefault((value.data_ptr(), value.shape), name) if value.numel() else name
        for name, value in network.state_dict().items()
    }


def _few(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}"
