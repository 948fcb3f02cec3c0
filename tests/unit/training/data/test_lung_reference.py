"""The classical lung masks: on a body made of ellipsoids, whose lungs are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.volume import Labels, Volume, Voxels
from medai.training.cases import Example
from medai.training.cli import main
from medai.training.data.datasets import open_dataset, write_pair
from medai.training.data.lung_reference import LEFT, RIGHT, lungs

MM = 3.0
SHAPE = (70, 90, 110)


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Voxels:
    """A mask [slice, row, column]; in voxels."""
    grids = np.ogrid[tuple(slice(0, side) for side in SHAPE)]
    distance = sum(((grid - c) / r) ** 2 for grid, c, r in zip(grids, centre, radii, strict=True))
    return np.asarray(distance <= 1.0)


def chest() -> tuple[Volume, Labels]:
    """Two lungs with vessels, a trachea, gas in the bowel, and a table under the patient."""
    draw = np.random.default_rng(1)
    voxels = np.full(SHAPE, -1000.0)
    voxels[ellipsoid((35, 45, 55), (200, 36, 48))] = 40.0
    truth = np.zeros(SHAPE, dtype=np.uint8)
    truth[ellipsoid((38, 45, 33), (28, 24, 16))] = RIGHT
    truth[ellipsoid((38, 45, 77), (28, 24, 16))] = LEFT
    voxels[truth > 0] = -820.0
    for column in (33, 77):
        voxels[ellipsoid((38, 45, column), (20, 1.2, 1.2))] = 30.0  # vessels belong to the lung
    voxels[ellipsoid((66, 42, 55), (22, 2.5, 2.5))] = -1000.0  # trachea
    voxels[ellipsoid((5, 25, 70), (3, 4, 4))] = -1000.0  # bowel
    voxels[:, 86:88] = 200.0  # table
    voxels += draw.normal(0, 15, SHAPE)
    geometry = Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(MM,) * 3, shape=SHAPE
    )
    return Volume(voxels=voxels.astype(np.float32), geometry=geometry, modality="CT", unit="HU"), truth


def dice(one: Voxels, other: Voxels) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_both_lungs_are_found_and_told_apart() -> None:
    volume, truth = chest()
    found = lungs(volume)
    assert dice(found == RIGHT, truth == RIGHT) > 0.95
    assert dice(found == LEFT, truth == LEFT) > 0.95
    assert not found[1:8, 20:30, 65:75].any(), "gas in the bowel is no lung"
    assert not found[60:, 40:45, 54:57].any(), "the trachea is no lung"
    assert found[38, 45, 33] == RIGHT, "a vessel inside a lung belongs to it"


def test_a_body_without_lungs_gives_an_empty_mask() -> None:
    volume, truth = chest()
    voxels = np.where(truth > 0, 40.0, volume.voxels).astype(np.float32)
    assert not lungs(Volume(voxels=voxels, geometry=volume.geometry, modality="CT", unit="HU")).any()


def test_the_command_writes_a_data_set_and_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, truth = chest()
    write_pair(Example(volume=volume, labels=truth * 10), "given", tmp_path / "in")
    image, labels = (tmp_path / "in" / part / "given.nii.gz" for part in ("images", "labels"))
    command = ["lung-reference", "--ct", f"drawn={image}", "--labelled", f"copied={image},{labels},10,20"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "2 cases" in capsys.readouterr().out
    cases = {case.name: case.load() for case in open_dataset(str(tmp_path / "out"), modality="CT").cases}
    assert set(cases) == {"drawn", "copied"}
    np.testing.assert_array_equal(cases["copied"].labels, truth)
    assert dice(cases["drawn"].labels > 0, truth > 0) > 0.95


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ct", "no-name"], "NAME=PATH"),
        (["--labelled", "a=b,c"], "NAME=IMAGE,LABELS,RIGHT,LEFT"),
        ([], "nothing to draw in"),
    ],
)
def test_a_wrong_call_is_said_in_words(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lung-reference", *arguments, "--out", str(tmp_path / "out")]) != 0
    assert words in capsys.readouterr().err
