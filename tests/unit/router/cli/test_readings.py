"""The commands that read the ledger: a list, one reading, the queue, how long it took."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ledger_cases import T0, arrive, make, seen

from medai.router.cli import main as cli
from medai.router.ledger import Ledger


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_jobs_prints_a_list_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs"]) == 0
    assert "no readings yet" in capsys.readouterr().out
    job_id, _ = make(ledger, arrive(ledger, seen()))
    assert cli.main(["jobs", "--json", "--study-uid", "1.2.3"]) == 0
    told = printed(capsys)
    assert [job["job_id"] for job in told["jobs"]] == [job_id]
    assert told["study"]["instances"] == 50
    assert [item["verdict"] for item in told["decisions"]] == ["route"]


def test_a_job_is_named_by_the_beginning_of_its_id(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    job_id, _ = make(ledger, arrive(ledger, seen()))
    assert cli.main(["job", job_id[:6]]) == 0
    assert f"job {job_id}  pending" in capsys.readouterr().out
    assert cli.main(["job", job_id, "--json"]) == 0
    assert {"decisions", "attempts", "stamps"} <= set(printed(capsys))


def test_a_job_that_does_not_exist_or_is_not_clear_is_1(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["job", "ffff"]) == 1
    assert "no reading has an id that begins with 'ffff'" in capsys.readouterr().err
    make(ledger, arrive(ledger, seen(uid="1.1")))
    make(ledger, arrive(ledger, seen(uid="1.2")))
    assert cli.main(["job", ""]) == 1
    assert "more than one reading" in capsys.readouterr().err


def test_status_and_turnaround_print_text_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    make(ledger, arrive(ledger, seen()), at=T0)
    assert cli.main(["status"]) == 0
    assert "queue    1 waiting" in capsys.readouterr().out
    assert cli.main(["status", "--json"]) == 0
    assert printed(capsys)["queue_depth"] == 1
    assert cli.main(["turnaround", "--since", "7d", "--by", "route"]) == 0
    assert capsys.readouterr().out == "no reading ended in the last 7d\n"
    assert cli.main(["turnaround", "--json"]) == 0
    assert printed(capsys)["groups"] == []


def test_a_wrong_duration_on_the_command_line_is_2(ledger: Ledger) -> None:
    assert cli.main(["turnaround", "--since", "yesterday"]) == 2
