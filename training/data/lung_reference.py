"""``medai-train lung-reference``: lungs in CT by a classical method, where no expert has drawn them.

1. The patient: the largest piece denser than -400 HU, holes filled in each slice (medai.models.segmenters.feed.body).
2. Air in the patient: below -500 HU. Pieces count as lung by their mean value (-950 ... -500 HU: bowel gas and the
   trachea are emptier) and their size, and where they do not reach the end of the slices they must be large.
3. Airways: what stays below -940 HU after smoothing and hangs together with the trachea, widened by 2 mm, is taken off.
4. Left and right: the mask is eroded until it falls apart into two large pieces, which then grow back.
5. Vessels: each lung is closed by 4 mm and its holes are filled.

These masks are **not expert labels**: consolidations, masses and effusions stay outside. Next: configs/ct_lungs.toml.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cc3d
import fill_voids
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from medai.models.images.preprocess import resample, to_axial
from medai.models.segmenters.cleaning import largest
from medai.models.segmenters.feed import body
from medai.models.volume import Labels, Volume, Voxels
from medai.training.cases import Example
from medai.training.data.datasets import open_dataset, read_pair, write_pair
from medai.training.data.prepare import merge
from medai.training.data.template import read_head
from medai.training.errors import DataError
from medai.training.output import answer, json_argument
from medai.training.words import counted

AIR_HU = -500.0
AIRWAY_HU = -940.0
WORKING_MM = 1.5
RIGHT, LEFT = 1, 2
WHOLE_LUNG_ML = 400.0
LEAST_ML = 6.0


def lungs(volume: Volume) -> Labels:
    """1 right, 2 left lung in an axial CT [slice, row, column]; all 0 where there is none."""
    hounsfield = volume.voxels.astype(np.float32)
    spacing = volume.geometry.spacing_mm[::-1]
    patient = body(hounsfield) > 0
    air = (hounsfield < AIR_HU) & patient
    air &= ~_airways(hounsfield, air, spacing)
    mask = _lung_pieces(hounsfield, air, patient, volume.geometry.voxel_ml)
    if not mask.any():
        return np.zeros(mask.shape, dtype=np.uint8)
    sides = _sides(mask, spacing)
    return _closed(sides, spacing)


def _airways(hounsfield: Voxels, air: Voxels, spacing: tuple[float, ...]) -> Voxels:
    """The largest very empty piece near the middle that is long from head to feet, and 2 mm around it."""
    smooth = ndimage.gaussian_filter(hounsfield, [0.7 / s for s in spacing])
    empty = (smooth < AIRWAY_HU) & air
    pieces = cc3d.connected_components(empty.astype(np.uint8))
    found = np.zeros(air.shape, dtype=bool)
    stats = cc3d.statistics(pieces)
    columns = np.flatnonzero(air.any(axis=(0, 1)))
    if not columns.size:
        return found
    middle, width = (columns[0] + columns[-1]) / 2, max(columns[-1] - columns[0], 1)
    for number in range(1, int(pieces.max()) + 1):
        box, centre = stats["bounding_boxes"][number], stats["centroids"][number]
        tall_mm = (box[0].stop - box[0].start) * spacing[0]
        if tall_mm > 25 and abs(centre[2] - middle) < 0.2 * width:
            found |= pieces == number
    reach = [max(1, round(2.0 / s)) for s in spacing]
    return np.asarray(ndimage.binary_dilation(found, _ball(reach)), dtype=bool) if found.any() else found


def _lung_pieces(hounsfield: Voxels, air: Voxels, patient: Voxels, voxel_ml: float) -> Voxels:
    shown = np.flatnonzero(patient.any(axis=(1, 2)))  # a masked CT ends before its array does
    if not shown.size:
        return np.zeros(air.shape, dtype=bool)
    pieces = cc3d.connected_components(air.astype(np.uint8))
    sizes = np.bincount(pieces.ravel())
    means = ndimage.mean(hounsfield, pieces, index=np.arange(len(sizes)))
    at_end = np.zeros(len(sizes), dtype=bool)
    at_end[np.unique(pieces[shown[0]])] = True
    at_end[np.unique(pieces[shown[-1]])] = True
    ml = sizes * voxel_ml
    kept = (means > -950) & (means < -500) & (ml > np.where(at_end, LEAST_ML, WHOLE_LUNG_ML))
    kept[0] = False
    found: Voxels = kept[pieces]
    return found


def _sides(mask: Voxels, spacing: tuple[float, ...]) -> Labels:
    """Split into right and left: by the middle where the pieces lie apart, else by erosion."""
    depth_mm = ndimage.distance_transform_edt(mask, sampling=spacing)
    for erosion_mm in np.arange(0.0, 14.0, 1.5):
        core = mask if erosion_mm == 0 else depth_mm > erosion_mm
        pieces = cc3d.connected_components(core.astype(np.uint8))
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        large = [int(number) for number in np.flatnonzero(sizes > 0.12 * sizes.sum())]
        if len(large) >= 2:
            break
    columns = np.arange(mask.shape[2])
    profile = mask.sum(axis=(0, 1))
    middle = float((columns * profile).sum() / profile.sum())
    cores = np.zeros(mask.shape, dtype=np.uint8)
    for number in large:
        one = pieces == number
        centre = float(np.argwhere(one.any(axis=(0, 1))).mean())
        cores[one] = RIGHT if centre < middle else LEFT
    if len(large) < 2:  # one lung alone: which one is told by the patient's middle, not its own
        cores[cores > 0] = RIGHT if middle < mask.shape[2] / 2 else LEFT
    nearest = ndimage.distance_transform_edt(cores == 0, sampling=spacing, return_distances=False, return_indices=True)
    return np.where(mask, cores[tuple(nearest)], 0).astype(np.uint8)


def _closed(sides: Labels, spacing: tuple[float, ...]) -> Labels:
    done = np.zeros_like(sides)
    reach = [max(1, round(4.0 / s)) for s in spacing]
    for side in (RIGHT, LEFT):
        one = sides == side
        if not one.any():
            continue
        one = largest(one, 3)
        padded = np.pad(one, [(r, r) for r in reach], mode="edge")
        closed = ndimage.binary_closing(padded, _ball(reach))
        inner = closed[tuple(slice(r, -r) for r in reach)] | one
        filled = np.asarray(fill_voids.fill(inner.astype(np.uint8))) > 0
        done[filled & (done == 0) & (sides != (LEFT if side == RIGHT else RIGHT))] = side
    return done


def _ball(reach: list[int]) -> Voxels:
    grids = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    distance = sum((grid / max(r, 1)) ** 2 for grid, r in zip(grids, reach, strict=True))
    return np.asarray(distance <= 1.0)


def working(volume: Volume) -> Volume:
    """Axial, in the plane (and along thinner slices) at WORKING_MM."""
    axial, _ = to_axial(volume)
    x, y, z = axial.geometry.spacing_mm
    return resample(axial, (max(x, WORKING_MM), max(y, WORKING_MM), max(z, WORKING_MM)))


def _sources(options: argparse.Namespace) -> Iterator[tuple[str, Volume, Labels | None]]:
    for entry in options.ct:
        name, equals, path = entry.partition("=")
        if not equals:
            raise DataError(f"--ct {entry}: write NAME=PATH")
        volume = read_head(Path(path), modality="CT")
        yield name, volume, None
    for entry in options.labelled:
        yield _labelled(entry)
    if options.openkbp:
        dataset = open_dataset(options.openkbp, kind="openkbp")
        for case in dataset.cases:
            if case.name in options.without:
                continue
            yield case.name, case.load().volume, None


def _labelled(entry: str) -> tuple[str, Volume, Labels]:
    """NAME=IMAGE,LABELS,RIGHT,LEFT, values joined by +: somebody else's label map, merged into two lungs."""
    name, _, rest = entry.partition("=")
    parts = rest.split(",")
    if len(parts) != 4:
        raise DataError(f"--labelled {entry}: write NAME=IMAGE,LABELS,RIGHT,LEFT, e.g. a=ct.nii.gz,seg.nii.gz,12+13,10")
    example = read_pair(name, Path(parts[0]), Path(parts[1]), "CT")
    labels = merge(example.labels, [[int(value) for value in part.split("+")] for part in parts[2:]])
    axial, turn = to_axial(example.volume)
    return name, axial, np.ascontiguousarray(turn.apply(labels))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train lung-reference``."""
    parser.epilog = "example: medai-train lung-reference --ct chest1=CHEST/ --out lungs/"
    json_argument(parser, "the cases")
    parser.add_argument("--ct", action="append", default=[], metavar="NAME=PATH", help="a DICOM folder or NIfTI file")
    parser.add_argument(
        "--labelled", action="append", default=[], metavar="NAME=IMAGE,LABELS,RIGHT,LEFT", help="a CT with a label map"
    )
    parser.add_argument("--openkbp", help="a folder of OpenKBP arrays: lung tips at the lower end of head and neck CTs")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave an OpenKBP case out")
    parser.add_argument("--out", type=Path, required=True, help="data set to write: images/ and labels/")


def run(options: argparse.Namespace) -> int:
    """Write the data set; 0 when it holds a case."""
    volumes: dict[str, dict[str, float]] = {}
    for name, volume, drawn in tqdm(_sources(options), desc="drawing", unit="case"):
        small = working(volume) if drawn is None else volume
        labels = lungs(small) if drawn is None else drawn
        voxels = np.asarray(np.round(small.voxels), dtype=np.int16)
        write_pair(Example(volume=replace(small, voxels=voxels), labels=labels), name, options.out)
        ml = [int((labels == side).sum()) * small.geometry.voxel_ml for side in (RIGHT, LEFT)]
        tqdm.write(f"{name}: right {ml[0]:.0f} ml, left {ml[1]:.0f} ml", file=sys.stderr)
        volumes[name] = {"right_ml": round(ml[0], 1), "left_ml": round(ml[1], 1)}
    if not volumes:
        raise DataError("nothing to draw in: give --ct or --openkbp")
    answer(options, {"folder": str(options.out), "cases": volumes}, f"{options.out}: {counted(len(volumes), 'case')}")
    return 0
