"""How a network is fed and read: ``configs/inference.json`` of a bundle, and the same tables in a training config.

Training and inference parse the same classes, so a network never meets values in production that it was not
trained on. Axis order: spacings are (x, y, z) millimetres as everywhere; regions of interest are array order
[slice, row, column] (2D networks: [row, column]). Next: segmenters/feed.py (does it), networks/definition.py (builds
the network).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intensity(_Strict):
    """How values become what the network knows.

    ``window``: low ... high in the volume's unit become ``to``. ``percentile``: the same with the volume's own
    percentiles low ... high (0-100). Both are clipped there, unless ``clip`` is false. ``zscore``: clipped to the
    percentiles low ... high, then mean 0 and deviation 1; with ``nonzero`` only what is not 0 counts, and 0 stays.
    ``shift``: ``low`` is subtracted, nothing is clipped but what lies below ``low``. ``none``: as they are.
    """

    kind: Literal["none", "window", "percentile", "zscore", "shift"] = "zscore"
    low: float = 0.5
    high: float = 99.5
    to: tuple[float, float] = (-1.0, 1.0)
    clip: bool = True
    nonzero: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Intensity:
        if self.kind in ("window", "percentile", "zscore") and not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        return self


class Feed(_Strict):
    """From a Volume to the array that a network reads.

    ``axes`` is where column, row and slice index grow (preprocess.reorient). ``spacing_mm`` is the grid that the
    network knows; None keeps the source's, as 0 does along one axis. ``inside_body`` cuts a CT to the
    patient's box and sets what is outside the patient (blankets, table) to air.
    """

    axes: str = Field(default="LPS", pattern="^[LRPAIS]{3}$")
    spacing_mm: tuple[float, float, float] | None = None
    intensity: Intensity = Intensity()
    inside_body: bool = False


class Inferer(_Strict):
    """How the array is cut up for the network, and how its answers are put together.

    ``roi`` is the window [slice, row, column] that slides over the array with ``overlap``; empty: all at once,
    padded to a multiple of ``multiple`` along each axis. ``dims`` 2 reads slice by slice, ``batch`` at a time, and
    ``roi`` is [row, column]. Where windows overlap, ``blend`` weighs their middles more (``gaussian``) or all alike;
    an array that is smaller than a window is padded by its edge (``replicate``) or by 0 (``constant``).
    ``mirror`` lists array axes (0 slice, 1 row, 2 column) over whose flips the answers are averaged too.
    ``shifted`` averages also over the array moved by a voxel along each axis (eight answers): a network that halves
    the size sees other halves. In three dimensions only. ``divide`` is for two classes that meet at a plane of the
    network's grid, as a protocol of drawing may say: (array axis, class before it, class behind it), see
    networks/sliding.py.
    """

    dims: Literal[2, 3] = 3
    roi: tuple[int, ...] = ()
    overlap: float = Field(default=0.25, ge=0.0, lt=1.0)
    blend: Literal["gaussian", "constant"] = "gaussian"
    padding: Literal["replicate", "constant"] = "replicate"
    multiple: int = Field(default=16, ge=1)
    batch: int = Field(default=1, ge=1)
    mirror: tuple[int, ...] = ()
    shifted: bool = False
    divide: tuple[int, int, int] | None = None
    activation: Literal["softmax", "sigmoid"] = "softmax"
    threshold: float = 0.5
    """For ``sigmoid``: above it a voxel belongs to the channel's class."""

    @model_validator(mode="after")
    def _fits(self) -> Inferer:
        if self.roi and len(self.roi) != self.dims:
            raise ValueError(f"roi has {len(self.roi)} sides, the network reads {self.dims} dimensions")
        if not set(self.mirror) <= {0, 1, 2}:
            raise ValueError("mirror names axes 0 (slice), 1 (row) and 2 (column)")
        if self.shifted and self.dims != 3:
            raise ValueError("shifted is for networks of three dimensions")
        if self.divide and (self.dims != 3 or not 0 <= self.divide[0] <= 2 or min(self.divide[1:]) < 1):
            raise ValueError("divide is [axis 0 to 2, class before, class behind], for networks of three dimensions")
        return self


class Cleaning(_Strict):
    """What is tidied in the label map, segment by segment, in three dimensions."""

    components: int = Field(default=0, ge=0)
    """Keep the largest so many pieces, each at least a twentieth of the largest; 0 keeps all."""
    fill_holes: bool = False
    inside_body: bool = False
    """CT: drop pieces that lie mostly outside the patient."""


class Recipe(_Strict):
    """All of ``inference.json``. ``network_def`` is MONAI's notation: ``_target_`` and plain parameters."""

    network_def: dict[str, Any] = {}
    """Empty for runners that bring their own graph (TorchScript, ONNX)."""
    members: tuple[dict[str, Any], ...] = ()
    """``network_def`` of the second and further weights, where they are of other networks than the first."""
    runner: Literal["network", "torchscript", "onnx", "nnunet"] = "network"
    feed: Feed = Feed()
    inferer: Inferer = Inferer()
    cleaning: Cleaning = Cleaning()
