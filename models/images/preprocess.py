"""The only preprocessing: from DICOM or NIfTI to a Volume, and between grids. Training uses it too.

``series_to_volume`` reads a series (slices.py checks its headers, decode.py its pixels); ``to_axial`` and
``reorient`` turn axes without interpolation and back again; ``resample`` and ``labels_to_grid`` interpolate by
SimpleITK, which is used nowhere else. Next: segmenters/load.py.
"""

# mypy: disable-error-code="no-untyped-call"
# SimpleITK's wrappers carry types for some of their methods only.

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom import Dataset

from medai.models.errors import GeometryMismatch, NotAVolume, UnreadableImage
from medai.models.geometry import Geometry
from medai.models.images.boxes import Box, same_box
from medai.models.images.decode import MAX_BYTES, Frame, decode, frames_of, frames_of_enhanced, is_hounsfield
from medai.models.images.header import items, text
from medai.models.images.series import one_series, require_one_object, require_one_pass
from medai.models.images.slices import (
    MIN_SLICES,
    arrange,
    frame_count,
    functional_group,
    plane_of,
    planes_of_frames,
    require_reach,
)
from medai.models.volume import Labels, Stack, Volume, Voxels

LPS_SIGNS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Towards which side of the patient an axis grows: LPS component and sign."""


KNOWN = frozenset(map(np.dtype, ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")))
"""Kinds of numbers that are interpolated as they are."""
MAX_VOXELS = 2**30
"""Of a resampled volume (4 GiB of float32): a whole body in 1 mm voxels is half of it."""


def series_to_volume(datasets: Sequence[Dataset], *, threads: int = 2, max_bytes: int = MAX_BYTES) -> Stack:
    """One series, in any order, as a volume with its datasets in slice order.

    CT voxels are Hounsfield units. The datasets must be complete; **their PixelData is removed** while they are
    decoded, because results need the headers alone and a second copy of the pixels would double the memory.
    An enhanced multi-frame object is a series too: see Stack.frames. ``max_bytes`` bounds the stored pixels of the
    whole series, unpacked. Raises NotAVolume or UnreadableImage with a reason for a radiographer.
    """
    images = one_series(datasets)
    multi_frame = [image for image in images if "PerFrameFunctionalGroupsSequence" in image]
    if multi_frame:
        return _enhanced_to_stack(images, threads=threads, max_bytes=max_bytes)
    if any(frame_count(image) > 1 for image in images):
        raise NotAVolume("the series holds multi-frame images without positions in the patient (such as cine loops)")
    planes, geometry = arrange([plane_of(image, index) for index, image in enumerate(images)])
    ordered = tuple(images[plane.index] for plane in planes)
    require_one_pass(ordered)
    volume = _volume(frames_of(ordered), geometry, ordered[0], threads, max_bytes)
    return Stack(volume=volume, datasets=ordered)


def _enhanced_to_stack(images: Sequence[Dataset], *, threads: int, max_bytes: int) -> Stack:
    """One enhanced object, or the parts of one that was written in several (a concatenation, PS3.3 C.7.6.16.2.2.4)."""
    require_one_object(images)
    for image in images:
        if len(items(image, "PerFrameFunctionalGroupsSequence")) != frame_count(image):
            raise NotAVolume("the multi-frame image describes another number of frames than it holds")
    places = [(image, plane) for image in images for plane in planes_of_frames(image)]
    planes, geometry = arrange([replace(plane, index=number) for number, (_, plane) in enumerate(places)])
    ordered = [(places[plane.index][0], places[plane.index][1].index) for plane in planes]
    volume = _volume(frames_of_enhanced(ordered), geometry, ordered[0][0], threads, max_bytes)
    frames = tuple(index + 1 for _, index in ordered)
    return Stack(volume=volume, datasets=tuple(image for image, _ in ordered), frames=frames)


def _volume(frames: Sequence[Frame], geometry: Geometry, header: Dataset, threads: int, max_bytes: int) -> Volume:
    voxels = decode(frames, threads=threads, max_bytes=max_bytes)
    require_reach(geometry)
    modality = text(header, "Modality")
    scaling = functional_group(header, frames[0].index, "PixelValueTransformationSequence") or header
    hounsfield = is_hounsfield(header, scaling)
    return Volume(voxels=voxels, geometry=geometry, modality=modality, unit="HU" if hounsfield else "arbitrary")


def nifti_to_volume(path: Path, *, modality: str = "MR", max_bytes: int = MAX_BYTES) -> Volume:
    """A NIfTI file (.nii, .nii.gz) as a volume in LPS; a CT's values are taken as Hounsfield units.

    NIfTI names no modality, so the caller does. ``max_bytes`` bounds its voxels, by its header, before they are read.
    Raises UnreadableImage or NotAVolume.
    """
    try:
        _require_small(path, max_bytes)
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableImage(f"{path.name} cannot be read as NIfTI: damaged, or its axes are sheared") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise NotAVolume(f"{path.name} has {image.GetDimension()} dimensions; one grey volume of 3 is needed")
    if min(image.GetSize()) < MIN_SLICES or min(image.GetSpacing()) <= 0:
        raise NotAVolume(f"{path.name} has {image.GetSize()} voxels of {image.GetSpacing()} mm: not a volume")
    return image_to_volume(image, modality=modality, unit="HU" if modality == "CT" else "arbitrary")


def _require_small(path: Path, max_bytes: int) -> None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    size = voxels * sitk.Image((1, 1), reader.GetPixelID()).GetSizeOfPixelComponent()
    if size > max_bytes:
        raise NotAVolume(f"{path.name} would unpack to {size / 2**30:.1f} GiB; the limit is {max_bytes / 2**30:g} GiB")


def labels_to_nifti(labels: Labels, geometry: Geometry, path: Path) -> None:
    """Write a label map [slice, row, column] as NIfTI on its grid."""
    sitk.WriteImage(_image(labels, geometry), str(path))


def volume_to_image(volume: Volume) -> sitk.Image:
    """A SimpleITK image on the same grid (ITK's coordinates are LPS too)."""
    return _image(volume.voxels, volume.geometry)


def image_to_volume(image: sitk.Image, *, modality: str, unit: str, frame_of_reference_uid: str = "") -> Volume:
    """The reverse of volume_to_image."""
    geometry = Geometry(
        origin_mm=image.GetOrigin(),
        direction=image.GetDirection(),
        spacing_mm=image.GetSpacing(),
        shape=image.GetSize()[::-1],
        frame_of_reference_uid=frame_of_reference_uid,
    )
    return Volume(voxels=sitk.GetArrayFromImage(image), geometry=geometry, modality=modality, unit=unit)


def resample(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """The same field of view with voxels of ``spacing_mm`` (x, y, z), linear, float32.

    Edges stay where they are (see ``spaced``); half a voxel beyond the source's own takes the nearest voxel.
    """
    geometry = spaced(volume.geometry, spacing_mm)
    return replace(volume, voxels=linear(volume.voxels, volume.geometry, geometry), geometry=geometry)


def spaced(old: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """The grid of the same field of view with voxels of another size. Raises NotAVolume for one that is too large.

    Edges stay where they are: the first voxel's centre moves by half the difference of the voxel sizes, and
    the last voxel may reach over the edge by less than half a voxel.
    """
    edge_mm = [n * s for n, s in zip(old.shape[::-1], old.spacing_mm, strict=True)]
    size = [max(1, round(extent / s)) for extent, s in zip(edge_mm, spacing_mm, strict=True)]
    if math.prod(size) > MAX_VOXELS:
        raise NotAVolume(
            f"the series would fill {math.prod(size):.2g} voxels of the model's size; at most {MAX_VOXELS:.2g} are made"
        )
    shift = [(new - was) / 2 for new, was in zip(spacing_mm, old.spacing_mm, strict=True)]
    origin = np.asarray(old.origin_mm) + np.asarray(old.direction).reshape(3, 3) @ np.asarray(shift)
    return replace(
        old,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        spacing_mm=spacing_mm,
        shape=(size[2], size[1], size[0]),
    )


def labels_to_grid(labels: Labels, from_geometry: Geometry, to_geometry: Geometry) -> Labels:
    """Labels on another grid, by the nearest voxel; 0 outside their own."""
    if from_geometry.frame_of_reference_uid != to_geometry.frame_of_reference_uid:
        raise GeometryMismatch("labels cannot be moved to another frame of reference")
    resampled = _resampler(to_geometry, sitk.sitkNearestNeighbor).Execute(_image(labels, from_geometry))
    return np.asarray(sitk.GetArrayFromImage(resampled), dtype=np.uint8)


def resample_onto(voxels: Voxels, from_geometry: Geometry, to_geometry: Geometry) -> Voxels:
    """Values on another grid of the same frame of reference, linear, float32; the nearest voxel beyond their edge."""
    if from_geometry.frame_of_reference_uid != to_geometry.frame_of_reference_uid:
        raise GeometryMismatch("values cannot be moved to another frame of reference")
    box, part = same_box(_all(to_geometry), to_geometry, from_geometry)
    if 0 in part.shape:  # they do not meet: all is extrapolated
        return linear(voxels, from_geometry, to_geometry)
    return linear(voxels[box], part, to_geometry)


def _all(geometry: Geometry) -> Box:
    slices, rows, columns = geometry.shape
    return slice(0, slices), slice(0, rows), slice(0, columns)


def linear(voxels: Voxels, from_geometry: Geometry, to_geometry: Geometry) -> Voxels:
    """Values on another grid, linear, float32; beyond their edge the nearest voxel. No float copy is made of them."""
    resampler = _resampler(to_geometry, sitk.sitkLinear)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    resampler.UseNearestNeighborExtrapolatorOn()
    known = voxels if voxels.dtype in KNOWN else voxels.astype(np.float32)
    found: Voxels = sitk.GetArrayFromImage(resampler.Execute(_image(known, from_geometry)))
    return found


def _resampler(geometry: Geometry, interpolator: int) -> sitk.ResampleImageFilter:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in geometry.shape[::-1]])
    resampler.SetOutputOrigin(geometry.origin_mm)
    resampler.SetOutputDirection(geometry.direction)
    resampler.SetOutputSpacing(geometry.spacing_mm)
    resampler.SetInterpolator(interpolator)
    return resampler


def _image(voxels: Voxels, geometry: Geometry) -> sitk.Image:
    if voxels.shape != geometry.shape:
        raise GeometryMismatch(f"an array of {voxels.shape} voxels does not fit a grid of {geometry.shape}")
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction)
    image.SetSpacing(geometry.spacing_mm)
    return image


