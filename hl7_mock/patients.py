"""Patients whom the RIS registers (ADT^A04), updates (A08) or merges (A40), and whose data orders and results follow.

An event is one JSON file with the message that tells it; they are sent one after the other, so a chain of merges
arrives in its order. Orders and results stay on disk as they were made and came: who a patient is today is worked out
from the events, so there is no second truth. Source: HL7 v2.5.1 chapter 3 (3.3.4, 3.3.8, 3.3.40, 3.6.2).
Next: patient_messages.py (what is asked, what is sent), order_sender.py (who sends it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from medai.hl7_mock.order_messages import OrderDetails, OrderRequest, short_id
from medai.hl7_mock.orders import OrderConflictError, Outgoing
from medai.hl7_mock.patient_messages import Person, encode
from medai.hl7_mock.storage import clear_parts, make_private, write_atomic

QUEUE = "patients"
"""All events are one queue to the sender."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class PatientEvent:
    """One registration, update or merge; ``prior_id`` is for a merge alone."""

    number: int
    at: float
    prior_id: str
    person: Person
    message: Outgoing
    registers: bool = False

    @property
    def kind(self) -> str:
        """``register``, ``update`` or ``merge``."""
        return "merge" if self.prior_id else "register" if self.registers else "update"


_ADAPTER = TypeAdapter(PatientEvent)


class PatientBook:
    """All events of one folder, oldest first."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder / "patients"
        self._clock = clock
        self._events: dict[int, PatientEvent] = {}
        self._lock = asyncio.Lock()
        make_private(self._folder)
        clear_parts(self._folder)
        self._load()

    @property
    def events(self) -> tuple[PatientEvent, ...]:
        """Oldest first."""
        return tuple(self._events.values())

    def merged_away(self, patient_id: str) -> bool:
        """Whether this identifier is only a prior one by now."""
        return any(event.prior_id == patient_id for event in self.events)

    def surviving(self, patient_id: str) -> str:
        """The identifier that this patient has today."""
        return self.current(Person(patient_id=patient_id)).patient_id

    def current(self, person: Person, *, since: float = 0.0) -> Person:
        """Who a person of that moment is today: the surviving identifier with the newest data."""
        for event in self.events:
            merged = event.prior_id == person.patient_id
            if merged or (event.person.patient_id == person.patient_id and event.at >= since):
                person = event.person.over(person)
        return person

    def follow(self, details: OrderDetails) -> OrderDetails:
        """An order with its patient's data of today."""
        asked = details.request
        person = self.current(person_of(asked), since=details.placed_at)
        if person == person_of(asked):
            return details
        return replace(
            details,
            request=replace(
                asked,
                patient_id=person.patient_id,
                patient_name=person.patient_name,
                birth_date=person.birth_date,
                sex=person.sex,
            ),
        )

    async def tell(
        self, person: Person, *, prior_id: str = "", known: Person, registers: bool = False
    ) -> tuple[PatientEvent, bool]:
        """Keep a registration, an update, or with ``prior_id`` a merge, and its message; (event, whether it is new).

        ``known``: what is known of the person so far, to fill in what was not asked. The same merge again gives the one
        that stands. Raises OrderConflictError for a merge that contradicts another, OSError.
        """
        async with self._lock:
            standing = next((event for event in self.events if prior_id and event.prior_id == prior_id), None)
            if standing is not None and self.surviving(prior_id) == person.patient_id:
                return standing, False
            if standing is not None:
                raise OrderConflictError("prior_id: this patient was merged into another before")
            if self.merged_away(person.patient_id):
                raise OrderConflictError("patient_id: this patient was merged into another: name that one")
            event = self._event(person.over(known), prior_id, registers=registers)
            await self._keep(event)
            return event, True

    def _event(self, person: Person, prior_id: str, *, registers: bool) -> PatientEvent:
        now, control_id = self._clock(), f"RIS{short_id(13)}"
        raw = encode(person, prior_id=prior_id, control_id=control_id, sent_at=now, registers=registers)
        event = "A40" if prior_id else "A04" if registers else "A08"
        message = Outgoing(control=event, control_id=control_id, text=raw.decode("utf-8"))
        number = max(self._events, default=0) + 1
        return PatientEvent(
            number=number, at=now, prior_id=prior_id, person=person, message=message, registers=registers
        )

    # -- what order_sender.py asks

    def unsettled(self) -> tuple[str, ...]:
        """The queues that have something to send."""
        return (QUEUE,) if self.next_message(QUEUE) else ()

    def next_message(self, _: str) -> Outgoing | None:
        """The oldest message that is neither acknowledged nor given up."""
        return next((event.message for event in self.events if event.message.settled_at is None), None)

    async def record(self, _: str, message: Outgoing) -> None:
        """Replace the message with the same control id: an attempt was made."""
        async with self._lock:
            event = next(each for each in self.events if each.message.control_id == message.control_id)
            await self._keep(replace(event, message=message))

    async def _keep(self, event: PatientEvent) -> None:
        path = self._folder / f"{event.number:08d}.json"
        await asyncio.to_thread(write_atomic, path, _ADAPTER.dump_json(event))
        self._events[event.number] = event

    def _load(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            try:
                event = _ADAPTER.validate_json(path.read_bytes())
                self._events[event.number] = event
            except (ValidationError, OSError):
                log.error("patient_file_unreadable", file=path.name)


def person_of(request: OrderRequest) -> Person:
    """The patient of an order."""
    return Person(
        patient_id=request.patient_id,
        patient_name=request.patient_name,
        birth_date=request.birth_date,
        sex=request.sex,
    )
