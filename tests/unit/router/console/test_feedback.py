"""The page and the API about what readers made of our results."""

from __future__ import annotations

from typing import cast

import pytest
from edit_rows import brain, compared, read
from fastapi.testclient import TestClient
from ledger_cases import T0

from medai.router.console.app import make_app
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.edits import Compared
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings

PASSWORD = "long enough"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    ledger.accounts.add("ana", PASSWORD, Role.READER, T0)
    return ledger


@pytest.fixture
def client(ledger: Ledger) -> TestClient:
    app = make_app(Settings(), ledger, cast(Orthanc, None), probes={}, version="1", clock=lambda: T0 + 100)
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    assert client.post("/api/login", json={"name": "ana", "password": PASSWORD}).status_code == 200
    return client


def test_nobody_sees_them_without_logging_in(ledger: Ledger, client: TestClient) -> None:
    client.cookies.clear()
    assert client.get("/api/edits").status_code == client.get("/api/models/agreement").status_code == 401
    assert client.get("/agreement").headers["location"] == "/login?next=/agreement"


def test_edits_come_in_pages(ledger: Ledger, client: TestClient) -> None:
    for number in range(3):
        compared(ledger, read(ledger, f"1.2.{number}", at=T0 + number), [brain(0.9)], f"1.2.{number}")
    page = client.get("/api/edits?limit=2").json()
    assert ([edit["id"] for edit in page["edits"]], page["next"]) == ([3, 2], 2)
    last = client.get(f"/api/edits?limit=2&after={page['next']}").json()
    assert ([edit["id"] for edit in last["edits"]], last["next"]) == ([1], None)
    assert last["edits"][0]["comparisons"][0]["difference_percent"] == pytest.approx(10.0)
    assert client.get("/api/edits?state=nonsense").status_code == 422


def test_the_agreement_is_told_by_model_and_structure(ledger: Ledger, client: TestClient) -> None:
    compared(ledger, read(ledger), [brain(0.8)])
    (model,) = client.get("/api/models/agreement").json()
    assert (model["model"], model["structures"][0]["dice"]["median"]) == ("mr_brain", 0.8)
    assert client.get(f"/api/models/agreement?since={T0 + 50}").json() == []


def test_the_page_shows_figures_and_leads_to_the_least_alike(ledger: Ledger, client: TestClient) -> None:
    job_id = read(ledger)
    compared(ledger, job_id, [brain(0.8)])
    page = client.get("/agreement").text
    assert "0.800" in page
    assert f'href="/studies/1#reading-{job_id}"' in page
    assert "+100.00" in page
    assert "No drawing" not in page


def test_the_page_says_when_there_is_nothing(ledger: Ledger, client: TestClient) -> None:
    assert "Nothing has been read yet" in client.get("/agreement").text
    read(ledger)
    assert "No reader's drawing has been compared" in client.get("/agreement").text
    assert client.get("/agreement?days=7").status_code == client.get("/agreement?days=x").status_code == 200


def test_the_study_shows_its_edits_and_takes_nothing_for_markup(ledger: Ledger, client: TestClient) -> None:
    added = Compared(structure="<b>Lesion</b>", outcome="added", theirs=1.0)
    compared(ledger, read(ledger), [brain(0.8), added])
    page = client.get("/studies/1").text
    assert "Edited by a reader" in page
    assert "Reading Room Tools Contour Desk" in page
    assert "&lt;b&gt;Lesion" in page
    assert client.get("/api/studies/1").json()["readings"][0]["edits"][0]["state"] == "compared"


def test_a_study_without_edits_does_not_mention_them(ledger: Ledger, client: TestClient) -> None:
    read(ledger)
    assert "Edited by a reader" not in client.get("/studies/1").text
