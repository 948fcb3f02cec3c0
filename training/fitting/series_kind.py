"""Telling what a series shows, as a task for fit.py: slices of data/kind_slices.py, turned, remapped, made up.

Parts are drawn equally often, then patients, then slices. Half of the slices are turned or flipped and must be told
from those that lie as they should; a tenth are made up (noise, balls, stripes) and show "other". Contrasts are
remapped at random, so that shapes decide. Left and right are exchanged freely.
Next: judging/series_kind.py (judges it), models/segmenters/series_kind.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from monai.transforms import Compose, RandAffine, RandBiasField, RandGaussianNoise, RandGaussianSmooth
from torch.utils.data import DataLoader

from medai.models.networks.definition import definition
from medai.models.networks.sliding import Network
from medai.models.segmenters.series_kind import SIDE, WAYS, standardised, turned
from medai.models.volume import Voxels
from medai.training.config import TrainingConfig
from medai.training.data.augment import IMAGE, RandRemapd
from medai.training.data.kind_slices import PARTS, UNKNOWN, Slices

MADE_UP = 0.1
TURNED = 0.5
Item = tuple[torch.Tensor, torch.Tensor]


class KindSlices(torch.utils.data.Dataset[Item]):
    """The slices of one epoch: parts drawn equally often, each item by its own seed."""

    def __init__(self, slices: Slices, rows: Voxels, config: TrainingConfig, epoch: int) -> None:
        self._slices, self._config, self._epoch = slices, config, epoch
        parts = [rows[slices.parts[rows] == part] for part in (*range(len(PARTS)), UNKNOWN)]
        self._parts = [by_patient(part, slices.patients, config.data.repeat) for part in parts if len(part)]
        self._count = config.budget.cases_per_epoch or len(rows)
        self._distort = Compose(
            [
                RandAffine(
                    prob=0.9,
                    rotate_range=[0.25],
                    scale_range=[0.25, 0.25],
                    translate_range=[10, 10],
                    padding_mode="border",
                ),
                RandGaussianSmooth(prob=0.2, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0)),
                RandBiasField(prob=0.3, coeff_range=(0.0, 0.3)),
                RandGaussianNoise(prob=0.3, std=0.3),
            ]
        )
        self._remap = RandRemapd(config.augmentation.p_invert)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        draw = np.random.default_rng([self._config.seed, self._epoch, index])
        number = int(draw.integers(2**31))
        self._distort.set_random_state(seed=number)
        self._remap.set_random_state(seed=number)
        if draw.random() < MADE_UP:
            image, part, upright = made_up(draw), PARTS.index("other"), UNKNOWN
        else:
            image, part, upright = self._real(draw)
        distorted = torch.as_tensor(self._distort(torch.from_numpy(image[None])))
        done = torch.from_numpy(standardised(torch.as_tensor(self._remap({IMAGE: distorted})[IMAGE]).numpy()))
        target = torch.tensor([part, upright], dtype=torch.int64)
        return done.contiguous(), target

    def _real(self, draw: np.random.Generator) -> tuple[Voxels, int, int]:
        patients = self._parts[int(draw.integers(len(self._parts)))]
        rows = patients[int(draw.integers(len(patients)))]
        row = int(rows[int(draw.integers(len(rows)))])
        image = self._slices.images[row].astype(np.float32)
        part, upright = int(self._slices.parts[row]), int(self._slices.axial[row])
        if draw.random() < 0.5:
            image = image[:, ::-1]
        if upright and draw.random() < TURNED:
            image, upright = turned(image, int(draw.integers(WAYS))), 0
        return np.ascontiguousarray(image), part, upright


def by_patient(rows: Voxels, patients: Voxels, repeat: Mapping[str, int]) -> list[Voxels]:
    """Rows of each patient; a patient that ``repeat`` names comes so many times."""
    return [rows[patients[rows] == name] for name in np.unique(patients[rows]) for _ in range(repeat.get(str(name), 1))]


def made_up(draw: np.random.Generator) -> Voxels:
    """Something that is no body part: noise, balls, stripes; mean 0, deviation 1."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = draw.normal(0, draw.uniform(0.05, 1.0), (SIDE, SIDE)).astype(np.float32)
    for _ in range(int(draw.integers(0, 4))):
        y, x, radius = draw.uniform(20, 76), draw.uniform(20, 76), draw.uniform(4, 40)
        image[((rows - y) ** 2 + (columns - x) ** 2 * draw.uniform(0.5, 2.0)) < radius**2] += draw.uniform(-3, 3)
    if draw.random() < 0.3:
        image += np.sin((rows * draw.uniform(-1, 1) + columns * draw.uniform(-1, 1)) * draw.uniform(0.1, 1.0))
    return standardised(image)


class KindTask:
    """What fit.py needs of a task."""

    def __init__(self, config: TrainingConfig, slices: Slices, train: set[str], validation: set[str]) -> None:
        self.config, self._slices = config, slices
        self.classes: tuple[str, ...] = PARTS
        self._train = np.flatnonzero(np.isin(slices.patients, sorted(train)))
        self._validation = np.flatnonzero(np.isin(slices.patients, sorted(validation)))

    def network_def(self) -> dict[str, Any]:
        """A DenseNet with a channel for each part and one for upright."""
        network = self.config.network
        return definition(
            network.name,
            dims=2,
            channels_in=1,
            channels_out=len(PARTS) + 1,
            channels=network.channels,
            **network.parameters,
        )

    def batches(self, epoch: int) -> DataLoader[Item]:
        """The epoch's batches."""
        dataset = KindSlices(self._slices, self._train, self.config, epoch)
        return DataLoader(dataset, batch_size=self.config.budget.batch, num_workers=self.config.compute.workers)

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the part and of upright, each where it is known."""
        part, upright = target[:, 0], target[:, 1]
        of_part = functional.cross_entropy(logits[:, :-1], part, ignore_index=UNKNOWN)
        known = upright != UNKNOWN
        of_upright = functional.binary_cross_entropy_with_logits(logits[known, -1], upright[known].float())
        return torch.nan_to_num(of_part) + torch.nan_to_num(of_upright)

    def validate(self, network: Network, device: torch.device) -> dict[str, float]:
        """Accuracy of the part, and of upright with every slice also turned; ``score`` is their mean."""
        rows = self._validation
        if not len(rows):
            return {"score": 0.0}
        images = self._slices.images[rows].astype(np.float32)
        logits = run_slices(network, images, device)
        known = self._slices.parts[rows] != UNKNOWN
        part = float((logits[known, :-1].argmax(axis=1) == self._slices.parts[rows][known]).mean())
        is_axial = self._slices.axial[rows] == 1
        flipped = run_slices(network, np.stack([turned(image, 2) for image in images[is_axial]]), device)
        right = np.concatenate([(logits[:, -1] > 0) == is_axial, flipped[:, -1] < 0])
        return {"part": part, "upright": float(right.mean()), "score": (part + float(right.mean())) / 2}

    def pictures(self, network: Network, device: torch.device) -> Iterator[tuple[str, Voxels]]:
        """None: a slice at 4 mm tells little."""
        return iter(())

    def sample(self) -> torch.Tensor:
        """An input for the picture of the network's graph."""
        return torch.zeros((1, 1, SIDE, SIDE))


def run_slices(network: Network, images: Voxels, device: torch.device, batch: int = 64) -> Voxels:
    """Logits [slice, channel] of slices [slice, row, column]."""
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(np.ascontiguousarray(images[start : start + batch, None])).to(device))
            .float()
            .cpu()
            for start in range(0, len(images), batch)
        ]
    found: Voxels = torch.cat(parts).numpy()
    return found
