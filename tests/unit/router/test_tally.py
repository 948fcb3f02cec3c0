"""Counts of the whole ledger: made once for many who look, and never older than some seconds."""

from __future__ import annotations

from pathlib import Path

from ledger_cases import T0, arrive, make, seen

from medai.router.console.tally import FRESH_S, Tally
from medai.router.ledger import Ledger
from medai.router.reports import readings as reports


def test_the_ledger_is_counted_once_for_all_who_look_and_again_when_that_is_old(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    now = [T0]
    tally = Tally(ledger, lambda: now[0])
    assert tally.look()["studies"] == 0
    make(ledger, arrive(ledger, seen()))
    assert tally.look()["studies"] == 0
    status = reports.status(ledger, T0, counted=tally.look())
    assert (status["jobs"]["pending"], status["queue_depth"]) == (1, 1), "what waits is counted now"
    now[0] += FRESH_S
    assert tally.look()["studies"] == 1
    now[0] -= 3600
    make(ledger, arrive(ledger, seen(uid="1.2.4")))
    assert tally.look()["studies"] == 2, "a clock that was set back does not freeze the counts"
    ledger.close()
