"""The audit trail as a file, in each of its forms; who asks for it is a line of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from medai.router.cli import main as cli
from medai.router.ledger import Ledger
from medai.router.reports.story import actions


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A site whose archive is away."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    text = f'[ledger]\nurl = "{url}"\n[orthanc]\nurl = "http://127.0.0.1:9"\n[audit]\nsource = "AI-1"\n'
    (tmp_path / "medai.toml").write_text(text, "utf-8")
    monkeypatch.setenv("MEDAI_CONFIG", str(tmp_path / "medai.toml"))
    ledger = Ledger(url)
    ledger.migrate()
    ledger.accounts.note_action("ana", "login failed", 1_800_000_000.0, detail="from 10.1.2.3")
    ledger.accounts.note_action("bob", "cancel", 1_800_000_001.0, detail='=cmd|"x"!A1\nnext')
    return ledger


def export(style: str, out: Path, *more: str) -> str:
    assert cli.main(["audit", "export", "--format", style, "--out", str(out), *more]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        return file.read()


def test_csv_is_for_a_spreadsheet_and_no_cell_of_it_is_a_formula(site: Ledger, tmp_path: Path) -> None:
    rows = list(csv.DictReader(export("csv", tmp_path / "a.csv").splitlines(keepends=True)))
    assert [(row["account"], row["event"], row["detail"]) for row in rows[:2]] == [
        ("ana", "User Authentication", "from 10.1.2.3"),
        ("bob", "Procedure Record", '\'=cmd|"x"!A1\nnext'),
    ]
    assert (rows[2]["action"], rows[2]["detail"]) == ("audit", "export as csv"), "who asked is in it"
    assert actions(site)[0].account.endswith("(shell)")


def test_messages_and_events_are_one_a_line(site: Ledger, tmp_path: Path) -> None:
    messages = export("dicom", tmp_path / "a.xml").splitlines()
    assert [fromstring(each).tag for each in messages] == ["AuditMessage"] * 3  # noqa: S314 - our own
    events = [json.loads(each) for each in export("fhir", tmp_path / "a.ndjson").splitlines()]
    assert [each["agent"][0]["name"] for each in events[:2]] == ["ana", "bob"]
    assert {each["source"]["observer"]["identifier"]["value"] for each in events} == {"AI-1"}


def test_only_what_is_not_older_is_written(site: Ledger, tmp_path: Path) -> None:
    site.accounts.note_action("old", "login", 1_000_000_000.0)
    assert "old" in export("csv", tmp_path / "all.csv")
    assert "old" not in export("csv", tmp_path / "new.csv", "--since", "30d")


def test_json_is_a_format_of_its_own(site: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "export", "--json"]) == 2
    assert "--format" in capsys.readouterr().err
