"""The API: nothing without a token, nothing beyond a role, and what it does is what the ledger does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from console_cases import PASSWORDS, World, filled, operations, walk
from fastapi.testclient import TestClient
from ledger_cases import MERGE, T0, due, store
from pydantic import TypeAdapter

from medai.router.console.app import first_account
from medai.router.console.permissions import OPEN_PAGES
from medai.router.console.responses import (
    AccountEntry,
    ActionPage,
    DeadLetterPage,
    HeldModel,
    RouteEntry,
    StatusPage,
    TokenEntry,
)
from medai.router.contract import Failure
from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.fleet import Announced
from medai.router.ledger.history import ROUTER, acting_from, noted
from medai.router.ledger.identities import Weighing
from medai.router.reports.search import StudyPage
from medai.router.reports.story import Story, actions
from medai.router.reports.turnaround import TurnaroundGroup

# -- who may come in


def test_without_a_token_everything_but_health_and_login_is_401(world: World) -> None:
    client = world.client(None)
    assert client.get("/api/health").json() == {"status": "ok"}
    for method, path in operations(world):
        if path not in ("/api/health", "/api/login"):
            assert client.request(method, path, json={}).status_code == 401, (method, path)


def test_without_a_login_every_page_leads_to_the_login(world: World, tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    world.app.state.viewer = tmp_path
    assert world.client(None).get("/api/openapi.json").status_code == 401
    # The viewer's own files are the same for everybody.
    free = OPEN_PAGES | {"/{name:path}", "/app-config.js", "/api/openapi.json"}
    found = [route.path for route in walk(world.app.routes) if not route.include_in_schema and route.path not in free]
    assert {"/", "/studies/{study_id}", "/audit", "/surveys", "/viewer"} < set(found)
    for path in map(filled, found):
        answer = world.client(None).get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/login?next={path}"), path


VIEWERS = {
    "/api/logout", "/api/login", "/api/me/password", "/api/tokens", "/api/tokens/1", "/api/rules/test",
    "/api/surveys/sus", f"/api/surveys/usefulness/{'0' * 36}",
}  # fmt: skip
"""What changes something, or takes a body, and is a viewer's, too."""
OPERATORS = {"/api/studies/1/patient", "/dicom-web/studies", "/dicom-web/studies/1.2/series", "/api/surveys/summary",
             "/api/surveys/usefulness.csv", "/api/surveys/sus.csv"}  # fmt: skip
"""What shows more than a viewer may see."""
ADMINS = {
    "/api/audit",
    "/api/accounts",
    *(f"/api/accounts/somebody/{act}" for act in ("password", "disable", "enable")),
}


def test_beyond_ones_role_every_operation_is_403(world: World) -> None:
    viewer, operator = world.client(Role.READER), world.client(Role.OPERATOR)
    bodies = {"reason": "because", "model": "m", "name": "somebody", "password": "long enough"}
    for method, path in operations(world):
        acts = method != "GET" and path not in VIEWERS
        if acts or path in OPERATORS | ADMINS:
            assert viewer.request(method, path, json=bodies).status_code == 403, (method, path)
        if path in ADMINS:
            assert operator.request(method, path, json=bodies).status_code == 403, (method, path)
        elif path in OPERATORS:
            assert operator.request(method, path).status_code != 403, (method, path)


