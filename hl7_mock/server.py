"""The mock RIS as one process: MLLP listener, order sender, HTTP; started and stopped together.

Both ports are bound before anything starts, so that "ready" is true once it is said. Next: receiver.py, web.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvicorn

from medai.hl7_mock.dicom_server import DicomServer
from medai.hl7_mock.faults import Faults
from medai.hl7_mock.inbox import Inbox
from medai.hl7_mock.mllp import Limits, MllpServer
from medai.hl7_mock.mpps import StepBook
from medai.hl7_mock.order_sender import Destination, OrderSender
from medai.hl7_mock.orders import OrderBook
from medai.hl7_mock.patients import PatientBook
from medai.hl7_mock.receiver import ResultReceiver
from medai.hl7_mock.refusals import Refusals
from medai.hl7_mock.reports import ReportBook
from medai.hl7_mock.ris import Ris
from medai.hl7_mock.storage import lock_folder
from medai.hl7_mock.web import make_app

log = structlog.get_logger()


class PortTakenError(RuntimeError):
    """A port cannot be had; the text says which and what to do."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What one mock RIS is started with."""

    data: Path
    host: str = "127.0.0.1"
    mllp_port: int = 2576
    http_port: int = 8090
    router: Destination
    dicom_port: int | None = None
    """Worklist and performed procedure steps; None: off."""
    ae_title: str = "MEDAI_RIS"
    ehr: Destination | None = None
    """Where final reports go."""
    imaging_orders: bool = False
    """Orders go as OMI^O23 instead of ORM^O01."""
    accept_unsolicited: bool = True
    accept_merged: bool = False
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None
    page_tls: ssl.SSLContext | None = None
    dicom_tls: ssl.SSLContext | None = None


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: ``serve`` below handles signals for all parts."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket; raises PortTakenError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is in use: stop the program that uses it"
        else:
            reason = f"cannot be opened ({error.strerror})"
        raise PortTakenError(f"port {port} on {host} {reason}, or choose another with {option}") from error
    listener.setblocking(False)
    return listener


def make_ris(config: Config, clock: Callable[[], float] = time.time) -> Ris:
    """Read the folder and put the parts together; starts nothing."""
    inbox, refusals, faults = Inbox(config.data), Refusals(config.data), Faults()
    patients = PatientBook(config.data, clock)
    book = OrderBook(config.data, clock, patients.follow, imaging=config.imaging_orders)
    reports = ReportBook(config.data, clock, send=config.ehr is not None)
    receiver = ResultReceiver(
        inbox=inbox,
        refusals=refusals,
        book=book,
        patients=patients,
        faults=faults,
        clock=clock,
        accept_unsolicited=config.accept_unsolicited,
        accept_merged=config.accept_merged,
    )
    return Ris(
        inbox=inbox,
        refusals=refusals,
        book=book,
        patients=patients,
        faults=faults,
        receiver=receiver,
        mllp=MllpServer(receiver, limits=config.limits, tls=config.tls),
        sender=OrderSender(book, config.router, clock),
        patient_sender=OrderSender(patients, config.router, clock),
        steps=StepBook(config.data, clock),
        reports=reports,
        report_sender=OrderSender(reports, config.ehr, clock) if config.ehr else None,
        clock=clock,
    )


async def serve(config: Config, *, stop: asyncio.Event) -> None:
    """Run until ``stop`` is set; raises PortTakenError, storage.FolderInUseError, OSError."""
    with contextlib.ExitStack() as held:
        held.enter_context(lock_folder(config.data))
        mllp_socket = held.enter_context(bind(config.host, config.mllp_port, "--mllp-port"))
        http_socket = held.enter_context(bind(config.host, config.http_port, "--http-port"))
        ris = make_ris(config)
        ris.mllp_address = _address(mllp_socket)
        ris.router_address = f"{config.router.host}:{config.router.port}"
        held.enter_context(_dicom(config, ris))
        async with _http(ris, http_socket, config.page_tls):
            await ris.mllp.start(mllp_socket)
            senders = [ris.sender, ris.patient_sender, *([ris.report_sender] if ris.report_sender else [])]
            for sender in senders:
                sender.resume()
            log.info("ris_ready", mllp=_address(mllp_socket), http=_address(http_socket), messages=len(ris.inbox))
            await stop.wait()
            log.info("ris_stopping")
            for sender in senders:
                await sender.stop()
            await ris.mllp.stop()
    log.info("ris_stopped")


@contextlib.contextmanager
def _dicom(config: Config, ris: Ris) -> Iterator[None]:
    if config.dicom_port is None:
        yield
        return
    server = DicomServer(ris.book, ris.steps, ae_title=config.ae_title)
    try:
        server.start(config.host, config.dicom_port, config.dicom_tls)
    except OSError as error:
        where = f"port {config.dicom_port} on {config.host}"
        text = f"{where} cannot be opened ({error.strerror}): choose another with --dicom-port"
        raise PortTakenError(text) from error
    ris.dicom_address = f"{config.ae_title}@{config.host}:{config.dicom_port}"
    try:
        yield
    finally:
        server.stop()


async def serve_until_signal(config: Config) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, stop=stop)


@contextlib.asynccontextmanager
async def _http(ris: Ris, listener: socket.socket, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    settings = uvicorn.Config(
        make_app(ris),
        http="h11",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
    )
    server = _HttpServer(settings)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
