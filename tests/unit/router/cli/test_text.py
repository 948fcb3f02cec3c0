"""What a person reads at the terminal: aligned, short, and true where there is nothing yet."""

from __future__ import annotations

from typing import Any

import pytest

from medai.router.cli import text
from medai.router.reports.readings import Reading
from medai.router.reports.status import Status
from medai.router.reports.story import JobStory
from medai.router.reports.turnaround import TurnaroundGroup
from medai.router.stages import percentiles

NOW = 1_800_000_000.0


def reading(**told: Any) -> dict[str, Any]:
    """The parts of a reading that ended well."""
    return {
        "job_id": "1f0c2a44-0000", "study_uid": "1.2", "study_orthanc_id": "o", "state": "done", "route": "mr-brain",
        "model": "mr_brain", "model_version": "1.0", "modality": "MR", "images": 150, "priority": "stat",
        "queue": "cpu", "revision": 2, "supersedes": None, "attempt": 1, "reason": "", "failure": "",
        "turnaround_s": 12.345, "created_at": NOW - 7200, "finished_at": NOW, "next_try_at": None, "worker": None,
        "stamps": {}, "stages": {}, "quiet_s": 3.0, "measurements": (), "warnings": (), "results": {},
        "verdict": None, "plausibility": None, "oru": None, "deliveries": (), **told,
    }  # fmt: skip


def story(**told: Any) -> JobStory:
    """A reading with what was decided and tried."""
    return JobStory(**{**reading(), "decisions": (), "attempts": (), **told})


def status(**told: Any) -> Status:
    """An empty system, but for what is told."""
    nothing = {
        "queues": (), "queue_depth": 0, "oldest_waiting_s": 0.0, "jobs": {"pending": 0, "done": 0}, "studies": 0,
        "studies_arriving": 0, "workers": (), "models": (), "verdicts": (), "destinations": (), "deliveries": (),
        "attempts": {}, "dead_letters": {"reading": 0, "delivery": 0}, "orders_held": 0, "merges_held": 0,
    }  # fmt: skip
    return Status(**{**nothing, **told})


def test_columns_are_as_wide_as_their_widest_cell_and_lines_have_no_tail() -> None:
    assert text.table(["A", "LONG"], [["wide cell", "x"], ["", ""]]) == "A          LONG\nwide cell  x\n"
    assert text.table(["A", "B"], []) == "A  B"


def test_a_row_that_does_not_fit_its_head_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        text.table(["A", "B"], [["1", "2", "3"]])


def test_an_empty_ledger_says_what_to_do_next() -> None:
    assert "send a study" in text.jobs([], NOW)
    assert text.turnaround([], "24h", None) == "no reading ended in the last 24h"
    told = text.status(status(), NOW)
    assert "readings none yet" in told
    assert "start one with 'medai worker'" in told
    assert "none announced" in told


def test_a_reading_is_one_line_with_the_start_of_its_id_and_of_its_reason() -> None:
    head, line = text.jobs([Reading(**reading(reason="x" * 100))], NOW).splitlines()
    assert head.split() == ["JOB", "ROUTE", "MODEL", "STATE", "PRIORITY", "REV", "AGE", "TURNAROUND", "REASON"]
    assert line.split() == ["1f0c2a44", "mr-brain", "mr_brain", "done", "stat", "r2", "2", "h", "12.3", "s", "x" * 60]
    assert line.index("mr-brain") == head.index("ROUTE")


def delivery(destination: str, state: str, receipt: str, attempts: int) -> dict[str, Any]:
    """A delivery as the ledger tells it."""
    rest = {"kind": "result", "control_id": "", "error": "", "first_try_at": None, "next_try_at": 0.0, "done_at": None}
    return {"destination": destination, "state": state, "receipt": receipt, "attempts": attempts, **rest}


