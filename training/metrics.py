"""How well a mask agrees with an expert's, structure by structure, case by case; and the mean over cases.

All overlaps, rates and surface distances are MONAI's. Its conventions, and ours:

* A surface is the outermost layer of voxels; distances are between voxel centres, in millimetres. ``hd95_mm`` is the
  larger of the two directed 95th percentiles; ``surface_dice`` is the share of both surfaces within the tolerance.
* A structure that neither side holds is *absent*: it counts for ``structure_specificity`` only.
* Where one side holds it alone, Dice and surface Dice are 0 and distances do not exist: they are *missing*, counted,
  never taken as 0 or infinity.
* A component (26 neighbours) of the expert's mask is *found* when any drawn voxel lies in it; a drawn component
  without any expert voxel in it is *false*.

Arrays are [slice, row, column]; spacings (x, y, z) millimetres. Next: judging/case.py (runs the model).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
    get_confusion_matrix,
)
from scipy.stats import bootstrap

Mask = npt.NDArray[np.bool_]
TOLERANCE_MM = 1.0
RESAMPLES = 9999
FEW = 10
"""Below so many cases an interval by bootstrap is too narrow, and the reports say so."""
DISTANCES = ("hd95_mm", "assd_mm")


@dataclass(frozen=True, kw_only=True)
class Measures:
    """One structure in one case. None: does not exist there (see the module's conventions)."""

    dice: float | None = None
    surface_dice: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    """Average symmetric surface distance."""
    volume_error_ml: float | None = None
    """Drawn minus the expert's."""
    volume_error_percent: float | None = None
    """Of the expert's volume."""
    sensitivity: float | None = None
    """Of voxels, as the next four."""
    specificity: float | None = None
    """Of all voxels of the image outside the expert's mask: near 1 whenever the image is large."""
    precision: float | None = None
    false_positive_rate: float | None = None
    false_negative_rate: float | None = None
    structure_sensitivity: float | None = None
    """Share of the expert's components that were found."""
    structure_false_negative_rate: float | None = None
    structure_specificity: float | None = None
    """Only where the expert has none: 1 when nothing was drawn, else 0."""
    structure_false_positive_rate: float | None = None
    false_components: float | None = None
    """Drawn components that touch nothing of the expert's."""
    truth_ml: float = 0.0
    drawn_ml: float = 0.0

    @property
    def absent(self) -> bool:
        """Neither side holds the structure."""
        return self.truth_ml == 0 and self.drawn_ml == 0


FIGURES = tuple(item.name for item in fields(Measures) if item.name not in ("truth_ml", "drawn_ml"))


def measure(
    truth: Mask, drawn: Mask, spacing_mm: tuple[float, float, float], *, tolerance_mm: float = TOLERANCE_MM
) -> Measures:
    """One structure of one case; both masks are of one shape."""
    if truth.shape != drawn.shape:
        raise ValueError(f"masks of {truth.shape} and {drawn.shape} voxels cannot be compared")
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    truth_ml, drawn_ml = float(truth.sum()) * voxel_ml, float(drawn.sum()) * voxel_ml
    if not truth.any() and not drawn.any():
        return Measures(structure_specificity=1.0, structure_false_positive_rate=0.0, false_components=0.0)
    box = _box(truth | drawn)
    here, there = _channel(drawn[box]), _channel(truth[box])
    both = bool(truth.any() and drawn.any())
    distances = _distances(here, there, list(spacing_mm[::-1]), tolerance_mm) if both else {"surface_dice": 0.0}
    return Measures(
        dice=float(compute_dice(here, there, ignore_empty=False)),
        volume_error_ml=drawn_ml - truth_ml,
        volume_error_percent=100 * (drawn_ml - truth_ml) / truth_ml if truth_ml else None,
        truth_ml=truth_ml,
        drawn_ml=drawn_ml,
        **distances,
        **_rates(here, there, outside=truth.size - truth[box].size),
        **_components(truth[box], drawn[box]),
    )


def _box(mask: Mask) -> tuple[slice, ...]:
    """The mask's bounding box."""
    found = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        found.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(found)


def _channel(mask: Mask) -> torch.Tensor:
    """[batch, channel, slice, row, column] with a rim of nothing, so that a mask's surface is closed at the border."""
    return torch.from_numpy(np.pad(mask, 1).astype(np.uint8))[None, None]


def _distances(
    here: torch.Tensor, there: torch.Tensor, steps_mm: list[float], tolerance_mm: float
) -> dict[str, float | None]:
    """What is measured between two surfaces; both masks hold something."""
    common: dict[str, Any] = {"include_background": True, "spacing": steps_mm}
    with warnings.catch_warnings():
        # MONAI 1.6 calls a function of its own in a way that it deprecated.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        return {
            "surface_dice": _number(compute_surface_dice(here, there, [tolerance_mm], **common)),
            "hd95_mm": _number(compute_hausdorff_distance(here, there, percentile=95, **common)),
            "assd_mm": _number(compute_average_surface_distance(here, there, symmetric=True, **common)),
        }


