"""Counts, moments and durations as a person reads them."""

from __future__ import annotations

import pytest

from medai.router import words

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (7200, "2 h"), (86400 * 3, "3 d"), (-5, "0 s")],
)
def test_an_age_is_told_in_its_largest_unit(age_s: float, text: str) -> None:
    assert words.ago(NOW - age_s, NOW) == text


def test_what_never_happened_is_a_dash() -> None:
    assert words.ago(None, NOW) == words.seconds(None) == "-"


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00 s"), (12.345, "12.35 s"), (99.9, "99.90 s"), (100, "100 s")])
def test_a_duration_has_as_many_digits_as_a_person_needs(value: float, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2, ("image",), "2 images"),
        (1, ("delivery", "deliveries"), "1 delivery"),
        (3, ("delivery", "deliveries"), "3 deliveries"),
    ],
)
def test_a_number_agrees_with_its_noun(number: int, nouns: tuple[str, ...], said: str) -> None:
    assert words.counted(number, *nouns) == said
