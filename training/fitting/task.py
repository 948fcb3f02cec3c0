"""What is learnt (Task) and how far a training has come (State). Next: fit.py (the loop over both)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from medai.models.networks.sliding import Network


class Task(Protocol):
    """What is learnt: patches, a loss, and a score on the validation cases."""

    classes: tuple[str, ...]

    def network_def(self) -> dict[str, Any]:
        """The network to build (medai.models.networks.definition.build)."""

    def batches(self, epoch: int) -> Any:
        """Pairs of input and target; a len."""

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar."""

    def validate(self, network: Network, device: torch.device) -> dict[str, float]:
        """Figures by name; ``score`` (higher is better) chooses the weights that are kept."""

    def pictures(self, network: Network, device: torch.device) -> Iterator[tuple[str, Any]]:
        """Pictures for TensorBoard, uint8 [row, column, 3]."""

    def sample(self) -> torch.Tensor:
        """An input of the network."""


@dataclass
class State:
    """What a checkpoint holds beside the weights."""

    epoch: int = 0
    """Epochs done."""
    best: float = -1.0
    best_epoch: int = 0
    since_best: int = 0
    """Validations since the best one."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
