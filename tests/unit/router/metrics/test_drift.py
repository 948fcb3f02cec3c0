"""Drift in Prometheus' page: the version that read last, bounded labels, and not worked out at every scrape."""

from __future__ import annotations

from drift_cases import REFERENCE, announce, read
from ledger_cases import T0, arrive, seen

from medai.router.ledger import Ledger
from medai.router.metrics.drift import DriftFigures, metrics


def test_recent_readings_are_compared_and_counted(ledger: Ledger) -> None:
    announce(ledger)
    for number in range(25):
        read(ledger, number, 9.0)
    (row,) = DriftFigures(ledger, lambda: T0 + 10).rows()
    assert (row.model, row.what, row.readings) == ("mr_brain", "output.1.volume_ml", 25)
    index, count = metrics([row])
    assert index.samples[0].value == row.psi
    assert row.psi is not None
    assert row.psi > 0.25
    assert index.samples[0].labels == count.samples[0].labels == {"model": "mr_brain", "what": "output.1.volume_ml"}
    assert count.samples[0].value == 25


def test_it_is_worked_out_now_and_then_and_not_at_every_scrape(ledger: Ledger) -> None:
    announce(ledger)
    now = [T0 + 10]
    figures = DriftFigures(ledger, lambda: T0 + 20, every_s=600, timer=lambda: now[0])
    read(ledger, 1, 2.5)
    assert [row.readings for row in figures.rows()] == [1]
    read(ledger, 2, 2.5)
    now[0] += 599
    assert [row.readings for row in figures.rows()] == [1]
    now[0] += 1
    assert [row.readings for row in figures.rows()] == [2]


def test_a_model_that_has_not_read_or_has_no_reference_has_no_rows(ledger: Ledger) -> None:
    announce(ledger)
    arrive(ledger, seen())
    assert DriftFigures(ledger, lambda: T0).rows() == []
    announce(ledger, reference=None, missing="none")
    read(ledger, 1, 2.5)
    assert DriftFigures(ledger, lambda: T0).rows() == []


def test_readings_that_lack_a_quantity_are_counted_as_none_and_have_no_index(ledger: Ledger) -> None:
    other = {"output.2.volume_ml": REFERENCE["quantities"]["output.1.volume_ml"]}
    announce(ledger, reference={**REFERENCE, "quantities": other})
    read(ledger, 1, 2.5)
    (row,) = DriftFigures(ledger, lambda: T0 + 10).rows()
    index, count = metrics([row])
    assert index.samples == []
    assert count.samples[0].value == 0