def _number(found: torch.Tensor) -> float | None:
    value = float(found.reshape(()))
    return value if np.isfinite(value) else None


RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "false_positive_rate": "fall out",
    "false_negative_rate": "miss rate",
}
"""Our names and MONAI's."""


def _rates(here: torch.Tensor, there: torch.Tensor, *, outside: int) -> dict[str, float | None]:
    """``outside``: voxels of the image beyond what is compared here; they are empty on both sides."""
    matrix = get_confusion_matrix(here, there).to(torch.float64)
    rim = here.numel() - int(np.prod([side - 2 for side in here.shape[2:]]))
    matrix[..., 2] += outside - rim
    return {ours: _number(compute_confusion_matrix_metric(theirs, matrix)) for ours, theirs in RATES.items()}


def _components(truth: Mask, drawn: Mask) -> dict[str, float | None]:
    pieces = cc3d.connected_components(drawn.astype(np.uint8))
    false = int(pieces.max()) - len(np.unique(pieces[truth & drawn]))
    if not truth.any():
        return {
            "structure_specificity": 0.0,
            "structure_false_positive_rate": 1.0,
            "false_components": float(false),
        }
    wanted = cc3d.connected_components(truth.astype(np.uint8))
    share = len(np.unique(wanted[truth & drawn])) / int(wanted.max())
    return {
        "structure_sensitivity": share,
        "structure_false_negative_rate": 1.0 - share,
        "false_components": float(false),
    }


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure over cases; ``n`` of them have it."""

    mean: float | None
    median: float | None
    ci95: tuple[float, float] | None
    """Bootstrap interval of the mean; None below two cases."""
    n: int

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "ci95": list(self.ci95) if self.ci95 else None}


def figure(values: Sequence[float | None], *, seed: int = 0) -> Figure:
    """Mean, median and 95% interval of the mean over the cases that have the figure."""
    there = np.asarray([value for value in values if value is not None], dtype=np.float64)
    if not there.size:
        return Figure(mean=None, median=None, ci95=None, n=0)
    return Figure(
        mean=float(there.mean()),
        median=float(np.median(there)),
        ci95=interval(there, seed=seed),
        n=int(there.size),
    )


def interval(values: npt.NDArray[np.float64], *, seed: int = 0) -> tuple[float, float] | None:
    """Bootstrap 95% interval of the mean (bias-corrected and accelerated, Efron 1987; 9,999 resamples)."""
    if values.size < 2:
        return None
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return float(values.mean()), float(values.mean())
    low, high = _bootstrap(values, "two-sided", seed)
    return low, high


def lower_bound(values: npt.NDArray[np.float64], *, seed: int = 0) -> float | None:
    """One-sided 95% lower bound of the mean, by the same bootstrap; None below two values."""
    if values.size < 2:
        return None
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return float(values.mean())
    return _bootstrap(values, "greater", seed)[0]


def _mean(values: npt.NDArray[np.float64], axis: int = -1) -> Any:
    """Rounded, because BCa counts resamples that equal the mean, and rounding errors must not tell them apart."""
    return np.round(np.mean(values, axis=axis), 9)


def _bootstrap(values: npt.NDArray[np.float64], alternative: str, seed: int) -> tuple[float, float]:
    for method in ("BCa", "percentile"):  # BCa has no answer for a few nearly equal values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bootstrap(
                (values,),
                _mean,
                n_resamples=RESAMPLES,
                confidence_level=0.95,
                alternative=alternative,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        low, high = float(found.low), float(found.high)
        if not np.isnan(low) and not np.isnan(high):
            break
    return low, high


def summary(measures: Sequence[Measures], *, seed: int = 0) -> dict[str, Any]:
    """One structure over all cases, as ``evaluate --json`` gives it."""
    counted = [item for item in measures if not item.absent]
    table: dict[str, Any] = {
        name: figure([getattr(item, name) for item in measures], seed=seed).json() for name in FIGURES
    }
    table["counted"] = len(counted)
    table["absent"] = len(measures) - len(counted)
    table["missing"] = {name: sum(getattr(item, name) is None for item in counted) for name in DISTANCES}
    return table
