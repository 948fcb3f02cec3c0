"""The orders that were placed: each with the messages that say so and how they were acknowledged, on disk.

An order is one JSON file; its messages are kept as they were sent, so that a retry sends the identical bytes.
Next: order_sender.py (who sends them), matching.py (which result answers an order).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from medai.hl7_mock.order_messages import OrderDetails, OrderRequest, encode, new_order, short_id
from medai.hl7_mock.storage import clear_parts, make_private, write_atomic

log = structlog.get_logger()


class OrderConflictError(ValueError):
    """The order contradicts one that exists."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One message on its way: an order, an ADT of a patient, or a final report."""

    control: str
    """ORC-1 of an order (NW, XO or CA), the event of an ADT (A04, A08 or A40) or ORU (R01)."""
    control_id: str
    text: str
    ack: str = ""
    """MSA-1 of the last reply; empty while there was none."""
    ack_text: str = ""
    attempts: int = 0
    settled_at: float | None = None
    """When it was acknowledged or given up; None while it is still being sent."""

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it."""
        return self.ack in {"AA", "CA"}


@dataclass(frozen=True, kw_only=True)
class Order:
    """An order and its messages, oldest first."""

    details: OrderDetails
    messages: tuple[Outgoing, ...]

    @property
    def placer(self) -> str:
        """ORC-2 and OBR-2."""
        return self.details.placer

    @property
    def cancelled(self) -> bool:
        """Whether its cancellation was asked for."""
        return self.messages[-1].control == "CA"

    @property
    def pending(self) -> Outgoing | None:
        """The message to send now: the oldest that is not settled."""
        return next((each for each in self.messages if each.settled_at is None), None)

    def state(self, *, resulted: bool) -> str:
        """``placed``, ``acknowledged``, ``refused``, ``cancelling``, ``cancelled`` or ``resulted``."""
        if self.cancelled:
            return "cancelled" if self.messages[-1].accepted else "cancelling"
        if resulted:
            return "resulted"
        if self.messages[0].settled_at is None:
            return "placed"
        return "acknowledged" if self.messages[0].accepted else "refused"


_ADAPTER = TypeAdapter(Order)


class OrderBook:
    """All orders of one folder. Changes go through a lock: read, change, to disk, then visible.

    ``follow`` gives an order its patient's data of today (patients.py); the file keeps what was ordered.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        follow: Callable[[OrderDetails], OrderDetails] = lambda details: details,
        *,
        imaging: bool = False,
    ) -> None:
        self._imaging = imaging
        self._folder = folder / "orders"
        self._clock = clock
        self._follow = follow
        self._orders: dict[str, Order] = {}
        self._lock = asyncio.Lock()
        make_private(self._folder)
        clear_parts(self._folder)
        self._load()

    @property
    def orders(self) -> tuple[Order, ...]:
        """Oldest first."""
        return tuple(map(self._today, self._orders.values()))

    def get(self, placer: str) -> Order | None:
        """The order with this placer number."""
        order = self._orders.get(placer)
        return None if order is None else self._today(order)

    def _today(self, order: Order) -> Order:
        details = self._follow(order.details)
        return order if details is order.details else replace(order, details=details)

    def by_accession(self, accession: str) -> Order | None:
        """The newest order with this accession number; one that stands before one that was cancelled."""
        found = [order for order in self.orders if order.details.request.accession == accession]
        return next((order for order in reversed(found) if not order.cancelled), found[-1] if found else None)

    async def place(self, request: OrderRequest) -> tuple[Order, bool]:
        """Make an order and its NW message; (order, whether it is new).

        The same accession for the same patient gives the order that stands: asking twice is harmless.
        Raises OrderConflictError where the accession belongs to another patient's order, OSError.
        """
        async with self._lock:
            standing = self.by_accession(request.accession) if request.accession else None
            if standing is not None and not standing.cancelled:
                _must_agree(request, standing)
                return standing, False
            details = new_order(request, placed_at=self._clock())
            order = Order(details=details, messages=(self._message(details, "NW"),))
            await self._keep(order)
            return order, True

    async def cancel(self, placer: str) -> Order:
        """Add the CA message, once; raises KeyError, OSError."""
        async with self._lock:
            order = self._orders[placer]
            if not order.cancelled:
                told = self._message(self._follow(order.details), "CA")
                order = replace(order, messages=(*order.messages, told))
                await self._keep(order)
            return self._today(order)

    async def change(self, placer: str, change: Callable[[OrderRequest], OrderRequest]) -> Order:
        """Change what is ordered and add the XO message; raises KeyError, OrderConflictError, OSError."""
        async with self._lock:
            order = self._orders[placer]
            if order.cancelled:
                raise OrderConflictError("this order was cancelled: place a new one")
            details = replace(order.details, request=change(order.details.request))
            if details != order.details:
                told = self._message(self._follow(details), "XO")
                order = replace(order, details=details, messages=(*order.messages, told))
                await self._keep(order)
            return self._today(order)

    # -- what order_sender.py asks

    def unsettled(self) -> tuple[str, ...]:
        """The placer numbers of the orders that have something to send."""
        return tuple(placer for placer, order in self._orders.items() if order.pending is not None)

    def next_message(self, placer: str) -> Outgoing | None:
        """The message of an order to send now."""
        order = self._orders.get(placer)
        return None if order is None else order.pending

    async def record(self, placer: str, message: Outgoing) -> None:
        """Replace the message with the same control id: an attempt was made."""
        async with self._lock:
            order = self._orders[placer]
            messages = tuple(message if each.control_id == message.control_id else each for each in order.messages)
            await self._keep(replace(order, messages=messages))

    def _message(self, details: OrderDetails, control: str) -> Outgoing:
        control_id = f"RIS{short_id(13)}"
        raw = encode(details, control=control, control_id=control_id, sent_at=self._clock(), imaging=self._imaging)
        return Outgoing(control=control, control_id=control_id, text=raw.decode("utf-8"))

    async def _keep(self, order: Order) -> None:
        await asyncio.to_thread(write_atomic, self._folder / f"{order.placer}.json", _ADAPTER.dump_json(order))
        self._orders[order.placer] = order

    def _load(self) -> None:
        found: list[Order] = []
        for path in self._folder.glob("*.json"):
            try:
                found.append(_ADAPTER.validate_json(path.read_bytes()))
            except (ValidationError, OSError):
                log.error("order_file_unreadable", file=path.name)
        self._orders = {order.placer: order for order in sorted(found, key=lambda each: each.details.placed_at)}


def _must_agree(request: OrderRequest, standing: Order) -> None:
    for key in ("patient_id", "study_uid"):
        asked, known = getattr(request, key), getattr(standing.details.request, key)
        if asked and asked != known:
            raise OrderConflictError(f"this accession is already ordered as {standing.placer} with another {key}")
