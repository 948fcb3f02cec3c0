"""A look at a running site: the queue by the router's metrics, the cores by the kernel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3

from medai.trials.box import Box
from medai.trials.hospital import watch
from medai.trials.hospital.watch import Watcher


@pytest.fixture
def metrics() -> Iterator[tuple[str, dict[str, Any]]]:
    """A /metrics page and what it answers."""
    says: dict[str, Any] = {"status": 200, "text": 'medai_ledger_up 1.0\nmedai_jobs{state="running"} 1.0\n'}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(says["status"])
            self.end_headers()
            self.wfile.write(str(says["text"]).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics", says
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_router_that_is_away_or_in_trouble_is_a_gap_and_no_error(metrics: tuple[str, dict[str, Any]]) -> None:
    url, says = metrics
    http = urllib3.PoolManager()
    box = SimpleNamespace(http=http, facts={"router": {"metrics": url}})
    watcher = Watcher(box=cast(Box, box))
    look = watcher.look()
    assert look is not None
    assert look.running == 1
    says["status"] = 503
    assert watcher.look() is None
    box.facts = {"router": {"metrics": "http://127.0.0.1:1/metrics"}}
    assert watcher.look() is None
    http.clear()


def test_the_routers_own_metrics_are_understood() -> None:
    text = (
        "medai_ledger_up 1.0\n"
        'medai_queue_depth{priority="stat",queue="cpu"} 2.0\nmedai_queue_depth{priority="stat",queue="gpu"} 1.0\n'
        'medai_queue_depth{priority="routine",queue="cpu"} 7.0\n'
        'medai_queue_oldest_seconds{priority="stat",queue="cpu"} 3.5\n'
        'medai_queue_oldest_seconds{priority="routine",queue="cpu"} 9.5\n'
        'medai_jobs{state="running"} 2.0\nmedai_jobs{state="delivering"} 4.0\nmedai_studies_arriving 5.0\n'
        'medai_dead_letters{kind="job"} 1.0\nmedai_dead_letters{kind="delivery"} 2.0\n'
    )
    look = watch.parse(text)
    assert look is not None
    assert (look.waiting["stat"], look.waiting["routine"], look.waiting["urgent"]) == (3, 7, 0)
    assert (look.oldest_s, look.running, look.delivering, look.parked, look.arriving) == (9.5, 2, 4, 3, 5)
    assert watch.parse(text.replace("medai_ledger_up 1.0", "medai_ledger_up 0.0")) is None
    assert watch.parse(text + 'medai_jobs{state="do') is None, "a page that is cut off is a gap"


def test_the_cores_share_is_between_none_and_all() -> None:
    watcher = watch.Watcher(box=cast(Box, None))
    assert watcher.cpu() == 0.0
    threading.Event().wait(0.05)
    assert 0.0 <= watcher.cpu() <= 1.0
    assert watch.machine()["cores"]
