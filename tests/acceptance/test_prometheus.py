"""Prometheus' files are right, and a real Prometheus that scrapes a real run answers every query of the dashboards."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from dicom_cases import renamed
from servers import Server, binary, free_port, wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = ("recording.yml", "alerts.yml")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint-fatal", *RULES),
        ("test", "rules", "tests/rules_test.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_finds_no_fault(arguments: tuple[str, ...]) -> None:
    promtool(*[DEPLOY / "prometheus" / each if each.endswith(".yml") else each for each in arguments])


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    tests = (DEPLOY / "prometheus" / "tests" / "rules_test.yml").read_text()
    for rule in alerts:
        assert f'alertname="{rule["alert"]}"' in tests, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description"} == set(rule["annotations"])


def dashboard_queries() -> list[tuple[str, str]]:
    """(panel, query) of every panel of every dashboard."""
    found = []
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    assert found
    return found


@pytest.fixture
def prometheus(running: Any, tmp_path: Path) -> Iterator[Server]:
    """The shipped configuration, asking the running router every second."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{running.site.ports['metrics']}"]
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in RULES]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        binary("prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
    ]  # fmt: skip
    server = Server(command=command, folder=tmp_path, port=port, environment={})
    server.start()
    try:
        yield server
    finally:
        server.kill()


def ask(server: Server, query: str) -> list[float]:
    """The values of an instant query; NaN says nothing and is left out."""
    url = f"http://127.0.0.1:{server.port}/api/v1/query"
    answer = urllib3.request("GET", url, fields={"query": query}, timeout=10.0).json()
    assert answer["status"] == "success", (query, answer)
    values = [float(item["value"][1]) for item in answer["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def silent(server: Server, queries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The queries that bring nothing."""
    return [(title, query) for title, query in queries if not ask(server, query.replace("$__rate_interval", "5m"))]


@pytest.mark.apart  # on a busy machine an alert may rightly fire
@pytest.mark.timeout(300)
def test_every_query_of_the_dashboards_brings_data_from_a_real_run(
    running: Any, prometheus: Server, shared_data: Any
) -> None:
    head = shared_data("mr_brain_T1_studyforrest") / "dicom_jpegls"
    for name in ("prometheus one", "prometheus two"):  # a rate needs a second reading
        uid, files = renamed(head, name)
        running.send(files)
        assert running.finished(uid)["state"] == "done"
    queries = dashboard_queries()
    wait_for(lambda: not silent(prometheus, queries), within_s=200.0, what="data for every query")
    rules = [rule for name in RULES for rule in rules_of(name)]
    assert not [rule["record"] for rule in rules if "record" in rule and not ask(prometheus, rule["record"])]
    state = urllib3.request("GET", f"http://127.0.0.1:{prometheus.port}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in state for rule in group["rules"]} == {"ok"}
    firing = ask(prometheus, 'ALERTS{alertstate="firing", severity="page"}')
    assert firing == [], "nobody is called while all is well"


def rules_of(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
