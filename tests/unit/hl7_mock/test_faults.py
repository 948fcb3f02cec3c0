"""Fault rules: counted, seeded, and refused where they make no sense."""

from __future__ import annotations

import pytest

from medai.hl7_mock.faults import BadFaultError, Faults, parse_rule


def drawn(faults: Faults, times: int) -> list[str | None]:
    return [fault.kind if (fault := faults.draw()) else None for _ in range(times)]


def test_without_a_rule_nothing_goes_wrong() -> None:
    assert drawn(Faults(), 3) == [None, None, None]


def test_rules_strike_in_turn_as_often_as_they_say() -> None:
    faults = Faults()
    faults.add(parse_rule({"kind": "ae", "count": 2}))
    faults.add(parse_rule({"kind": "silent", "count": 1}))
    assert drawn(faults, 4) == ["ae", "ae", "silent", None]
    assert faults.as_list() == []


def test_a_rule_without_count_holds_until_it_is_cleared() -> None:
    faults = Faults()
    faults.add(parse_rule({"kind": "ar"}))
    assert drawn(faults, 50) == ["ar"] * 50
    faults.clear()
    assert faults.draw() is None


def test_the_same_seed_gives_the_same_faults() -> None:
    runs = []
    for seed in (1, 1, 2):
        faults = Faults()
        faults.add(parse_rule({"kind": "close", "probability": 0.3, "seed": seed}))
        runs.append(drawn(faults, 200))
    assert runs[0] == runs[1] != runs[2]
    assert 30 < sum(kind == "close" for kind in runs[0]) < 90


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {},
        {"kind": "explode"},
        {"kind": "ae", "count": 0},
        {"kind": "ae", "count": True},
        {"kind": "ae", "probability": 1.5},
        {"kind": "ae", "delay_s": -1},
        {"kind": "ae", "store": "yes"},
        {"kind": "ae", "oftn": 1},
        {"kind": ["ae"]},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(asked: object) -> None:
    with pytest.raises(BadFaultError):
        parse_rule(asked)
