"""A model's page: its card as text, never as somebody's HTML; its drift, or why there is none."""

from __future__ import annotations

from typing import cast

import pytest
from drift_cases import announce, read
from fastapi.testclient import TestClient
from ledger_cases import T0

from medai.router.console.app import make_app
from medai.router.console.deployed import html
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.fleet import Announced
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    ledger.accounts.add("reader", "long enough", Role.READER, T0)
    return ledger


def client(ledger: Ledger) -> TestClient:
    app = make_app(Settings(), ledger, cast(Orthanc, None), probes={}, version="1", clock=lambda: T0 + 100)
    found = TestClient(app, base_url="http://localhost", follow_redirects=False)
    assert found.post("/api/login", json={"name": "reader", "password": "long enough"}).status_code == 200
    return found


def test_the_page_shows_card_figures_and_drift(ledger: Ledger) -> None:
    announce(ledger)
    for number in range(25):
        read(ledger, number, 9.0)
    page = client(ledger).get("/models/mr_brain").text
    assert "<h1>Card</h1>" in page
    assert "<td>0.9</td>" in page
    assert "▲ large" in page
    assert "25 readings from the last 30 days and 40 training cases from heads" in page
    assert "<script>alert" not in page


def test_programs_get_the_same(ledger: Ledger) -> None:
    announce(ledger)
    for number in range(25):
        read(ledger, number, 2.5)
    found = client(ledger).get("/api/models/mr_brain/drift").json()
    (quantity,) = found["quantities"]
    assert (quantity["n"], quantity["median"], quantity["trained_median"]) == (25, 2.5, 2.5)
    assert client(ledger).get("/api/models/mr_brain/card").json()["has_reference"]


def test_without_a_reference_the_page_says_why(ledger: Ledger) -> None:
    announce(ledger, reference=None, missing="The bundle holds no reference.")
    assert "The bundle holds no reference." in client(ledger).get("/models/mr_brain").text
    assert client(ledger).get("/api/models/mr_brain/drift").json()["missing"] == "The bundle holds no reference."


def test_a_model_that_says_nothing_of_itself_has_a_page(ledger: Ledger) -> None:
    ledger.fleet.announce([Announced(name="bare", version="1", available=False, reason="no weights")], T0)
    page = client(ledger).get("/models/bare").text
    assert "It comes with no model card." in page
    assert "no weights" in page


def test_there_is_no_page_of_a_model_that_nobody_told_of(ledger: Ledger) -> None:
    assert client(ledger).get("/models/none").status_code == 404


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![a](http://elsewhere/x.png)", "<b>x</b>"]
)
def test_nothing_in_a_card_runs_or_is_fetched(text: str) -> None:
    made = str(html(text))
    assert "<img" not in made
    assert "<b>" not in made
    assert 'href="javascript' not in made
