"""From a Volume to a Segmentation on exactly the same grid.

``load`` makes the segmenter that a bundle names in SEGMENTERS. Each turns the volume to the axes its network
knows, runs it in float32, cleans the mask, and turns it back; plausibility.py checks what came out. Next: networks.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import cc3d
import fill_voids
import numpy as np
import torch
import torch.nn.functional as functional

from models.bundle import Bundle, InputSpec
from models.errors import ModelRefused, ModelUnavailable
from models.networks import SmallUNet
from models.plausibility import finish
from models.preprocess import reorient, to_axial
from models.volume import Labels, ModelCard, Segment, Segmentation, Volume, Voxels

HU_OF_AIR = -1024
HU_OF_SKIN = -400
MARGIN = 32
"""Pixels of air around the body that the slice network sees."""
SMALL_SIDE = 128
LARGE_SIDE = 256


class Segmenter(Protocol):
    """A model that is ready to run. ``segment`` may be called any number of times, from one thread at a time."""

    @property
    def card(self) -> ModelCard:
        """What results say of the model."""

    @property
    def spec(self) -> InputSpec:
        """What it reads."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it draws."""

    def segment(self, volume: Volume) -> Segmentation:
        """Labels on exactly the volume's grid. Raises ModelRefused with a reason for a radiographer."""


class _Bundled:
    """What every segmenter takes from its bundle."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        self.card, self.spec, self.segments = bundle.card, bundle.spec, bundle.segments

    def segment(self, volume: Volume) -> Segmentation:
        """Check the volume, find the mask, check the mask."""
        self.spec.require(to_axial(volume)[0])
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            labels = self.labels(volume)
        return finish(labels, volume, self.bundle)

    def labels(self, volume: Volume) -> Labels:
        """The label map on the volume's own grid."""
        raise NotImplementedError


