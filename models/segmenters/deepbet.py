"""The brain mask of a T1 head by deepbet's two networks. Next: base.py."""

from __future__ import annotations

import fill_voids
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle
from medai.models.images.preprocess import reorient
from medai.models.networks.runners import torchscript
from medai.models.segmenters.base import Bundled
from medai.models.segmenters.cleaning import largest
from medai.models.volume import Labels, Volume, Voxels

SMALL_SIDE = 128
LARGE_SIDE = 256


class DeepBet(Bundled):
    """Brain mask of a T1 head by the two networks of the package deepbet (Fisch et al. 2024).

    A coarse network finds the brain in the whole head, squeezed to 128 voxels a side; a fine one draws it in that
    box, stretched to 256 a side. The steps and constants are those of the published method; the package itself is
    not imported (it would bring pandas and a desktop toolkit), only its two TorchScript files are read.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        super().__init__(bundle, device)
        self._coarse, self._fine = (torchscript(path, device) for path in bundle.weights)
        self._threshold = float(bundle.parameters["threshold"])
        self._margin = float(bundle.parameters["box_margin"])

    def labels(self, volume: Volume) -> Labels:
        """1 in the brain."""
        upright, turn = reorient(volume, "RAS")
        mask = self._brain(upright.voxels.transpose(2, 1, 0))  # the networks know [x, y, z]
        return turn.undo(mask.transpose(2, 1, 0))

    def _brain(self, head: Voxels) -> Labels:
        small = self._shown(head, SMALL_SIDE)
        low, high = small.quantile(small.new_tensor([0.005, 0.995])).tolist()
        if high <= low:
            raise ModelRefused("the image is empty: nearly all voxels have the same value")
        coarse = self._coarse(_normalised(small, low, high))[0, 1] > self._threshold
        box = _box(largest(coarse.cpu().numpy(), 1), head.shape, self._margin)
        fine = self._fine(_normalised(self._shown(head[box], LARGE_SIDE), low, high))[0, 1] > self._threshold
        inside = _resized(fine.cpu().numpy(), head[box].shape)
        mask = np.zeros(head.shape, dtype=np.uint8)
        mask[box] = fill_voids.fill(largest(inside, 1).astype(np.uint8))
        return mask

    def _shown(self, part: Voxels, side: int) -> torch.Tensor:
        """Some of a head as a network sees it, float32."""
        squeezed = np.ascontiguousarray(_resized(part, (side,) * 3), dtype=np.float32)
        return torch.from_numpy(squeezed).to(self.device).nan_to_num()


def _resized(volume: Voxels, shape: tuple[int, ...]) -> Voxels:
    """The nearest voxels, and no others: of a whole head in full size only what is seen is copied."""
    found: Voxels = volume[np.ix_(*map(_nearest, volume.shape, shape))]
    return found


def _nearest(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Which of ``count`` voxels each of ``wanted`` ones takes, by torch's own rule."""
    numbers = torch.arange(count, dtype=torch.float32)[None, None]
    return functional.interpolate(numbers, wanted, mode="nearest-exact")[0, 0].long().numpy()


def _normalised(volume: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """[1, 1, x, y, z] with mean 0.449 and deviation 0.226, as the networks were trained; changes the volume."""
    scaled = volume.sub_(low).div_(high - low).clamp_(0, 1)
    mean, deviation = scaled.mean(), scaled.std()
    return scaled.sub_(mean).div_(deviation).mul_(0.226).add_(0.449)[None, None]


def _box(mask: Voxels, shape: tuple[int, ...], margin: float) -> tuple[slice, slice, slice]:
    """The mask's box, scaled to a grid of ``shape`` and widened by ``margin`` of its size at each side."""
    slices = []
    for axis in range(3):
        profile = mask.mean(axis=tuple(other for other in range(3) if other != axis))
        hit = np.flatnonzero(profile > 0.02)
        if not hit.size:
            raise ModelRefused("no brain was found in the image")
        first, behind, scale = int(hit[0]), int(hit[-1]) + 1, shape[axis] / mask.shape[axis]
        centre = float(np.round(np.float32(scale * (first + behind) / 2)))
        size = float(np.round(np.float32((1 + 2 * margin) * scale * (behind - first))))
        slices.append(slice(max(0, int(centre - size / 2)), min(shape[axis], int(centre + size / 2))))
    return slices[0], slices[1], slices[2]
