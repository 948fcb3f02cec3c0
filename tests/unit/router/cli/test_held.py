"""Held orders at the shell: listed, released, rejected."""

from __future__ import annotations

import json

import pytest
from ledger_cases import MERGE, T0

from medai.router.cli import main as cli
from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import Ledger
from medai.router.ledger.identities import Weighing

DOUBT = Doubt(key="k1", placer="EVIL-PL", accession="A1", differs=("name", "birth date"))


@pytest.mark.parametrize(("word", "state"), [("release", "released"), ("reject", "rejected")])
def test_a_held_order_is_listed_until_a_person_decides(
    word: str, state: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.held.released("1.2.3", DOUBT, T0)
    assert cli.main(["held", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["orders"]
    assert (entry["placer"], entry["differs"]) == ("EVIL-PL", ["name", "birth date"])
    assert cli.main(["held"]) == 0
    assert "name, birth date" in capsys.readouterr().out
    assert cli.main(["status"]) == 0
    assert "held     1 order: another patient" in capsys.readouterr().out
    number = str(entry["id"])
    assert cli.main([word, number, "--reason", "looked"]) == 0
    assert f"{number} {state}" in capsys.readouterr().out
    assert cli.main([word, number, "--reason", "again", "--json"]) != 0
    assert ledger.held.is_released(DOUBT) is (word == "release")
    assert cli.main(["held"]) == 0
    assert "nothing is held" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "state", "followed"), [("release", "released", 1), ("reject", "rejected", 0)])
def test_a_held_merge_is_listed_until_a_person_decides(
    word: str, state: str, followed: int, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.identities.patient_changed([MERGE], T0, Weighing(rule="hold"))
    assert cli.main(["held", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ((entry,), orders) = found["merges"], found["orders"]
    assert (entry["prior_id"], entry["patient_id"], entry["differs"], orders) == ("A", "B", ["all are held"], [])
    ledger.held.released("1.2.3", DOUBT, T0)
    assert cli.main(["held"]) == 0
    text = capsys.readouterr().out
    assert "EVIL-PL" in text
    assert f"m{entry['id']}  A" in text
    assert cli.main(["status"]) == 0
    assert "held     1 merge of two persons" in capsys.readouterr().out
    number = f"m{entry['id']}"
    assert cli.main([word, number, "--reason", "looked"]) == 0
    assert f"{number} {state}" in capsys.readouterr().out
    assert cli.main([word, number, "--reason", "again"]) != 0
    assert f"nothing is held as {number}" in capsys.readouterr().err
    assert len(ledger.held_merges.to_follow()) == followed
