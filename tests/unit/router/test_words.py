"""Counts, moments and durations as a person reads them."""

from __future__ import annotations

import time

import pytest

from medai.router.words import ago, clock, counted, lasted

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (7200, "2 h"), (86400 * 3, "3 d"), (-5, "0 s")],
)
def test_an_age_is_told_in_its_largest_unit(age_s: float, text: str) -> None:
    assert ago(NOW - age_s, NOW) == text


def test_what_never_happened_is_a_dash() -> None:
    assert ago(None, NOW) == lasted(None) == lasted(None, rough=True) == clock(None) == "–"


@pytest.mark.parametrize(
    ("length_s", "text"),
    [
        (0.0, "0.00 s"), (0.349, "0.35 s"), (9.994, "9.99 s"), (9.996, "10.0 s"), (12.345, "12.3 s"), (60, "1.0 min"),
        (93, "1.6 min"), (5400, "1.5 h"), (200_000, "2.3 d"),
    ],
)  # fmt: skip
def test_a_duration_has_as_many_digits_as_a_person_needs(length_s: float, text: str) -> None:
    assert lasted(length_s) == text


def test_a_moment_is_told_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert clock(NOW) == "2027-01-15 08:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


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
    assert counted(number, *nouns) == said
