"""How fast a study gets from its last image to a worker, and what the router costs Orthanc.

    .venv/bin/python benchmarks/latency.py [--studies 40] [--slices 50] [--senders 4] [--json FILE]
    .venv/bin/python benchmarks/latency.py --smoke      seconds: whether it still runs, not a figure to quote

Everything is real (Orthanc, Redis, router, Celery workers, DCMTK's storescu as the scanners) but the model, a
threshold. Two figures are compared within one run, since machines are noisy:

- *ingest*: images per second into Orthanc alone, and with the router attached, in turns;
- *latency*: from the sender's last C-STORE response to the job's start, beyond the quiet period.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # real servers are started as the tests do

from dicom_cases import study_files, study_uid
from servers import OrthancServer, free_port, make_orthanc, make_redis, running, wait_for

from medai.router.ledger import Ledger
from medai.router.reports.readings import jobs as readings
from medai.router.reports.status import status
from medai.router.stages import percentiles

QUIET_S = 3.0
SMOKE = {"studies": 2, "slices": 6, "size": 32, "senders": 1, "pace_s": 0.2, "rounds": 1, "quiet_s": 0.3}
CONFIG = """\
[orthanc]
url = "{orthanc}"
sweep_s = 60.0
[ledger]
url = "sqlite:///{folder}/ledger.sqlite"
[broker]
url = "redis://127.0.0.1:{redis}/0"
[hl7_in]
enabled = false
[metrics]
port = {metrics}
[log]
level = "warning"
[[routes]]
name = "brain"
when = 'study.Modality == "MR"'
model = "mr_brain"
destinations = ["archive"]
[routes.series]
slices_min = 4
[routes.completeness]
quiet_s = {quiet}
"""


def main() -> int:
    """Both measurements; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--slices", type=int, default=50)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a slice")
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--pace-s", type=float, default=8.0, help="one study every so many seconds from each sender")
    parser.add_argument("--rounds", type=int, default=4, help="of the ingest comparison")
    parser.add_argument("--quiet-s", type=float, default=QUIET_S, help="of the route")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a small form of it that takes seconds")
    options = parser.parse_args()
    if options.smoke:
        vars(options).update(SMOKE)
    with tempfile.TemporaryDirectory(prefix="medai-bench-") as name:
        folder = Path(name)
        result = {"ingest": ingest(folder, options), "latency": latency(folder, options)}
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    return 0


def make_files(folder: Path, name: str, options: argparse.Namespace) -> Path:
    """One study on disk."""
    target = folder / "studies" / name
    target.mkdir(parents=True)
    for number, data in enumerate(study_files(name, slices=options.slices, size=options.size, spacing_mm=1.0)):
        (target / f"{number:04d}.dcm").write_bytes(data)
    return target


