"""Final reports of radiologists: kept as files, each with the ORU^R01 that the RIS sends to whoever wants it (the EHR).

The report has a filler number of its own: it stands beside the AI's preliminary result and does not replace it.
Source: HL7 v2.5.1 chapter 7 (OBR-25 F, OBR-32). Next: web.py (POST /reports), order_sender.py (who sends it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from medai.hl7_mock.acks import timestamp
from medai.hl7_mock.message import build, escape
from medai.hl7_mock.order_messages import AUTHORITY, BadOrderError, pid_of, short_id
from medai.hl7_mock.orders import Order, Outgoing
from medai.hl7_mock.storage import clear_parts, make_private, write_atomic

QUEUE = "reports"
KEYS = {"placer": 22, "accession": 16, "text": 4000, "radiologist": 15}
"""What may be asked, and the longest of each."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a radiologist dictates; of ``placer`` and ``accession`` one is enough."""

    placer: str
    accession: str
    text: str
    radiologist: str
    used_ai: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """One final report and its message."""

    number: int
    at: float
    placer: str
    accession: str
    study_uid: str
    radiologist: str
    used_ai: bool
    text: str
    message: Outgoing


_ADAPTER = TypeAdapter(Report)


def parse_report(asked: object) -> ReportRequest:
    """Check a JSON object; raises BadOrderError naming the key."""
    if not isinstance(asked, Mapping):
        raise BadOrderError("(body)", "must be a JSON object")
    for key, value in asked.items():
        if key == "used_ai":
            if not isinstance(value, bool):
                raise BadOrderError(key, "must be true or false")
        elif key not in KEYS:
            raise BadOrderError(str(key), f"unknown; known are {', '.join(sorted((*KEYS, 'used_ai')))}")
        elif not isinstance(value, str) or len(value) > KEYS[key]:
            raise BadOrderError(key, f"must be text of at most {KEYS[key]} characters")
    if not asked.get("placer") and not asked.get("accession"):
        raise BadOrderError("placer", "is needed, or accession")
    if not asked.get("text"):
        raise BadOrderError("text", "is needed")
    words = {key: str(asked.get(key, "")) for key in KEYS}
    return ReportRequest(**words, used_ai=bool(asked.get("used_ai", False)))


class ReportBook:
    """All reports of one folder, oldest first. ``send``: there is somebody to send them to."""

    def __init__(self, folder: Path, clock: Callable[[], float], *, send: bool) -> None:
        self._folder = folder / "reports"
        self._clock = clock
        self._send = send
        self._reports: dict[int, Report] = {}
        self._lock = asyncio.Lock()
        make_private(self._folder)
        clear_parts(self._folder)
        for path in sorted(self._folder.glob("*.json")):
            try:
                report = _ADAPTER.validate_json(path.read_bytes())
                self._reports[report.number] = report
            except (ValidationError, OSError):
                log.error("report_file_unreadable", file=path.name)

    @property
    def reports(self) -> tuple[Report, ...]:
        """Oldest first."""
        return tuple(self._reports.values())

    async def add(self, request: ReportRequest, order: Order) -> Report:
        """Keep a report of an order; raises OSError."""
        async with self._lock:
            number, now = max(self._reports, default=0) + 1, self._clock()
            control_id = f"RIS{short_id(13)}"
            raw = encode(request, order, number=number, control_id=control_id, sent_at=now)
            settled = None if self._send else now
            report = Report(
                number=number,
                at=now,
                placer=order.placer,
                accession=order.details.request.accession,
                study_uid=order.details.request.study_uid,
                radiologist=request.radiologist,
                used_ai=request.used_ai,
                text=request.text,
                message=Outgoing(control="R01", control_id=control_id, text=raw.decode("utf-8"), settled_at=settled),
            )
            await self._keep(report)
            return report

    # -- what order_sender.py asks

    def unsettled(self) -> tuple[str, ...]:
        """The queues that have something to send."""
        return (QUEUE,) if self.next_message(QUEUE) else ()

    def next_message(self, _: str) -> Outgoing | None:
        """The oldest message that is not settled."""
        return next((each.message for each in self._reports.values() if each.message.settled_at is None), None)

    async def record(self, _: str, message: Outgoing) -> None:
        """Replace the message with the same control id: an attempt was made."""
        async with self._lock:
            report = next(each for each in self._reports.values() if each.message.control_id == message.control_id)
            await self._keep(replace(report, message=message))

    async def _keep(self, report: Report) -> None:
        path = self._folder / f"{report.number:08d}.json"
        await asyncio.to_thread(write_atomic, path, _ADAPTER.dump_json(report))
        self._reports[report.number] = report


def encode(request: ReportRequest, order: Order, *, number: int, control_id: str, sent_at: float) -> bytes:
    """The ORU^R01 of a final report."""
    asked, moment = order.details.request, timestamp(sent_at)
    filler = f"REP{number:08d}"
    msh = ["MSH", "^~\\&", "RIS", AUTHORITY, "EHR", AUTHORITY, moment, "", "ORU^R01^ORU_R01", control_id, "P", "2.5.1"]
    procedure = f"{escape(asked.procedure_code)}^{escape(asked.procedure_text)}^L"
    values = {
        1: "1", 2: order.placer, 3: filler, 4: procedure, 7: moment, 18: escape(asked.accession), 22: moment,
        24: asked.modality, 25: "F", 32: escape(request.radiologist),
    }  # fmt: skip
    obr = ["OBR", *(values.get(field, "") for field in range(1, 33))]
    lines = [line for line in request.text.splitlines() if line.strip()]
    text = [["OBX", str(place), "TX", "18782-3^Radiology Study observation (narrative)^LN", "1", escape(line),
             *[""] * 5, "F"] for place, line in enumerate(lines, start=1)]  # fmt: skip
    used = "Y" if request.used_ai else "N"
    code = "MEDAI-AIUSED^AI result at hand when read^L"
    text.append(["OBX", str(len(lines) + 1), "ID", code, "1", used, *[""] * 5, "F"])
    orc = ["ORC", "RE", order.placer, filler, "", "CM"]
    return build([[*msh, *[""] * 5, "UNICODE UTF-8"], pid_of(order.details), ["PV1", "1", "O"], orc, obr, *text])
