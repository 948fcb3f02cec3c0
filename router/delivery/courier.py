"""Bring what the ledger owes to its destinations: the archive, DICOM nodes, DICOMweb and FHIR servers, and the RIS.

One thread for each destination, so that one that is away or slow holds up no other. Each delivery is a row of the
ledger with its bytes: nothing is encoded, and no model runs, a second time. A destination that does not answer opens
its circuit breaker; a message that is refused for good is parked, and the next one goes. Next: ledger/deliveries.py
(the rows), breaker.py, ris.py.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from medai.router.contract import ARCHIVE, RIS
from medai.router.delivery import fhir, ris, web
from medai.router.delivery.breaker import LONGEST_S, Breaker
from medai.router.delivery.dicom_node import DicomNode
from medai.router.delivery.objects import ObjectCarrier, Received, StowServer
from medai.router.errors import MedaiError, PermanentError, RisBusy, TemporaryError
from medai.router.ledger.deliveries import Deliveries, Delivery, Gate
from medai.router.log import describe
from medai.router.orthanc.client import Orthanc
from medai.router.settings.destinations import Destination, FhirDestination, StowDestination, WebServer
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer, Tracer

Carrier = Callable[[Delivery], str | Received]
"""Takes one delivery to its destination and returns the receipt; raises TemporaryError or PermanentError."""
REFUSALS = 5
"""A message that is refused for now this often, while others are taken, is refused for good."""
BACK_OFF_S = 2.0
BACK_OFF_MAX_S = 30.0
LOOK_S = 5.0
"""How often to look for what is owed to nobody that is known."""
log = structlog.get_logger(__name__)


class Desk:
    """The deliveries of one destination; ``work`` is one round."""

    def __init__(
        self,
        name: str,
        carry: Carrier,
        deliveries: Deliveries,
        *,
        give_up_s: float,
        longest_s: float = BACK_OFF_MAX_S,
        protocol: str = "",
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``longest_s``: what this destination may ask to be left alone for."""
        self.name = name
        self._carry = carry
        self._deliveries = deliveries
        self._give_up_s = give_up_s
        self._longest_s = longest_s
        self._clock = clock
        self._protocol = protocol
        self._tracer = tracer or NoTracer()
        self._breaker = Breaker()
        self._taken_at = -math.inf
        self._refused_at: dict[int, float] = {}
        self._trouble = False

    def resume(self) -> None:
        """Take up the circuit breaker, and what was put off, as the last courier left them."""
        self._trouble = True
        gate = self._deliveries.gate(self.name)
        if gate is not None and gate.open:
            self._breaker = Breaker(
                failures=gate.failures, since=gate.since, next_try_at=gate.next_try_at, reason=gate.reason
            )

    def work(self, leads: Callable[[], bool] = lambda: True) -> int:
        """Deliver what is due; returns how many were received."""
        if not self._breaker.may_try(self._clock()):
            return 0
        due = self._deliveries.due(self.name, self._clock(), longest_s=self._longest_s)
        if self._breaker.open:  # one probe, and not always the same one: it may be the message that breaks the peer
            due = sorted(due, key=lambda item: item.attempts)[:1]
        received = 0
        for delivery in due:
            began = self._clock()
            if not leads() or not self._deliveries.begin_try(delivery, began):
                break
            received += self._deliver(delivery)
            self._tracer.delivered(delivery, protocol=self._protocol, began=began, ended=self._clock())
            if self._breaker.open:
                break
        return received

    def _deliver(self, delivery: Delivery) -> bool:
        try:
            answer = self._carry(delivery)
        except PermanentError as error:
            self._answered()
            self._park(delivery, str(error))
            return False
        except RisBusy as error:
            self._answered()
            self._refused_for_now(delivery, error)
            return False
        except TemporaryError as error:
            self._away(delivery, error)
            return False
        except Exception as error:  # a fault of ours costs this delivery a retry, not the others theirs
            log.error("unexpected_error", job=delivery.job_id, destination=self.name, exc_info=error)
            text = f"an unexpected error stopped the delivery ({describe(error)})"
            self._refused_for_now(delivery, TemporaryError(text))
            return False
        now = self._clock()
        if isinstance(answer, Received):
            self._deliveries.delivered(delivery, answer.receipt, now, keep=answer.keep)
        else:
            self._deliveries.delivered(delivery, answer, now)
        self._taken_at = now
        self._refused_at.pop(delivery.id, None)
        self._answered()
        log.info("delivered", job=delivery.job_id, destination=self.name)
        return True

    def _answered(self) -> None:
        if self._breaker.failures:
            was_open = self._breaker.open
            self._set(self._breaker.worked(self._clock()))
            if was_open:
                log.info("destination_is_back", destination=self.name)
        if self._trouble:
            self._deliveries.hurry(self.name)
            self._trouble = False

    def _set(self, breaker: Breaker) -> None:
        self._breaker = breaker
        gate = Gate(
            name=self.name, open=breaker.open, failures=breaker.failures, since=breaker.since,
            next_try_at=breaker.next_try_at, reason=breaker.reason,
        )  # fmt: skip
        self._deliveries.set_gate(gate)

    def _away(self, delivery: Delivery, error: TemporaryError) -> None:
        now = self._clock()
        self._trouble = True
        was_open = self._breaker.open
        if not self._gave_up(delivery, str(error)):
            wait_s = error.retry_after_s or min(LONGEST_S, back_off_s(delivery.attempts))  # a probe must find one due
            self._deliveries.put_off(delivery, str(error), next_try_at=now + wait_s, refused=False, now=now)
        self._set(self._breaker.failed(now, str(error)))
        if self._breaker.open and not was_open:
            log.warning("destination_away", destination=self.name, reason=str(error))

    def _refused_for_now(self, delivery: Delivery, error: TemporaryError) -> None:
        now = self._clock()
        log.warning("delivery_refused", job=delivery.job_id, destination=self.name, reason=str(error))
        first_at = self._refused_at.setdefault(delivery.id, now)
        if delivery.refusals + 1 >= REFUSALS and self._taken_at > first_at:
            self._park(delivery, f"{error}, {delivery.refusals + 1} times, while other messages were accepted")
        elif not self._gave_up(delivery, str(error)):
            wait_s = error.retry_after_s or back_off_s(delivery.refusals)
            self._deliveries.put_off(delivery, str(error), next_try_at=now + wait_s, refused=True, now=now)

    def _gave_up(self, delivery: Delivery, reason: str) -> bool:
        waited_s = self._clock() - delivery.since
        if waited_s < self._give_up_s:
            return False
        self._park(delivery, f"given up after {waited_s / 3600:.0f} h: {reason}")
        return True

    def _park(self, delivery: Delivery, reason: str) -> None:
        self._refused_at.pop(delivery.id, None)
        if self._deliveries.park(delivery, reason, self._clock()):
            log.warning("delivery_parked", job=delivery.job_id, destination=self.name, reason=reason)
        else:
            log.info("delivery_changed_under_way", job=delivery.job_id, destination=self.name, reason=reason)


