"""The Celery side of a worker: one process per GPU slot, messages with a job id only.

The parent process consumes and imports no model; its one child loads the models once, announces them in the ledger and
reads jobs. The ledger, not Celery, decides who has a job (tasks.py). Next: tasks.py.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown

from router import log as logs
from router import settings as configuration
from router.broker import TASK, make_celery
from router.errors import MedaiError
from router.ledger import Ledger
from router.orthanc import Orthanc
from router.settings import Settings

HEARTBEAT_S = 5.0
log = structlog.get_logger(__name__)


@dataclass
class _Child:
    """What the child process holds; Celery gives us no better place than the module."""

    runner: Any = None
    stop: threading.Event | None = None


_child = _Child()


def make_worker_app(settings: Settings, *, config: str | None) -> Celery:
    """The Celery application with its one task; ``config`` is where the child reads the settings again."""
    app = make_celery(settings.broker)
    app.conf.worker_proc_alive_timeout = 300.0  # loading a model takes longer than Celery's four seconds
    app.task(_read, name=TASK)

    def keep_our_logs(**_kwargs: Any) -> None:
        """Celery configures no logging of its own."""

    def start(**_kwargs: Any) -> None:
        start_child(configuration.load(config))

    def stop(**_kwargs: Any) -> None:
        stop_child()

    setup_logging.connect(keep_our_logs, weak=False)
    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(stop, weak=False)
    return app


def _read(job_id: str) -> None:
    """The task: everything else is in the ledger."""
    try:
        _child.runner.read(job_id)
    except MedaiError as error:
        # The ledger itself is away: the lease runs out and the sweeper sends the job again.
        log.warning("job_left", job=job_id, reason=logs.describe(error))


def start_child(settings: Settings) -> None:
    """Load what a job needs, once, and say so in the ledger."""
    from models.registry import SHIPPED, Registry  # torch is imported in the child only
    from workers.tasks import JobRunner

    logs.configure(level=settings.log.level, style=settings.log.format, process="worker")
    registry = Registry(
        (*settings.models.places, SHIPPED), settings.models.weights, threads=settings.worker.torch_threads
    )
    ledger = Ledger(settings.ledger.url)
    name = worker_name()
    _child.runner = JobRunner(settings, orthanc=Orthanc(settings.orthanc), ledger=ledger, models=registry, worker=name)
    preload(registry, settings)
    cards = [
        {"name": d.name, "version": d.version, "available": d.available, "reason": d.reason}
        for d in registry.describe()
    ]
    ledger.announce_models(cards, time.time())
    device = device_name()
    _child.stop = threading.Event()
    beat = threading.Thread(
        target=_beat,
        args=(ledger, name, queues_of(settings), device, _child.stop),
        name="heartbeat",
        daemon=True,
    )
    beat.start()
    log.info("worker_ready", worker=name, device=device, queues=queues_of(settings))


def preload(registry: Any, settings: Settings) -> None:
    """Load the routed models before the first study waits for them."""
    from models.errors import ModelUnavailable

    for name in sorted({route.model for route in settings.routes}):
        try:
            registry.load(name)
            if settings.worker.guard != "off" and registry.guard(name) is not None:
                registry.classifier()
        except ModelUnavailable as error:
            log.warning("model_unavailable", model=name, reason=str(error))


def device_name() -> str:
    """The GPU's name, or "CPU" with the number of threads that torch uses."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return f"CPU ({torch.get_num_threads()} threads)"


def stop_child() -> None:
    """Say goodbye to the ledger."""
    if _child.stop is not None:
        _child.stop.set()
        _child.runner.ledger.worker_gone(_child.runner.worker)


def _beat(ledger: Ledger, name: str, queues: list[str], device: str, stop: threading.Event) -> None:
    started = time.time()
    while True:
        try:
            ledger.worker_seen(
                name, queues=queues, device=device, started_at=started, job_id=_child.runner.current, now=time.time()
            )
        except MedaiError as error:
            log.warning("heartbeat_failed", reason=logs.describe(error))
        if stop.wait(HEARTBEAT_S):
            return


def worker_name() -> str:
    """Unique on the network while it lives."""
    return f"{socket.gethostname()}-{os.getpid()}"


def queues_of(settings: Settings) -> list[str]:
    """Which queues this worker serves; a GPU worker helps with the CPU's jobs when it has none."""
    if settings.worker.queue != "auto":
        return [settings.worker.queue]
    return ["gpu", "cpu"] if _cuda_device() else ["cpu"]


def _cuda_device() -> bool:
    # The parent must not import torch (memory, fork safety): the driver's device file tells as much.
    return any(os.path.exists(path) for path in ("/dev/nvidia0", "/dev/dxg"))  # noqa: PTH110 - device nodes


def run_worker(settings: Settings, *, config: str | None) -> int:
    """Run until SIGTERM; the running job is finished first (Celery's warm shutdown)."""
    warnings.filterwarnings("ignore", message=".*superuser privileges.*")  # containers run as they like
    app = make_worker_app(settings, config=config)
    arguments = [
        "worker",
        "--concurrency=1",
        "--pool=prefork",
        f"--queues={','.join(queues_of(settings))}",
        f"--hostname=medai@{worker_name()}",
        f"--loglevel={settings.log.level}",
        "--without-gossip",
        "--without-mingle",
    ]
    app.worker_main(arguments)
    return 0
