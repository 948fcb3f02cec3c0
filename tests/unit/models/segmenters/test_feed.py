"""What a network is fed of a CT: the patient's box, and labels that find their way back from it."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.errors import ModelRefused
from medai.models.format.recipe import Feed, Intensity
from medai.models.geometry import Geometry
from medai.models.segmenters.feed import BODY_MARGIN, HU_OF_AIR, scale, to_network
from medai.models.volume import Volume

FEED = Feed(axes="LPS", spacing_mm=(2.0, 2.0, 2.0), inside_body=True, intensity=Intensity(kind="none"))


def ct(*, empty: bool = False) -> Volume:
    """A patient of 20 x 24 x 16 mm, hollow, beside a table, in 60 x 60 x 20 mm of air."""
    voxels = np.full((20, 60, 60), HU_OF_AIR, dtype=np.int16)
    if not empty:
        voxels[2:18, 20:44, 22:42] = 40
        voxels[6:14, 28:36, 28:36] = -900
        voxels[:, 54:57, 5:55] = 100
        voxels[:, 55, 5:55] = HU_OF_AIR
    geometry = Geometry(
        origin_mm=(-30.0, 10.0, 5.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        spacing_mm=(1.0, 1.0, 1.0),
        shape=(20, 60, 60),
        frame_of_reference_uid="2.25.3",
    )
    return Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU")


def test_only_the_patients_box_is_fed_and_the_table_is_air() -> None:
    fed = to_network(ct(), FEED)
    sides_mm = [20, 24, 16][::-1]
    most = [side // 2 + 2 * BODY_MARGIN + 2 for side in sides_mm]
    assert all(n <= m for n, m in zip(fed.array.shape, most, strict=True))
    assert float(fed.array.max()) == 40.0
    assert fed.array.shape == fed.grid.shape
    lungs = (fed.array < -800) & (fed.array > HU_OF_AIR)
    assert lungs.any(), "what is inside the patient stays"


def test_labels_come_back_to_their_place_from_the_patients_box() -> None:
    volume = ct()
    wanted = (volume.voxels == 40).astype(np.uint8)
    fed = to_network(volume, FEED)
    back = fed.labels_back(fed.labels_in(wanted))
    assert back.shape == wanted.shape
    assert 2 * np.sum(back & wanted) / (back.sum() + wanted.sum()) > 0.93
    shares = np.stack([1.0 - fed.labels_in(wanted), fed.labels_in(wanted)]).astype(np.float32)
    drawn = fed.probabilities_back(shares)
    assert 2 * np.sum(drawn & wanted) / (drawn.sum() + wanted.sum()) > 0.93
    assert not drawn[:, 50:].any(), "nothing is drawn on the table"


def test_a_ct_of_air_is_refused() -> None:
    with pytest.raises(ModelRefused, match="nothing denser than air"):
        to_network(ct(empty=True), FEED)


VALUES = np.array([-1000.0, 0.0, 0.0, 50.0, 100.0, 400.0])


def scaled(**values: object) -> list[float]:
    return [round(float(value), 4) for value in scale(VALUES, Intensity.model_validate(values))]


def test_a_window_goes_to_any_interval() -> None:
    assert scaled(kind="window", low=0, high=100, to=(0, 1)) == [0, 0, 0, 0.5, 1, 1]
    assert scaled(kind="window", low=0, high=100) == [-1, -1, -1, 0, 1, 1]
    assert scaled(kind="window", low=0, high=100, to=(0, 1), clip=False) == [-10, 0, 0, 0.5, 1, 4]


def test_percentiles_are_the_image_s_own() -> None:
    assert scaled(kind="percentile", low=0, high=100, to=(0, 1))[::5] == [0, 1]
    with pytest.raises(ModelRefused, match="the image is empty"):
        scale(np.zeros(5), Intensity(kind="percentile", low=0, high=100))


def test_nonzero_voxels_alone_are_normalised() -> None:
    found = np.array(scaled(kind="zscore", low=0, high=100, nonzero=True))
    assert found[1] == found[2] == 0
    rest = found[VALUES != 0]
    assert (rest.mean(), rest.std()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    with pytest.raises(ModelRefused, match="the image is empty"):
        scale(np.zeros(5), Intensity(nonzero=True))
