"""The Celery side of a worker: one process per GPU slot, messages with an id only.

The parent process consumes and imports no model; its one child loads the models once, announces them in the ledger and
reads jobs. The ledger, not Celery, decides who has a job (tasks.py). Next: tasks.py.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown, worker_shutting_down

from medai.models.format.own_card import own_card
from medai.router import log as logs
from medai.router.errors import MedaiError, TemporaryError
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced, Fleet, OwnCard
from medai.router.orthanc.client import Orthanc
from medai.router.queue.broker import COMPARE_TASK, TASK, make_celery
from medai.router.settings import load as configuration
from medai.router.settings.outside import VERSION
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import open_tracer

if TYPE_CHECKING:
    from medai.models.format.bundle import Description
    from medai.models.registry import Registry
    from medai.workers.load import Load

HEARTBEAT_S = 5.0
log = structlog.get_logger(__name__)


@dataclass
class _Child:
    """What the child process holds; Celery gives us no better place than the module."""

    runner: Any = None
    edits: Any = None
    stop: threading.Event | None = None
    scratch: Any = None


_child = _Child()


def make_worker_app(settings: Settings, *, config: str | None) -> Celery:
    """The Celery application with its two tasks; ``config`` is where the child reads the settings again."""
    app = make_celery(settings.broker)
    app.conf.worker_proc_alive_timeout = 300.0  # loading a model takes longer than Celery's four seconds
    app.task(_read, name=TASK)
    app.task(_compare, name=COMPARE_TASK)

    def keep_our_logs(**_kwargs: Any) -> None:
        """Celery configures no logging of its own."""

    def start(**_kwargs: Any) -> None:
        start_child(configuration.load(config))

    def stop(**_kwargs: Any) -> None:
        stop_child()

    def pass_on(**_kwargs: Any) -> None:
        stop_children()

    setup_logging.connect(keep_our_logs, weak=False)
    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(stop, weak=False)
    worker_shutting_down.connect(pass_on, weak=False)
    return app


def stop_children() -> None:
    """Tell the reading process that this worker stops: it finishes its job, or hands it back in time."""
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
        os.kill(int(pid), signal.SIGTERM)


def _read(job_id: str) -> None:
    """The task: everything else is in the ledger."""
    try:
        _child.scratch.tidy()
        _child.runner.read(job_id)
    except MedaiError as error:
        # The ledger itself is away: the lease runs out and the sweeper sends the job again.
        log.warning("job_left", job=job_id, reason=logs.describe(error))


def _compare(edit_id: int) -> None:
    """The task that compares what a reader made of a result."""
    try:
        _child.scratch.tidy()
        _child.edits.compare(edit_id)
    except MedaiError as error:
        log.warning("edit_left", edit=edit_id, reason=logs.describe(error))  # the sweeper sends it again


def start_child(settings: Settings) -> None:
    """Load what a job needs, once, and say so in the ledger."""
    from medai.workers.feedback.runner import EditRunner
    from medai.workers.load import Load
    from medai.workers.process import registry_of  # torch is imported in the child only
    from medai.workers.scratch import Scratch
    from medai.workers.tasks import JobRunner

    logs.configure(level=settings.log.level, style=settings.log.format, process="worker")
    registry = registry_of(settings)
    _child.scratch = Scratch(
        Path(settings.worker.scratch or tempfile.gettempdir()), limit_gb=settings.worker.scratch_max_gb
    )
    _child.scratch.open()
    ledger = Ledger(settings.ledger.url)
    name = worker_name()
    preload(registry, settings)
    cards = [_card(registry, description) for description in registry.describe()]
    cards = [*(card for card in cards if card.name not in settings.outside), *outside_cards(settings)]
    versions = {card.name: card.version for card in cards if card.available}
    _child.runner = JobRunner(
        settings,
        orthanc=Orthanc(settings.orthanc),
        ledger=ledger,
        models=registry,
        worker=name,
        versions=versions,
        tracer=open_tracer(settings.tracing, ledger.database, process="worker", instance=name),
    )
    _child.edits = EditRunner(settings, orthanc=_child.runner.orthanc, ledger=ledger, stopping=_child.runner.stopping)
    _announce(ledger.fleet, cards)
    device = device_name()
    _child.stop = threading.Event()
    beat = threading.Thread(
        target=_beat,
        args=(ledger.fleet, name, queues_of(settings), device, versions, Load(_child.scratch.root), _child.stop),
        name="heartbeat",
        daemon=True,
    )
    beat.start()
    signal.signal(signal.SIGTERM, lambda *_: _wind_down(settings.worker.stop_s))
    log.info("worker_ready", worker=name, device=device, queues=queues_of(settings))


def _card(registry: Registry, model: Description) -> Announced:
    """What the ledger keeps of a model; of one that can't run, whose version is not known, no card."""
    own = None
    if model.card is not None:
        own = OwnCard(**asdict(own_card(registry.folder(model.name), model.card.fingerprint)))
    return Announced(
        name=model.name, version=model.version, available=model.available, reason=model.reason, own=own
    )  # fmt: skip


