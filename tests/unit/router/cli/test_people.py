"""The commands about people: surveys, and what readers made of our results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edit_rows
import pytest
from ledger_cases import T0, arrive, make, seen, store
from sqlalchemy import update

from medai.router.cli import main as cli
from medai.router.ledger import Ledger, schema
from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("what", ["summary", "export"])
def test_each_survey_command_has_an_example_that_parses(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["survey", what, "--help"])
    (example,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("example: medai ")]
    assert cli.make_parser().parse_args(example.split()[2:]).what == what


def answered(ledger: Ledger) -> str:
    job_id = str(make(ledger, arrive(ledger, seen()))[0])
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
    assert claim is not None
    store(ledger, claim)
    ledger.surveys.answer_usefulness("ana", job_id, {"correct": 5, "time": 2}, "=1+1", T0)
    ledger.surveys.answer_sus("ana", [5, 1] * 5, T0)
    return job_id


def test_a_survey_summary_is_text_or_json(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    answered(ledger)
    assert cli.main(["survey", "summary"]) == 0
    assert "mr_brain by brain: 1 reader, 1 reading" in capsys.readouterr().out
    assert cli.main(["survey", "summary", "--json"]) == 0
    found = printed(capsys)
    assert (found["usefulness"][0]["questions"][1]["mean"], found["sus"]["mean"]) == (2.0, 100.0)


def test_a_survey_export_is_printed_or_written_and_names_nobody_unasked(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = answered(ledger)
    assert cli.main(["survey", "export", "usefulness"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("reader,answered_on,job_id,")
    assert (job_id in row, "'=1+1" in row, "ana" in row) == (True, True, False)
    assert cli.main(["survey", "export", "sus", "--names", "--out", "sus.csv"]) == 0
    assert Path("sus.csv").read_bytes().splitlines()[1].startswith(b"1,ana,2027-01-15,5,1,")
    assert cli.main(["survey", "export", "sus", "--json"]) == 0
    assert (printed(capsys)[0]["score"], actions(ledger)[1].detail) == (100.0, "sus, with names")
    assert cli.main(["survey", "export", "sus", "--out", "nowhere/sus.csv"]) == 1
    assert "can't write nowhere/sus.csv" in capsys.readouterr().err


def test_edits_are_listed_by_structure(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["edits", "list"]) == 0
    assert "no reader has stored" in capsys.readouterr().out
    edit_rows.compared(ledger, edit_rows.read(ledger), [edit_rows.brain(0.87)])
    assert cli.main(["edits", "list"]) == 0
    assert "Brain" in (text := capsys.readouterr().out)
    assert "0.870" in text
    assert cli.main(["edits", "list", "--json", "--model", "other"]) == 0
    assert printed(capsys) == {"edits": []}


def test_an_export_of_edits_needs_a_folder_and_is_written_down(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["edits", "export"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert cli.main(["edits", "export", "--out", str(tmp_path / "edits"), "--since", "30d", "--json"]) == 0
    assert printed(capsys)["cases"] == 0
    assert json.loads((tmp_path / "edits" / "manifest.json").read_text())["edits"] == []
    assert [row.action for row in actions(ledger)] == ["edits export"]


def test_an_audit_trail_is_verified_and_a_line_that_was_changed_is_told(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["account", "add", "ana"]) == 0
    assert cli.main(["account", "disable", "ana"]) == 0
    capsys.readouterr()
    assert cli.main(["audit", "verify"]) == 0
    assert capsys.readouterr().out == "2 lines, each as it was written\n"
    with ledger.begin() as db:
        db.execute(update(schema.audit).where(schema.audit.c.id == 1).values(detail="bob"))
    assert cli.main(["audit", "verify"]) == 1
    assert "NOT as it was written:\nline 1 was changed" in capsys.readouterr().out
    assert cli.main(["audit", "verify", "--json"]) == 1
    assert printed(capsys)["lines"] == 2


def test_an_accounts_role_is_changed_in_its_open_sessions_too_and_recorded(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["account", "add", "ana", "--role", "administrator"]) == 0
    token = ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=1e6)
    assert cli.main(["account", "role", "ana", "reader"]) == 0
    assert "ana: reader from the next request on, was administrator" in capsys.readouterr().out
    account = ledger.accounts.by_token(token, T0 + 1)
    assert account is not None
    assert account.role is Role.READER
    assert ("account role", "ana, administrator to reader") in [(e.action, e.detail) for e in actions(ledger)]
    for wrong in (
        ["role", "ana"],
        ["role", "nobody", "reader"],
        ["role", "ana", "service"],
        ["disable", "ana", "reader"],
    ):
        assert cli.main(["account", *wrong]) != 0