def back_off_s(tries: int) -> float:
    """2, 4, 8 … at most 30 seconds."""
    return float(min(BACK_OFF_MAX_S, BACK_OFF_S * 2 ** min(tries, 16)))


class Courier:
    """All desks, each in a thread of its own, while this router leads."""

    def __init__(
        self,
        settings: Settings,
        deliveries: Deliveries,
        orthanc: Orthanc,
        *,
        leads: Callable[[], bool] = lambda: True,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        give_up_s = settings.worker.give_up_h * 3600.0
        self._deliveries = deliveries
        self._clock = clock
        self._leads = leads
        self._poll_s = max(0.05, settings.orthanc.poll_s)
        carriers = carriers_of(settings, deliveries, orthanc)
        self.desks = [
            Desk(
                name,
                carry,
                deliveries,
                give_up_s=give_up_s,
                longest_s=longest_wait_s(settings, name),
                protocol=protocol_of(settings, name),
                tracer=tracer,
                clock=clock,
            )
            for name, carry in carriers.items()
        ]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; ``stop`` ends after the delivery that is under way."""
        rounds = {f"to-{desk.name}": lambda desk=desk: self._run(desk) for desk in self.desks}
        for name, run in {**rounds, "to-nobody": self._run_unknown}.items():
            thread = threading.Thread(target=run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Finish what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def park_unknown(self) -> None:
        """What is owed to a destination that is no longer configured waits for a person."""
        known = {desk.name for desk in self.desks}
        for name in set(self._deliveries.owed_to()) - known:
            for delivery in self._deliveries.due(name, self._clock(), longest_s=0.0, limit=100_000):
                self._deliveries.park(delivery, f"the destination {name!r} is no longer configured", self._clock())

    def _run_unknown(self) -> None:
        """A job may have been made, and read, before its destination was taken out of the settings."""
        while not self._stop.is_set():
            try:
                if self._leads():
                    self.park_unknown()
            except MedaiError as error:
                log.warning("waiting", reason=describe(error))
            self._stop.wait(LOOK_S)

    def round(self) -> int:
        """One round of every desk in this thread (for tests and tools); returns how many were received."""
        return sum(desk.work(self._leads) for desk in self.desks)

    def _run(self, desk: Desk) -> None:
        resumed = False
        while not self._stop.is_set():
            received = 0
            try:
                if not resumed:
                    desk.resume()
                    resumed = True
                if self._leads():
                    received = desk.work(self._leads)
            except MedaiError as error:
                log.warning("waiting", destination=desk.name, reason=describe(error))
                self._stop.wait(1.0)
            except Exception as error:  # a desk that ends would hold its destination up for ever
                log.error("unexpected_error", destination=desk.name, exc_info=error)
                self._stop.wait(LONGEST_S)
            if not received:
                self._stop.wait(self._poll_s)


def protocol_of(settings: Settings, name: str) -> str:
    """How results go to a destination: rest (Orthanc's own API), hl7, fhir, dicomweb or dicom."""
    if name in (ARCHIVE, RIS):
        return {ARCHIVE: "rest", RIS: "hl7"}[name]
    destination = settings.destinations.get(name)
    if isinstance(destination, FhirDestination):
        return "fhir"
    return "dicomweb" if isinstance(destination, StowDestination) else "dicom"


def longest_wait_s(settings: Settings, name: str) -> float:
    """How long a destination may ask to be left alone: servers that speak HTTP say so (Retry-After)."""
    is_web = isinstance(settings.destinations.get(name), WebServer)
    return web.RETRY_AFTER_MAX_S if is_web else BACK_OFF_MAX_S


def carriers_of(settings: Settings, deliveries: Deliveries, orthanc: Orthanc) -> Mapping[str, Carrier]:
    """Destination -> who carries to it."""
    carriers: dict[str, Carrier] = {
        ARCHIVE: lambda delivery: to_archive(delivery, deliveries, orthanc),
        RIS: lambda delivery: ris.send_oru(delivery.payload or b"", delivery.control_id, settings.ris),
    }
    for name, destination in settings.destinations.items():
        carriers[name] = _carrier(name, destination, deliveries, orthanc)
    return carriers


def _carrier(name: str, destination: Destination, deliveries: Deliveries, orthanc: Orthanc) -> Carrier:
    if isinstance(destination, FhirDestination):
        return lambda delivery: fhir.send(delivery.payload or b"", destination, name=name)
    way = (
        StowServer(orthanc, destination, name)
        if isinstance(destination, StowDestination)
        else DicomNode(orthanc, destination)
    )
    return ObjectCarrier(way, destination, deliveries, orthanc)


def to_archive(delivery: Delivery, deliveries: Deliveries, orthanc: Orthanc) -> str:
    """Store the kept objects; what is there already is taken for stored (the same bytes under the same UIDs).

    A withdrawal deletes them; what is gone already is taken for deleted.
    """
    if delivery.kind == "withdrawal":
        for name in deliveries.result_ids(delivery.job_id):
            orthanc.delete("instances", name)
        return "deleted"
    for kind, content in deliveries.kept_objects(delivery.job_id):
        orthanc.store_result(kind, content)
    return "stored"
