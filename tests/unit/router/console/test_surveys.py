"""The surveys in the console: who may answer, who sees what it came to, and who learns the names."""

from __future__ import annotations

import csv
import io
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from ledger_cases import T0, arrive, make, seen, store

from medai.router.console.app import make_app
from medai.router.console.surveys import Usability, Usefulness
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.surveys import SUS, USEFULNESS
from medai.router.orthanc.client import Orthanc
from medai.router.reports.story import actions
from medai.router.settings.tables import Settings

PASSWORD = "long enough"
PEOPLE = set(Role) - {Role.SERVICE}
BEST = {f"q{number}": 5 if number % 2 else 1 for number in range(1, 11)}
GOOD: dict[str, Any] = {"correct": 5, "time": 4, "changed": 2, "contours": None, "again": 5, "comment": "fine"}


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    for role in PEOPLE:
        ledger.accounts.add(role.value, PASSWORD, role, T0)
    return ledger


@pytest.fixture
def job_id(ledger: Ledger) -> str:
    """A reading with a result."""
    name = str(make(ledger, arrive(ledger, seen()))[0])
    claim = ledger.claims.take(name, worker="w", lease_s=20, now=T0)
    assert claim is not None
    store(ledger, claim)
    return name


def browser(ledger: Ledger, role: Role | None) -> TestClient:
    app = make_app(Settings(), ledger, cast(Orthanc, None), probes={}, version="1.2.3", clock=lambda: T0 + 100)
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    if role is not None:
        assert client.post("/api/login", json={"name": role.value, "password": PASSWORD}).status_code == 200
        client.headers["Origin"] = "http://localhost"
    return client


def test_the_requests_ask_exactly_the_questions_of_the_forms() -> None:
    assert [*Usefulness.model_fields] == [*(question.key for question in USEFULNESS), "comment"]
    assert [*Usability.model_fields] == [question.key for question in SUS]
    for shape, questions in ((Usefulness, USEFULNESS), (Usability, SUS)):
        for question in questions:
            assert shape.model_fields[question.key].description == question.text


# -- the API


def test_a_reader_answers_reads_the_answer_back_and_replaces_it(ledger: Ledger, job_id: str) -> None:
    client, path = browser(ledger, Role.READER), f"/api/surveys/usefulness/{job_id}"
    assert client.get(path).status_code == 404
    assert client.post(path, json=GOOD).status_code == 204
    assert client.get(path).json() == {**GOOD, "job_id": job_id, "answered_at": T0 + 100}
    assert client.post(path, json={"correct": 1}).status_code == 204
    assert (client.get(path).json()["correct"], client.get(path).json()["time"]) == (1, None)
    assert browser(ledger, Role.OPERATOR).get(path).status_code == 404, "what somebody else said is theirs"


def test_a_reader_answers_the_scale_and_sees_their_own_alone(ledger: Ledger) -> None:
    client = browser(ledger, Role.READER)
    assert client.post("/api/surveys/sus", json=BEST).json() == {"score": 100.0}
    (mine,) = client.get("/api/surveys/sus").json()
    assert mine == {**BEST, "answered_at": T0 + 100, "score": 100.0, "newest": True}
    assert browser(ledger, Role.ADMINISTRATOR).get("/api/surveys/sus").json() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"correct": 6},
        {"correct": True},
        {"correct": "5"},
        {"pretty": 5},
        {"comment": "only"},
        {"correct": 5, "comment": "x" * 1001},
    ],
)
def test_an_answer_about_a_reading_that_can_not_be_kept_is_422(
    ledger: Ledger, job_id: str, wrong: dict[str, Any]
) -> None:
    assert browser(ledger, Role.READER).post(f"/api/surveys/usefulness/{job_id}", json=wrong).status_code == 422
    assert ledger.surveys.usefulness_answers() == []


@pytest.mark.parametrize("wrong", [{}, {**BEST, "q10": None}, {**BEST, "q1": 0}, {**BEST, "q11": 3}])
def test_a_scale_that_is_not_whole_is_422(ledger: Ledger, wrong: dict[str, Any]) -> None:
    assert browser(ledger, Role.READER).post("/api/surveys/sus", json=wrong).status_code == 422
    assert ledger.surveys.sus_answers() == []


def test_a_reading_without_a_result_is_409(ledger: Ledger) -> None:
    waits = make(ledger, arrive(ledger, seen()))[0]
    answer = browser(ledger, Role.READER).post(f"/api/surveys/usefulness/{waits}", json=GOOD)
    assert (answer.status_code, "no result yet" in answer.json()["detail"]) == (409, True)


def test_another_page_can_not_answer_in_somebodys_name(ledger: Ledger, job_id: str) -> None:
    client = browser(ledger, Role.READER)
    for path, body in ((f"/api/surveys/usefulness/{job_id}", GOOD), ("/api/surveys/sus", BEST)):
        assert client.post(path, json=body, headers={"Origin": "http://evil"}).status_code == 403


