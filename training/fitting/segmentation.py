"""Segmentation as a task for fit.py: patches in, a loss, and Dice over whole validation cases.

Next: fit.py (the loop), data/augment.py (the patches).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss, DiceFocalLoss
from monai.metrics import DiceHelper
from monai.transforms import Compose
from torch.utils.data import DataLoader

from medai.models.networks.definition import definition
from medai.models.networks.sliding import Network, predict
from medai.models.volume import Voxels
from medai.training.config import TrainingConfig
from medai.training.data.augment import make_augmentation, patch_of
from medai.training.data.prepare import Prepared
from medai.training.errors import ConfigError

Batch = tuple[torch.Tensor, torch.Tensor]


class Patches(torch.utils.data.Dataset[Batch]):
    """The patches of one epoch, each by its own seed: any process may make any of them."""

    def __init__(self, cases: list[Prepared], config: TrainingConfig, epoch: int, augmentation: Compose) -> None:
        self._cases, self._config, self._epoch, self._augmentation = cases, config, epoch, augmentation
        budget = config.budget
        count = (budget.cases_per_epoch or len(cases)) * budget.patches_per_case
        order = np.random.default_rng([config.seed, epoch])
        rounds = -(-count // len(cases))
        self._order = np.concatenate([order.permutation(len(cases)) for _ in range(rounds)])[:count]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Batch:
        case = self._cases[int(self._order[index])]
        return patch_of(case, self._augmentation, (self._config.seed, self._epoch, index))


class SegmentationTask:
    """What fit.py needs of a task."""

    def __init__(self, config: TrainingConfig, train: list[Prepared], validation: list[Prepared]) -> None:
        self.config, self._train, self._validation = config, repeated(train, config.data.repeat), validation
        self.classes = ("background", *config.data.classes)
        self._augmentation = make_augmentation(config.augmentation, config.budget, len(self.classes))
        self._loss = make_loss(config)

    def network_def(self) -> dict[str, Any]:
        """The network of the configuration, with a channel for each class and one for the background."""
        network = self.config.network
        return definition(
            network.name,
            dims=len(self.config.budget.patch),
            channels_in=1,
            channels_out=len(self.classes),
            channels=network.channels,
            **network.parameters,
        )

    def batches(self, epoch: int) -> DataLoader[Batch]:
        """The epoch's batches."""
        compute = self.config.compute
        return DataLoader(
            Patches(self._train, self.config, epoch, self._augmentation),
            batch_size=self.config.budget.batch,
            num_workers=compute.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar."""
        found: torch.Tensor = self._loss(logits, target)
        return found

    def validate(self, network: Network, device: torch.device) -> dict[str, float]:
        """Dice of each class (NaN where no case holds it), and their mean as ``score``; on the network's grid."""
        scores = [
            self._dice(case, predict(network, case.image, self.config.inferer, device)) for case in self._validation
        ]
        held = [[value for value in column if not math.isnan(value)] for column in zip(*scores, strict=True)]
        means = [statistics.fmean(values) if values else math.nan for values in held or [[]] * (len(self.classes) - 1)]
        found = {f"dice_{name}": mean for name, mean in zip(self.classes[1:], means, strict=True)}
        known = [mean for mean in means if not math.isnan(mean)]
        return {**found, "score": statistics.fmean(known) if known else 0.0}

    def _dice(self, case: Prepared, probabilities: Voxels) -> list[float]:
        """NaN for a class that the case does not hold."""
        drawn = torch.from_numpy(probabilities.argmax(axis=0).astype(np.int64))[None, None]
        truth = torch.from_numpy(case.target.astype(np.int64))[None, None]
        helper = DiceHelper(
            include_background=False,
            apply_argmax=False,
            num_classes=len(self.classes),
            reduction="none",
            get_not_nans=False,
        )
        return [float(value) for value in np.atleast_1d(np.asarray(helper(drawn, truth)).squeeze(0))]

    def pictures(self, network: Network, device: torch.device) -> Iterator[tuple[str, Voxels]]:
        """Up to three validation cases: the slice with most foreground, truth (left) and answer (right) as colours."""
        for case in self._validation[:3]:
            drawn = predict(network, case.image, self.config.inferer, device).argmax(axis=0)
            number = int(np.count_nonzero(case.target, axis=(1, 2)).argmax())
            yield case.name, overlays(case.image[number], [case.target[number], drawn[number]])

    def sample(self) -> torch.Tensor:
        """An input for the picture of the network's graph."""
        return torch.zeros((1, 1, *self.config.budget.patch))


def repeated(cases: list[Prepared], times: Mapping[str, int]) -> list[Prepared]:
    """The cases, those that ``times`` names so often. Raises ConfigError for a name that does not train."""
    unknown = set(times) - {case.name for case in cases}
    if unknown:
        raise ConfigError(f"data.repeat names {', '.join(sorted(unknown))}, which is no training case")
    return [case for case in cases for _ in range(times.get(case.name, 1))]


COLOURS = np.array(
    [[0, 0, 0], [255, 160, 0], [0, 176, 240], [0, 200, 100], [230, 80, 200], [250, 230, 60], [120, 120, 255]]
)


def overlays(image: Voxels, label_maps: list[Voxels]) -> Voxels:
    """uint8 [row, column, 3]: the grey slice with each label map over it, side by side."""
    low, high = np.percentile(image, [1, 99])
    grey = (np.clip((image - low) / max(float(high - low), 1e-6), 0, 1) * 255)[..., None].repeat(3, axis=2)
    painted = []
    for labels in label_maps:
        colour = COLOURS[1:][(labels - 1) % (len(COLOURS) - 1)]
        painted.append(np.where(labels[..., None] > 0, 0.5 * grey + 0.5 * colour, grey))
    return np.concatenate(painted, axis=1).astype(np.uint8)


def make_loss(config: TrainingConfig) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """By [loss]: MONAI's losses on logits and on targets that hold each class's share, both [batch, classes, ...]."""
    loss = config.loss
    weight = torch.tensor(loss.weights) if loss.weights else None
    if loss.name == "ce":
        cross_entropy: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.CrossEntropyLoss(weight=weight)
        return cross_entropy
    options: dict[str, Any] = {
        "softmax": True,
        "batch": True,
        "include_background": loss.background,
        "weight": weight,
    }
    if loss.name == "dice_focal":
        focal: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = DiceFocalLoss(**options)
        return focal
    both: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = DiceCELoss(**options)
    return both