def test_a_story_tells_decisions_stages_measurements_deliveries_and_attempts() -> None:
    volume = {"segment_number": 1, "segment_name": "Brain", "quantity": "volume", "value": 1234.56, "unit": "ml"}
    told = story(
        reason="slice 3 is damaged",
        decisions=[{"at": NOW, "verdict": "route", "route": "mr-brain", "reason": "takes series 4", "job_id": None}],
        stamps={"started": NOW, "fetched": NOW + 1},
        measurements=[volume],
        warnings=["slices are thick"],
        results={"sr": {"kind": "sr", "sop_uid": "1", "series_uid": "2", "orthanc_id": "abc"}},
        deliveries=[delivery("ris", "pending", "", 0), delivery("pacs2", "done", "AA", 1)],
        attempts=[
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
    )
    lines = text.job(told, NOW)
    for part in (
        "reason: slice 3 is damaged", "takes series 4", "stages (turnaround 12.3 s)", "  fetch              █",
        "1234.6 ml", "note: slices are thick", "SR  abc", "ris: pending (owed), 0 attempts",
        "pacs2: done (AA), 1 attempt", "1: crashed on w1, 2.00 s KeyError", "2: running on w2, running",
    ):  # fmt: skip
        assert part in lines, part
    assert not any(line != line.rstrip() for line in lines.splitlines())


def test_a_story_tells_the_verdict_and_each_thing_to_check_once() -> None:
    checks = [
        {"name": "a: volume", "passed": True, "text": "a is as large as expected"},
        {"name": "a: edges", "passed": False, "text": "a is cut off"},
        {"name": "b: pair", "passed": None, "text": "b has no other side"},
    ]
    found = {"verdict": "check", "summary": "1 of 2 checks passed, 1 could not be made", "checks": checks}
    told = text.job(story(warnings=["a is cut off", "another patient"], plausibility=found), NOW)
    lines = [line.strip() for line in told.splitlines()]
    assert "plausibility: check, 1 of 2 checks passed, 1 could not be made" in lines
    assert [line for line in lines if "cut off" in line] == ["check: a is cut off"]
    assert "not checked: b has no other side" in lines
    assert "note: another patient" in lines
    assert "as large as expected" not in told


def model(name: str, version: str, *, reason: str = "") -> dict[str, Any]:
    """A model that a worker told of."""
    return {"name": name, "version": version, "available": not reason, "reason": reason, "seen_at": NOW}


def test_a_models_results_are_counted_under_its_name() -> None:
    verdicts = [
        {"model": "m", "verdict": "check", "count": 2},
        {"model": "m", "verdict": "plausible", "count": 5},
        {"model": "gone", "verdict": "plausible", "count": 9},
    ]
    told = text.status(status(models=[model("m", "1")], verdicts=verdicts), NOW)
    assert told.splitlines()[-1] == "    results: 2 check, 5 plausible"


def test_a_story_without_results_says_so() -> None:
    assert "results\n  none" in text.job(story(), NOW)
    assert "reason" not in text.job(story(), NOW)


def test_workers_are_reading_idle_or_silent() -> None:
    worker = {
        "name": "w", "device": "cpu", "queues": ["cpu"], "job_id": None, "alive": True, "started_at": NOW - 99,
        "seen_at": NOW - 3, "alarm": "", "models": None, "load": None,
    }  # fmt: skip
    people = [worker, {**worker, "job_id": "1f0c2a44-0000"}, {**worker, "alive": False, "job_id": "1f0c2a44-0000"}]
    lines = text.status(status(workers=people), NOW).splitlines()
    told = [line.split("cpu  ")[-1] for line in lines if line.startswith("  w ")]
    assert told == ["idle, last seen 3 s ago", "reading 1f0c2a44, last seen 3 s ago", "silent, last seen 3 s ago"]


def test_a_model_that_cannot_read_says_why() -> None:
    told = text.status(status(models=[model("a", "1"), model("b", "2", reason="no weights")]), NOW)
    assert "a 1  ready" in told
    assert "b 2  no weights" in told


def test_turnaround_has_a_block_for_each_group() -> None:
    fetch = percentiles([1.0, 1.0, 200.0])
    groups = [TurnaroundGroup(group="mr-brain", done=2, failed=1, turnaround=percentiles([]), stages={"fetch": fetch})]
    lines = text.turnaround(groups, "7d", "route").splitlines()
    assert lines[0] == "mr-brain: 2 done, 1 failed in the last 7d"
    assert lines[1].split() == ["N", "P50", "P95", "P99"]
    assert lines[2].split() == ["last", "image", "->", "RIS", "0", "–", "–", "–"]
    assert lines[3].split() == ["fetch", "3", "1.00", "s", "3.0", "min", "3.3", "min"]
    assert text.turnaround(groups, "7d", None).startswith("all readings:")
