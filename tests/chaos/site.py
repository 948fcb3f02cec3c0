"""One whole system on loopback ports: its parts, the proxies between them, its ledger's disk.

Router and workers are the ordinary programs with a medai.toml each; only the addresses in it lead through proxies.
Next: parts.py, proxy.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
import urllib3
from servers import MockRis, OrthancServer, free_port, make_orthanc, make_postgresql, make_redis, make_ris, wait_for

from chaos.ledger_view import LedgerView
from chaos.model import NEWER, OLDER
from chaos.nursery import CLOCK, Nurseries
from chaos.pacs import Pacs
from chaos.parts import Part, Supervisor
from chaos.proxy import HttpProxy, MllpProxy, Proxy, Spoken
from chaos.secured import Secured
from medai.router.errors import TemporaryError
from medai.router.queue.broker import PRIORITY_STEPS, SEPARATOR
from medai.router.settings.tables import BrokerSettings

TESTS = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "PYTHONPATH": f"{TESTS.parent}/.lint:{TESTS}",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Of routers and workers, and of the nurseries where they are born."""
WORKERS = ("worker1", "worker2")
QUIET_S = 1.0
DISK_MB = 64

ROUTES = """
[[routes]]
name = "mr"
when = 'study.Modality == "MR"'
model = "chaos_mr"
destinations = ["archive", "pacs", "ris"]
[routes.series]
modality = ["MR"]
slices_min = 4
[routes.completeness]
quiet_s = {quiet}
max_wait_s = 10.0

[[routes]]
name = "second"
when = 'study.Modality == "MR" && study.StudyDescription == "BOTH"'
model = "chaos_second"
destinations = ["archive", "pacs", "ris"]
[routes.series]
modality = ["MR"]
slices_min = 4
[routes.completeness]
quiet_s = {quiet}
max_wait_s = 10.0

[[routes]]
name = "ct"
when = 'study.Modality == "CT"'
model = "chaos_ct"
destinations = ["archive", "pacs", "ris"]
[routes.series]
modality = ["CT"]
slices_min = 4
[routes.completeness]
quiet_s = {quiet}
max_wait_s = 10.0
"""

CONFIG = """
routing = "all"
[orthanc]
url = "http://127.0.0.1:{orthanc}"
poll_s = 0.25
sweep_s = 10.0
[ledger]
url = "{ledger}"
[broker]
url = "redis://127.0.0.1:{redis}/0"
[ris]
host = "127.0.0.1"
port = {ris}
processing_id = "T"
[hl7_in]
port = {hl7}
[metrics]
port = 0
[worker]
torch_threads = 1
queue = "cpu"
[models]
folders = ["{models}"]
[destinations.pacs]
modality = "pacs"
"""


