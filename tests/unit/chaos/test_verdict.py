"""The verdict's own rules, on made-up archives: what is right passes, each kind of wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos import checks, report
from chaos.checks import Results, Violation
from chaos.faults import FAULTS
from chaos.mutants import MUTANTS
from chaos.rounds import Outcome
from chaos.runner import Wish, deal
from chaos.studies import Study, plan

from medai.router.contract import filler_number


def study(**changes: Any) -> Study:
    made = replace(plan(1, 0)[0], modality="CT", both=False, slices=8, late=0, twice=False)
    return replace(made, **changes)


def seg(of: Study, number: int) -> dict[str, Any]:
    tracking = f"{filler_number(of.uid, 'ct')}.1 Ball"
    return {"SOPInstanceUID": f"2.25.1{number}", "SegmentSequence": [{"TrackingID": tracking}]}


def evidence(*sops: str) -> list[dict[str, Any]]:
    items = [{"ReferencedSOPInstanceUID": sop} for sop in sops]
    return [{"ReferencedSeriesSequence": [{"ReferencedSOPSequence": items}]}]


def sr(number: int, *, images: int = 8, replaces: str = "") -> dict[str, Any]:
    sources = [f"2.25.9{index}" for index in range(images)]
    made: dict[str, Any] = {"SOPInstanceUID": f"2.25.2{number}"}
    made["CurrentRequestedProcedureEvidenceSequence"] = evidence(f"2.25.1{number}", *sources)
    if replaces:
        made["PredecessorDocumentsSequence"] = evidence(replaces)
    return made


def found(of: Study, segs: list[Any], srs: list[Any], scs: int | None = None) -> set[str]:
    pictures = tuple({"SOPInstanceUID": f"2.25.3{n}"} for n in range(len(srs) if scs is None else scs))
    notes = checks._Notes(of)
    checks._results_of_routes(notes, of, Results(seg=tuple(segs), sr=tuple(srs), sc=pictures))
    return {each.kind for each in notes.found}


def test_one_result_of_all_images_is_right() -> None:
    assert found(study(), [seg(study(), 1)], [sr(1)]) == set()


def test_a_revision_that_names_what_it_replaces_is_right() -> None:
    assert found(study(), [seg(study(), 1), seg(study(), 2)], [sr(1, images=6), sr(2, replaces="2.25.21")]) == set()


@pytest.mark.parametrize(
    ("segs", "srs", "scs", "kind"),
    [
        ((), (), 0, "lost"),
        ((1,), (sr(1, images=7),), 1, "lost"),
        ((1, 2), (sr(1), sr(2)), 2, "duplicate"),
        ((1, 2), (sr(1),), 1, "orphan"),
        ((1,), (sr(1),), 2, "orphan"),
        ((1,), (sr(1),), 0, "lost"),
    ],
)
def test_each_wrong_archive_is_named(segs: tuple[int, ...], srs: tuple[Any, ...], scs: int, kind: str) -> None:
    assert kind in found(study(), [seg(study(), number) for number in segs], list(srs), scs)


def test_the_same_seed_gives_the_same_rounds_and_another_seed_others() -> None:
    assert plan(1, 4) == plan(1, 4)
    assert plan(1, 4) != plan(2, 4)
    wish = Wish(folder=Path(), rounds=50, seed=1, lanes=2)
    assert deal(wish) == deal(wish)
    assert deal(wish) != deal(replace(wish, seed=2))


def test_every_fault_strikes_before_any_strikes_twice() -> None:
    wish = Wish(folder=Path(), rounds=len(FAULTS), seed=1, lanes=2)
    assert {name for lane in deal(wish) for _, name in lane} == set(FAULTS)


def test_a_fault_of_postgresql_goes_to_a_lane_that_has_one() -> None:
    lanes = deal(Wish(folder=Path(), rounds=200, seed=3, lanes=2))
    assert not [name for _, name in lanes[0] if FAULTS[name].needs == "postgresql"]
    assert not [name for _, name in lanes[1] if FAULTS[name].needs == "sqlite"]
    with pytest.raises(ValueError, match="needs a ledger on postgresql"):
        deal(Wish(folder=Path(), rounds=1, seed=1, only=("database-killed",), ledger="sqlite"))


def test_a_round_can_be_played_again_alone() -> None:
    wish = Wish(folder=Path(), rounds=50, seed=1, lanes=2)
    everything = dict(each for lane in deal(wish) for each in lane)
    (again,) = [each for lane in deal(replace(wish, round=17)) for each in lane]
    assert again == (17, everything[17])


def test_every_mutant_names_the_fault_that_catches_it() -> None:
    assert {mutant.caught_by for mutant in MUTANTS.values()} <= set(FAULTS)


def outcome(**changes: Any) -> Outcome:
    made = Outcome(number=0, fault="redis-flushed", lane=0, studies=4, struck=True, recovery_s=2.0)
    return replace(made, **changes)


def test_a_fault_that_never_struck_is_not_good() -> None:
    assert report.is_good(report.summary([outcome()], []))
    assert not report.is_good(report.summary([outcome(struck=False)], []))


@pytest.mark.parametrize("kind", ["lost", "duplicate", "stuck", "orphan", "wrong", "disagrees", "slow"])
def test_any_violation_is_not_good_and_is_shown(kind: Any) -> None:
    result = report.summary([outcome(violations=[Violation(kind=kind, study="s", text="why")])], [])
    assert not report.is_good(result)
    assert f"{kind}: why" in report.table(result)
