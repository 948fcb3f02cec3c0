"""What a series shows: slices as the network sees them, and one answer of many logits."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.errors import ModelRefused
from medai.models.geometry import Geometry
from medai.models.images.preprocess import reorient
from medai.models.segmenters.series_kind import (
    MOST_SLICES,
    PIXEL_MM,
    SIDE,
    WAYS,
    axial_slices,
    kind_of,
    network_slice,
    turned,
)
from medai.models.volume import Volume


def volume(shape: tuple[int, int, int] = (50, 30, 40), mm: float = 4.0) -> Volume:
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(mm, mm, mm), shape=shape
    )
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return Volume(voxels=(100.0 + x + 10 * y + z), geometry=geometry, modality="MR")


def test_many_slices_are_thinned_evenly_and_few_are_all_shown() -> None:
    assert axial_slices(volume()).shape == (MOST_SLICES, SIDE, SIDE)
    assert len(axial_slices(volume((7, 30, 40)))) == 7
    assert len(axial_slices(volume(), most=5)) == 5


def test_slices_are_axial_however_the_series_is_stored() -> None:
    sagittal, _ = reorient(volume(), "PIR")
    assert np.allclose(axial_slices(sagittal), axial_slices(volume()), atol=1e-4)


def test_empty_slices_are_left_out_and_an_empty_series_is_refused() -> None:
    given = volume((6, 30, 40))
    given.voxels[2:4] = 7.0
    assert len(axial_slices(given)) == 4
    given.voxels[:] = 7.0
    with pytest.raises(ModelRefused, match="the image is empty"):
        axial_slices(given)


def test_a_slice_lies_around_the_middle_of_a_grid_of_its_own() -> None:
    image = np.zeros((40, 40), np.float32)
    image[:20] = np.arange(40) + 100.0
    seen = network_slice(image, PIXEL_MM / 2, PIXEL_MM)
    assert seen is not None
    assert seen.mean() == pytest.approx(0.0, abs=1e-5)
    assert seen.std() == pytest.approx(1.0, abs=1e-3)
    rows, columns = np.nonzero(seen > seen.min() + 0.1)
    assert rows.max() - rows.min() + 1 == 10, "20 rows of half a pixel each"
    assert columns.max() - columns.min() + 1 <= 40
    assert abs(rows.min() - (SIDE - 20) // 2) <= 1


def test_a_slice_larger_than_the_grid_is_cut_around_its_middle() -> None:
    image = np.tile(np.arange(200, dtype=np.float32), (200, 1))
    seen = network_slice(image, PIXEL_MM, PIXEL_MM)
    assert seen is not None
    assert seen.shape == (SIDE, SIDE)
    assert np.diff(seen[0]).min() > 0


def test_values_that_are_no_numbers_count_as_nothing() -> None:
    image = np.full((30, 30), np.nan, np.float32)
    assert network_slice(image, 4.0, 4.0) is None


def test_each_way_of_turning_is_another_and_none_is_upright() -> None:
    image = np.arange(12.0).reshape(3, 4)[:, :3]
    ways = [turned(image, way) for way in range(WAYS)]
    for number, one in enumerate(ways):
        assert not np.array_equal(one, image)
        assert not any(np.array_equal(one, other) for other in ways[:number])
    assert np.array_equal(ways[0], image[::-1])


def test_parts_are_the_mean_over_slices_and_upright_is_compared_with_the_ways() -> None:
    sure, unsure = [9.0, 0.0, 2.0], [0.0, 0.0, 2.0]
    logits = np.array([sure, sure, unsure])
    kind = kind_of(logits, np.full((WAYS, 3), 2.0), ("head", "chest"))
    assert kind.part == "head"
    assert kind.probabilities["head"] == pytest.approx((2 * 0.99988 + 0.5) / 3, abs=1e-3)
    assert sum(kind.probabilities.values()) == pytest.approx(1.0)
    assert kind.upright == pytest.approx(1 / (1 + WAYS)), "as upright as any way: chance"
    assert kind_of(logits, np.full((WAYS, 3), -9.0), ("head", "chest")).upright > 0.99
    assert kind_of(logits, np.full((WAYS, 3), 9.0), ("head", "chest")).upright < 0.01
