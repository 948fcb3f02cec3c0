"""What a person reads at the terminal: aligned, short, and true where there is nothing yet."""

from __future__ import annotations

from typing import Any

import pytest

from medai.router.cli import text as screens

NOW = 1_800_000_000.0
JOB: dict[str, Any] = {
    "job_id": "1f0c2a44-0000", "state": "done", "route": "mr-brain", "model": "mr_brain", "model_version": "1.0",
    "images": 150, "priority": "stat", "revision": 2, "attempt": 1, "reason": "", "turnaround_s": 12.345,
    "created_at": NOW - 7200, "decisions": [], "stages": {}, "measurements": [], "warnings": [], "results": {},
    "deliveries": [], "attempts": [],
}  # fmt: skip
EMPTY: dict[str, Any] = {
    "queues": [], "queue_depth": 0, "oldest_waiting_s": 0.0, "jobs": {"pending": 0, "done": 0}, "studies": 0,
    "studies_arriving": 0, "workers": [], "models": [], "verdicts": [], "destinations": [],
    "dead_letters": {"reading": 0, "delivery": 0},
}  # fmt: skip


def test_columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() -> None:
    assert screens.table(["A", "LONG"], [["wide cell", "x"], ["", ""]]) == "A          LONG\nwide cell  x\n"
    assert screens.table(["A", "B"], []) == "A  B"


def test_a_row_that_does_not_fit_its_head_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        screens.table(["A", "B"], [["1", "2", "3"]])


def bars(stages: dict[str, float]) -> list[tuple[int, int]]:
    """Start and length of each bar."""
    lines = [line[21:] for line in screens.waterfall(stages).splitlines()]
    return [(line.index("█"), line.count("█")) for line in lines]


def test_stages_follow_one_another_on_one_time_line() -> None:
    assert bars({"fetch": 1.0, "infer": 2.0, "store": 1.0}) == [(0, 10), (10, 20), (30, 10)]


def test_a_stage_of_no_time_is_still_seen_and_a_negative_one_does_not_move_the_others() -> None:
    assert bars({"fetch": 0.0, "infer": 4.0}) == [(0, 1), (0, 40)]
    assert bars({"receiving": -3.0, "infer": 4.0}) == [(0, 1), (0, 40)]
    assert bars({"fetch": 0.0}) == [(0, 1)]


def test_bars_and_seconds_stay_in_their_columns() -> None:
    lines = screens.waterfall({"completeness_wait": 3.0, "infer": 0.001, "deliver": 50.0}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[-2] for line in lines] == ["3.00", "0.00", "50.00"]


def test_what_happened_before_the_images_came_is_not_drawn() -> None:
    text = screens.waterfall({"order_to_acquisition": 9999.0, "acquisition_to_received": 99.0, "fetch": 1.0})
    assert text.split()[0] == "fetch"
    assert len(text.splitlines()) == 1
    assert screens.waterfall({}) == ""


def test_an_empty_ledger_says_what_to_do_next() -> None:
    assert "send a study" in screens.jobs([], NOW)
    assert screens.turnaround([], "24h", None) == "no reading ended in the last 24h"
    text = screens.status(EMPTY, NOW)
    assert "readings none yet" in text
    assert "start one with 'medai worker'" in text
    assert "none announced" in text


def test_a_reading_is_one_line_with_the_start_of_its_id_and_of_its_reason() -> None:
    text = screens.jobs([{**JOB, "reason": "x" * 100}], NOW)
    head, line = text.splitlines()
    assert head.split() == ["JOB", "ROUTE", "MODEL", "STATE", "PRIORITY", "REV", "AGE", "TURNAROUND", "REASON"]
    assert line.split() == ["1f0c2a44", "mr-brain", "mr_brain", "done", "stat", "r2", "2", "h", "12.35", "s", "x" * 60]
    assert line.index("mr-brain") == head.index("ROUTE")


