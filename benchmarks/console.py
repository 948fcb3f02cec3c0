"""How fast the console's pages and the API answer on a ledger of 100,000 studies.

    python benchmarks/console.py                     makes the ledger (some minutes), asks each page 60 times
    python benchmarks/console.py --studies 10000     a smaller one
    python benchmarks/console.py --url postgresql+psycopg://...   on a PostgreSQL that is empty
    python benchmarks/console.py --smoke             seconds: whether it still runs, not a figure to quote

Prints p50, p95 and p99 in milliseconds of the whole answer, over a real socket. The figures are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import urllib3
import uvicorn
from sqlalchemy import insert

from medai.router.console.app import make_app
from medai.router.contract import Priority
from medai.router.contract import StampName as S
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.accounts import Role
from medai.router.orthanc.client import Orthanc
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import Settings
from medai.router.stages import percentiles

PASSWORD = "benchmark only"  # noqa: S105 - of a ledger that is thrown away
STEPS = (S.FIRST_INSTANCE, S.LAST_INSTANCE, S.STUDY_COMPLETE, S.ENQUEUED, S.STARTED, S.FETCHED, S.PREPARED, S.INFERRED,
         S.ENCODED, S.STORED, S.ORU_ACKNOWLEDGED)  # fmt: skip
DAYS = 60.0
SMOKE = (600, 1)
"""Studies, and how often each page is asked: more than a page holds, so that "after" is tried."""
CHUNK = 2000
Rows = dict[str, list[dict[str, Any]]]
ROUTES = ("brain", "lungs", "neck")


def fill(ledger: Ledger, studies: int, now: float, dice: random.Random) -> None:
    """As many studies as a hospital reads in two months, evenly spread; one in fifty failed, the last ones wait."""
    for start in range(0, studies, CHUNK):
        rows: dict[str, list[dict[str, Any]]] = {
            "study": [],
            "job": [],
            "stamp": [],
            "decision": [],
            "delivery": [],
            "attempt": [],
        }
        for n in range(start, min(start + CHUNK, studies)):
            one_study(rows, n, now - DAYS * 86400.0 * (1 - n / studies), dice, waits=n >= studies - 40)
        tables = (t.studies, t.jobs, t.stamps, t.decisions, t.deliveries, t.attempts)
        with ledger.begin() as db:
            for table, content in zip(tables, rows.values(), strict=True):
                if content:
                    db.execute(insert(table), content)
        print(f"\r{min(start + CHUNK, studies)} studies", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def one_study(rows: Rows, n: int, at: float, dice: random.Random, *, waits: bool) -> None:
    study, job = n + 1, str(uuid.UUID(int=dice.getrandbits(128)))
    state = "pending" if waits else "failed" if dice.random() < 0.02 else "done"
    route = dice.choice(ROUTES)
    rows["study"].append(
        {"id": study, "study_uid": f"1.2.840.{n}", "orthanc_id": f"o{n}", "accession": f"ACC{n:08d}", "modality": "MR",
         "instances": 180, "expected": {}, "first_instance_at": at - 20, "last_instance_at": at, "complete_at": at + 3}
    )  # fmt: skip
    rows["job"].append(
        {"id": job, "study_id": study, "route": route, "model": f"model_{route}", "model_version": "1",
         "modality": "MR", "series": [f"s{n}"], "sources_hash": "h", "sources_count": 180, "queue": "cpu",
         "priority": int(dice.choice(list(Priority))), "revision": 1, "destinations": ["archive", "ris"],
         "quiet_s": 3.0,
         "state": state, "failure": "images" if state == "failed" else "",
         "reason": "slices are missing" if state == "failed" else "", "created_at": at + 3,
         "finished_at": None if waits else at + 40, "verdict": None if state != "done" else "plausible"}
    )  # fmt: skip
    moments = STEPS[:4] if waits else STEPS
    rows["stamp"] += [{"job_id": job, "name": step.value, "at": at + 4.0 * i} for i, step in enumerate(moments)]
    rows["decision"] += [
        {"study_id": study, "job_id": job, "at": at + 3, "verdict": verdict, "route": route, "reason": "because"}
        for verdict in ("complete", "route")
    ]
    if not waits:
        rows["attempt"].append(
            {"job_id": job, "number": 1, "worker": "w", "started_at": at + 16, "ended_at": at + 40, "outcome": "read"}
        )
    if state == "done":
        rows["delivery"] += [
            {
                "job_id": job,
                "destination": name,
                "state": "done",
                "created_at": at + 36,
                "done_at": at + 40,
                "receipt": "AA",
            }
            for name in ("archive", "ris")
        ]


@contextmanager
def serving(ledger: Ledger) -> Iterator[str]:
    """The console on a free port; yields its address."""
    settings = Settings(routes=tuple(RouteSettings(name=name, model=f"model_{name}") for name in ROUTES))
    app = make_app(settings, ledger, cast(Orthanc, None), probes={}, version="benchmark")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ask(base: str, studies: int, times: int) -> dict[str, dict[str, Any]]:
    """Path -> percentiles in seconds, each asked ``times`` times after one that does not count."""
    pool = urllib3.PoolManager()
    login = pool.request("POST", f"{base}/api/login", json={"name": "ana", "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {login['token']}"}
    middle = pool.request("GET", f"{base}/api/studies?limit=500", headers=headers).json()["next"]
    paths = [
        "/", "/studies", "/studies?state=failed", "/studies?state=pending", "/studies?state=done&route=brain",
        f"/studies?text=ACC{studies // 2:08d}", "/studies?text=none", f"/studies?after={middle}",
        f"/studies/{studies // 2}", "/rules", "/models", "/audit", "/api/status", "/api/studies?limit=100",
        "/api/dead", f"/api/studies/{studies // 3}",
    ]  # fmt: skip
    out = {}
    for path in paths:
        taken = []
        for count in range(times + 1):
            began = time.perf_counter()
            answer = pool.request("GET", base + path, headers=headers)
            if answer.status != 200:
                raise SystemExit(f"{path}: {answer.status} {answer.data[:200]!r}")
            if count:
                taken.append(time.perf_counter() - began)
        out[path] = asdict(percentiles(taken))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--url", help="ledger to fill (default: an SQLite of its own)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a small form of it that takes seconds")
    options = parser.parse_args()
    if options.smoke:
        options.studies, options.times = SMOKE
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(options.url or f"sqlite:///{folder}/ledger.sqlite")
        ledger.migrate()
        ledger.accounts.add("ana", PASSWORD, Role.ADMINISTRATOR, time.time())
        fill(ledger, options.studies, time.time(), random.Random(1))  # noqa: S311 - nothing is kept secret by it
        with serving(ledger) as base:
            found = ask(base, options.studies, options.times)
        ledger.close()
    for path, figures in found.items():
        print(f"{path:<40} " + "  ".join(f"{k[:3]} {1000 * figures[k]:6.1f} ms" for k in ("p50_s", "p95_s", "p99_s")))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
