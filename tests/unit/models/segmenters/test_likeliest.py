"""Each voxel of another grid takes the class that is likeliest there, as if every class had been interpolated whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medai.models.errors import GeometryMismatch
from medai.models.geometry import Geometry
from medai.models.images.preprocess import resample_onto
from medai.models.segmenters import likeliest as module
from medai.models.segmenters.likeliest import likeliest, winners

COARSE = Geometry(
    origin_mm=(-20.0, 7.0, 3.0),
    direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    spacing_mm=(3.0, 2.5, 4.0),
    shape=(12, 14, 10),
    frame_of_reference_uid="2.25.3",
)
TURNED = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


def grid(**changed: Any) -> Geometry:
    return replace(COARSE, **changed)


def blobs(classes: int = 4) -> np.ndarray:
    """Soft balls of classes in a background; each voxel's probabilities are 1 together."""
    at = np.stack(np.meshgrid(*(np.arange(n) for n in COARSE.shape), indexing="ij"))
    generator = np.random.default_rng(4)
    centres = generator.uniform(2, 9, (classes - 1, 3))
    logits = [np.zeros(COARSE.shape)]
    for centre in centres:
        distance = np.sqrt(((at - centre[:, None, None, None]) ** 2).sum(axis=0))
        logits.append(9 - 3 * distance + generator.normal(0, 0.3, COARSE.shape))
    shares = np.exp(np.stack(logits))
    return (shares / shares.sum(axis=0)).astype(np.float32)


def whole(probabilities: np.ndarray, to: Geometry) -> np.ndarray:
    """Every class interpolated over all of the other grid."""
    return np.stack([resample_onto(one, COARSE, to) for one in probabilities]).argmax(axis=0)


@pytest.mark.parametrize(
    "to",
    [
        grid(spacing_mm=(0.8, 0.7, 1.0), shape=(46, 48, 36), origin_mm=(-21.1, 6.1, 1.5)),
        grid(spacing_mm=(0.8, 0.7, 9.0), shape=(5, 48, 36), origin_mm=(-21.1, 6.1, 4.5)),
        grid(
            direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
            spacing_mm=(1.0, 1.0, 1.0),
            shape=(40, 30, 26),
            origin_mm=(5.0, 8.0, 45.0),
        ),
        grid(direction=TURNED, spacing_mm=(1.0, 1.0, 1.0), shape=(44, 34, 28), origin_mm=(-20.0, 8.0, 3.0)),
        COARSE,
    ],
    ids=["finer", "thick", "turned round", "oblique", "the same"],
)
def test_the_winner_is_who_wins_where_all_are_interpolated_whole(to: Geometry) -> None:
    probabilities = blobs()

    found = likeliest(probabilities, COARSE, to)

    expected = whole(probabilities, to)
    assert found.shape == to.shape
    assert set(np.unique(found)) == {0, 1, 2, 3}
    assert np.count_nonzero(found != expected) <= 1e-4 * expected.size  # of equal chances either may win


def test_many_slices_are_drawn_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = grid(spacing_mm=(1.0, 1.0, 0.5), shape=(96, 35, 30))
    together = likeliest(blobs(), COARSE, fine)

    monkeypatch.setattr(module, "SLICES", 5)

    np.testing.assert_array_equal(likeliest(blobs(), COARSE, fine), together)


def test_beyond_the_networks_grid_there_is_nothing() -> None:
    certain = np.zeros((2, *COARSE.shape), np.float32)
    certain[1] = 1.0
    around = grid(shape=(22, 24, 20), origin_mm=(-35.0, -5.5, -17.0))  # five voxels more on each side

    found = likeliest(certain, COARSE, around)

    assert found.sum() == np.prod(COARSE.shape)
    assert found[5:-5, 5:-5, 5:-5].all()


def test_where_no_class_has_a_chance_nothing_is_drawn() -> None:
    nothing = np.zeros((3, *COARSE.shape), np.float32)
    nothing[0] = 1.0

    assert not likeliest(nothing, COARSE, COARSE).any()


def test_grids_that_do_not_meet_share_nothing() -> None:
    assert not likeliest(blobs(), COARSE, grid(origin_mm=(500.0, 7.0, 3.0))).any()
    assert not likeliest(blobs(), COARSE, grid(origin_mm=(500.0, 7.0, 3.0), direction=TURNED)).any()


def test_another_frame_of_reference_is_another_patient() -> None:
    with pytest.raises(GeometryMismatch, match="another frame of reference"):
        likeliest(blobs(), COARSE, grid(frame_of_reference_uid="2.25.4"))


def test_on_the_networks_own_grid_the_first_of_the_likeliest_wins() -> None:
    probabilities = blobs().round(1)  # many are equal

    np.testing.assert_array_equal(winners(probabilities), probabilities.argmax(axis=0))
