"""Pictures go through the place where model and expert disagree most, as a radiologist looks at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.images.preprocess import reorient
from medai.models.volume import Volume
from medai.training.cases import Example
from medai.training.judging.pictures import save, view

SHAPE = (10, 12, 14)
CLASSES = [("lungs", [1, 2], [1])]


def example(axes: str = "LPS") -> tuple[Example, np.ndarray]:
    """A block that the expert drew in two labels; the model draws it with one slice more, at the head's end."""
    labels, drawn = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    labels[2:6, 3:9, 4:7], labels[2:6, 3:9, 7:10] = 1, 2
    drawn[2:7, 3:9, 4:10] = 1
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(1.0, 2.0, 4.0), shape=SHAPE
    )
    voxels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    volume, turn = reorient(Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU"), axes)
    return Example(volume=volume, labels=turn.apply(labels).copy()), turn.apply(drawn).copy()


@pytest.mark.parametrize("axes", ["LPS", "SAR"])
def test_planes_cut_the_worst_place_whatever_the_axes_of_the_series(axes: str) -> None:
    case, drawn = example(axes)
    seen = view("c", "title", case, drawn, CLASSES)
    axial, coronal, sagittal = seen.planes
    assert [plane.name for plane in seen.planes] == ["axial", "coronal", "sagittal"]
    assert not axial.truth[0].any(), "slice 6: the model's alone"
    assert axial.drawn[0].sum() == 6 * 6
    assert (coronal.image.shape, sagittal.image.shape) == ((10, 14), (10, 12))
    assert np.flatnonzero(coronal.drawn[0].any(axis=1)).tolist() == [3, 4, 5, 6, 7], "the head is up"
    assert [plane.aspect for plane in seen.planes] == [2.0, 4.0, 2.0]


def test_where_both_agree_the_structure_itself_is_shown_and_where_there_is_none_the_middle() -> None:
    case, _ = example()
    same = view("c", "t", case, (case.labels > 0).astype(np.uint8), CLASSES)
    assert same.planes[0].truth[0].any()
    nothing = np.zeros(SHAPE, np.uint8)
    empty = view("c", "t", Example(volume=case.volume, labels=nothing), nothing, CLASSES)
    assert np.array_equal(empty.planes[0].image, case.volume.voxels[5])


def test_the_same_view_gives_the_same_bytes_and_both_contours_are_there(tmp_path: Path) -> None:
    from PIL import Image

    case, drawn = example()
    seen = view("c", "a title", case, drawn, CLASSES)
    for name in ("one.png", "other.png"):
        save(seen, tmp_path / "deep" / name)
    one, other = ((tmp_path / "deep" / name).read_bytes() for name in ("one.png", "other.png"))
    assert one == other
    colours = np.asarray(Image.open(tmp_path / "deep" / "one.png").convert("RGB")).reshape(-1, 3)
    assert (colours == (0x00, 0xC8, 0x64)).all(axis=1).any(), "the expert's"
    assert (colours == (0xFF, 0x5A, 0x00)).all(axis=1).any(), "the model's"
