"""``medai-train template``: a symmetric template of a brain from whole heads, for localisation.

Each head's brain is cut out (model mr_brain), turned so that its left and right halves mirror each other, and
averaged with its mirror image and the other heads. The template's x is 0 in the mid-sagittal plane.
Next: models/images/registration.py.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.misc import is_dicom
from scipy.linalg import sqrtm

from medai.models.images.preprocess import image_to_volume, nifti_to_volume, series_to_volume, volume_to_image
from medai.models.images.registration import WORKING_MM, Pose, pose_of
from medai.models.registry import Registry
from medai.models.volume import Labels, Volume
from medai.training.errors import DataError
from medai.training.output import answer, json_argument
from medai.training.words import counted

SIZE = (96, 112, 96)
"""Voxels along x, y, z at WORKING_MM."""


def symmetric(head: Volume, brain: Labels) -> Volume:
    """The brain on the template's grid, its mid-sagittal plane at x = 0, averaged with its mirror image; 0 ... 255."""
    image = _masked(head, brain)
    pose = Pose(matrix=np.eye(3), offset=np.asarray(_centre_mm(image)))
    for _ in range(3):
        here = _on_grid(image, pose)
        between = pose_of(here, (here.voxels > 0).astype(np.uint8), _mirrored(here))
        # The mirror image lies twice as far off as the plane of symmetry: go half the way, and look again.
        whole = _matrix(pose) @ np.real(sqrtm(_matrix(between)))
        pose = Pose(matrix=whole[:3, :3], offset=whole[:3, 3])
    first = _on_grid(image, pose)
    mean = (first.voxels.astype(np.float32) + _mirrored(first).voxels) / 2
    return Volume(voxels=mean, geometry=first.geometry, modality=head.modality)


def _matrix(pose: Pose) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = pose.matrix, pose.offset
    return whole


def _masked(head: Volume, brain: Labels) -> sitk.Image:
    inside = head.voxels[brain > 0]
    low, high = np.percentile(inside, [2, 98])
    scaled = np.clip((head.voxels.astype(np.float32) - low) / float(high - low), 0.0, 1.0) * 250 + 5
    return volume_to_image(
        Volume(voxels=np.where(brain > 0, scaled, 0).astype(np.float32), geometry=head.geometry, modality="MR")
    )


def _centre_mm(image: sitk.Image) -> tuple[float, ...]:
    index = np.argwhere(sitk.GetArrayViewFromImage(image) > 0)
    middle = index.mean(axis=0)[::-1]
    point: tuple[float, ...] = image.TransformContinuousIndexToPhysicalPoint([float(value) for value in middle])
    return point


def _on_grid(image: sitk.Image, pose: Pose) -> Volume:
    """The image on the template's grid (LPS, its centre at 0), through the pose template -> head."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(tuple(pose.matrix.ravel()))
    transform.SetTranslation(tuple(pose.offset))
    origin = [-(count - 1) / 2 * step for count, step in zip(SIZE, WORKING_MM, strict=True)]
    found = sitk.Resample(
        sitk.SmoothingRecursiveGaussian(image, 0.8), SIZE, transform, sitk.sitkLinear, origin, WORKING_MM
    )
    return image_to_volume(found, modality="MR", unit="arbitrary")


def _mirrored(volume: Volume) -> Volume:
    return Volume(voxels=volume.voxels[:, :, ::-1].copy(), geometry=volume.geometry, modality=volume.modality)


def read_head(path: Path, *, modality: str = "MR") -> Volume:
    """A NIfTI file or a folder with one DICOM series. Raises DataError."""
    if path.is_file():
        return nifti_to_volume(path, modality=modality)
    files = sorted(file for file in path.rglob("*") if file.is_file() and is_dicom(file))
    if not files:
        raise DataError(f"{path} holds no DICOM files")
    return series_to_volume([dcmread(file) for file in files]).volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train template``."""
    parser.epilog = "example: medai-train template HEAD1/ HEAD2.nii.gz --out template.nii.gz"
    json_argument(parser, "what was written")
    parser.add_argument("heads", type=Path, nargs="+", help="T1 heads: DICOM folders or NIfTI files")
    parser.add_argument("--out", type=Path, required=True, help="template.nii.gz")


def run(options: argparse.Namespace) -> int:
    """Write the template; 0 when it is there."""
    masks = Registry().load("mr_brain")
    means = []
    for path in options.heads:
        head = read_head(path)
        means.append(symmetric(head, masks.draw(head)))
    mean = np.mean([one.voxels for one in means], axis=0)
    image = volume_to_image(
        Volume(voxels=np.asarray(np.round(mean), dtype=np.uint8), geometry=means[0].geometry, modality="MR")
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(options.out), useCompression=True)
    answer(
        options,
        {"file": str(options.out), "size": list(SIZE), "spacing_mm": float(WORKING_MM[0]), "heads": len(means)},
        f"{options.out}: {' x '.join(map(str, SIZE))} voxels of {WORKING_MM[0]:g} mm "
        f"from {counted(len(means), 'head')}",
    )
    return 0
