"""Expert labels of SEG and RTSTRUCT, one by one, on the grid of their images."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_cases import SHAPE, block, ct_slices, rtstruct, seg, square
from pydicom import Dataset

from medai.models.geometry import Geometry
from medai.models.images.preprocess import series_to_volume
from medai.training.data.dicom_labels import Drawn, Structure, draw, merge, same_text, structures
from medai.training.errors import DataError


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    return ct_slices("labels")


@pytest.fixture(scope="module")
def grid(images: list[Dataset]) -> Geometry:
    from copy import deepcopy

    return series_to_volume(deepcopy(images)).volume.geometry


def test_a_label_is_the_same_in_other_case_and_spaces() -> None:
    assert same_text("  Left   LUNG ") == same_text("left lung") == "left lung"


def test_a_seg_and_an_rtstruct_say_what_they_hold_and_who_drew_it(images: list[Dataset]) -> None:
    masks = {"Liver": block((1, 1, 1), (3, 3, 3)), "Spleen": block((4, 4, 4), (6, 6, 6))}
    assert structures(seg(images, masks)) == (
        Structure(number=1, label="Liver", by_machine=False), Structure(number=2, label="Spleen", by_machine=False),
    )  # fmt: skip
    assert all(one.by_machine for one in structures(seg(images, masks, algorithm="AUTOMATIC")))
    drawn = rtstruct(images, {" Liver ": [square(images, 2, 3, 6)]}, algorithm="AUTOMATIC")
    assert structures(drawn) == (Structure(number=1, label="Liver", by_machine=True),)


def test_only_what_is_wanted_is_drawn_and_as_it_was(images: list[Dataset], grid: Geometry) -> None:
    masks = {"Liver": block((1, 2, 3), (4, 6, 9)), "Spleen": block((4, 4, 4), (6, 6, 6))}
    drawn = seg(images, masks)
    wanted = structures(drawn)[1:]
    (found,) = draw(drawn, grid, wanted)
    assert found.structure.label == "Spleen"
    assert np.array_equal(found.mask, masks["Spleen"])


def test_a_region_without_contours_is_empty(images: list[Dataset], grid: Geometry) -> None:
    drawn = rtstruct(images, {"Liver": []})
    (found,) = draw(drawn, grid, structures(drawn))
    assert not found.mask.any()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0, 0], [1, 1, 0]], "contour 1 of 'Liver' has no valid points"),
        ([[0, 0, 300], [9, 0, 300], [9, 9, 300]], "contour 1 of 'Liver' lies outside the images"),
        ([[1e4, 0, 0], [1e4 + 9, 0, 0], [1e4, 9, 0]], "contour 1 of 'Liver' lies outside the images"),
    ],
)
def test_a_contour_that_is_none_or_lies_elsewhere_is_named(
    points: list[list[float]], words: str, images: list[Dataset], grid: Geometry
) -> None:
    given = np.asarray(points) + np.array((0, 0, float(images[3].ImagePositionPatient[2])))
    drawn = rtstruct(images, {"Liver": [given]})
    with pytest.raises(DataError, match=words):
        list(draw(drawn, grid, structures(drawn)))


def piece(label: str, mask: np.ndarray) -> Drawn:
    return Drawn(structure=Structure(number=1, label=label, by_machine=False), mask=mask)


def test_structures_of_one_value_are_united_and_two_values_may_not_meet_without_an_order() -> None:
    left, right = block((0, 0, 0), (4, 4, 4)), block((2, 2, 2), (6, 6, 6))
    both = {"left": 1, "right": 1, "tumour": 2}
    united = merge([piece("Left", left), piece("RIGHT", right)], both, SHAPE, priority=False)
    assert np.array_equal(united > 0, left | right)
    clash = [piece("Left", left), piece("Tumour", right)]
    with pytest.raises(DataError, match=r"'Left' and 'Tumour' overlap in 8 voxels; .* list the labels in labels.csv"):
        merge(clash, both, SHAPE, priority=False)
    for order in (clash, clash[::-1]):
        assert (merge(order, both, SHAPE, priority=True)[right] == 2).all(), "the higher value wins"
