"""Held orders at the shell: listed, released, rejected."""

from __future__ import annotations

import json

import pytest
from ledger_cases import T0

from medai.router.cli import main as cli
from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import Ledger

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
    assert "1 held" in capsys.readouterr().out
    number = str(entry["id"])
    assert cli.main([word, number, "--reason", "looked"]) == 0
    assert f"{number} {state}" in capsys.readouterr().out
    assert cli.main([word, number, "--reason", "again", "--json"]) != 0
    assert ledger.held.is_released(DOUBT) is (word == "release")
    assert cli.main(["held"]) == 0
    assert "no orders are held" in capsys.readouterr().out