class DeepBet(_Bundled):
    """Brain mask of a T1 head by the two networks of the package deepbet (Fisch et al. 2024).

    A coarse network finds the brain in the whole head, squeezed to 128 voxels a side; a fine one draws it in that
    box, stretched to 256 a side. The steps and constants are those of the published method; the package itself is
    not imported (it would bring pandas and a desktop toolkit), only its two TorchScript files are read.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        super().__init__(bundle, device)
        self._coarse, self._fine = (_torchscript(path, device) for path in bundle.weights)
        self._threshold = float(bundle.parameters["threshold"])
        self._margin = float(bundle.parameters["box_margin"])

    def labels(self, volume: Volume) -> Labels:
        """1 in the brain."""
        upright, turn = reorient(volume, "RAS")
        # The networks know [x, y, z].
        head = np.ascontiguousarray(upright.voxels.transpose(2, 1, 0), dtype=np.float32)
        mask = self._brain(torch.from_numpy(head).to(self.device).nan_to_num())
        return turn.undo(mask.transpose(2, 1, 0))

    def _brain(self, head: torch.Tensor) -> Labels:
        small = _resized(head, (SMALL_SIDE,) * 3)
        low, high = float(small.quantile(0.005)), float(small.quantile(0.995))
        if high <= low:
            raise ModelRefused("the image is empty: nearly all voxels have the same value")
        coarse = self._coarse(_normalised(small, low, high))[0, 1] > self._threshold
        box = _box(_largest(coarse.cpu().numpy(), 1), head.shape, self._margin)
        fine = self._fine(_normalised(_resized(head[box], (LARGE_SIDE,) * 3), low, high))[0, 1]
        inside = (_resized(fine, head[box].shape) > self._threshold).cpu().numpy()
        mask = np.zeros(head.shape, dtype=np.uint8)
        mask[box] = fill_voids.fill(_largest(inside, 1).astype(np.uint8))
        return mask


def _torchscript(path: Path, device: torch.device) -> torch.nn.Module:
    with warnings.catch_warnings():
        # torch prefers torch.export; the published weights are TorchScript.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            network: torch.nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call] # torch has no types here
        except RuntimeError as error:
            raise ModelUnavailable(f"weights {path.name} are damaged: reinstall them") from error
    return network.eval()


def _resized(volume: torch.Tensor, shape: tuple[int, ...] | torch.Size) -> torch.Tensor:
    return functional.interpolate(volume[None, None], tuple(shape), mode="nearest-exact")[0, 0]


def _normalised(volume: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """[1, 1, x, y, z] with mean 0.449 and deviation 0.226, as the networks were trained."""
    scaled = ((volume - low) / (high - low)).clamp(0, 1)
    return ((scaled - scaled.mean()) / scaled.std() * 0.226 + 0.449)[None, None]


def _box(mask: Voxels, shape: torch.Size, margin: float) -> tuple[slice, slice, slice]:
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


class UNet2D(_Bundled):
    """A structure in axial CT slices by SmallUNet, a few slices at a time, within the box of the body.

    Slices of another size are stretched to the network's, and probabilities back. Then, in three dimensions:
    pieces that lie mostly outside the body go (blankets look like lung); of the rest the ``components`` largest
    stay, each at least a twentieth of the largest; holes are filled.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        super().__init__(bundle, device)
        parameters = bundle.parameters
        network = SmallUNet(parameters["channels"])
        self._side, self._batch = int(parameters["side"]), int(parameters["batch"])
        self._threshold, self._components = float(parameters["threshold"]), int(parameters["components"])
        try:
            network.load_state_dict(torch.load(bundle.weights[0], weights_only=True, map_location="cpu"))
        except Exception as error:
            # torch raises errors of many kinds for files that are not its own.
            raise ModelUnavailable(f"{bundle.name}: {bundle.weights[0].name} does not fit this network") from error
        self._network = network.to(device).fused()

    def labels(self, volume: Volume) -> Labels:
        """The segment's number in the structure."""
        axial, turn = to_axial(volume)
        body = _body(axial.voxels)
        mask = np.zeros(axial.voxels.shape, dtype=bool)
        stretch = body.shape[1:] != (self._side, self._side)
        rows, columns = (slice(None), slice(None)) if stretch else self._window(body)
        for start in range(0, len(mask), self._batch):
            part = slice(start, start + self._batch)
            mask[part, rows, columns] = self._slices(axial.voxels[part, rows, columns], stretch=stretch)
        kept = _largest(_within(mask, body), self._components)
        filled = fill_voids.fill(kept.astype(np.uint8))
        return turn.undo(np.asarray(filled, dtype=np.uint8) * np.uint8(self.segments[0].number))

    def _window(self, body: Voxels) -> tuple[slice, slice]:
        """Rows and columns that hold the body and MARGIN pixels around it, in multiples of 8."""
        windows = []
        for axes in ((0, 2), (0, 1)):
            hit = np.flatnonzero(body.any(axis=axes))
            if not hit.size:
                raise ModelRefused("the image is empty: there is only air in it")
            first = max(0, int(hit[0]) - MARGIN) // 8 * 8
            windows.append(slice(first, min(self._side, -(-(int(hit[-1]) + 1 + MARGIN) // 8) * 8)))
        return windows[0], windows[1]

    def _slices(self, hounsfield: Voxels, *, stretch: bool) -> Voxels:
        # Above air: 0 outside the patient, as in the stored values that the network was trained on.
        values = np.maximum(np.nan_to_num(hounsfield.astype(np.float32), nan=HU_OF_AIR), HU_OF_AIR) - HU_OF_AIR
        images = torch.from_numpy(values).to(self.device)[:, None]
        size = images.shape[-2:]
        if stretch:
            images = functional.interpolate(images, (self._side, self._side), mode="bilinear")
        probability = torch.sigmoid(self._network(images.contiguous(memory_format=torch.channels_last)))
        if stretch:
            probability = functional.interpolate(probability, size, mode="bilinear")
        found: Voxels = (probability[:, 0] > self._threshold).cpu().numpy()
        return found


def _body(hounsfield: Voxels) -> Voxels:
    """The patient in axial slices: the largest piece denser than lung; holes filled in each slice."""
    dense = _largest(hounsfield > HU_OF_SKIN, 1)
    for number, image in enumerate(dense):
        dense[number] = fill_voids.fill(image.astype(np.uint8))
    return dense


def _within(mask: Voxels, body: Voxels) -> Voxels:
    """The pieces of a mask of which at least half lies in the body."""
    pieces = cc3d.connected_components(mask.astype(np.uint8))
    sizes = np.bincount(pieces[mask], minlength=1)
    inside = np.bincount(pieces[mask & body], minlength=len(sizes))
    found: Voxels = ((2 * inside >= sizes) & (sizes > 0))[pieces] & mask
    return found


SEGMENTERS: Mapping[str, Callable[[Bundle, torch.device], Segmenter]] = {"deepbet": DeepBet, "unet2d": UNet2D}
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
        return SEGMENTERS[bundle.segmenter](bundle, _device(device))
    except KeyError as error:
        raise ModelUnavailable(f"{bundle.name}: inference.json lacks the parameter {error}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable('device cuda is configured, but torch sees no GPU here: set device = "cpu" or "auto"')
    return torch.device(name)


def _largest(mask: Voxels, count: int) -> Voxels:
    """The largest ``count`` pieces of a mask (26 neighbours), each at least a twentieth of the largest."""
    pieces = cc3d.connected_components(mask.astype(np.uint8))
    sizes = np.bincount(pieces[mask], minlength=1)
    order = np.argsort(-sizes, kind="stable")[:count]
    kept = np.zeros(len(sizes), dtype=bool)
    kept[order] = sizes[order] > sizes.max() / 20
    kept[0] = False
    found: Voxels = kept[pieces]
    return found
