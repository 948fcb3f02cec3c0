"""The router's process: stand by until it leads, then run the parts that the settings name; stop them in order.

Next: leader.py (which of several routers leads), loop.py (the loop), delivery/courier.py (the deliveries).
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog

from medai.router import log as logs
from medai.router.announcements.listener import AnnouncementListener
from medai.router.audit.exporter import AuditExporter, Figures
from medai.router.daemon.leader import Leadership
from medai.router.daemon.loop import Router
from medai.router.delivery.courier import Courier
from medai.router.errors import BrokerUnreachable, MedaiError, OrthancRefused, PermanentError, TemporaryError
from medai.router.hl7.listener import OrderListener
from medai.router.hl7.orders_in import OrderMessage
from medai.router.hl7.patients import Patient, dicom_patient
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.persons import Person
from medai.router.intake.watch_folder import WatchFolder
from medai.router.ledger import Ledger, migrated
from medai.router.ledger.held_merges import HeldMerges
from medai.router.ledger.history import ROUTER
from medai.router.ledger.identities import Identities, Weighing
from medai.router.ledger.orders import Orders
from medai.router.log import Pseudonyms
from medai.router.metrics.collector import Parts
from medai.router.metrics.page import MetricsServer
from medai.router.orthanc.client import Orthanc
from medai.router.orthanc.recode import recode
from medai.router.queue.dispatch import Dispatcher
from medai.router.queue.sweeper import LeaseWatch, Sweeper
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer, Tracer, open_tracer, require
from medai.router.version import program_version
from medai.router.workitems.performer import WorkitemPerformer

log = structlog.get_logger(__name__)


def on_orders(orders: Orders, clock: Callable[[], float]) -> Callable[[Sequence[OrderMessage]], None]:
    """What the HL7 listener does with the orders of a message: write them to the ledger; their studies are looked at
    again."""

    def take(messages: Sequence[OrderMessage]) -> None:
        fresh = orders.take(messages, clock())
        for message in messages:
            log.info("order", action=message.action, priority=message.order.priority.name)
        log.info("orders", of_message=len(messages), new=fresh)

    return take


class TakePatients(Protocol):
    """Follows what one ADT says; ``vouched``: a person released its merges."""

    def __call__(self, messages: Sequence[PatientMessage], *, vouched: bool = False) -> None: ...


def on_patient(
    identities: Identities, orthanc: Orthanc, settings: Settings, clock: Callable[[], float]
) -> TakePatients:
    """What the HL7 listener does with an ADT: what is kept follows, and the archive where it shall.

    The RIS has its acknowledgement when all of that is done: where the archive is away it is told to send again.
    """

    def take(messages: Sequence[PatientMessage], *, vouched: bool = False) -> None:
        weighing = Weighing(
            rule=settings.hl7_in.merges, seen=_seen(orthanc, messages, settings), vouched=vouched,
            unstated=settings.ris.receiving_facility,
        )  # fmt: skip
        changed = identities.patient_changed(messages, clock(), weighing)
        if settings.orthanc.follow_patient_updates:
            for message in changed.told:
                for study in orthanc.studies_of(message.prior_id or message.patient_id):
                    recode(orthanc, study, dicom_patient(message), RECODE_S)
        for kind in sorted({message.kind for message in changed.told}):
            log.info("patient", change=kind, orders=changed.orders, results_waiting=changed.messages)

    return take


def _seen(orthanc: Orthanc, messages: Sequence[PatientMessage], settings: Settings) -> list[tuple[Patient, Person]]:
    """Whom the archive's images name under the identifiers that are merged.

    Where it is away and need not follow, orders and results must do: whatever comes under the prior identifier is held
    against the merge again.
    """
    if settings.hl7_in.merges == "all":
        return []
    numbers = dict.fromkeys(number for each in messages if each.prior_id for number in (each.prior_id, each.patient_id))
    try:
        found = {number: orthanc.patient(number) for number in numbers}
    except (TemporaryError, OrthancRefused):
        if settings.orthanc.follow_patient_updates:
            raise
        return []
    return [
        (
            Patient.of(number, tags.get("IssuerOfPatientID", "")),
            Person(
                name=tags.get("PatientName", ""), birth_date=tags.get("PatientBirthDate", ""),
                sex=tags.get("PatientSex", ""),
            ),
        )
        for number, tags in found.items()
        if tags
    ]  # fmt: skip


def follow_released(held: HeldMerges, take: TakePatients) -> None:
    """Follow the merges that a person released, in the ledger and in the archive."""
    for number, message in held.to_follow():
        try:
            take([message], vouched=True)
        except TemporaryError:
            return  # the archive is away, which the loop says: it stays released, and is tried again
        except PermanentError as error:  # the ledger has followed by then: the archive can't
            log.warning("merge_not_followed", merge=number, reason=logs.describe(error))
        held.followed(number)


RECODE_S = 300.0
"""Longest time for one study of the archive to get other patient data."""


def run_router(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; everything that was begun is in the ledger by then."""
    require(settings.tracing)
    logs.configure(level=settings.log.level, style=settings.log.format, process="router")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ledger = migrated(Ledger(settings.ledger.url, audit_folder=settings.ledger.audit_folder), stop)
    ledger.database.trail.in_log = True
    with ExitStack() as stack:
        stack.callback(ledger.close)
        leadership = Leadership(ledger.fleet)
        stack.callback(leadership.give)
        tracer = open_tracer(settings.tracing, ledger.database, process="router", instance=socket.gethostname())
        stack.callback(tracer.close)
        note_activity(ledger, "start")
        stack.callback(note_activity, ledger, "stop")
        log.info("router_started", version=program_version(), routes=[route.name for route in settings.routes])
        serve(settings, ledger, leadership, stop, tracer)
    log.info("router_stopped")
    return 0