class Site:
    """The system; ``start`` brings everything up, ``close`` ends it. Parts are looked up by name in ``parts``."""

    def __init__(
        self, folder: Path, *, models: Path, nurseries: Nurseries, postgresql: bool = False, mutant: str = "",
        tls: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.nurseries = nurseries
        self.mutant = mutant
        self.postgresql = postgresql
        folder.mkdir(parents=True, exist_ok=True)
        self.secured = Secured(folder / "tls") if tls else None
        self.spoken: list[Spoken] = []
        self.proxies: dict[tuple[str, str], Proxy] = {}
        self.parts: dict[str, Part] = {}
        self._configs: dict[str, Path] = {}
        self.clock_file = folder / CLOCK
        self.clock_file.write_text("0")
        self.hl7_port = free_port()
        self.models, self.old_models = models / NEWER, models / OLDER
        self.disks = {name: folder / name for name in ("ledger-disk", "scratch")}
        self.mounted = [mount(place) for place in self.disks.values()]
        for place in self.disks.values():
            place.mkdir(exist_ok=True)
        self._make_servers()
        for speaker in ("router", *WORKERS):
            self._make_ours(speaker)
        self.ledger: LedgerView | None = None
        self.supervisor = Supervisor(self.parts.values)
        self.http = urllib3.PoolManager(maxsize=16, retries=False, timeout=urllib3.Timeout(connect=3, read=10))

    # -- making

    def _make_servers(self) -> None:
        secured = self.secured
        self.pacs = Pacs(secured)
        link = self._proxy(Proxy("orthanc", "pacs", self.pacs.port))  # TLS passes it as it is
        node = {"AET": "PACS", "Host": "127.0.0.1", "Port": link.port, "UseDicomTls": secured is not None}
        self.orthanc: OrthancServer = make_orthanc(
            self.folder / "orthanc", DicomModalities={"pacs": node}, **(secured.archive if secured else {})
        )
        if secured is not None:
            self.orthanc.environment = {**self.orthanc.environment, **secured.environment}
        self.pacs.reports_to = self.orthanc.dicom_port
        self.redis = make_redis(self.folder / "redis", tls=secured.redis if secured else ())
        self.ris: MockRis = make_ris(
            self.folder / "ris", router_port=self.hl7_port, options=secured.ris if secured else ()
        )
        for name, server in (("orthanc", self.orthanc), ("redis", self.redis), ("ris", self.ris)):
            self.parts[name] = Part(
                name=name,
                command=server.command,
                folder=server.folder,
                environment=server.environment,
                port=server.port,
            )
        pair = secured.pair if secured else None
        self.database = make_postgresql(self.folder / "postgresql", tls=pair) if self.postgresql else None
        if self.database is not None:
            self.parts["database"] = Part(
                name="database", command=self.database.command, folder=self.database.folder, port=self.database.port
            )

    def _proxy(self, proxy: Proxy) -> Proxy:
        self.proxies[proxy.speaker, proxy.peer] = proxy
        return proxy

    def ledger_url(self, port: int | None = None) -> str:
        """The ledger's URL; ``port`` that of a proxy to PostgreSQL."""
        if self.database is None:
            return f"sqlite:///{self.disks['ledger-disk'] / 'ledger.sqlite'}"
        url = f"postgresql+psycopg://medai@127.0.0.1:{port or self.database.port}/postgres"
        return self.secured.database(url) if self.secured else url

    def write_config(self, speaker: str, *, hl7: int = 0, models: Path | None = None) -> Path:
        """A medai.toml whose addresses lead through proxies of this speaker's own."""
        links = {
            "orthanc": self._proxy(HttpProxy(speaker, "orthanc", self.orthanc.port, self.secured)),
            "redis": self._proxy(Proxy(speaker, "redis", self.redis.port, self.secured)),
            "ris": self._proxy(MllpProxy(speaker, "ris", self.ris.port, self.spoken, self.secured)),
        }
        database = self._proxy(Proxy(speaker, "database", self.database.port)).port if self.database else None
        values = {name: link.port for name, link in links.items()}
        text = CONFIG.format(ledger=self.ledger_url(database), hl7=hl7 or 1, models=models or self.models, **values)
        if not hl7:
            text = text.replace("[hl7_in]\n", "[hl7_in]\nenabled = false\n")
        if self.secured is not None:
            text = self.secured.config(text)
        path = self.folder / f"{speaker}.toml"
        path.write_text(text + ROUTES.format(quiet=QUIET_S))
        self._configs[speaker] = path
        return path

    def _make_ours(self, speaker: str) -> None:
        self.write_config(speaker, hl7=self.hl7_port if speaker == "router" else 0)
        ready = self._router_up if speaker == "router" else lambda: self._worker_up(speaker)
        part = self.make_part(speaker)
        part.ready = ready
        part.port = self.hl7_port if speaker == "router" else 0
        self.parts[speaker] = part

    def make_part(self, speaker: str, *, older: bool = False) -> Part:
        """A router or a worker, not started and not among the parts yet."""
        return Part(
            name=speaker, command=self.command(speaker, older=older), folder=self.folder,
            environment=self.environment(), nurseries=self.nurseries,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Of router and workers: this tree's code, few threads, their own scratch directory."""
        return {**ENVIRONMENT, "TMPDIR": str(self.disks["scratch"])}

    def command(self, speaker: str, *, clock: bool = False, older: bool = False) -> list[str]:
        """Of the ordinary program, or of one that is changed: arguments for part.py."""
        what = "worker" if speaker.startswith("worker") else "router"
        changes = ["--clock"] if clock else []
        changes += ["--older"] if older else []
        changes += ["--mutant", self.mutant] if self.mutant else []
        return [*changes, what, "--config", str(self._configs[speaker])]

    # -- life

    def start(self) -> None:
        """Bring everything up and wait until every part serves."""
        for part in self.parts.values():
            if part.name == "database":
                part.start()
                wait_for(part.is_up, within_s=60, what="database")
        self.ledger = LedgerView(self.ledger_url())
        for part in self.parts.values():
            part.start()
        self.wait_until_up(within_s=120)

    def wait_until_up(self, *, within_s: float = 90.0) -> None:
        """Until every part that is wanted serves."""
        for part in list(self.parts.values()):
            if part.wanted:
                wait_for(part.is_up, within_s=within_s, what=f"{part.name} ({part.log})")

    @property
    def view(self) -> LedgerView:
        """The ledger."""
        assert self.ledger is not None, "start() first"
        return self.ledger

    def _router_up(self) -> bool:
        return True  # it listens for orders

    def _worker_up(self, speaker: str) -> bool:
        try:
            known = {name.rpartition("-")[2] for name in self.view.workers()}
        except TemporaryError:
            return False
        return any(str(pid) in known for pid in self.parts[speaker].pids())

    def close(self) -> None:
        """End every process and give everything back; the folder stays."""
        self.supervisor.stop()
        ours = [part for name, part in self.parts.items() if name not in ("orthanc", "redis", "ris", "database")]
        enders = [threading.Thread(target=part.shut_down) for part in ours]
        for thread in enders:
            thread.start()
        for thread in enders:
            thread.join()
        for name in ("orthanc", "redis", "ris", "database"):
            if name in self.parts:
                self.parts[name].shut_down(within_s=5.0 if name == "database" else 0.2)
        for proxy in self.proxies.values():
            proxy.close()
        self.pacs.close()
        if self.ledger is not None:
            self.ledger.close()
        for place, done in zip(self.disks.values(), self.mounted, strict=False):
            if done:
                keep = [
                    (path, path.read_bytes()) for path in place.iterdir() if path.is_file() and path.name != "filler"
                ]
                subprocess.run(["umount", "-l", str(place)], check=False)
                for path, content in keep:  # the ledger is evidence
                    path.write_bytes(content)

    # -- who is who

    def part_of(self, owner: str) -> str:
        """The part that a worker's name in the ledger (host-pid) belongs to; empty when it is gone."""
        pid = owner.rpartition("-")[2]
        for name, part in self.parts.items():
            if pid.isdigit() and int(pid) in part.pids():
                return name
        return ""

    def worker_parts(self) -> list[str]:
        """The workers that are configured now."""
        return [name for name in self.parts if name.startswith("worker")]

    def links(self, *, speaker: str = "", peer: str = "") -> list[Proxy]:
        """Proxies by who speaks ("worker": all workers) and to whom."""
        return [
            link
            for (who, whom), link in self.proxies.items()
            if who.startswith(speaker) and (not peer or whom == peer) and not link.closed
        ]

    # -- asking from outside

    def archive(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Orthanc's own answer, not through a proxy; JSON."""
        answer = self.http.request(method, self.orthanc.url + path, body=body)
        if answer.status >= 400:
            raise urllib3.exceptions.HTTPError(f"{method} {path.split('/')[1]}: {answer.status}")
        return json.loads(answer.data)

    def ask_ris(self, method: str, path: str, value: Any = None) -> Any:
        """The mock RIS's JSON."""
        options: dict[str, Any] = {} if value is None else {"json": value}
        answer = self.http.request(method, f"http://127.0.0.1:{self.ris.http_port}{path}", **options)
        return json.loads(answer.data)

    def broker(self) -> redis.Redis:
        """Redis itself, not through a proxy."""
        own = self.broker_settings()
        return redis.Redis.from_url(own.url, socket_timeout=2, socket_connect_timeout=2, **own.tls)

    def broker_settings(self) -> BrokerSettings:
        """How it is reached."""
        where = f"127.0.0.1:{self.redis.port}/0"
        if self.secured is None:
            return BrokerSettings(url=f"redis://{where}")
        return BrokerSettings(url=f"rediss://{where}", **self.secured.files)

    def messages_waiting(self) -> int:
        """Job messages in Redis that no worker has taken."""
        with self.broker() as broker:
            names = [f"cpu{SEPARATOR}{step}" if step else "cpu" for step in PRIORITY_STEPS]
            return sum(int(broker.llen(name)) for name in names)

    def operator(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``medai ARGUMENTS`` as an operator types it, against this system's ledger."""
        command = [sys.executable, "-m", "medai.router.cli", *arguments, "--config", str(self._configs["router"])]
        environment: Mapping[str, str] = {**os.environ, **self.environment()}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    # -- disks

    def fill(self, disk: str) -> None:
        """To the last byte."""
        with (self.disks[disk] / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue  # full, for this size

    def free(self, disk: str) -> None:
        """Give the space back."""
        (self.disks[disk] / "filler").unlink(missing_ok=True)


def mount(place: Path) -> bool:
    """A small file system of its own (root, or ``unshare -rm``); False where that is not allowed."""
    place.mkdir(exist_ok=True)
    options = f"size={DISK_MB}m,mode=0777"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    return done.returncode == 0


def remove(folder: Path) -> None:
    """A folder of a system that is closed; what root's or PostgreSQL's leftovers keep is left behind."""
    time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)