def outside_cards(settings: Settings) -> list[Announced]:
    """AI outside, to which every worker can send; a model of ours of the same name is hidden by it."""
    return [Announced(name=name, version=VERSION, available=True, reason="") for name in settings.outside]


def _announce(fleet: Fleet, cards: list[Announced]) -> None:
    """Say which models are here; a ledger that is away is waited for: a worker without it can do nothing."""
    while True:
        try:
            return fleet.announce(cards, time.time())
        except TemporaryError as error:
            log.warning("ledger_unreachable", reason=str(error))
            time.sleep(2.0)


def _wind_down(patience_s: float) -> None:
    """Begin nothing more; a job that does not end in time is handed back, and this process ends."""
    if _child.runner.stopping.is_set():
        return
    _child.runner.stopping.set()

    def out_of_time() -> None:
        if _child.runner.current is None:
            return
        _child.runner.hand_back()
        _child.runner.tracer.close()
        _child.scratch.close()
        os._exit(0)  # the native code of a model can't be interrupted, and nothing of the job counts any more

    timer = threading.Timer(patience_s, out_of_time)
    timer.daemon = True
    timer.start()


def preload(registry: Any, settings: Settings) -> None:
    """Load the routed models before the first study waits for them."""
    from medai.models.errors import ModelFailed, ModelUnavailable

    for name in sorted({route.model for route in settings.routes} - settings.outside.keys()):
        try:
            registry.load(name)
            if settings.worker.guard != "off" and registry.guard(name) is not None:
                registry.classifier()
        except (ModelUnavailable, ModelFailed) as error:
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
        _child.scratch.close()
        _child.runner.tracer.close()
        try:
            _child.runner.ledger.fleet.worker_gone(_child.runner.worker)
        except MedaiError as error:
            log.warning("not_signed_off", reason=logs.describe(error))


def _beat(
    fleet: Fleet,
    name: str,
    queues: list[str],
    device: str,
    versions: dict[str, str],
    load: Load,
    stop: threading.Event,
) -> None:
    started = time.time()
    while True:
        held = _child.runner.current
        try:
            fleet.worker_seen(
                name,
                queues=queues,
                device=device,
                started_at=started,
                job_id=held.job_id if held else None,
                now=time.time(),
                models=versions,
                alarm=_child.runner.alarm,
                load={**load.look(), **_traced()},
            )
        except MedaiError as error:
            log.warning("heartbeat_failed", reason=logs.describe(error))
        _require_small_scratch()
        if stop.wait(HEARTBEAT_S):
            return


def _traced() -> dict[str, float]:
    """What the router's metrics tell of this worker's traces; nothing where there are none."""
    counts = _child.runner.tracer.counts()
    return {"trace_spans_lost": float(counts["lost"])} if counts else {}


def _require_small_scratch() -> None:
    """A worker whose temporary files outgrow their bound gives its job back as crashed, and starts afresh."""
    try:
        _child.scratch.check()
    except TemporaryError as error:
        log.error("scratch_full", reason=str(error))
        _child.runner.hand_back(reason=str(error), crashed=True)
        _child.runner.tracer.close()
        _child.scratch.close()
        os._exit(1)
    except OSError as error:  # a file went while it was counted
        log.debug("scratch_not_counted", reason=logs.describe(error))


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
    """Run until SIGTERM; the running job is finished first, or handed back when it takes too long."""
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
