"""Figures against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from medai.training.metrics import Figure, figure, lower_bound, measure, summary

Mask = npt.NDArray[np.bool_]


def cube(first: tuple[int, int, int], side: int = 4, shape: tuple[int, int, int] = (12, 12, 12)) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, start + side) for start in first)] = True
    return mask


def test_two_cubes_that_overlap_by_half_have_the_figures_worked_out_by_hand() -> None:
    # 64 voxels each, 32 in common; slices 3 mm apart, 1 mm in plane.
    found = measure(cube((2, 4, 4)), cube((4, 4, 4)), (1.0, 1.0, 3.0))
    assert found.dice == pytest.approx(0.5)
    assert found.sensitivity == pytest.approx(0.5)
    assert found.precision == pytest.approx(0.5)
    assert found.false_negative_rate == pytest.approx(0.5)
    assert found.specificity == pytest.approx(1 - 32 / (12**3 - 64))
    assert found.false_positive_rate == pytest.approx(32 / (12**3 - 64))
    assert found.volume_error_ml == 0
    assert found.truth_ml == pytest.approx(64 * 3 / 1000)
    # The far face (16 of 56 surface voxels) is two slices away: 6 mm.
    assert found.hd95_mm == pytest.approx(6.0)


def test_surface_dice_counts_the_surface_within_the_tolerance() -> None:
    # Of each surface's 56 voxels: far face 16 at 6 mm, next rim 12 at 3 mm, the other 28 within 1 mm.
    one, other = cube((2, 4, 4)), cube((4, 4, 4))
    assert measure(one, other, (1.0, 1.0, 3.0), tolerance_mm=1.0).surface_dice == pytest.approx(28 / 56)
    assert measure(one, other, (1.0, 1.0, 3.0), tolerance_mm=3.0).surface_dice == pytest.approx(40 / 56)


def test_spacing_is_x_y_z_and_masks_are_slice_row_column() -> None:
    truth = cube((4, 4, 4))
    assert measure(truth, cube((4, 4, 6)), (2.5, 1.0, 1.0)).hd95_mm == pytest.approx(5.0)
    assert measure(truth, cube((4, 6, 4)), (2.5, 1.0, 1.0)).hd95_mm == pytest.approx(2.0)


def test_equal_masks_are_perfect() -> None:
    found = measure(cube((3, 3, 3)), cube((3, 3, 3)), (1.0, 1.0, 1.0))
    assert (found.dice, found.surface_dice, found.hd95_mm, found.assd_mm) == (1.0, 1.0, 0.0, 0.0)
    assert (found.structure_sensitivity, found.false_components) == (1.0, 0.0)


def test_a_mask_at_the_border_of_the_image_has_a_surface_there() -> None:
    # Both fill slices from the first on, of 4 and of 6 slices: faces 2 voxels apart, the common border at no distance.
    truth, drawn = np.zeros((8, 8, 8), dtype=bool), np.zeros((8, 8, 8), dtype=bool)
    truth[:4], drawn[:6] = True, True
    found = measure(truth, drawn, (1.0, 1.0, 1.0))
    assert found.hd95_mm == pytest.approx(2.0)
    assert found.surface_dice is not None
    assert found.surface_dice < 1


def test_a_structure_on_neither_side_is_absent_and_not_counted() -> None:
    nothing = np.zeros((8, 8, 8), dtype=bool)
    found = measure(nothing, nothing, (1.0, 1.0, 1.0))
    assert found.absent
    assert (found.dice, found.hd95_mm, found.specificity, found.sensitivity) == (None, None, None, None)
    assert found.structure_specificity == 1.0


def test_a_structure_that_was_missed_has_dice_0_and_no_distance() -> None:
    found = measure(cube((3, 3, 3)), np.zeros((12, 12, 12), dtype=bool), (1.0, 1.0, 1.0))
    assert (found.dice, found.surface_dice, found.sensitivity, found.structure_sensitivity) == (0.0, 0.0, 0.0, 0.0)
    assert (found.hd95_mm, found.assd_mm, found.precision, found.structure_specificity) == (None, None, None, None)
    assert found.volume_error_percent == pytest.approx(-100)


def test_a_structure_that_is_not_there_but_drawn_has_dice_0_and_spoils_specificity() -> None:
    found = measure(np.zeros((12, 12, 12), dtype=bool), cube((3, 3, 3)), (1.0, 1.0, 1.0))
    assert (found.dice, found.surface_dice, found.precision, found.structure_specificity) == (0.0, 0.0, 0.0, 0.0)
    assert (found.hd95_mm, found.sensitivity, found.structure_sensitivity) == (None, None, None)
    assert (found.false_components, found.volume_error_percent) == (1.0, None)


def test_components_are_found_when_anything_drawn_lies_in_them() -> None:
    shape = (24, 12, 12)
    truth = cube((1, 4, 4), shape=shape) | cube((8, 4, 4), shape=shape) | cube((16, 4, 4), shape=shape)
    drawn = cube((3, 4, 4), 2, shape) | cube((16, 4, 4), shape=shape) | cube((22, 0, 0), 2, shape)
    found = measure(truth, drawn, (1.0, 1.0, 1.0))
    assert found.structure_sensitivity == pytest.approx(2 / 3)
    assert found.structure_false_negative_rate == pytest.approx(1 / 3)
    assert found.false_components == 1.0


def test_the_interval_of_the_mean_is_that_of_normal_theory_where_it_holds() -> None:
    values = np.random.default_rng(5).normal(0.8, 0.1, 200)
    found = figure(list(values))
    assert found.ci95 is not None
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert found.ci95 == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)
    assert figure(list(values)) == found


def test_values_that_do_not_exist_are_left_out_and_one_value_has_no_interval() -> None:
    assert figure([None, 0.5, None]) == Figure(mean=0.5, median=0.5, ci95=None, n=1)
    assert figure([None]) == Figure(mean=None, median=None, ci95=None, n=0)
    assert figure([0.5, 0.5]).ci95 == (0.5, 0.5)


def test_the_lower_bound_leaves_five_percent_below() -> None:
    values = np.random.default_rng(6).normal(0.0, 0.05, 150)
    bound = lower_bound(values)
    assert bound == pytest.approx(values.mean() - 1.645 * values.std(ddof=1) / np.sqrt(150), abs=0.001)


def test_the_summary_counts_what_is_absent_and_what_has_no_distance() -> None:
    nothing, here = np.zeros((12, 12, 12), dtype=bool), cube((3, 3, 3))
    spacing = (1.0, 1.0, 1.0)
    found = summary([measure(here, here, spacing), measure(here, nothing, spacing), measure(nothing, nothing, spacing)])
    assert (found["counted"], found["absent"], found["missing"]["hd95_mm"]) == (2, 1, 1)
    assert found["dice"]["mean"] == pytest.approx(0.5)
    assert (found["hd95_mm"]["mean"], found["hd95_mm"]["n"]) == (0.0, 1)
    assert found["structure_specificity"]["mean"] == 1.0
    assert found["structure_sensitivity"]["mean"] == pytest.approx(0.5)
