"""Send orders and patient updates to their receiver (the router) until each message is acknowledged.

No reply: the identical bytes again, with growing pauses, for ever. AA or CA: done. AE: given up, a person must look.
AR: again a few times, then given up. The messages of one queue go one after the other: a cancellation follows its
order, and a merge the one before it. Next: orders.py, patients.py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from medai.hl7_mock.acks import Acknowledgement, read
from medai.hl7_mock.message import UnreadableMessageError
from medai.hl7_mock.mllp import MllpError, exchange
from medai.hl7_mock.orders import Outgoing

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


class Outbox(Protocol):
    """Where messages wait, in queues that have a name: orders.OrderBook, patients.PatientBook."""

    def unsettled(self) -> tuple[str, ...]:
        """The queues that have something to send."""
        ...

    def next_message(self, queue: str) -> Outgoing | None:
        """The oldest message of a queue that is not settled."""
        ...

    async def record(self, queue: str, message: Outgoing) -> None:
        """An attempt was made; raises OSError."""
        ...


class OrderSender:
    """One task for each queue that has something to say: each order is one."""

    def __init__(self, box: Outbox, destination: Destination, clock: Callable[[], float]) -> None:
        self._box = box
        self._destination = destination
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, asyncio.Event] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def resume(self) -> None:
        """Go on with what was not settled when the RIS stopped."""
        for queue in self._box.unsettled():
            self._start(queue)

    async def send(self, queue: str, *, wait_s: float) -> None:
        """Start sending; returns after the first attempt, or after ``wait_s`` while it goes on."""
        tried = self._start(queue)
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

    def _start(self, queue: str) -> asyncio.Event:
        tried = self._tried.get(queue)
        if tried is None or tried.is_set():
            tried = self._tried[queue] = asyncio.Event()
        if queue not in self._tasks:
            task = asyncio.create_task(self._run(queue))
            self._tasks[queue] = task
            task.add_done_callback(lambda done: self._finished(queue, done))
        return tried

    def _finished(self, queue: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(queue, None)
        event = self._tried.pop(queue, None)
        if event is not None:
            event.set()
        if not task.cancelled() and task.exception() is None and self._box.next_message(queue) is not None:
            self._start(queue)  # it came between the last look and now

    async def _run(self, queue: str) -> None:
        pause_s = self._destination.retry_s
        while (message := self._box.next_message(queue)) is not None:
            async with self._places:
                tried = await self._attempt(message)
            try:
                await self._box.record(queue, tried)
            except OSError as error:
                log.error("order_not_written", error=error.strerror)
            if queue in self._tried:
                self._tried[queue].set()
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
