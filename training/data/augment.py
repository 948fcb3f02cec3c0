"""What happens to a training patch: MONAI's random transforms, in the order and strength that a config gives.

Each patch has its own seed, made of the training's seed, the epoch and its place in it. So a training that was killed
goes on with the very patches that it would have seen. Next: fitting/fit.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    AsDiscreted,
    Compose,
    Lambdad,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
    ResizeWithPadOrCropd,
    SpatialPadd,
    SqueezeDimd,
)

from medai.training.config import AugmentationConfig, BudgetConfig
from medai.training.data.prepare import Prepared

IMAGE, TARGET = "image", "target"
BOTH = (IMAGE, TARGET)
MARGIN = 1.2
"""How much wider than the patch the region is that rotation and scaling draw from."""


def make_augmentation(config: AugmentationConfig, budget: BudgetConfig, classes: int) -> Compose:
    """From {"image", "target"} [1, slice, row, column] to a patch of ``budget.patch``; ``classes`` with background."""
    patch = tuple(budget.patch)
    return Compose(
        [
            *_whole_case(config),
            *_crop(config, budget, patch, classes),
            *_shape(config, patch, classes),
            *_values(config),
        ]
    )


def patch_of(case: Prepared, augmentation: Compose, seed: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One patch: image [1, ...] and target [class, ...], both float32; the same for the same seed.

    A target holds each class's share of a voxel: rotation and scaling cut voxels, and rounding would thin small things.
    """
    number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    augmentation.set_random_state(seed=number)
    item: Any = {IMAGE: torch.from_numpy(case.image[None]), TARGET: torch.from_numpy(case.target[None])}
    done = augmentation(item)
    done = done[0] if isinstance(done, list) else done
    image, target = torch.as_tensor(done[IMAGE]), torch.as_tensor(done[TARGET])
    return image.float().contiguous(), target.float().contiguous()


def _whole_case(config: AugmentationConfig) -> list[Any]:
    steps: list[Any] = []
    if config.p_crop_fov:
        steps.append(RandCropSlicesd(config.p_crop_fov))
    if config.p_thick_slices:
        steps.append(RandThickSlicesd(config.p_thick_slices, config.thick_slices))
    return steps


def _crop(config: AugmentationConfig, budget: BudgetConfig, patch: tuple[int, ...], classes: int) -> list[Any]:
    if budget.crop == "centre":
        return []  # the affine transform takes the middle
    wide = tuple(math.ceil(side * (MARGIN if config.p_affine else 1.0)) for side in patch)
    size = wide if len(patch) == 3 else (1, *wide)
    ratios = [1.0 - budget.foreground, *[budget.foreground / (classes - 1)] * (classes - 1)]
    steps: list[Any] = [
        SpatialPadd(BOTH, spatial_size=size, mode=("edge", "constant")),
        RandCropByLabelClassesd(
            BOTH, label_key=TARGET, spatial_size=size, ratios=ratios, num_classes=classes, num_samples=1, warn=False
        ),
    ]
    if len(patch) == 2:
        steps.append(SqueezeDimd(BOTH, dim=1))
    return steps


def _shape(config: AugmentationConfig, patch: tuple[int, ...], classes: int) -> list[Any]:
    """Turned, scaled, shifted. Targets become shares of the classes, which are interpolated like the image."""
    dims = len(patch)
    angle = math.radians(config.rotate_deg)
    steps: list[Any] = [
        AsDiscreted(TARGET, to_onehot=classes),
        RandAffined(
            BOTH,
            prob=config.p_affine,
            spatial_size=patch,
            rotate_range=[angle] * (3 if dims == 3 else 1),
            scale_range=[config.scale] * dims,
            translate_range=[config.shift_voxels] * dims,
            mode=("bilinear", "bilinear"),
            padding_mode=("border", "zeros"),
        ),
        ResizeWithPadOrCropd(BOTH, spatial_size=patch, mode="edge"),
        Lambdad(TARGET, whole_shares),
    ]
    steps += [RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in config.mirror]
    if config.mirror_sides:
        steps.append(RandMirrorSidesd(config.mirror_sides))
    return steps


