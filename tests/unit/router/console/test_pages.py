"""The pages: nobody sees one without logging in, every state of a study has one, and nothing in them is taken for markup."""

from __future__ import annotations

from typing import cast

import pytest
from fastapi.testclient import TestClient
from ledger_cases import MERGE, T0, acknowledge, arrive, make, seen, store

from medai.router.console.app import make_app
from medai.router.console.peers import Peers
from medai.router.contract import Failure
from medai.router.errors import TemporaryError
from medai.router.hl7.order_patient import Doubt
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.fleet import Announced
from medai.router.ledger.identities import Weighing
from medai.router.orthanc.client import Orthanc
from medai.router.reports.status import DestinationEntry
from medai.router.reports.story import actions
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import Settings

PASSWORD = "long enough"
PEOPLE = set(Role) - {Role.SERVICE}


class Archive:
    """Orthanc's part: it draws."""

    def rendered(self, name: str) -> bytes:
        return b"\x89PNG" + name.encode()


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    for role in PEOPLE:
        ledger.accounts.add(role.value, PASSWORD, role, T0)
    return ledger


def away() -> None:
    raise TemporaryError("Redis does not answer")


def browser(ledger: Ledger, role: Role | None = Role.OPERATOR) -> TestClient:
    settings = Settings(routes=(RouteSettings(name="brain", model="mr_brain", when='study.Modality == "<MR>"'),))
    probes = {"Ledger": ledger.accounts.has_any, "Redis": away}
    app = make_app(settings, ledger, cast(Orthanc, Archive()), probes=probes, version="1.2.3", clock=lambda: T0 + 100)
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    if role is not None:
        assert client.post("/api/login", json={"name": role.value, "password": PASSWORD}).status_code == 200
    return client


def waiting(ledger: Ledger, uid: str = "1.2.3") -> str:
    return str(make(ledger, arrive(ledger, seen(uid=uid)))[0])


def done(ledger: Ledger, uid: str = "1.2.3") -> str:
    job_id = waiting(ledger, uid)
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(ledger, claim, T0 + 2)
    acknowledge(ledger, claim, T0 + 3)
    return job_id


def failed(ledger: Ledger, reason: str, uid: str = "1.2.3") -> str:
    job_id = waiting(ledger, uid)
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0 + 1)
    assert claim is not None
    ledger.claims.fail(job_id, claim.token, Failure.IMAGES, reason, T0 + 2)
    return job_id


PAGES = ("/", "/studies", "/studies/1", "/rules", "/models", "/held", "/audit", "/readings/" + "0" * 36 + "/key-image")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_without_a_login_leads_to_the_login_and_back(ledger: Ledger, path: str) -> None:
    answer = browser(ledger, None).get(f"{path}?x=1")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/login?next={path}%3Fx%3D1")


def test_an_empty_system_has_every_page(ledger: Ledger) -> None:
    client = browser(ledger, Role.ADMINISTRATOR)
    texts = {
        path: client.get(path).text for path in ("/", "/studies", "/rules", "/models", "/held", "/audit", "/login")
    }
    assert "Nothing is waiting." in texts["/"]
    assert "No worker has reported yet" in texts["/"]
    assert "No study has arrived yet" in texts["/studies"]
    assert "No worker has announced a model" in texts["/models"]
    assert "No order is held." in texts["/held"]


def test_the_first_page_shows_what_waits_who_works_and_what_is_away(ledger: Ledger) -> None:
    waiting(ledger, "1.1")
    done(ledger, "1.2")
    failed(ledger, "the images are cut short", "1.3")
    load = {"memory_bytes": 1.5e9, "cores_used": 1.2, "gpu_memory_used_bytes": 2e9, "gpu_memory_size_bytes": 8e9}
    ledger.fleet.worker_seen("w1", queues=["gpu"], device="GPU", started_at=T0, job_id="j" * 36, now=T0 + 99, load=load)
    ledger.fleet.worker_seen("w2", queues=["cpu"], device="CPU", started_at=T0, job_id=None, now=T0 + 20)
    text = browser(ledger).get("/").text
    for words in (
        "1.5 GB",
        "2.0 of 8 GB",
        "silent for 1 min",
        "the images are cut short",
        "Redis does not answer",
        "needs a person",
    ):
        assert words in text, words


def test_a_study_in_each_state_has_its_page_with_what_can_be_done(ledger: Ledger) -> None:
    waits, finished, broken = waiting(ledger, "1.1"), done(ledger, "1.2"), failed(ledger, "no volume", "1.3")
    ledger.fleet.announce([Announced(name="other", version="2", available=True, reason="")], T0)
    client = browser(ledger)
    pages = {name: client.get(f"/studies/{n}").text for n, name in enumerate(("waits", "done", "failed"), 1)}
    assert f"/api/readings/{waits}/stat" in pages["waits"]
    assert f"/api/readings/{waits}/cancel" in pages["waits"]
    assert f"/api/readings/{finished}/again" in pages["done"]
    assert f"/api/readings/{finished}/cancel" not in pages["done"]
    assert f"/api/dead/{broken}/retry" in pages["failed"]
    assert "no volume" in pages["failed"]
    assert client.get("/studies/99").status_code == 404