def test_what_all_said_is_for_operators(ledger: Ledger, job_id: str) -> None:
    viewer, operator = browser(ledger, Role.READER), browser(ledger, Role.OPERATOR)
    viewer.post(f"/api/surveys/usefulness/{job_id}", json=GOOD)
    for path in ("summary", "usefulness.csv", "sus.csv"):
        assert viewer.get(f"/api/surveys/{path}").status_code == 403, path
    (group,) = operator.get("/api/surveys/summary").json()["usefulness"]
    assert (group["model"], group["questions"][0]["mean"], group["questions"][3]["number"]) == ("mr_brain", 5.0, 0)


def test_an_export_has_numbers_and_names_for_administrators_alone_and_is_written_down(
    ledger: Ledger, job_id: str
) -> None:
    viewer, operator = browser(ledger, Role.READER), browser(ledger, Role.OPERATOR)
    viewer.post(f"/api/surveys/usefulness/{job_id}", json={**GOOD, "comment": "@SUM(1)"})
    viewer.post("/api/surveys/sus", json=BEST)
    for what in ("usefulness", "sus"):
        path = f"/api/surveys/{what}.csv"
        answer = operator.get(path)
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{what}.csv"'
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (row["reader"], "account" in row, "administrator" in answer.text) == ("1", False, False)
        assert operator.get(path, params={"names": True}).status_code == 403
        (row,) = csv.DictReader(io.StringIO(browser(ledger, Role.ADMINISTRATOR).get(path, params={"names": True}).text))
        assert row["account"] == "reader"
    exports = [(row.account, row.detail) for row in actions(ledger) if row.action == "survey export"]
    assert exports == [("administrator", "sus, with names"), ("operator", "sus, no names"), ("administrator", "usefulness, with names"), ("operator", "usefulness, no names")]  # fmt: skip


# -- the pages


def test_a_page_without_a_login_leads_to_the_login(ledger: Ledger, job_id: str) -> None:
    for path in ("/surveys", f"/readings/{job_id}/usefulness"):
        assert browser(ledger, None).get(path).headers["Location"] == f"/login?next={path}"


def test_the_card_of_a_reading_leads_to_its_form_which_holds_what_was_said(ledger: Ledger, job_id: str) -> None:
    client, path = browser(ledger, Role.READER), f"/readings/{job_id}/usefulness"
    card = client.get("/studies/1").text
    assert f'<a href="{path}">Was this useful?</a>' in card
    fresh = client.get(path).text
    assert all(question.text in fresh and f'name="{question.key}"' in fresh for question in USEFULNESS)
    assert " checked" not in fresh, "nothing is answered in somebody's place"
    assert "No names, dates of birth" in fresh
    client.post(f"/api/surveys/usefulness/{job_id}", json={**GOOD, "comment": "<b>fine"})
    again = client.get(path).text
    assert again.count(" checked") == 5
    assert 'name="contours" value="" required checked' in again
    assert "&lt;b&gt;fine" in again
    assert "change your answer</a>" in client.get("/studies/1").text


def test_a_reading_without_a_result_has_no_form(ledger: Ledger) -> None:
    waits = make(ledger, arrive(ledger, seen()))[0]
    client = browser(ledger, Role.READER)
    assert "/usefulness" not in client.get("/studies/1").text
    text = client.get(f"/readings/{waits}/usefulness").text
    assert ("There is no result yet" in text, "<form class" in text) == (True, False)
    assert client.get(f"/readings/{'0' * 36}/usefulness").status_code == 404


def test_the_surveys_page_has_the_scale_and_ones_own_answers(ledger: Ledger, job_id: str) -> None:
    client = browser(ledger, Role.READER)
    empty = client.get("/surveys").text
    assert all(question.text in empty for question in SUS)
    assert "Digital Equipment Corporation, 1986" in empty
    assert "None yet" in empty
    client.post(f"/api/surveys/usefulness/{job_id}", json=GOOD)
    client.post("/api/surveys/sus", json=BEST)
    text = client.get("/surveys").text
    assert f'href="/readings/{job_id}/usefulness"' in text
    assert "100</td><td>counts</td>" in text


def test_figures_and_exports_are_shown_to_those_who_may_have_them(ledger: Ledger, job_id: str) -> None:
    assert "Nobody has answered yet" in browser(ledger, Role.OPERATOR).get("/surveys").text
    browser(ledger, Role.READER).post(f"/api/surveys/usefulness/{job_id}", json=GOOD)
    browser(ledger, Role.READER).post("/api/surveys/sus", json=BEST)
    texts = {role: browser(ledger, role).get("/surveys").text for role in PEOPLE}
    assert "usefulness.csv" not in texts[Role.READER]
    assert "mean SUS score" not in texts[Role.READER]
    assert "21 % to 100 %" in texts[Role.OPERATOR]
    assert "best imaginable" in texts[Role.OPERATOR]
    assert "names=true" not in texts[Role.OPERATOR]
    assert "names=true" in texts[Role.ADMINISTRATOR]
    assert not [role for role in PEOPLE if " style=" in texts[role] or "<script>" in texts[role]]
