"""What became of each study, as archive, RIS and ledger tell it, and the verdict on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from trial_cases import trial

from medai.router.contract import filler_number
from medai.trials.box import Box
from medai.trials.hospital import collect
from medai.trials.hospital.collect import Findings, judged, judged_old


def test_three_parts_are_asked_and_what_is_ours_is_told_from_what_was_sent() -> None:
    studies = [{"ID": "a", "MainDicomTags": {"StudyInstanceUID": "1.1"}}]
    series = [
        {"ParentStudy": "a", "MainDicomTags": {"Modality": modality}, "Instances": ["x"] * count}
        for modality, count in (("CT", 3), ("CT", 30), ("SEG", 1), ("SR", 1), ("OT", 1))
    ]
    jobs = [{"study_uid": "1.1", "id": "newer"}, {"study_uid": "1.1", "id": "older"}]
    asked = SimpleNamespace(
        every_job=lambda: jobs,
        ask_ris=lambda _method, _path: [{"study_uid": "1.1", "filler": "F"}],
        ask_archive=lambda _method, _path, body: studies if body["Level"] == "Study" else series,
    )
    found = collect.ask(cast(Box, asked))
    assert [job["id"] for job in found.jobs["1.1"]] == ["older", "newer"], "newest last"
    assert (found.images["1.1"], found.objects["1.1"], len(found.results["1.1"])) == (33, 3, 1)


UID = "1.2.3"


def findings(**changes: Any) -> Findings:
    filler = filler_number(UID, "trial-ct")
    job = {"route": "trial-ct", "model": "m", "state": "done", "attempt": 1, "stamps": {"study_complete": 1002.0}}
    result = {"filler": filler, "withdrawn": False, "history": [{"control_id": "C1"}]}
    good: dict[str, Any] = {"jobs": {UID: [job]}, "results": {UID: [result]}, "objects": {UID: 3}, "images": {UID: 36}}
    return Findings(**{**good, **changes})


def verdict(**changes: Any) -> tuple[bool, bool]:
    row = next(row for row in trial().studies if row.expected)
    found = judged(row, UID, findings(**changes), began=1000.0)
    return found.lost, found.duplicate


def test_one_result_with_its_three_objects_and_all_images_is_right() -> None:
    assert verdict() == (False, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"results": {}}, (True, False)),
        ({"objects": {UID: 2}}, (True, False)),
        ({"images": {UID: 35}}, (True, False)),
        ({"results": {UID: [{"filler": "x", "withdrawn": True, "history": []}]}}, (True, False)),
        ({"objects": {UID: 6}}, (False, True)),
        ({"results": {UID: [{"filler": "another", "withdrawn": False, "history": []}]}}, (False, True)),
        (
            {"results": {UID: [{"filler": filler_number(UID, "trial-ct"), "withdrawn": False,
                                "history": [{"control_id": "C1"}, {"control_id": "C1"}]}]}},
            (False, True),
        ),
    ],
)  # fmt: skip
def test_what_is_lost_or_told_twice_is_found(changes: dict[str, Any], expected: tuple[bool, bool]) -> None:
    assert verdict(**changes) == expected


def test_a_correction_is_no_duplicate() -> None:
    good = findings()
    twice = {UID: [*good.jobs[UID], *good.jobs[UID]]}
    history = [{"control_id": "C1"}, {"control_id": "C2"}]
    results = {UID: [{**good.results[UID][0], "history": history}]}
    assert verdict(jobs=twice, results=results, objects={UID: 6}) == (False, False)


def test_a_reading_that_was_overtaken_before_its_answer_does_not_tell_when() -> None:
    row = next(row for row in trial().studies if row.expected)
    job = findings().jobs[UID][0]
    jobs = {
        UID: [
            {**job, "stamps": {"started": 1003.0}},
            {**job, "stamps": {"started": 1009.0, "oru_acknowledged": 1010.0}},
        ]
    }
    found = judged(row, UID, findings(jobs=jobs), began=1000.0)
    assert (found.started_s, found.result_s, found.jobs) == (9.0, 10.0, 2)


def test_an_old_study_must_be_kept_and_not_read() -> None:
    row = next(row for row in trial().studies if not row.expected)
    kept = judged_old(row, UID, findings(jobs={}, images={UID: row.images}))
    assert (kept.lost, kept.duplicate) == (False, False)
    assert judged_old(row, UID, findings(images={UID: row.images})).duplicate, "it was read"
    assert judged_old(row, UID, findings(jobs={}, images={})).lost