def storescu(orthanc: OrthancServer, study: Path) -> float:
    """Send a study as a scanner does; returns when its last C-STORE response came (the release comes later)."""
    command = ["storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port), "+sd", str(study)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    answered = 0.0
    with subprocess.Popen(command, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True) as scu:
        assert scu.stdout is not None
        for line in scu.stdout:
            if "Received Store Response" in line:
                assert "Success" in line, line
                answered = time.time()
    assert scu.returncode == 0
    return answered


def send_all(orthanc: OrthancServer, studies: list[Path], senders: int, pace_s: float = 0.0) -> dict[str, float]:
    """From several senders at once; returns when each study's last image was taken."""
    done: dict[str, float] = {}
    began = time.time()

    def work(mine: list[Path], offset_s: float) -> None:
        for number, study in enumerate(mine):
            time.sleep(max(0.0, began + offset_s + number * pace_s - time.time()))
            done[study.name] = storescu(orthanc, study)

    threads = [threading.Thread(target=work, args=(studies[n::senders], n * pace_s / senders)) for n in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@contextmanager
def system(folder: Path, orthanc: OrthancServer, *, workers: int, quiet_s: float) -> Iterator[Ledger]:
    """Redis, a router and some quick workers around an Orthanc that runs already."""
    folder.mkdir(parents=True)
    redis = make_redis(folder / "redis")
    metrics = free_port()
    config = folder / "medai.toml"
    config.write_text(
        CONFIG.format(orthanc=orthanc.url, folder=folder, redis=redis.port, metrics=metrics, quiet=quiet_s)
    )
    worker = str(Path(__file__).with_name("quick_worker.py"))
    commands = [[sys.executable, "-m", "medai.router.cli", "router", "--config", str(config)]]
    commands += [[sys.executable, worker, str(config)]] * workers
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    with running(redis):
        ledger.migrate()
        processes = [subprocess.Popen(command, stderr=(folder / "log").open("ab")) for command in commands]
        try:
            wait_for(lambda: ready(metrics, ledger, workers), within_s=60, what="router and workers")
            yield ledger
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=30)
            ledger.close()


def ready(metrics: int, ledger: Ledger, workers: int) -> bool:
    """Whether the router listens and every worker has announced itself."""
    import urllib3

    try:
        answer = urllib3.request("GET", f"http://127.0.0.1:{metrics}/ready", retries=False, timeout=1.0)
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200 and len(status(ledger, time.time()).workers) == workers


def ingest(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Images per second without and with the router, in turns on fresh studies."""
    alone, attached = [], []
    orthanc = make_orthanc(folder / "ingest")
    with running(orthanc):
        for turn in range(options.rounds):
            for rates, with_router in ((alone, False), (attached, True)):
                names = [f"i{turn}{with_router}{n}" for n in range(options.senders * 2)]
                studies = [make_files(folder, name, options) for name in names]
                if with_router:
                    with system(folder / f"router{turn}", orthanc, workers=0, quiet_s=options.quiet_s):
                        rates.append(rate(orthanc, studies, options))
                else:
                    rates.append(rate(orthanc, studies, options))
    return {
        "images_per_s_alone": round(statistics.median(alone), 1),
        "images_per_s_with_router": round(statistics.median(attached), 1),
        "ratio": round(statistics.median(attached) / statistics.median(alone), 3),
        "rounds": {"alone": [round(x) for x in alone], "with_router": [round(x) for x in attached]},
    }


def rate(orthanc: OrthancServer, studies: list[Path], options: argparse.Namespace) -> float:
    """Images per second of one round."""
    began = time.time()
    send_all(orthanc, studies, options.senders)
    return len(studies) * options.slices / (time.time() - began)


def latency(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """From the last C-STORE response to the job's start, beyond the quiet period."""
    orthanc = make_orthanc(folder / "latency")
    studies = [make_files(folder, f"l{n}", options) for n in range(options.studies)]
    with (
        running(orthanc),
        system(folder / "system", orthanc, workers=options.senders, quiet_s=options.quiet_s) as ledger,
    ):
        sent = send_all(orthanc, studies, options.senders, options.pace_s)
        wait_for(
            lambda: status(ledger, time.time()).jobs["done"] >= options.studies,
            within_s=300,
            what="all jobs",
        )
        jobs = readings(ledger, limit=options.studies * 2)
    started = {job.study_uid: job.stamps["started"] for job in jobs}
    beyond = [started[study_uid(name)] - at - options.quiet_s for name, at in sent.items()]
    return {
        "studies": len(jobs),
        "jobs_per_study": len(jobs) / options.studies,
        "beyond_quiet": asdict(percentiles(beyond)),
        "queue_wait": asdict(percentiles([job.stages["queue_wait"] for job in jobs])),
        "routing": asdict(percentiles([job.stages["routing"] for job in jobs])),
        "whole_reading": asdict(percentiles([job.turnaround_s for job in jobs if job.turnaround_s is not None])),
    }


if __name__ == "__main__":
    raise SystemExit(main())
