"""A label map is tidied: pieces, holes, what lies outside the patient."""

from __future__ import annotations

import numpy as np

from medai.models.format.recipe import Cleaning
from medai.models.segmenters.cleaning import clean, largest, tidied, within
from medai.models.segmenters.feed import body


def test_the_largest_pieces_stay_and_crumbs_go() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[:4], mask[6:8], mask[9, 9, 9] = True, True, True
    kept = largest(mask, 3)
    assert kept[:4].all()
    assert kept[6:8].all()
    assert not kept[9].any()
    assert not largest(np.zeros((3, 3, 3), bool), 2).any()


def test_a_blanket_is_not_in_the_body_but_a_lung_is() -> None:
    chest = np.full((6, 40, 40), -1000, np.int16)
    chest[:, 10:30, 5:35] = 40
    chest[:, 15:25, 10:20] = -850
    mask = chest == -850
    mask[:, 4:6, 5:35] = True
    kept = within(mask, body(chest) > 0)
    assert kept[:, 15:25, 10:20].all()
    assert kept.sum() == 6 * 100


def drawn() -> np.ndarray:
    """Two rings of segment 1 (a large and a small one), a crumb of it, and a block of segment 2 in the large ring."""
    labels = np.zeros((5, 20, 20), np.uint8)
    for low, high in ((1, 9), (11, 16)):
        labels[1:4, low:high, low:high] = 1
    labels[2, 2:8, 2:8] = 0
    labels[2, 4, 4] = 2
    labels[0, 19, 19] = 1
    return labels


def test_each_segment_keeps_its_largest_pieces_and_no_others_are_touched() -> None:
    kept = clean(drawn(), Cleaning(components=1))
    assert not kept[:, 11:, 11:].any()
    assert kept[2, 4, 4] == 2
    assert np.array_equal(kept[:, :10, :10], drawn()[:, :10, :10])


def test_a_hole_is_filled_but_not_over_another_segment() -> None:
    kept = clean(drawn(), Cleaning(fill_holes=True))
    assert (kept[2, 2:8, 2:8] > 0).all()
    assert np.count_nonzero(kept == 1) > np.count_nonzero(drawn() == 1)


def test_nothing_asked_is_nothing_done() -> None:
    assert np.array_equal(clean(drawn(), Cleaning()), drawn())


def test_what_lies_outside_the_patient_goes_where_it_is_known_where_they_are() -> None:
    patient = np.zeros((5, 20, 20), np.uint8)
    patient[:, :10, :10] = 1
    found = clean(drawn(), Cleaning(inside_body=True), patient)
    assert not found[:, 11:, 11:].any()
    assert found[:, :10, :10].any()
    assert np.array_equal(clean(drawn(), Cleaning(inside_body=True)), drawn())


def test_what_is_tidied_is_certain_and_the_rest_stays_as_it_was() -> None:
    before = np.stack([np.where(drawn() == number, 0.6, 0.2) for number in (0, 1, 2)]).astype(np.float32)

    after = tidied(before.copy(), Cleaning(components=1))

    wanted = clean(drawn(), Cleaning(components=1))
    assert np.array_equal(after.argmax(axis=0), wanted)
    changed = wanted != drawn()
    assert changed.any()
    assert (after[:, changed].max(axis=0) == 1).all()
    assert (after[:, changed].sum(axis=0) == 1).all()
    assert np.array_equal(after[:, ~changed], before[:, ~changed])
