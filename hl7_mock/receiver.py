"""What happens to a message that arrives: the whole of it on this page.

Read it; can we take it at all (AR); is it here already (AA again); is it a good result, and does it fit what came
before and what was ordered (AE); keep it; AA. Nothing is acknowledged with AA before it is on the disk.
Next: checks.py, inbox.py, matching.py; faults.py for what can be made to go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass

import structlog

from medai.hl7_mock import acks, matching
from medai.hl7_mock.acks import Objection
from medai.hl7_mock.checks import check_header, check_result
from medai.hl7_mock.faults import Fault, Faults
from medai.hl7_mock.inbox import Inbox
from medai.hl7_mock.message import Message, UnreadableMessageError, header_of, parse
from medai.hl7_mock.mllp import Reply, frame
from medai.hl7_mock.order_messages import short_id
from medai.hl7_mock.orders import OrderBook
from medai.hl7_mock.patients import PatientBook
from medai.hl7_mock.refusals import Refusals
from medai.hl7_mock.results import readings

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a message is answered with."""

    ack: str
    objections: tuple[Objection, ...] = ()
    duplicate: bool = False


@dataclass(kw_only=True)
class Counts:
    """Messages that left no trace in the inbox, which counts the accepted ones itself. ``duplicates`` begin at 0
    with each start."""

    duplicates: int = 0
    rejected: int = 0


class ResultReceiver:
    """Answers MLLP messages; one after the other, so that two copies cannot both be new."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        refusals: Refusals,
        book: OrderBook,
        patients: PatientBook,
        faults: Faults,
        clock: Callable[[], float],
        accept_unsolicited: bool = True,
        accept_merged: bool = False,
    ) -> None:
        self._inbox = inbox
        self._refusals = refusals
        self._book = book
        self._patients = patients
        self._faults = faults
        self._clock = clock
        self._accept_unsolicited = accept_unsolicited
        self._accept_merged = accept_merged
        self._lock = asyncio.Lock()
        self.counts = Counts(rejected=refusals.total)

    @property
    def stats(self) -> dict[str, int]:
        """For GET /stats; ``received`` is the sum of the others."""
        counted = {"accepted": len(self._inbox), **asdict(self.counts)}
        return {"received": sum(counted.values()), **counted}

    async def answer(self, raw: bytes) -> Reply:
        """Judge one message and reply, or misbehave as a fault rule asks."""
        fault = self._faults.draw()
        if fault is None:
            return Reply(wire=frame(self._ack(raw, await self._take(raw))))
        log.info("fault_injected", kind=fault.kind, stored=fault.store)
        verdict = await self._take(raw) if fault.store else Verdict(ack="AA")
        await asyncio.sleep(fault.delay_s)
        return self._misbehave(fault, raw, verdict)

    def refuse_too_long(self, head: bytes) -> Reply:
        """AR for a message beyond the size limit, then the connection is closed."""
        self.counts.rejected += 1
        objection = Objection(code="207", text="the message is longer than this receiver accepts")
        return Reply(wire=frame(self._ack(head, Verdict(ack="AR", objections=(objection,)))), close=True)

    async def _take(self, raw: bytes) -> Verdict:
        async with self._lock:
            verdict, message = self._judge(raw)
            if verdict.ack == "AA" and not verdict.duplicate and message is not None:
                verdict = await self._store(message)
            await self._account(raw, verdict)
        return verdict

    def _judge(self, raw: bytes) -> tuple[Verdict, Message | None]:
        try:
            message = parse(raw)
        except UnreadableMessageError as error:
            return Verdict(ack="AR", objections=(Objection(code=error.code, text=str(error)),)), None
        if (refused := check_header(message)) is not None:
            return Verdict(ack="AR", objections=(refused,)), message
        if (seen := self._inbox.seen(message)) is not None:
            return (Verdict(ack="AA", duplicate=True) if seen else _reused_id()), message
        objections = (
            check_result(message)
            or self._merged(message)
            or self._inbox.contradictions(message)
            or self._unmatched(message)
        )
        return Verdict(ack="AE" if objections else "AA", objections=tuple(objections)), message

    def _merged(self, message: Message) -> list[Objection]:
        pid = message.first("PID")
        if self._accept_merged or pid is None or not self._patients.merged_away(pid.value(3)):
            return []
        text = "PID-3: this patient was merged into another: send the surviving identifier"
        return [Objection(code="204", text=text, segment="PID", field=3)]

    def _unmatched(self, message: Message) -> list[Objection]:
        found = []
        for number, reading in enumerate(readings(message), start=1):
            found += matching.objections(
                number,
                reading,
                self._book,
                accept_unsolicited=self._accept_unsolicited,
                surviving=self._patients.surviving,
            )
        return found

    async def _store(self, message: Message) -> Verdict:
        try:
            arrival = await self._inbox.store(message, self._clock())
        except OSError as error:
            log.error("inbox_not_writable", error=error.strerror)
            text = "the message could not be stored; send it again later"
            return Verdict(ack="AR", objections=(Objection(code="207", text=text),))
        log.info("result_accepted", message=arrival.message_id, control_id=arrival.control_id)
        return Verdict(ack="AA")

    async def _account(self, raw: bytes, verdict: Verdict) -> None:
        header = header_of(raw)
        control_id = header.raw(10) if header is not None else ""
        if verdict.duplicate:
            self.counts.duplicates += 1
            log.info("duplicate_acknowledged", control_id=control_id)
        elif verdict.ack != "AA":
            self.counts.rejected += 1
            codes = sorted({objection.code for objection in verdict.objections})
            log.warning("message_refused", control_id=control_id[:20], ack=verdict.ack, codes=codes)
            await self._refusals.add(
                raw,
                received_at=self._clock(),
                control_id=control_id,
                ack=verdict.ack,
                objections=verdict.objections,
            )

    def _misbehave(self, fault: Fault, raw: bytes, verdict: Verdict) -> Reply:
        if fault.kind in {"ae", "ar"}:
            self.counts.rejected += not fault.store
            objection = Objection(code=fault.code, text="refused by a test fault")
            verdict = Verdict(ack=fault.kind.upper(), objections=(objection,))
        good = frame(self._ack(raw, verdict))
        replies = {
            "silent": Reply(),
            "garbage": Reply(wire=frame(b"this is not HL7 \xff\xfe")),
            "close": Reply(close=True),
            "partial": Reply(wire=good[: len(good) // 2], close=True),
            "wrong_msa": Reply(wire=frame(self._ack(raw, verdict, control_id="SOMEOTHERMESSAGE"))),
            "delay": Reply(wire=good) if fault.store else Reply(),
        }
        return replies.get(fault.kind, Reply(wire=good))

    def _ack(self, raw: bytes, verdict: Verdict, control_id: str | None = None) -> bytes:
        return acks.write(
            header=header_of(raw),
            code=verdict.ack,
            own_id=f"ACK{short_id(13)}",
            at_s=self._clock(),
            objections=verdict.objections,
            control_id=control_id,
        )


def _reused_id() -> Verdict:
    text = "MSH-10 was used before, for a message with other content"
    return Verdict(ack="AE", objections=(Objection(code="205", text=text, segment="MSH", field=10),))