def note_activity(ledger: Ledger, what: str) -> None:
    """Write down that this router starts or stops. A ledger that is away just then is no reason not to."""
    try:
        ledger.accounts.note_action(ROUTER, what, time.time(), detail=f"on {socket.gethostname()}")
    except MedaiError as error:
        log.warning("activity_not_noted", what=what, reason=logs.describe(error))


def serve(
    settings: Settings, ledger: Ledger, leadership: Leadership, stop: threading.Event, tracer: Tracer | None = None
) -> None:
    """Stand by until this router leads, lead until told to stop or another leads, and again."""
    now: list[Router] = []
    answers: Counter[str] = Counter()
    turned_away = TurnedAway()
    pruned: Counter[str] = Counter()
    audited = Figures()
    with ExitStack() as outer:
        broker = Dispatcher(settings.broker)
        outer.callback(broker.close)
        page = Door(
            lambda: metrics_page(settings, ledger, now, broker, tracer, answers, turned_away, pruned, audited),
            name="metrics",
        )
        outer.callback(page.close)
        page.open()
        while not stop.is_set() and leadership.win(stop):
            try:
                with ExitStack() as leading:
                    router = build(
                        settings,
                        ledger,
                        leading,
                        leads=lambda: leadership.leads,
                        doors=[page],
                        tracer=tracer,
                        answers=answers,
                        turned_away=turned_away,
                        pruned=pruned,
                        audited=audited,
                    )
                    now[:] = [router]
                    leading.callback(now.clear)
                    router.run(stop)
            except TemporaryError as error:  # the ledger was there a moment ago
                log.warning("waiting", reason=logs.describe(error))
                stop.wait(1.0)
            leadership.give()


@dataclass(frozen=True, kw_only=True)
class TurnedAway:
    """Who was not let in at which port, by reason."""

    orders: Counter[str] = field(default_factory=Counter)
    announcements: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[tuple[str, str], int]:
        """(port, reason) -> how many."""
        ports = {"orders": self.orders, "announcements": self.announcements}
        return {(port, reason): count for port, found in ports.items() for reason, count in found.items()}


class Door:
    """A port of this process. One that another process holds is no reason to end: it is tried again."""

    def __init__(self, make: Callable[[], Any], *, name: str) -> None:
        self._make = make
        self._name = name
        self._part: Any = None
        self._told = False

    def open(self) -> bool:
        """Whether it is open now."""
        if self._part is not None:
            return True
        try:
            part = self._make()
            if part is not None:
                part.start()
                self._part = part
        except OSError as error:
            if not self._told:
                reason = f"{error.strerror or type(error).__name__}: does another router run here? Tried again"
                log.error("port_not_opened", port_of=self._name, reason=reason)
            self._told = True
            return False
        return True

    def close(self) -> None:
        """Close it."""
        part, self._part = self._part, None
        if part is not None:
            part.stop()