def _values(config: AugmentationConfig) -> list[Any]:
    """Transforms of the image alone; those with probability 0 are left out, for they cost time."""
    steps: list[tuple[float, Callable[[float], Any]]] = [
        (
            config.p_low_resolution,
            lambda p: RandSimulateLowResolutiond(IMAGE, prob=p, zoom_range=config.low_resolution),
        ),
        (config.p_blur, lambda p: RandGaussianSmoothd(IMAGE, (0.4, 0.9), (0.4, 0.9), (0.4, 0.9), prob=p)),
        (config.p_bias_field, lambda p: RandBiasFieldd(IMAGE, coeff_range=(0.0, 0.2), prob=p)),
        (config.p_contrast, lambda p: RandScaleIntensityd(IMAGE, factors=config.contrast, prob=p)),
        (config.p_contrast, lambda p: RandShiftIntensityd(IMAGE, offsets=config.contrast, prob=p)),
        (config.p_gamma, lambda p: RandAdjustContrastd(IMAGE, prob=p, gamma=config.gamma, retain_stats=True)),
        (config.p_invert, lambda p: RandRemapd(p)),
        (config.p_noise, lambda p: RandGaussianNoised(IMAGE, prob=p, std=config.noise)),
    ]
    return [make(probability) for probability, make in steps if probability]


def whole_shares(target: Any) -> torch.Tensor:
    """Shares [class, ...] that sum to 1: what no class claims is background."""
    shares = torch.as_tensor(target).clamp(0.0, 1.0)
    rest = 1.0 - shares[1:].sum(dim=0, keepdim=True)
    return torch.cat([rest.clamp(min=0.0), shares[1:]])


class RandThickSlicesd(RandomizableTransform, MapTransform):  # type: ignore[misc] # MONAI has no types here
    """Image slices averaged in groups and repeated, as a reconstruction with thick slices looks. Targets stay."""

    def __init__(self, prob: float, groups: tuple[int, int]) -> None:
        MapTransform.__init__(self, [IMAGE])
        RandomizableTransform.__init__(self, prob)
        self._groups = groups

    def __call__(self, data: Any) -> Any:
        """{"image": [1, slice, row, column], ...} with thick slices, perhaps."""
        self.randomize(None)
        if not self._do_transform:
            return data
        thick = int(self.R.randint(self._groups[0], self._groups[1] + 1))
        image = torch.as_tensor(data[IMAGE])
        count = image.shape[1]
        padded = torch.cat([image, image[:, -1:].expand(-1, -count % thick, -1, -1)], dim=1)
        mean = padded.reshape(1, -1, thick, *image.shape[2:]).mean(dim=2)
        return {**data, IMAGE: mean.repeat_interleave(thick, dim=1)[:, :count]}


class RandMirrorSidesd(RandomizableTransform, MapTransform):  # type: ignore[misc] # MONAI has no types here
    """Right and left exchanged half of the time: columns flipped, and the classes that name sides with them."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        MapTransform.__init__(self, list(BOTH))
        RandomizableTransform.__init__(self, 0.5)
        self._swaps = {**dict(pairs), **{second: first for first, second in pairs}}

    def __call__(self, data: Any) -> Any:
        """{"image", "target"}, both mirrored, perhaps."""
        self.randomize(None)
        if not self._do_transform:
            return data
        image, target = (torch.as_tensor(data[key]).flip(-1) for key in BOTH)
        order = [self._swaps.get(number, number) for number in range(len(target))]
        return {**data, IMAGE: image, TARGET: target[order]}


class RandCropSlicesd(RandomizableTransform, MapTransform):  # type: ignore[misc] # MONAI has no types here
    """A run of slices only: an examination that ends in the middle of an organ."""

    def __init__(self, prob: float) -> None:
        MapTransform.__init__(self, list(BOTH))
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Any) -> Any:
        """{"image", "target"}, both cut, perhaps."""
        self.randomize(None)
        if not self._do_transform:
            return data
        count = int(data[IMAGE].shape[1])
        keep = max(8, int(count * self.R.uniform(0.3, 0.9)))
        start = int(self.R.randint(0, max(1, count - keep + 1)))
        return {**data, **{key: data[key][:, start : start + keep] for key in BOTH}}


class RandRemapd(RandomizableTransform, MapTransform):  # type: ignore[misc] # MONAI has no types here
    """Values turned round or bent by a random curve, so that a network relies on shapes and not on a contrast."""

    def __init__(self, prob: float) -> None:
        MapTransform.__init__(self, [IMAGE])
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Any) -> Any:
        """{"image": values with mean 0 and deviation 1, ...} remapped, perhaps."""
        self.randomize(None)
        if not self._do_transform:
            return data
        image = torch.as_tensor(data[IMAGE])
        knots = np.linspace(float(image.min()), float(image.max()) + 1e-6, 6)
        heights = self.R.uniform(-1.0, 1.0, 6) if self.R.rand() < 0.5 else np.linspace(1.0, -1.0, 6)
        bent = torch.from_numpy(np.interp(image.numpy(), knots, heights).astype(np.float32))
        return {**data, IMAGE: (bent - bent.mean()) / (bent.std() + 1e-6)}
