"""Stages and percentiles: what lies between two stamps, and how long many took."""

from __future__ import annotations

import statistics
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.contract import StampName
from medai.router.stages import STAGES, percentiles, stages_of, turnaround_of


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, None, None, None)),
        ([7.0], (1, 7.0, 7.0, 7.0)),
        ([3.0, 1.0], (2, 2.0, 2.9, 2.98)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (5, 3.0, 4.8, 4.96)),
        ([0.0] * 99 + [100.0], (100, 0.0, 0.0, 1.0)),
    ],
)
def test_percentiles_interpolate_between_readings(
    values: list[float], expected: tuple[int, float | None, float | None, float | None]
) -> None:
    assert astuple(percentiles(values)) == expected


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    found = percentiles(values)
    assert (found.p50_s, found.p95_s, found.p99_s) == pytest.approx((cuts[49], cuts[94], cuts[98]), abs=1e-3)


def test_stages_follow_one_another_without_gap_from_order_to_acknowledgement() -> None:
    pairs = list(STAGES.values())
    assert [end for _, end in pairs[:-1]] == [start for start, _ in pairs[1:]]
    named = [pairs[0][0], *[end for _, end in pairs]]
    assert named == [name for name in StampName if name is not StampName.ORU_SENT]


def test_a_stage_needs_both_its_stamps() -> None:
    assert stages_of({"started": 10.0, "fetched": 12.5, "inferred": 20.0}) == {"fetch": 2.5}
    assert stages_of({}) == {}


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ({"last_instance": 1.0, "stored": 5.0, "oru_acknowledged": 8.0}, 7.0),
        ({"last_instance": 1.0, "stored": 5.0}, 4.0),
        ({"stored": 5.0}, None),
        ({"last_instance": 1.0, "oru_sent": 5.0}, None),
        ({}, None),
    ],
)
def test_the_turnaround_ends_at_the_ris_or_at_the_archive_where_there_is_none(
    stamps: dict[str, float], expected: float | None
) -> None:
    assert turnaround_of(stamps) == expected