def metrics_page(
    settings: Settings,
    ledger: Ledger,
    now: list[Router],
    broker: Dispatcher,
    tracer: Tracer | None = None,
    answers: Counter[str] | None = None,
    turned_away: TurnedAway | None = None,
    pruned: Counter[str] | None = None,
    audited: Figures | None = None,
) -> MetricsServer | None:
    """The page of figures; while this router stands by it is healthy and not ready. ``answers``: the listener's."""
    if not settings.metrics.port:
        return None

    def broker_up() -> bool:
        try:
            broker.ping()
        except BrokerUnreachable:
            return False
        return True

    return MetricsServer(
        settings.metrics,
        ledger,
        parts=Parts(
            orthanc_up=lambda: bool(now) and now[0].orthanc_up,
            broker_up=broker_up,
            leads=lambda: bool(now),
            spans=(tracer or NoTracer()).counts,
            hl7=lambda: dict(answers or {}),
            turned_away=(turned_away or TurnedAway()).counts,
            pruned=lambda: dict(pruned or {}),
            audit=(audited or Figures()).told,
        ),
        heartbeat=lambda: now[0].heartbeat if now else 0.0,
        routes=[route.name for route in settings.routes],
        objectives=settings.objectives,
        version=program_version(),
    )


def build(
    settings: Settings,
    ledger: Ledger,
    stack: ExitStack,
    *,
    leads: Callable[[], bool] = lambda: True,
    doors: Sequence[Door] = (),
    tracer: Tracer | None = None,
    answers: Counter[str] | None = None,
    turned_away: TurnedAway | None = None,
    pruned: Counter[str] | None = None,
    audited: Figures | None = None,
) -> Router:
    """The loop and the parts beside it (orders, announcements, watch folder, courier, workitems); ``stack`` stops them.

    ``doors`` are the caller's: the loop keeps trying to open them, too. ``answers`` and ``turned_away``: where the
    listeners count; ``pruned``: where the loop does.
    """
    counted = turned_away or TurnedAway()
    orthanc = Orthanc(settings.orthanc)
    dispatcher = Dispatcher(settings.broker)
    stack.callback(orthanc.close)
    stack.callback(dispatcher.close)
    names = Pseudonyms(settings.log.key.get_secret_value() or ledger.log_key())
    sweeper = Sweeper(
        ledger,
        dispatcher,
        clock=time.time,
        max_crashes=settings.worker.max_attempts,
        watch=LeaseWatch(settings.worker.lease_s),
        longest_s=settings.worker.retry_max_s,
        tracer=tracer,
    )
    own = []
    take_patient = on_patient(ledger.identities, orthanc, settings, time.time)
    if settings.hl7_in.enabled:
        take_orders = on_orders(ledger.orders, time.time)
        listen = partial(
            OrderListener,
            settings.hl7_in,
            take_orders,
            on_patient=take_patient,
            answers=answers,
            turned_away=counted.orders,
        )
        own.append(Door(listen, name="orders"))
    if settings.announcements.port:
        announced = partial(
            AnnouncementListener, settings.announcements, ledger.announcements, time.time, counted.announcements
        )
        own.append(Door(announced, name="announcements"))
    if settings.watch_folder.path:
        folder = settings.watch_folder
        own.append(Door(lambda: WatchFolder(folder, lambda data: upload(orthanc, data)), name="watch folder"))
    for door in own:
        stack.callback(door.close)
        door.open()
    courier = Courier(settings, ledger.deliveries, orthanc, leads=leads, tracer=tracer)
    courier.start()
    stack.callback(courier.stop)
    exporter = AuditExporter(
        settings.audit, ledger.audit, ledger.deliveries, orthanc, leads=leads, figures=audited
    )  # fmt: skip
    exporter.start()
    stack.callback(exporter.stop)
    if settings.workitems.url:
        performer = WorkitemPerformer(settings, ledger.workitems, orthanc, names, leads=leads)
        performer.start()
        stack.callback(performer.stop)
    return Router(
        settings,
        orthanc=orthanc,
        ledger=ledger,
        sweeper=sweeper,
        names=names,
        leads=leads,
        doors=[*own, *doors],
        follow_merges=lambda: follow_released(ledger.held_merges, take_patient),
        tracer=tracer,
        pruned=pruned,
    )


def upload(orthanc: Orthanc, data: bytes) -> None:
    """Store one DICOM file in Orthanc."""
    orthanc.store(data)
