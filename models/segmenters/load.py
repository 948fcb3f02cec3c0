"""From a Volume to a Segmentation on exactly the same grid: which segmenters there are, and how one is loaded.

Each turns the volume to the axes its network knows, runs it in float32, tidies the mask and turns it back;
plausibility.py judges what came out. Next: network.py, hippocampus.py, deepbet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.segmenters.base import Segmenter
from medai.models.segmenters.deepbet import DeepBet
from medai.models.segmenters.hippocampus import Hippocampus
from medai.models.segmenters.network import NetworkSegmenter

__all__ = ["SEGMENTERS", "Segmenter", "load", "torch_device"]

SEGMENTERS: Mapping[str, Callable[[Bundle, torch.device], Segmenter]] = {
    "deepbet": DeepBet,
    "network": NetworkSegmenter,
    "hippocampus": Hippocampus,
}
"""What ``medai.segmenter`` in a bundle's metadata may name."""


def load(bundle: Bundle, *, device: str = "auto", threads: int = 0) -> Segmenter:
    """A bundle's segmenter on a device ("auto": CUDA where there is one). Raises ModelUnavailable."""
    if bundle.segmenter not in SEGMENTERS:
        raise ModelUnavailable(
            f"{bundle.name}: there is no segmenter {bundle.segmenter!r}; there are {', '.join(SEGMENTERS)}"
        )
    if threads > 0:
        torch.set_num_threads(threads)
    try:
        return SEGMENTERS[bundle.segmenter](bundle, torch_device(device))
    except KeyError as error:
        raise ModelUnavailable(f"{bundle.name}: inference.json lacks the parameter {error}") from error


def torch_device(name: str) -> torch.device:
    """The device that a setting names. Raises ModelUnavailable for CUDA where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable('device cuda is configured, but torch sees no GPU here: set device = "cpu" or "auto"')
    return torch.device(name)