@dataclass(frozen=True, kw_only=True)
class Reorientation:
    """Axes exchanged, then turned round; ``undo`` is its exact inverse. Arrays are [slice, row, column].

    ``axes[i]`` is the old axis at place i; ``flips[i]`` says whether it is turned round there.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: Voxels) -> Voxels:
        """A view of the array with the new axes."""
        return np.flip(array.transpose(self.axes), self._turned)

    def undo(self, array: Voxels) -> Voxels:
        """The array on the old axes, contiguous."""
        back = np.argsort(self.axes)
        return np.ascontiguousarray(np.flip(array, self._turned).transpose(back))

    @property
    def _turned(self) -> tuple[int, ...]:
        return tuple(axis for axis, flip in enumerate(self.flips) if flip)


def to_axial(volume: Volume) -> tuple[Volume, Reorientation]:
    """Slices from feet to head, rows from front to back, columns from right to left (as in an axial CT)."""
    return reorient(volume, "LPS")


def reorient(volume: Volume, sides: str) -> tuple[Volume, Reorientation]:
    """Turn the axes so that column, row and slice index grow most nearly towards ``sides``, e.g. "LPS", "RAS".

    Only exchanges and flips: no value changes, and an oblique volume stays oblique. The new voxels are a view.
    """
    turn = _turn(volume.geometry, sides)
    voxels = turn.apply(volume.voxels)
    return replace(volume, voxels=voxels, geometry=_turned_geometry(volume.geometry, turn)), turn


def _turn(geometry: Geometry, sides: str) -> Reorientation:
    matrix = np.asarray(geometry.direction).reshape(3, 3)
    wanted = [LPS_SIGNS[side] for side in sides]

    def cosine(place: int, axis: int) -> float:
        component, sign = wanted[place]
        return float(matrix[component, axis]) * sign

    best = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosine(i, axis)) for i, axis in enumerate(p)))
    flips = [cosine(place, axis) < 0 for place, axis in enumerate(best)]
    # From x, y, z to the array's z, y, x.
    x, y, z = (2 - axis for axis in best)
    return Reorientation(axes=(z, y, x), flips=(flips[2], flips[1], flips[0]))


def _turned_geometry(old: Geometry, turn: Reorientation) -> Geometry:
    affine: npt.NDArray[np.float64] = old.affine
    columns: Any = []
    corner = affine[:3, 3].copy()
    for place in (2, 1, 0):  # x, y, z
        axis = turn.axes[place]
        step = affine[:3, 2 - axis]
        if turn.flips[place]:
            corner += step * (old.shape[axis] - 1)
            step = -step
        columns.append(step / old.spacing_mm[2 - axis])
    z, y, x = turn.axes
    spacing_mm = (old.spacing_mm[2 - x], old.spacing_mm[2 - y], old.spacing_mm[2 - z])
    return replace(
        old,
        origin_mm=(float(corner[0]), float(corner[1]), float(corner[2])),
        direction=tuple(np.column_stack(columns).ravel().tolist()),
        spacing_mm=spacing_mm,
        shape=(old.shape[z], old.shape[y], old.shape[x]),
    )
