"""The template of a head: turned upright, made symmetric, on its own grid."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.volume import Volume
from medai.training.data.template import SIZE, symmetric


def tilted_head() -> tuple[Volume, np.ndarray]:
    """An ellipsoid with a bright core on each side, rolled by ten degrees and off the middle; and its mask."""
    shape, angle = (90, 100, 90), np.radians(10)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    z, y, x = z - 42, y - 52, x - 48
    across, up = np.cos(angle) * x + np.sin(angle) * z, -np.sin(angle) * x + np.cos(angle) * z
    brain = (across / 34) ** 2 + (y / 42) ** 2 + (up / 30) ** 2 < 1
    voxels = np.where(brain, 100.0, 0.0) + 60.0 * (up > 5) * brain
    for side in (-14, 14):
        voxels += 80.0 * ((across - side) ** 2 + (y + 10) ** 2 + up**2 < 60)
    geometry = Geometry(
        origin_mm=(30.0, -20.0, 10.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(2.0,) * 3, shape=shape
    )
    return Volume(voxels=voxels.astype(np.float32), geometry=geometry, modality="MR"), brain.astype(np.uint8)


@pytest.mark.slow
def test_a_tilted_head_becomes_a_template_that_is_its_own_mirror_image() -> None:
    head, brain = tilted_head()
    template = symmetric(head, brain)
    assert template.geometry.shape == SIZE[::-1]
    voxels = template.voxels
    np.testing.assert_allclose(voxels, voxels[:, :, ::-1], atol=1e-3)
    # Upright: a mean of a head and its tilted mirror image would be blurred where they part.
    sure = (voxels > 2.5).sum() * 8 / 1000
    truth = brain.sum() * 8 / 1000
    assert 0.9 < sure / truth < 1.15
    rows, columns = np.argwhere(voxels[voxels.shape[0] // 2] > 200).T if (voxels > 200).any() else ([], [])
    assert len(rows), "the two bright cores stay bright, for they lie on each other"
    assert np.abs(np.mean(columns) - (SIZE[0] - 1) / 2) < 1.0
