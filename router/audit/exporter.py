"""Bring the audit trail to its receivers, while this router leads: each line at least once, in order.

One thread for each receiver, with a cursor in the ledger; so a receiver that is away holds up neither the other nor any
work, and what it missed goes when it is back. A receiver that refuses a line holds its cursor until a person has put
that right: a line is never passed over. Next: events.py (what a line means), syslog.py, fhir_event.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from medai.router.audit import fhir_event, syslog
from medai.router.audit.dicom_message import Reporter, syslog_line
from medai.router.audit.events import AuditedEvent
from medai.router.audit.whose import Archive, Whose
from medai.router.delivery import fhir
from medai.router.errors import MedaiError
from medai.router.ledger.audit_lines import PAGE, AuditFigure, AuditLines
from medai.router.ledger.deliveries import Deliveries, Gate
from medai.router.log import describe
from medai.router.settings.audit import FHIR, SYSLOG, AuditSettings

FIRST_S, LONGEST_S = 2.0, 60.0
"""First and longest pause after a failure."""
AT_ONCE = -1.0
"""More waits."""
log = structlog.get_logger(__name__)


class Receiver(Protocol):
    """Somebody who takes the trail."""

    @property
    def name(self) -> str:
        """As the ledger, the metrics and people know it."""
        ...

    def send(self, audited: Sequence[AuditedEvent]) -> None:
        """All of them, in order; raises MedaiError where it is not sure that all were taken."""
        ...


@dataclass(frozen=True, kw_only=True)
class SyslogReceiver:
    """DICOM audit messages by syslog over TLS."""

    settings: AuditSettings
    reporter: Reporter
    name: str = SYSLOG

    def send(self, audited: Sequence[AuditedEvent]) -> None:
        """One connection for all."""
        syslog.send([syslog_line(event, self.reporter) for event in audited], self.settings.syslog)


@dataclass(frozen=True, kw_only=True)
class FhirReceiver:
    """AuditEvents to a FHIR server."""

    settings: AuditSettings
    reporter: Reporter
    name: str = FHIR

    def send(self, audited: Sequence[AuditedEvent]) -> None:
        """One transaction for all."""
        own = self.settings.fhir
        payload = fhir_event.bundle(audited, self.reporter, own.patient_system)
        fhir.send(payload, own.destination, name=self.name)


def reporter_of(settings: AuditSettings) -> Reporter:
    """Who we are to the receivers."""
    return Reporter(source=settings.source, site=settings.site)


def receivers_of(settings: AuditSettings) -> tuple[Receiver, ...]:
    """Those that are configured."""
    reporter = reporter_of(settings)
    found: list[Receiver] = []
    if settings.syslog.host:
        found.append(SyslogReceiver(settings=settings, reporter=reporter))
    if settings.fhir.fhir_url:
        found.append(FhirReceiver(settings=settings, reporter=reporter))
    return tuple(found)


class Figures:
    """How it goes with each receiver, shared by who sends and who shows."""

    def __init__(self) -> None:
        self._told: dict[str, AuditFigure] = {}

    def told(self) -> Mapping[str, AuditFigure]:
        """Receiver -> how it goes."""
        return dict(self._told)

    def tell(self, receiver: str, figure: AuditFigure) -> None:
        """How it goes now."""
        self._told[receiver] = figure


class Line:
    """The way to one receiver; ``work`` is one round."""

    def __init__(
        self,
        receiver: Receiver,
        lines: AuditLines,
        deliveries: Deliveries,
        whose: Whose,
        figures: Figures,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.receiver = receiver
        self._lines = lines
        self._deliveries = deliveries
        self._whose = whose
        self._figures = figures
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._failures_ever = 0

    def work(self) -> float:
        """Send what waits, a page of it; returns how long to let the receiver alone (0: as long as one likes)."""
        name = self.receiver.name
        try:
            sent = self._send_page()
        except MedaiError as error:
            wait_s = self._failed(describe(error))
            self._measure()
            return wait_s
        self._measure()
        if sent and self._failures:
            log.info("audit_receiver_is_back", receiver=name)
            self._failures = 0
            self._deliveries.set_gate(_gate(name))
        return 0.0 if sent < PAGE else AT_ONCE

    def forget_trouble(self) -> None:
        """What an earlier process said of this receiver holds no longer."""
        gate = self._deliveries.gate(self.receiver.name)
        if gate is not None and gate.open:
            self._failures = 1

    def _send_page(self) -> int:
        """How many went."""
        name = self.receiver.name
        page = self._lines.after(self._lines.cursor(name), limit=PAGE)
        if not page:
            return 0
        self.receiver.send(list(self._whose.events(page)))
        self._lines.has(name, page[-1].id, self._clock())
        log.info("audit_sent", receiver=name, lines=len(page))
        return len(page)

    def _failed(self, reason: str) -> float:
        name, now = self.receiver.name, self._clock()
        if not self._failures:
            self._since = now
            log.warning("audit_receiver_away", receiver=name, reason=reason)
        self._failures += 1
        self._failures_ever += 1
        wait_s = float(min(LONGEST_S, FIRST_S * 2 ** min(self._failures - 1, 16)))
        gate = Gate(
            name=name, open=True, failures=self._failures, since=self._since, next_try_at=now + wait_s, reason=reason
        )
        self._deliveries.set_gate(gate)
        return wait_s

    def _measure(self) -> None:
        lag = self._lines.lag(self.receiver.name)
        figure = AuditFigure(waiting=lag.waiting, oldest_at=lag.oldest_at, failures=self._failures_ever)
        self._figures.tell(self.receiver.name, figure)


class AuditExporter:
    """All receivers, each in a thread of its own, from ``start`` to ``stop``."""

    def __init__(
        self,
        settings: AuditSettings,
        lines: AuditLines,
        deliveries: Deliveries,
        archive: Archive,
        *,
        leads: Callable[[], bool] = lambda: True,
        figures: Figures | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._poll_s = settings.poll_s
        self._leads = leads
        self._deliveries = deliveries
        shared = figures or Figures()
        self.ways = [
            Line(receiver, lines, deliveries, Whose(lines, archive), shared, clock)
            for receiver in receivers_of(settings)
        ]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for way in self.ways:
            thread = threading.Thread(target=self._run, args=(way,), name=way.receiver.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Finish what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, way: Line) -> None:
        begun = False
        while not self._stop.is_set():
            wait_s = 0.0
            try:
                if self._leads():
                    if not begun:
                        way.forget_trouble()
                        begun = True
                    wait_s = way.work()
            except MedaiError as error:  # the ledger
                log.warning("waiting", receiver=way.receiver.name, reason=describe(error))
            except Exception as error:  # a thread that ends would leave the trail here for ever
                log.error("unexpected_error", part=way.receiver.name, exc_info=error)
                wait_s = LONGEST_S
            self._stop.wait(0.0 if wait_s == AT_ONCE else max(wait_s, self._poll_s))


def _gate(name: str) -> Gate:
    return Gate(name=name, open=False, failures=0, since=0.0, next_try_at=0.0, reason="")


def probe(settings: AuditSettings) -> Mapping[str, str]:
    """Receiver -> what is wrong with it; empty text where it answers. No event is sent."""
    out: dict[str, str] = {}
    for receiver in receivers_of(settings):
        try:
            if isinstance(receiver, SyslogReceiver):
                syslog.send([], settings.syslog)
            else:
                fhir.capability(settings.fhir.destination, name=receiver.name)
        except MedaiError as error:
            out[receiver.name] = str(error)
        else:
            out[receiver.name] = ""
    return out
