"""What a training is: one TOML file, checked before anything runs.

    medai-train fit training/configs/mr_hippocampus.toml --data DATA --out RUN

An unknown key is an error that names the nearest known one. ``[feed]``, ``[inferer]`` and ``[cleaning]`` are the
very tables that the bundle will carry (models/format/recipe.py). Next: fitting/fit.py.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medai.models.format.recipe import Cleaning, Feed, Inferer
from medai.training.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Where cases come from; ``--data`` on the command line replaces ``root``."""

    root: str = ""
    """A folder with images/ and labels/, a Decathlon dataset.json, DICOM folders, OpenKBP arrays, or an Orthanc URL."""
    format: Literal["auto", "folder", "decathlon", "dicom", "openkbp", "orthanc"] = "auto"
    modality: str = "MR"
    """For formats that name none (NIfTI, NRRD)."""
    classes: dict[str, tuple[int, ...]] = Field(min_length=1)
    """Class name -> label values of the data set that belong to it. The network's channels are background, then
    these in their order. Label values that no class names are background."""
    repeat: dict[str, int] = {}
    """Training cases that come so many times as often as the others: the one whole chest among many lung tips."""
    cache: bool = True
    """Keep the prepared cases in memory."""


class SplitConfig(_Section):
    """Which cases train, which choose the checkpoint, and which only ``evaluate`` may see; whole patients each.

    ``test`` is a fraction of the patients, drawn by ``seed`` once and for all. ``validation`` is a fraction of the
    rest; with ``folds`` > 1 the rest is cut into so many parts and part ``fold`` validates instead.
    """

    seed: int = 1
    test: float = Field(default=0.2, ge=0.0, lt=1.0)
    validation: float = Field(default=0.1, ge=0.0, lt=1.0)
    folds: int = Field(default=1, ge=1)
    fold: int = Field(default=0, ge=0)
    test_cases: tuple[str, ...] = ()
    """Named test cases, instead of a fraction."""


class NetworkConfig(_Section):
    """A network by name (models/networks/definition.py) and its size."""

    name: Literal["unet", "densenet", "deeplabv3plus", "densenet_classifier"] = "unet"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    parameters: dict[str, Any] = {}
    """Further parameters of that network's definition."""
    start: str = ""
    """Weights to start from instead of random ones: a run's folder, a bundle's, or a file of safetensors."""


class LossConfig(_Section):
    """``dice_ce``: soft Dice and cross-entropy; ``dice_focal``: with focal loss; ``ce``: cross-entropy alone."""

    name: Literal["dice_ce", "dice_focal", "ce"] = "dice_ce"
    background: bool = False
    """Whether the background counts in the Dice term."""
    weights: tuple[float, ...] = ()
    """Cross-entropy weight of each channel, background first; empty: 1."""


class AugmentationConfig(_Section):
    """What happens to a training case, each with its probability ``p_*``. Angles in degrees, shifts in voxels."""

    p_affine: float = 0.9
    rotate_deg: float = 10.0
    scale: float = 0.15
    shift_voxels: float = 4.0
    mirror: tuple[int, ...] = ()
    """Array axes (0 slice, 1 row, 2 column) that are flipped half of the time. Not the left-right axis where the
    classes name sides."""
    mirror_sides: tuple[tuple[int, int], ...] = ()
    """Pairs of classes (numbers from 1) that change places when the column axis is flipped, half of the time."""
    p_noise: float = 0.2
    noise: float = 0.1
    p_blur: float = 0.2
    p_gamma: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)
    p_contrast: float = 0.3
    contrast: float = 0.25
    """Values times 1 ± this, plus up to ± this."""
    p_bias_field: float = 0.0
    p_low_resolution: float = 0.0
    low_resolution: tuple[float, float] = (0.5, 1.0)
    p_thick_slices: float = 0.0
    """Slices averaged in groups along the slice axis and repeated: a series of thick slices."""
    thick_slices: tuple[int, int] = (2, 4)
    p_crop_fov: float = 0.0
    """A part of the slices is cut off at the feet or the head: a partial examination."""
    p_invert: float = 0.0
    """Values turned round or remapped by a random curve, so that no contrast is relied upon."""


class OptimiserConfig(_Section):
    """AdamW or SGD with Nesterov momentum; warm-up, then a cosine to nothing over the epochs of the budget."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay of the exponential moving average of the weights, per step; 0: none. The average is what is kept."""


class BudgetConfig(_Section):
    """How long, in what pieces."""

    epochs: int = Field(default=100, ge=1)
    minutes: float = 0.0
    """Stop after the epoch that passes this; 0: no limit. A limit that bites is said in the log."""
    cases_per_epoch: int = 0
    """0: each training case once (times ``patches_per_case``)."""
    patches_per_case: int = Field(default=1, ge=1)
    patch: tuple[int, ...] = (40, 56, 40)
    """[slice, row, column], or [row, column] for 2D networks."""
    foreground: float = 0.67
    """Share of patches centred on a voxel of some class; the rest lie anywhere. 0 with 'centre': the middle."""
    crop: Literal["classes", "centre"] = "classes"
    batch: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    """Steps whose gradients are added up before the weights move."""
    validate_every: int = Field(default=5, ge=1)
    patience: int = 0
    """Stop after so many validations without a better one; 0: never."""


class ComputeConfig(_Section):
    """The machine."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """``auto``: bf16 on a GPU that has it, fp16 on an older one, fp32 on a CPU."""
    threads: int = 0
    workers: int = 0
    """Processes that prepare batches; 0: none, in this process."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    channels_last: bool = True
    compile: bool = False


class TrainingConfig(_Section):
    """All of it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")
    seed: int = 1
    data: DataConfig
    split: SplitConfig = SplitConfig()
    feed: Feed = Feed()
    inferer: Inferer = Inferer()
    cleaning: Cleaning = Cleaning()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    budget: BudgetConfig = BudgetConfig()
    compute: ComputeConfig = ComputeConfig()


def read(path: Path) -> TrainingConfig:
    """A configuration from a TOML file. Raises ConfigError with every fault in it."""
    return parse(read_toml(path), where=path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def parse(table: dict[str, Any], *, where: str) -> TrainingConfig:
    """A configuration from its table. Raises ConfigError."""
    try:
        return TrainingConfig.model_validate(table)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(fault)}" for fault in error.errors())
        raise ConfigError(f"{where}:\n{faults}") from error


def _fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg']}"
    model: Any = TrainingConfig
    for part in fault["loc"][:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(fault["loc"][-1]), model.model_fields, n=1)
    return f"{place}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")


def tables(config: TrainingConfig) -> dict[str, Any]:
    """What TOML would hold: everything but absent values."""
    return config.model_dump(mode="json", exclude_none=True)


def to_toml(config: TrainingConfig) -> str:
    """The configuration as TOML, which ``read`` gives back."""
    content = tables(config)
    plain = {key: value for key, value in content.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for name, section in content.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