def test_a_story_tells_decisions_measurements_deliveries_and_attempts() -> None:
    story = {
        **JOB,
        "reason": "slice 3 is damaged",
        "decisions": [{"at": NOW, "verdict": "route", "route": "mr-brain", "reason": "takes series 4"}],
        "stages": {"fetch": 1.0},
        "measurements": [{"segment_name": "Brain", "quantity": "volume", "value": 1234.56, "unit": "ml"}],
        "warnings": ["slices are thick"],
        "results": {"sr": {"orthanc_id": "abc"}},
        "deliveries": [
            {"destination": "ris", "state": "pending", "receipt": "", "error": "", "attempts": 0},
            {"destination": "pacs2", "state": "done", "receipt": "AA", "error": "", "attempts": 1},
        ],
        "attempts": [
            {
                "number": 1,
                "outcome": "crashed",
                "worker": "w1",
                "started_at": NOW,
                "ended_at": NOW + 2,
                "error": "KeyError",
            },
            {"number": 2, "outcome": "running", "worker": "w2", "started_at": NOW, "ended_at": None, "error": ""},
        ],
    }
    text = screens.job(story)
    for part in (
        "reason: slice 3 is damaged", "takes series 4", "1234.6 ml", "note: slices are thick", "SR  abc",
        "ris: pending (owed), 0 attempts", "pacs2: done (AA), 1 attempt", "1: crashed on w1, 2.00 s KeyError",
        "2: running on w2, running",
    ):  # fmt: skip
        assert part in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_a_story_tells_the_verdict_and_each_thing_to_check_once() -> None:
    checks = [
        {"name": "a: volume", "passed": True, "text": "a is as large as expected"},
        {"name": "a: edges", "passed": False, "text": "a is cut off"},
        {"name": "b: pair", "passed": None, "text": "b has no other side"},
    ]
    found = {"verdict": "check", "summary": "1 of 2 checks passed, 1 could not be made", "checks": checks}
    text = screens.job({**JOB, "warnings": ["a is cut off", "another patient"], "plausibility": found})
    lines = [line.strip() for line in text.splitlines()]
    assert "plausibility: check, 1 of 2 checks passed, 1 could not be made" in lines
    assert [line for line in lines if "cut off" in line] == ["check: a is cut off"]
    assert "not checked: b has no other side" in lines
    assert "note: another patient" in lines
    assert "as large as expected" not in text


def test_a_models_results_are_counted_under_its_name() -> None:
    models = [{"name": "m", "version": "1", "available": True, "reason": ""}]
    verdicts = [
        {"model": "m", "verdict": "check", "count": 2},
        {"model": "m", "verdict": "plausible", "count": 5},
        {"model": "gone", "verdict": "plausible", "count": 9},
    ]
    text = screens.status({**EMPTY, "models": models, "verdicts": verdicts}, NOW)
    assert text.splitlines()[-1] == "    results: 2 check, 5 plausible"


def test_a_story_without_results_says_so() -> None:
    assert "results\n  none" in screens.job(JOB)
    assert "reason" not in screens.job(JOB)


def test_workers_are_reading_idle_or_silent() -> None:
    worker = {
        "name": "w",
        "device": "cpu",
        "queues": ["cpu"],
        "job_id": None,
        "alive": True,
        "seen_at": NOW - 3,
        "alarm": "",
    }
    people = [worker, {**worker, "job_id": "1f0c2a44-0000"}, {**worker, "alive": False, "job_id": "1f0c2a44-0000"}]
    lines = screens.status({**EMPTY, "workers": people}, NOW).splitlines()
    told = [line.split("cpu  ")[-1] for line in lines if line.startswith("  w ")]
    assert told == ["idle, last seen 3 s ago", "reading 1f0c2a44, last seen 3 s ago", "silent, last seen 3 s ago"]


def test_a_model_that_cannot_read_says_why() -> None:
    models = [
        {"name": "a", "version": "1", "available": True, "reason": ""},
        {"name": "b", "version": "2", "available": False, "reason": "no weights"},
    ]
    text = screens.status({**EMPTY, "models": models}, NOW)
    assert "a 1  ready" in text
    assert "b 2  no weights" in text


def test_turnaround_has_a_block_for_each_group() -> None:
    none = {"n": 0, "p50_s": None, "p95_s": None, "p99_s": None}
    some = {"n": 2, "p50_s": 1.0, "p95_s": 2.0, "p99_s": 200.0}
    groups = [{"group": "mr-brain", "done": 2, "failed": 1, "turnaround": none, "stages": {"fetch": some}}]
    lines = screens.turnaround(groups, "7d", "route").splitlines()
    assert lines[0] == "mr-brain: 2 done, 1 failed in the last 7d"
    assert lines[1].split() == ["N", "P50", "P95", "P99"]
    assert lines[2].split() == ["last", "image", "->", "RIS", "0", "-", "-", "-"]
    assert lines[3].split() == ["fetch", "2", "1.00", "s", "2.00", "s", "200", "s"]
    assert screens.turnaround(groups, "7d", None).startswith("all readings:")
