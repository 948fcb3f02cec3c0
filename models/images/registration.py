"""Where a template lies in a head: affine registration by SimpleITK, from brain to brain.

The same head gives the same transform at every attempt: one thread, a seeded sample of voxels. Points are LPS
millimetres. Next: segmenters/hippocampus.py.
"""

# mypy: disable-error-code="no-untyped-call"
# SimpleITK's wrappers carry types for some of their methods only.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medai.models.errors import ModelRefused
from medai.models.images.boxes import bounding_box, part_of
from medai.models.images.preprocess import linear, spaced, volume_to_image
from medai.models.volume import Labels, Volume, Voxels

WORKING_MM = (2.0, 2.0, 2.0)
SEED = 20240
Point = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Template to head: ``head = matrix @ template + offset``, both LPS millimetres."""

    matrix: npt.NDArray[np.float64]
    offset: Point

    def point(self, template_mm: Point) -> Point:
        """Where a point of the template lies in the head."""
        found: Point = self.matrix @ template_mm + self.offset
        return found

    def rotation(self) -> npt.NDArray[np.float64]:
        """The nearest rotation (polar decomposition): how the head is turned, without its size."""
        left, _, right = np.linalg.svd(self.matrix)
        turn: npt.NDArray[np.float64] = left @ right
        return turn


def pose_of(head: Volume, brain: Labels, template: Volume) -> Pose:
    """Register the brain of a head to a template of a brain (0 outside). Raises ModelRefused where there is none."""
    moving = _brain_image(head, brain)
    fixed = sitk.Cast(volume_to_image(template), sitk.sitkFloat32)
    transform = _register(fixed, moving, _first_guess(fixed, moving))
    matrix = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.asarray(transform.GetCenter()), np.asarray(transform.GetTranslation())
    return Pose(matrix=matrix, offset=centre + shift - matrix @ centre)


def _brain_image(head: Volume, brain: Labels) -> sitk.Image:
    """The brain alone at WORKING_MM, its values 0 ... 1 between percentiles, 0 outside."""
    # Around the brain all is 0: only its box is worked on, with a rim of zeros.
    box = bounding_box(brain, margin=1)
    part, mask = head.voxels[box], brain[box] > 0
    inside = part[mask]
    if inside.size == 0:
        raise ModelRefused("no brain was found in the image")
    low, high = np.percentile(inside, [2, 98])
    scaled = np.clip((part.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1)
    masked: Voxels = np.where(mask, scaled, 0).astype(np.float32)
    grid = spaced(head.geometry, WORKING_MM)
    voxels = linear(masked, part_of(head.geometry, box), grid)
    return volume_to_image(Volume(voxels=voxels, geometry=grid, modality=head.modality))


def _first_guess(fixed: sitk.Image, moving: sitk.Image) -> sitk.AffineTransform:
    """Centre on centre, and each axis of the template stretched to the extent of the brain along it."""
    fixed_box, moving_box = _box_mm(fixed), _box_mm(moving)
    guess = sitk.AffineTransform(3)
    guess.SetCenter(tuple(fixed_box.mean(axis=0)))
    guess.SetTranslation(tuple(moving_box.mean(axis=0) - fixed_box.mean(axis=0)))
    stretch = (moving_box[1] - moving_box[0]) / (fixed_box[1] - fixed_box[0])
    guess.SetMatrix(tuple(np.diag(np.clip(stretch, 0.75, 1.3)).ravel()))
    return guess


def _box_mm(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Lowest and highest LPS coordinates of what is not 0 (1st and 99th percentile)."""
    index = np.argwhere(sitk.GetArrayViewFromImage(image) > 0)[:, ::-1]
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    points = np.asarray(image.GetOrigin()) + (index * np.asarray(image.GetSpacing())) @ direction.T
    box: npt.NDArray[np.float64] = np.percentile(points, [1, 99], axis=0)
    return box


def _register(fixed: sitk.Image, moving: sitk.Image, guess: sitk.AffineTransform) -> sitk.AffineTransform:
    """Mattes mutual information (any contrast), from coarse to fine."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.03, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=120, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(guess, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise ModelRefused("the brain could not be aligned with the template: is it a whole head?") from error
    return guess
