"""Starting, stopping and checking: the exit codes, and what is said."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from servers import free_port
from ups_server import ups_server

from medai.router.cli import main as cli
from medai.router.cli.check import Finding, _announcements, _ports, _routes, _workitems
from medai.router.ledger import Ledger
from medai.router.settings.routes import RouteSettings, SeriesSettings
from medai.router.settings.tables import Hl7InSettings, Settings


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
def test_check_is_1_when_a_finding_is_an_error(
    level: str, code: int, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding(what="redis", level="ok", text="answers"), Finding(what="ris", level=level, text="see there")]
    monkeypatch.setattr("medai.router.cli.check.check", lambda _: found)
    assert cli.main(["check"]) == code
    assert "ris: see there" in capsys.readouterr().out
    assert cli.main(["check", "--json"]) == code
    assert printed(capsys)[1] == {"what": "ris", "level": level, "text": "see there"}


def test_orders_that_the_site_ignores_are_warned_of() -> None:
    settings = Settings(hl7_in=Hl7InSettings(port=1, ignore=("ADT^A11", "OMI^*")))
    found = [finding.text for finding in _ports(settings) if finding.level == "warning"]
    assert found[0] == "[hl7_in] ignore leaves OMI^* unread: no order that comes so is seen"
    assert len(found) == 2, "and that nothing listens"


@pytest.mark.parametrize(
    ("host", "peers", "open_to_all"),
    [
        ("127.0.0.1", [], False), ("localhost", [], False), ("::1", [], False), ("127.0.0.9", [], False),
        ("0.0.0.0", [], True), ("::", [], True), ("10.0.0.1", [], True), ("", [], True), ("router", [], True),
        ("0.0.0.0", ["10.1.2.3"], False),
    ],
)  # fmt: skip
def test_an_order_port_that_is_open_to_everybody_is_named(host: str, peers: list[str], open_to_all: bool) -> None:
    settings = Settings(hl7_in={"host": host, "port": free_port(), "allowed_peers": peers})
    assert any("allowed_peers" in finding.text for finding in _ports(settings)) is open_to_all


def test_down_where_there_is_no_system_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", "--dir", "nowhere"]) == 2
    assert "holds no Med-AI system" in capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_listener_for_announcements_is_looked_for_where_one_is_configured() -> None:
    free = free_port()
    assert list(_announcements(Settings())) == []
    (closed,) = _announcements(Settings(announcements={"port": free}))
    assert (closed.level, "the router is not running" in closed.text) == ("warning", True)
    with socket.create_server(("127.0.0.1", free)):
        (there,) = _announcements(Settings(announcements={"port": free}))
        assert there.level == "ok"
    everybody = Settings(announcements={"port": free, "host": "0.0.0.0"})
    assert "calling_ae_titles" in next(iter(_announcements(everybody))).text
    named = Settings(announcements={"port": free, "host": "0.0.0.0", "allowed_peers": ["10.0.0.0/8"]})
    assert not any("anybody" in finding.text for finding in _announcements(named))


def test_a_worklist_is_searched_where_one_is_configured() -> None:
    assert list(_workitems(Settings())) == []
    route = {"name": "lungs", "model": "ct_lung"}
    with ups_server(token="right") as there:
        named = {"url": there.url, "token": "right", "routes": {"A^99X": "lungs"}}
        clear, found = _workitems(Settings(routes=[route], workitems=named))
        assert (clear.level, "in the clear" in clear.text) == ("warning", True)
        assert (found.level, "answers a search (UPS-RS)" in found.text) == ("ok", True)
        assert [method for method, _, _ in there.seen] == ["GET"]
        empty, wrong = _workitems(Settings(workitems={"url": there.url}))
    assert (empty.level, "no workitem is claimed" in empty.text) == ("warning", True)
    assert (wrong.level, "username and password, or token" in wrong.text) == ("error", True)


def test_a_route_that_needs_to_know_who_it_is_is_told_by_check() -> None:
    asks = RouteSettings(name="mine", model="m", when='study.PatientID.startsWith("TEST")')
    where = RouteSettings(name="mine", model="m", series=SeriesSettings(where='s.AccessionNumber == "X"'))
    for route, name, place in ((asks, "PatientID", "when"), (where, "AccessionNumber", "series.where")):
        (finding,) = _routes(Settings(routes=(route,)))
        assert finding.level == "error"
        assert finding.text.startswith(f"routes.mine.{place}: line 1, column 1: {name} identifies a patient")
