"""Where a template lies in a head: a pose turns points and says how the head is turned."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.errors import ModelRefused
from medai.models.geometry import Geometry
from medai.models.images.registration import Pose, pose_of
from medai.models.volume import Labels, Volume


def about_z(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def brain(shift_mm: tuple[float, float, float] = (0, 0, 0), stretch: float = 1.0) -> tuple[Volume, Labels]:
    """An egg of 3 mm voxels, brighter in front, with a dark ball off its middle; its mask."""
    shape = (40, 44, 36)
    geometry = Geometry(
        origin_mm=(-54, -66, -60), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(3, 3, 3), shape=shape
    )
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    at = np.stack([x, y, z], axis=-1) * 3.0 + np.array(geometry.origin_mm) - np.array(shift_mm)
    at /= stretch
    mask = ((at / np.array([36.0, 48.0, 42.0])) ** 2).sum(axis=-1) < 1
    voxels = np.where(mask, 300 + 3 * at[..., 1] + at[..., 2], 0)
    voxels[((at - np.array([12.0, 15.0, 9.0])) ** 2).sum(axis=-1) < 100] = 100
    volume = Volume(voxels=voxels.astype(np.float32), geometry=geometry, modality="MR")
    return volume, mask.astype(np.uint8)


def test_a_point_of_the_template_is_turned_and_moved() -> None:
    pose = Pose(matrix=1.2 * about_z(90), offset=np.array([1.0, 2.0, 3.0]))
    assert pose.point(np.array([10.0, 0.0, 0.0])) == pytest.approx([1, 14, 3])


def test_the_turn_of_a_head_is_told_apart_from_its_size() -> None:
    pose = Pose(matrix=about_z(20) @ np.diag([1.1, 0.9, 1.2]), offset=np.zeros(3))
    turn = pose.rotation()
    assert turn @ turn.T == pytest.approx(np.eye(3))
    assert turn == pytest.approx(about_z(20), abs=0.05)


def test_a_head_that_lies_elsewhere_and_is_larger_is_found_the_same_at_every_attempt() -> None:
    template, _ = brain()
    head, mask = brain(shift_mm=(6.0, -9.0, 3.0), stretch=1.08)
    pose = pose_of(head, mask, template)
    expected = 1.08 * np.array([12.0, 15.0, 9.0]) + np.array([6.0, -9.0, 3.0])
    assert np.linalg.norm(pose.point(np.array([12.0, 15.0, 9.0])) - expected) < 3.0
    again = pose_of(head, mask, template)
    assert np.array_equal(pose.matrix, again.matrix)
    assert np.array_equal(pose.offset, again.offset)


def test_a_head_without_a_brain_is_refused() -> None:
    head, mask = brain()
    with pytest.raises(ModelRefused, match="no brain was found"):
        pose_of(head, np.zeros_like(mask), head)