def test_a_reader_is_shown_no_button_that_acts(ledger: Ledger) -> None:
    waiting(ledger)
    text = browser(ledger, Role.READER).get("/studies/1").text
    assert "/api/readings/" not in text
    assert "/patient" not in text
    assert browser(ledger, Role.READER).get("/audit").status_code == 403


def test_held_orders_are_shown_to_who_may_decide_and_looking_is_written_down(ledger: Ledger) -> None:
    waiting(ledger, "1.1")
    ledger.held.released("1.1", Doubt(key="k", placer="PL<1>", accession="A7", differs=("name", "birth date")), T0)
    client = browser(ledger)
    text = client.get("/held").text
    for words in (
        "PL&lt;1&gt;",
        "A7",
        "study 1",
        "birth date",
        "/api/held/1/release",
        "/api/held/1/reject",
        'data-reason="1"',
    ):
        assert words in text, words
    ledger.identities.patient_changed([MERGE], T0, Weighing(rule="hold"))
    text = client.get("/held").text
    assert all(words in text for words in ("all are held", "/api/held/merges/1/release", "/api/held/merges/1/reject"))
    assert 'href="/held"' in client.get("/").text
    assert "held orders" in [each.action for each in actions(ledger)]
    reader = browser(ledger, Role.READER)
    assert reader.get("/held").status_code == 403
    assert 'href="/held"' not in reader.get("/").text


def test_studies_are_filtered_and_paged_by_links(ledger: Ledger) -> None:
    for n in range(60):
        waiting(ledger, f"1.{n}")
    client = browser(ledger)
    first = client.get("/studies?route=brain").text
    assert first.count('href="/studies/') == 50
    assert "/studies?route=brain&amp;after=" in first
    assert 'data-live="2"' in first
    older = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    rest = client.get(older).text
    assert rest.count('href="/studies/') == 10
    assert "data-live" not in rest, "a page of the past stays as it is"
    assert client.get("/studies?state=lost").status_code == 422
    assert "No study matches" in client.get("/studies?text=nothing").text


def test_what_the_ledger_holds_is_never_markup(ledger: Ledger) -> None:
    evil = "<script>alert(1)</script>"
    failed(ledger, evil)
    with ledger.begin() as db:
        db.exec_driver_sql("UPDATE study SET accession = ?", (evil,))
    client = browser(ledger)
    for path in ("/", "/studies", "/studies/1", "/rules", f"/studies?text={evil}"):
        assert evil not in client.get(path).text, path


def test_the_key_image_comes_from_the_archive(ledger: Ledger) -> None:
    job_id = done(ledger)
    assert browser(ledger).get(f"/readings/{job_id}/key-image").status_code == 404, "this one has none"
    with ledger.begin() as db:
        db.exec_driver_sql(
            "UPDATE job SET results = ?",
            ('{"sc": {"kind": "sc", "sop_uid": "1", "series_uid": "2", "orthanc_id": "abc"}}',),
        )
    answer = browser(ledger).get(f"/readings/{job_id}/key-image")
    assert (answer.headers["Content-Type"], answer.content) == ("image/png", b"\x89PNGabc")


def test_peers_are_asked_once_in_a_while_however_many_look() -> None:
    asked: list[float] = []
    now = [0.0]
    peers = Peers({"Redis": lambda: asked.append(now[0])}, lambda: now[0])
    ris = DestinationEntry(name="ris", pending=0, oldest_s=0.0, away=True, since=0.0, reason="AR")
    for at in (0.0, 1.0, 2.9, 3.1):
        now[0] = at
        seen_ = [(peer.name, peer.up, peer.reason) for peer in peers.look([ris])]
    assert asked == [0.0, 3.1]
    assert seen_ == [("Redis", True, ""), ("to ris", False, "AR")]


def test_every_page_and_asset_is_packaged_and_loads_nothing_from_elsewhere(ledger: Ledger) -> None:
    client = browser(ledger)
    for path in ("/static/console.css", "/static/console.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text
        assert "https://" not in answer.text
    assert " style=" not in client.get("/").text, "the policy allows no inline style"


def test_a_page_that_is_not_there_is_a_page_and_for_a_program_json(ledger: Ledger) -> None:
    client = browser(ledger)
    page = client.get("/studies/99", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "there is no such study" in page.text
    assert page.headers["Content-Type"].startswith("text/html")
    assert client.get("/api/studies/99", headers={"Accept": "text/html"}).json() == {"detail": "there is no such study"}


def test_one_part_that_hangs_holds_up_one_who_looks() -> None:
    import threading

    inside, on = threading.Event(), threading.Event()

    def hangs() -> None:
        inside.set()
        on.wait(10)

    now = [0.0]
    peers = Peers({"Orthanc": lambda: None if now[0] == 0 else hangs()}, lambda: now[0])
    assert [peer.up for peer in peers.look([])] == [True]
    now[0] = 10.0
    slow = threading.Thread(target=peers.look, args=([],))
    slow.start()
    assert inside.wait(10)
    assert [peer.name for peer in peers.look([])] == ["Orthanc"], "seen before, at once"
    on.set()
    slow.join()
