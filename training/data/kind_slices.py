"""``medai-train kind-slices``: slices with the body part that they show, for the classifier series_kind.

Volumes are named with what they show; where a label map tells more (brainstem, lungs), each slice follows it. Each
volume gives axial slices that lie as they should and, where voxels are not too flat, coronal and sagittal slices that
do not. Nothing else is kept of a volume: 96 x 96 pixels of 4 mm, scaled. Next: fitting/series_kind.py (the task).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medai.models.images.preprocess import to_axial
from medai.models.segmenters.series_kind import network_slice
from medai.models.volume import Labels, Volume, Voxels
from medai.training.data.datasets import open_dataset
from medai.training.data.template import read_head
from medai.training.errors import DataError
from medai.training.output import answer, json_argument
from medai.training.words import counted

PARTS = ("head", "head_neck", "chest", "abdomen", "other")
UNKNOWN = 255
"""A part that is not to be learnt: slices across the axial plane show several."""
LUNG_CM2 = {"few": 8.0, "many": 70.0}
FLATTEST = 4.0
"""Slices across are made where voxels are at most so many times as thick as wide."""
BRAINSTEM = 1


@dataclass(frozen=True, kw_only=True)
class Slices:
    """float16 images [slice, 96, 96], parts (numbers in PARTS, or UNKNOWN), whether they are axial, and patients."""

    images: Voxels = field(repr=False)
    parts: Labels = field(repr=False)
    axial: Labels = field(repr=False)
    patients: Voxels = field(repr=False)


def slices_of(volume: Volume, parts: Labels) -> Iterator[tuple[Voxels, int, int]]:
    """(image, part, axial) of a volume whose axial slices show ``parts``."""
    ax, _ = to_axial(volume)
    x_mm, y_mm, z_mm = ax.geometry.spacing_mm
    step = max(1, round(3.0 / z_mm))
    for index in range(0, len(ax.voxels), step):
        if (image := network_slice(ax.voxels[index], y_mm, x_mm)) is not None:
            yield image, int(parts[index]), 1
    if z_mm > FLATTEST * min(x_mm, y_mm) or len(ax.voxels) * z_mm < 100:
        return
    for axis, wide_mm in ((1, x_mm), (2, y_mm)):
        count = ax.voxels.shape[axis]
        for index in np.linspace(0.25 * count, 0.75 * count, 16).astype(int):
            image = network_slice(np.take(ax.voxels, index, axis=axis), z_mm, wide_mm)
            if image is not None:
                yield image, UNKNOWN, 0


def parts_by_lungs(volume: Volume, lungs: Labels, without: int) -> Labels:
    """Chest where lungs are wide, unknown where they are small; above them the neck, below them ``without``."""
    pixel_cm2 = volume.geometry.spacing_mm[0] * volume.geometry.spacing_mm[1] / 100
    area = np.count_nonzero(lungs, axis=(1, 2)) * pixel_cm2
    parts = np.full(len(area), UNKNOWN, dtype=np.uint8)
    parts[area > LUNG_CM2["many"]] = PARTS.index("chest")
    parts[area < LUNG_CM2["few"]] = without
    shown = np.flatnonzero(area >= LUNG_CM2["few"])
    if shown.size:
        above = np.arange(len(area)) > shown[-1]
        parts[above & (area < LUNG_CM2["few"])] = PARTS.index("head_neck")
    return parts


def _openkbp(options: argparse.Namespace) -> Iterator[tuple[str, Volume, Labels]]:
    lungs = {case.name: case for case in open_dataset(options.lungs, kind="folder", modality="CT").cases}
    for case in open_dataset(options.openkbp, kind="openkbp").cases:
        if case.name not in lungs:
            continue
        example = case.load()
        parts = np.full(len(example.labels), PARTS.index("head_neck"), dtype=np.uint8)
        drawn = lungs[case.name].load()
        if drawn.labels.any():
            parts = parts_by_lungs(drawn.volume, drawn.labels, PARTS.index("head_neck"))
        stem = np.flatnonzero((example.labels == BRAINSTEM).any(axis=(1, 2)))
        if stem.size:
            parts[int(stem[0]) :] = PARTS.index("head")
        yield case.name, example.volume, parts


def _named(options: argparse.Namespace) -> Iterator[tuple[str, Volume, Labels]]:
    lungs = {case.name: case for case in open_dataset(options.lungs, kind="folder", modality="CT").cases}
    for entry in options.volume:
        words = entry.split(",")
        if len(words) != 4 or words[2] not in PARTS:
            raise DataError(f"--volume {entry}: write NAME,MODALITY,PART,PATH with a part of {', '.join(PARTS)}")
        name, modality, part, path = words
        volume = read_head(Path(path), modality=modality)
        if name in lungs:
            drawn = lungs[name].load()
            yield name, drawn.volume, parts_by_lungs(drawn.volume, drawn.labels, PARTS.index(part))
        else:
            count = len(to_axial(volume)[0].voxels)
            yield name, volume, np.full(count, PARTS.index(part), dtype=np.uint8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train kind-slices``."""
    parser.epilog = "example: medai-train kind-slices --volume h1,MR,head,HEAD/ --lungs lungs/ --out slices.npz"
    json_argument(parser, "what was written")
    parser.add_argument("--volume", action="append", default=[], metavar="NAME,MODALITY,PART,PATH")
    parser.add_argument("--openkbp", help="OpenKBP arrays: head, neck and, where --lungs drew some, chest")
    parser.add_argument("--lungs", required=True, help="what medai-train lung-reference made")
    parser.add_argument("--out", type=Path, required=True, help="slices.npz")


def run(options: argparse.Namespace) -> int:
    """Write the slices; 0 when there are some."""
    rows: list[tuple[Voxels, int, int, str]] = []
    sources = [*([_openkbp(options)] if options.openkbp else []), _named(options)]
    for source in sources:
        for name, volume, parts in tqdm(source, desc="slicing", unit="volume"):
            rows += [(image, part, axial, name) for image, part, axial in slices_of(volume, parts)]
    if not rows:
        raise DataError("nothing to slice: give --volume or --openkbp")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    images, numbers, axial, names = zip(*rows, strict=True)
    np.savez_compressed(
        options.out,
        images=np.stack(images).astype(np.float16),
        parts=np.asarray(numbers, dtype=np.uint8),
        axial=np.asarray(axial, dtype=np.uint8),
        patients=np.asarray(names),
    )
    found = {part: numbers.count(number) for number, part in enumerate(PARTS)}
    lines = [f"{part}: {counted(count, 'slice')}" for part, count in found.items()]
    lines.append(f"{options.out}: {counted(len(rows), 'slice')} of {counted(len(set(names)), 'patient')}")
    answer(options, {"file": str(options.out), "slices": found, "patients": len(set(names))}, "\n".join(lines))
    return 0


def read_slices(path: Path) -> Slices:
    """What ``kind-slices`` wrote. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Slices(**{name: arrays[name] for name in ("images", "parts", "axial", "patients")})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no slices: make them with medai-train kind-slices") from error
