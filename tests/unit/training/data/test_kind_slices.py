"""Slices for the classifier of series, cut out of volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.segmenters.series_kind import SIDE
from medai.models.volume import Volume
from medai.training.cases import Example
from medai.training.cli import main
from medai.training.data.datasets import write_pair
from medai.training.data.kind_slices import PARTS, UNKNOWN, parts_by_lungs, read_slices, slices_of
from medai.training.errors import DataError


def volume(shape: tuple[int, int, int] = (40, 60, 50), mm: float = 4.0) -> Volume:
    """An egg whose thick end is in front."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    width = 12 + 8 * (1 - y / shape[1])
    inside = ((x - shape[2] / 2) / width) ** 2 + ((y - shape[1] / 2) / 24) ** 2 < 1
    voxels = np.where(inside, 100 + 2 * z, 0).astype(np.float32)
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(mm,) * 3, shape=shape
    )
    return Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU")


def test_a_volume_gives_slices_that_lie_as_they_should_and_some_that_do_not() -> None:
    found = list(slices_of(volume(), np.full(40, 2, dtype=np.uint8)))
    upright = [image for image, part, axial in found if axial and part == 2]
    across = [part for _, part, axial in found if not axial]
    assert len(upright) == 40
    assert across == [UNKNOWN] * 32
    assert {image.shape for image, _, _ in found} == {(SIDE, SIDE)}
    assert abs(float(upright[20].mean())) < 1e-3
    assert float(upright[20].std()) == pytest.approx(1.0, abs=1e-3)


def test_lungs_tell_where_the_chest_is() -> None:
    drawn = np.zeros((40, 60, 50), dtype=np.uint8)
    drawn[10:20, 20:45, 10:40] = 1  # 120 square centimetres
    drawn[20:22, 20:30, 10:22] = 1  # 19: neither chest nor neck
    parts = parts_by_lungs(volume(), drawn, PARTS.index("abdomen"))
    assert set(parts[:10]) == {PARTS.index("abdomen")}
    assert set(parts[10:20]) == {PARTS.index("chest")}
    assert set(parts[20:22]) == {UNKNOWN}
    assert set(parts[22:]) == {PARTS.index("head_neck")}


def test_the_command_writes_slices_that_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((40, 60, 50), dtype=np.uint8)
    write_pair(Example(volume=volume(), labels=labels), "body", tmp_path / "lungs")
    image = tmp_path / "lungs" / "images" / "body.nii.gz"
    out = tmp_path / "slices.npz"
    command = ["kind-slices", "--lungs", str(tmp_path / "lungs"), "--out", str(out)]
    assert main([*command, "--volume", f"body,CT,abdomen,{image}", "--volume", f"brain,MR,head,{image}"]) == 0
    found = read_slices(out)
    assert set(found.patients.tolist()) == {"body", "brain"}
    assert (found.parts[found.patients == "brain"] == PARTS.index("head")).sum() == 40
    assert main([*command, "--volume", f"body,CT,tail,{image}"]) != 0
    assert "NAME,MODALITY,PART,PATH" in capsys.readouterr().err
    with pytest.raises(DataError, match="kind-slices"):
        read_slices(image)