@pytest.mark.parametrize("token", ["", "x", "medai_x", "Basic YTpi", "é"])
def test_a_wrong_token_is_401(world: World, token: str) -> None:
    answer = world.client(None).get("/api/status", headers={"Authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_reader_may_look_and_not_act(world: World) -> None:
    job_id, client = world.job(), world.client(Role.READER)
    assert client.get("/api/status").status_code == 200
    answer = client.post(f"/api/readings/{job_id}/stat")
    assert (answer.status_code, answer.json()["detail"]) == (403, "this needs the role operator; yours is reader")
    assert client.get("/api/audit").status_code == client.get("/api/accounts").status_code == 403
    assert actions(world.ledger)[0].action == "login"


def test_a_session_ends_with_its_hours_and_with_logout(world: World) -> None:
    client = world.client(Role.READER)
    assert client.post("/api/logout").json() == {"then": "/login"}
    assert client.get("/api/me").status_code == 401
    client = world.client(Role.READER)
    world.now += 12 * 3600 + 1
    assert client.get("/api/me").status_code == 401


def test_five_wrong_passwords_lock_a_name_for_a_minute_and_no_other(world: World) -> None:
    client = world.client(None)
    wrong = {"name": "reader", "password": "wrong"}
    assert [client.post("/api/login", json=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
    right = {"name": "reader", "password": PASSWORDS[Role.READER]}
    assert client.post("/api/login", json=right).status_code == 429
    assert (
        client.post("/api/login", json={"name": "administrator", "password": PASSWORDS[Role.ADMINISTRATOR]}).status_code
        == 200
    )
    world.now += 61
    assert client.post("/api/login", json=right).status_code == 200


def test_a_cookie_lets_a_browser_look_and_act_from_our_own_page_alone(world: World) -> None:
    job_id = world.job()
    client = TestClient(world.app, base_url="http://localhost")
    login = {"name": "operator", "password": PASSWORDS[Role.OPERATOR]}
    answer = client.post("/api/login", json=login)
    flags = answer.headers["Set-Cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    assert client.get("/api/me").json() == {"name": "operator", "role": "operator"}
    path = f"/api/readings/{job_id}/stat"
    for headers in ({}, {"Origin": "http://evil"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert client.post(path, headers=headers).status_code == 403, headers
    assert client.post(path, headers={"Origin": "http://localhost"}).status_code == 204


def test_a_token_for_a_program_has_its_accounts_rights_and_its_own_end(world: World) -> None:
    client = world.client(Role.READER)
    made = client.post("/api/tokens", json={"label": "dashboard", "days": 30}).json()
    assert made["expires_at"] == world.now + 30 * 86400
    program = {"Authorization": f"Bearer {made['token']}"}
    world.now += 20 * 86400
    assert world.client(None).get("/api/me", headers=program).status_code == 200
    assert world.client(None).post(f"/api/readings/{'0' * 36}/stat", headers=program).status_code == 403


def test_the_first_start_makes_one_account_and_tells_its_password_once(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    ledger.migrate()
    password = first_account(ledger, T0)
    assert password is not None
    assert first_account(ledger, T0) is None
    assert ledger.accounts.by_password("admin", password) is not None
    ledger.close()


# -- look


def test_status_says_what_waits_who_works_and_what_was_promised(world: World) -> None:
    world.job()
    found = world.client(Role.READER).get("/api/status").json()
    assert (found["queue_depth"], found["objectives"]["stat"], found["overdue"]["routine"]) == (1, 300.0, 0)
    assert sum(item["studies"] for item in found["arrivals"]) == 1
    assert found["dead_letters"] == {"reading": 0, "delivery": 0}


def test_studies_are_searched_and_paged(world: World) -> None:
    for n in range(3):
        world.job(f"1.{n}")
    client = world.client(Role.READER)
    first = client.get("/api/studies", params={"limit": 2}).json()
    rest = client.get("/api/studies", params={"limit": 2, "after": first["next"]}).json()
    assert [len(first["studies"]), len(rest["studies"]), rest["next"]] == [2, 1, None]
    assert client.get("/api/studies", params={"state": "done"}).json()["studies"] == []
    for wrong in ({"state": "lost"}, {"limit": 0}, {"after": "x"}, {"since": "nan"}, {"priority": "now"}):
        assert client.get("/api/studies", params=wrong).status_code == 422, wrong


def test_a_study_is_told_whole_and_one_that_does_not_exist_is_404(world: World) -> None:
    world.job()
    client = world.client(Role.READER)
    study_id = client.get("/api/studies").json()["studies"][0]["id"]
    story = client.get(f"/api/studies/{study_id}").json()
    assert story["readings"][0]["state"] == "pending"
    assert story["decisions"][0]["reason"] == "because"
    assert client.get("/api/studies/999").status_code == 404


def test_a_patients_name_is_told_to_those_who_may_know_and_the_asking_is_written_down(world: World) -> None:
    world.job()
    assert "Doe" not in world.client(Role.READER).get("/api/studies/1").text
    assert world.client(Role.READER).get("/api/studies/1/patient").status_code == 403
    client = world.client(Role.OPERATOR)
    assert client.get("/api/studies/1/patient").json()["name"] == "Doe^Jane"
    newest = actions(world.ledger)[0]
    assert (newest.account, newest.action, newest.study_id) == ("operator", "patient", 1)
    world.archive.away = True
    assert client.get("/api/studies/1/patient").status_code == 503


# -- act


def test_an_operator_raises_cancels_and_is_refused_with_the_reason(world: World) -> None:
    job_id, client = world.job(), world.client(Role.OPERATOR)
    assert client.post(f"/api/readings/{job_id}/stat").status_code == 204
    again = client.post(f"/api/readings/{job_id}/stat")
    assert (again.status_code, "STAT" in again.json()["detail"]) == (409, True)
    assert client.post(f"/api/readings/{job_id}/cancel", json={"reason": ""}).status_code == 422
    assert client.post(f"/api/readings/{job_id}/cancel", json={"reason": "by mistake"}).status_code == 204
    assert [row.action for row in actions(world.ledger)][:2] == ["cancel", "stat"]


def test_another_model_is_asked_only_where_a_worker_holds_it(world: World) -> None:
    job_id, client = world.job(), world.client(Role.OPERATOR)
    path = f"/api/readings/{job_id}/again"
    assert client.post(path, json={"model": "other"}).status_code == 409
    world.ledger.fleet.announce([Announced(name="other", version="2", available=True, reason="")], T0)
    made = client.post(path, json={"model": "other"})
    assert made.status_code == 201
    assert made.json()["job_id"] != job_id


def test_a_result_is_withdrawn_with_its_reason(world: World) -> None:
    job_id, client = world.job(), world.client(Role.OPERATOR)
    claim = world.ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(world.ledger, claim)
    answer = client.post(f"/api/readings/{job_id}/withdraw", json={"reason": "wrong side."})
    assert answer.json() == {"told": ["archive"]}
    assert [item.kind for item in due(world.ledger, "archive", T0 + 200)] == ["withdrawal"]


def test_what_a_person_does_says_from_which_address(world: World) -> None:
    job_id = world.job()
    for address in ("192.0.2.7", "2001:db8::7"):
        client = world.client(Role.OPERATOR, address)
        client.post(f"/api/readings/{job_id}/stat")
        assert client.get("/api/studies/1").status_code == 200
    reader = world.client(Role.READER, "192.0.2.9")
    told = reader.get("/api/studies/1").json()["actions"]
    assert {line["address"] for line in told} == {None}, "where colleagues sit is no reader's business"
    lines = world.client(Role.ADMINISTRATOR).get("/api/audit").json()["actions"]
    found = {(line["action"], line["address"]) for line in lines if line["account"] == "operator"}
    assert found >= {(action, at) for action in ("login", "study") for at in ("192.0.2.7", "2001:db8::7")}
    assert ("stat", "192.0.2.7") in found
    with world.ledger.begin() as db:
        noted(db, ROUTER, "order_held", T0)
        with acting_from("192.0.2.7"):
            noted(db, ROUTER, "order_held", T0)
    assert {each.address for each in actions(world.ledger) if each.account == ROUTER} == {None}


@pytest.mark.parametrize(("word", "followed"), [("release", 1), ("reject", 0)])
def test_a_held_merge_is_listed_and_decided_by_an_operator(world: World, word: str, followed: int) -> None:
    world.ledger.identities.patient_changed([MERGE], T0, Weighing(rule="hold"))
    client = world.client(Role.OPERATOR)
    (held,) = client.get("/api/held/merges").json()
    assert (held["prior_id"], held["patient_id"], held["differs"]) == ("A", "B", ["all are held"])
    assert client.get("/api/status").json()["merges_held"] == 1
    path = f"/api/held/merges/{held['id']}/{word}"
    assert client.post(path, json={"reason": "looked"}).status_code == 204
    assert client.post(path, json={"reason": "again"}).status_code == 404
    assert client.get("/api/held/merges").json() == []
    assert len(world.ledger.held_merges.to_follow()) == followed
    assert "held merges" in [each.action for each in actions(world.ledger)]


@pytest.mark.parametrize(("word", "released"), [("release", True), ("reject", False)])
def test_a_held_order_is_listed_and_decided_by_an_operator(world: World, word: str, released: bool) -> None:
    doubt = Doubt(key="k1", placer="EVIL-PL", accession="A1", differs=("name", "birth date"))
    world.ledger.held.released("1.2.3", doubt, 1.0)
    client = world.client(Role.OPERATOR)
    (held,) = client.get("/api/held").json()
    assert (held["placer"], held["differs"]) == ("EVIL-PL", ["name", "birth date"])
    assert client.get("/api/status").json()["orders_held"] == 1
    assert client.post(f"/api/held/{held['id']}/{word}", json={"reason": "looked"}).status_code == 204
    assert client.post(f"/api/held/{held['id']}/{word}", json={"reason": "again"}).status_code == 404
    assert (client.get("/api/held").json(), world.ledger.held.is_released(doubt)) == ([], released)


def test_dead_letters_are_listed_tried_again_and_dropped(world: World) -> None:
    job_id, client = world.dead(), world.client(Role.OPERATOR)
    (letter,) = client.get("/api/dead").json()["letters"]
    assert (letter["id"], letter["reason"], letter["retry_helps"]) == (job_id, "cut short", False)
    assert client.post(f"/api/dead/{job_id}/retry").status_code == 204
    assert client.get("/api/dead").json() == {"letters": [], "next": None}
    assert client.post(f"/api/dead/{job_id}/drop", json={"reason": "not needed"}).status_code == 404
    assert actions(world.ledger)[0].action == "retry"


def test_accounts_are_made_by_administrators(world: World) -> None:
    client = world.client(Role.ADMINISTRATOR)
    new = {"name": "eve", "password": "long enough", "role": "reader"}
    assert client.post("/api/accounts", json=new).status_code == 201
    assert client.post("/api/accounts", json=new).status_code == 409
    assert "eve" in [row["name"] for row in client.get("/api/accounts").json()]
    assert "password" not in client.get("/api/accounts").text


# -- the rule tester


def test_routes_are_tried_on_a_made_up_study(world: World) -> None:
    client = world.client(Role.READER)
    study = {"attributes": {"Modality": "MR"}, "series": [{"Modality": "MR", "NumberOfInstances": 5}]}
    (verdict,) = client.post("/api/rules/test", json={"study": study}).json()
    assert (verdict["route"], verdict["matched"], verdict["series"][0]["taken"]) == ("brain", True, True)
    other = '[[routes]]\nname = "ct"\nmodel = "lungs"\nwhen = \'study.Modality == "CT"\''
    (verdict,) = client.post("/api/rules/test", json={"study": study, "routes": other}).json()
    assert (verdict["route"], verdict["matched"]) == ("ct", False)
    assert verdict["reason"]


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({}, "either"),
        ({"study": {}, "routes": "x ="}, "TOML"),
        ({"study": {}, "routes": "[orthanc]\nurl = 'x'"}, "only"),
        ({"study": {}, "routes": '[[routes]]\nname = "a"\nmodel = "m"\nwhen = "1 +"'}, "when"),
        ({"study": {}, "routes": '[[routes]]\nname = "a"'}, "model"),
        ({"study": {"series": 3}}, "series"),
        ({"study_id": 99}, "no such study"),
    ],
)
def test_a_test_that_can_not_be_made_says_why(world: World, test: dict[str, Any], words: str) -> None:
    answer = world.client(Role.READER).post("/api/rules/test", json=test)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


# -- the rest


def test_answers_are_not_cached_and_nothing_is_loaded_from_elsewhere(world: World) -> None:
    headers = world.client(Role.READER).get("/api/status").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_every_route_says_what_it_does(world: World) -> None:
    found = list(walk(world.app.routes))
    assert len(found) > 50
    assert not [route.path for route in found if not route.description]


def test_a_path_that_is_not_there_is_404_and_a_method_that_is_not_for_it_405(world: World) -> None:
    client = world.client(Role.ADMINISTRATOR)
    assert client.get("/api/nothing").status_code == client.post("/api/nothing").status_code == 404
    answer = client.put("/api/accounts")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert client.get("/api/login").status_code == 405


# -- answers that programs depend on


def test_what_answers_hold_is_described(world: World) -> None:
    job_id, _ = world.job("1.1"), world.dead()
    claim = world.ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(world.ledger, claim)
    world.ledger.fleet.announce([Announced(name="other", version="2", available=True, reason="")], T0)
    world.ledger.fleet.worker_seen("w", queues=["cpu"], device="cpu", started_at=T0, job_id=None, now=T0)
    client = world.client(Role.ADMINISTRATOR)
    asked = {
        "/api/status": StatusPage, "/api/turnaround": list[TurnaroundGroup], "/api/studies": StudyPage,
        "/api/studies/1": Story, "/api/dead": DeadLetterPage, "/api/models": list[HeldModel], "/api/audit": ActionPage,
        "/api/routes": list[RouteEntry], "/api/accounts": list[AccountEntry], "/api/tokens": list[TokenEntry],
    }  # fmt: skip
    for path, model in asked.items():
        told = client.get(path).json()
        answer = TypeAdapter(model).validate_python(told)  # which refuses what the type does not name
        assert answer not in ([], ()), path
        assert TypeAdapter(model).dump_python(answer, mode="json", by_alias=True) == told, path


def test_dead_letters_and_actions_are_paged(world: World) -> None:
    wanted = set()
    for n in range(5):
        job_id = world.job(f"1.{n}")
        claim = world.ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
        assert claim is not None
        world.ledger.claims.fail(
            job_id, claim.token, Failure.IMAGES, "cut short", T0 + 2 + n // 3
        )  # some at one moment
        wanted.add(job_id)
    client = world.client(Role.ADMINISTRATOR)
    found: list[str] = []
    after: dict[str, Any] = {}
    while after is not None:
        page = client.get("/api/dead", params={"limit": 2, **after}).json()
        found += [letter["id"] for letter in page["letters"]]
        after = {"after": page["next"]} if page["next"] else None
    assert (set(found), len(found)) == (wanted, 5)
    client.get("/api/audit")  # is a line of it, too
    first = client.get("/api/audit", params={"limit": 1}).json()
    for _ in range(2):
        client.post("/api/tokens", json={"label": "x"})
    newest = client.get("/api/audit", params={"limit": 2}).json()
    rest = client.get("/api/audit", params={"limit": 2, "after": newest["next"]}).json()
    assert (len(newest["actions"]), rest["actions"][0]) == (2, first["actions"][0])
    assert client.get("/api/dead", params={"after": "x"}).status_code == 422


# -- accounts


def test_an_admin_disables_an_account_and_lets_it_in_again_but_never_their_own(world: World) -> None:
    admin, viewer = world.client(Role.ADMINISTRATOR), world.client(Role.READER)
    assert admin.post("/api/accounts/reader/disable").status_code == 204
    assert viewer.get("/api/me").status_code == 401
    assert admin.post("/api/accounts/reader/enable").status_code == 204
    assert world.client(Role.READER).get("/api/me").status_code == 200
    assert admin.post("/api/accounts/administrator/disable").status_code == 409
    assert admin.post("/api/accounts/nobody/disable").status_code == 404
    assert [row.action for row in actions(world.ledger)][1:3] == ["account enable", "account disable"]


def test_a_password_is_changed_by_its_owner_who_knows_the_old_one_or_by_an_administrator(world: World) -> None:
    client = world.client(Role.READER)
    new = {"password": "another password"}
    assert client.post("/api/me/password", json={"old": "wrong", **new}).status_code == 403
    assert client.post("/api/me/password", json={"old": PASSWORDS[Role.READER], **new}).status_code == 204
    assert client.get("/api/me").status_code == 401, "every session ends"
    assert world.ledger.accounts.by_password("reader", "another password") is not None
    admin = world.client(Role.ADMINISTRATOR)
    assert admin.post("/api/accounts/reader/password", json={"password": "a third one"}).status_code == 204
    assert admin.post("/api/accounts/reader/password", json={"password": "short"}).status_code == 422
    assert world.ledger.accounts.by_password("reader", "a third one") is not None


def test_tokens_are_listed_and_ended_by_their_owner_or_an_administrator(world: World) -> None:
    _, viewer, operator, admin = (world.client(role) for role in Role)
    made = viewer.post("/api/tokens", json={"label": "dashboard"}).json()["token"]
    mine = viewer.get("/api/tokens").json()
    assert (mine[0]["account"], mine[0]["kind"], mine[0]["label"]) == ("reader", "api", "dashboard")
    assert {row["account"] for row in mine} == {"reader"}
    assert "medai_" not in viewer.get("/api/tokens").text
    assert operator.delete(f"/api/tokens/{mine[0]['id']}").status_code == 404
    assert {row["account"] for row in admin.get("/api/tokens").json()} == {role.value for role in Role}
    assert viewer.delete(f"/api/tokens/{mine[0]['id']}").status_code == 204
    assert world.client(None).get("/api/me", headers={"Authorization": f"Bearer {made}"}).status_code == 401


# -- what nobody should send


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/api/studies?text=%00", None),
        ("GET", "/api/studies?route=%00", None),
        ("GET", "/api/studies?after=1:99999999999999999999", None),
        ("GET", "/api/studies?after=1e999:1", None),
        ("GET", "/api/studies/99999999999999999999", None),
        ("GET", "/api/dead?after=1:" + "0" * 36 + "/%00", None),
        ("GET", "/studies?text=%00", None),
        ("GET", "/studies?after=x", None),
        ("GET", "/audit?before=99999999999999999999", None),
        ("POST", "/api/dead/x%00/retry", b""),
        ("POST", f"/api/readings/{'0' * 36}/cancel", b'{"reason": "\\u0000 nul"}'),
        ("POST", f"/api/readings/{'0' * 36}/cancel", b'{"reason": "\\ud800 half a character"}'),
        ("POST", f"/api/readings/{'0' * 36}/cancel", b'{"reason": "\xff\xfe not utf-8"}'),
        ("POST", f"/api/readings/{'0' * 36}/cancel", b"[" * 100_000),
        ("POST", f"/api/readings/{'0' * 36}/cancel", b'{"reason": NaN}'),
        ("POST", "/api/tokens", b'{"label": "x", "days": NaN}'),
        ("POST", "/api/tokens", b'{"label": "x", "days": 1e999}'),
        ("POST", "/api/login", b'{"name": "\\u0000", "password": "x"}'),
        ("POST", "/api/rules/test", b'{"study_id": 99999999999999999999}'),
        ("POST", "/api/rules/test", b'{"study": {"series": [{"NumberOfInstances": 1e400}]}}'),
        ("POST", "/api/rules/test", b'{"study": {"series": [{"NumberOfInstances": ' + b"9" * 5000 + b"}]}}"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_with_a_sentence(
    world: World, method: str, path: str, sent: bytes | None
) -> None:
    client = world.client(Role.ADMINISTRATOR)
    answer = client.request(method, path, content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert isinstance(answer.json()["detail"], str)


def test_a_wrong_request_is_not_repeated_in_the_answer(world: World) -> None:
    answer = world.client(None).post("/api/login", json={"name": "reader", "password": ["my secret"]})
    assert (answer.status_code, "secret" in answer.text) == (422, False)


@pytest.mark.parametrize(
    "when",
    ["(" * 5000 + "1" + ")" * 5000 + " == 1", "!" * 9000 + "true", "[1, 2, 3].all(a, " * 200, "9" * 400 + " > 1",
     "study.Modality.matches('" + "(a+)+" * 500 + "$')"],
    ids=["parentheses", "nots", "loops", "a huge number", "a slow pattern"],
)  # fmt: skip
def test_a_rule_made_to_break_the_console_is_refused_or_answered(world: World, when: str) -> None:
    routes = f'[[routes]]\nname = "a"\nmodel = "m"\nwhen = "{when}"'
    answer = world.client(Role.READER).post("/api/rules/test", json={"study": {}, "routes": routes})
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize(
    "value", [None, True, 10**30, -(10**400), 1.5e300, "\x00", "é" * 1000, [], [[1]], {"a": {"b": 1}}, "1\\2"],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_any_value_of_a_made_up_study_is_answered(world: World, value: Any) -> None:
    study = {
        "attributes": {"Modality": value, "PatientAge": value},
        "series": [{"Modality": value, "SliceThickness": value}],
    }
    routes = "[[routes]]\nname = 'a'\nmodel = 'm'\nwhen = 'study.Modality == \"MR\" && series.SliceThickness < 2.0'"
    for test in ({"study": study}, {"study": study, "routes": routes}):
        answer = world.client(Role.READER).post("/api/rules/test", json=test)
        assert answer.status_code in (200, 422), answer.text


def test_passwords_tried_all_at_once_are_counted_each(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = world.client(None)

    def guess(number: int) -> int:
        return client.post("/api/login", json={"name": "administrator", "password": f"wrong {number}"}).status_code

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(guess, range(20)))
    assert answers.count(401) == 5
    assert answers.count(429) == 15


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(world: World) -> None:
    answer = world.client(None).post(
        "/api/login",
        json={"name": "administrator", "password": PASSWORDS[Role.ADMINISTRATOR]},
        headers={"X-Forwarded-Proto": "https"},
    )
    assert "Secure" in answer.headers["Set-Cookie"]
