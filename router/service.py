"""The router's process: build the parts from the settings, run them, stop them in order.

Next: daemon.py (the loop).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version

import structlog

from router import log as logs
from router.daemon import Router
from router.dispatch import Dispatcher
from router.hl7 import OrderMessage
from router.hl7_in import OrderListener
from router.ledger import Ledger, migrated
from router.log import Pseudonyms
from router.metrics import MetricsServer
from router.orthanc import Orthanc
from router.settings import Settings
from router.sweeper import Sweeper
from router.watch_folder import WatchFolder

log = structlog.get_logger(__name__)


def program_version() -> str:
    """The installed version of Med-AI."""
    try:
        return version("med-ai")
    except PackageNotFoundError:
        return "unknown"


def on_order(ledger: Ledger, clock: Callable[[], float]) -> Callable[[OrderMessage], None]:
    """What the HL7 listener does with an order: write it to the ledger, which also raises waiting jobs."""

    def take(message: OrderMessage) -> None:
        status = "cancelled" if message.action == "cancel" else "active"
        # A copy is told by sender, control id and content together: the digest is over all of them.
        fresh = ledger.upsert_order(message.order, status=status, control_id=message.digest[:64], now=clock())
        log.info("order", action=message.action, priority=message.order.priority.name, new=fresh)

    return take


def run_router(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; everything that was begun is in the ledger by then."""
    logs.configure(level=settings.log.level, style=settings.log.format, process="router")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ledger = migrated(Ledger(settings.ledger.url), stop)
    if stop.is_set():
        return 0
    with ExitStack() as stack:
        stack.callback(ledger.close)
        router = build(settings, ledger, stack)
        log.info("router_started", version=program_version(), routes=[route.name for route in settings.routes])
        router.run(stop)
    log.info("router_stopped")
    return 0


def build(settings: Settings, ledger: Ledger, stack: ExitStack) -> Router:
    """The loop and its side doors (orders, watch folder, metrics); ``stack`` stops them."""
    orthanc = Orthanc(settings.orthanc)
    dispatcher = Dispatcher(settings.broker)
    stack.callback(orthanc.close)
    stack.callback(dispatcher.close)
    names = Pseudonyms(settings.log.key.get_secret_value() or ledger.log_key())
    sweeper = Sweeper(ledger, dispatcher, clock=time.time, max_crashes=settings.worker.max_attempts)
    router = Router(settings, orthanc=orthanc, ledger=ledger, sweeper=sweeper, names=names)
    if settings.hl7_in.enabled:
        listener = OrderListener(settings.hl7_in, on_order(ledger, time.time))
        listener.start()
        stack.callback(listener.stop)
    if settings.watch_folder.path:
        folder = WatchFolder(settings.watch_folder, lambda data: upload(orthanc, data))
        folder.start()
        stack.callback(folder.stop)
    if settings.metrics.port:
        server = MetricsServer(
            settings.metrics,
            ledger,
            orthanc_up=lambda: router.orthanc_up,
            heartbeat=lambda: router.heartbeat,
            version=program_version(),
        )
        server.start()
        stack.callback(server.stop)
    return router


def upload(orthanc: Orthanc, data: bytes) -> None:
    """Store one DICOM file in Orthanc."""
    orthanc.store(data)
