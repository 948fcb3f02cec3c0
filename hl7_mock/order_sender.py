"""Send orders to their receiver (the router) until each message is acknowledged.

No reply: the identical bytes again, with growing pauses, for ever. AA or CA: done. AE: given up, a person must look.
AR: again a few times, then given up. An order's messages go in their order, so a cancellation follows its order.
Next: orders.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from hl7_mock.acks import Acknowledgement, read
from hl7_mock.message import UnreadableMessageError
from hl7_mock.mllp import MllpError, exchange
from hl7_mock.orders import OrderBook, Outgoing

MAX_REJECTIONS = 5
AT_ONCE = 8

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where orders go."""

    host: str
    port: int
    timeout_s: float = 10.0
    retry_s: float = 1.0
    """First pause; doubles up to ``retry_max_s``."""
    retry_max_s: float = 30.0
    tls: ssl.SSLContext | None = None


class OrderSender:
    """One task for each order that has something to say."""

    def __init__(self, book: OrderBook, destination: Destination, clock: Callable[[], float]) -> None:
        self._book = book
        self._destination = destination
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, asyncio.Event] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def resume(self) -> None:
        """Go on with what was not settled when the RIS stopped."""
        for order in self._book.orders:
            if order.pending is not None:
                self._start(order.placer)

    async def send(self, placer: str, *, wait_s: float) -> None:
        """Start sending; returns after the first attempt, or after ``wait_s`` while it goes on."""
        tried = self._start(placer)
        try:
            async with asyncio.timeout(wait_s):
                await tried.wait()
        except TimeoutError:
            log.info("order_still_being_sent")

    async def stop(self) -> None:
        """Stop sending; what is not settled goes on at the next start."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, placer: str) -> asyncio.Event:
        tried = self._tried[placer] = asyncio.Event()
        if placer not in self._tasks:
            task = asyncio.create_task(self._run(placer))
            self._tasks[placer] = task
            task.add_done_callback(lambda _: self._finished(placer))
        return tried

    def _finished(self, placer: str) -> None:
        self._tasks.pop(placer, None)
        event = self._tried.pop(placer, None)
        if event is not None:
            event.set()

    async def _run(self, placer: str) -> None:
        pause_s = self._destination.retry_s
        while (order := self._book.get(placer)) is not None and (message := order.pending) is not None:
            async with self._places:
                tried = await self._attempt(message)
            try:
                await self._book.record(placer, tried)
            except OSError as error:
                log.error("order_not_written", error=error.strerror)
            if placer in self._tried:
                self._tried[placer].set()
            if tried.settled_at is not None:
                pause_s = self._destination.retry_s
                continue
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._destination.retry_max_s)

    async def _attempt(self, message: Outgoing) -> Outgoing:
        attempts = message.attempts + 1
        to = self._destination
        try:
            raw = await exchange(to.host, to.port, message.text.encode(), timeout_s=to.timeout_s, tls=to.tls)
            answer = read(raw)
            if answer.control_id != message.control_id:
                raise MllpError("the reply acknowledges another message")
        except (MllpError, UnreadableMessageError) as error:
            log.warning("order_not_acknowledged", control_id=message.control_id, attempt=attempts, reason=str(error))
            return replace(message, attempts=attempts, ack_text=str(error))
        log.info("order_answered", control_id=message.control_id, attempt=attempts, ack=answer.code)
        return replace(
            message,
            attempts=attempts,
            ack=answer.code,
            ack_text=answer.text[:250],
            settled_at=None if self._may_retry(answer, attempts) else self._clock(),
        )

    @staticmethod
    def _may_retry(answer: Acknowledgement, attempts: int) -> bool:
        final = {"200", "201", "202", "203"}  # table 0357: it will never understand this
        return answer.code in {"AR", "CR"} and answer.error_code not in final and attempts < MAX_REJECTIONS
