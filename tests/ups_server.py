"""A worklist by UPS-RS, small enough to read: search, retrieve, update, change of state, with locks and final states.

Written from PS3.18 chapter 11 and PS3.4 annex CC, on pydicom, which the performer does not use. What it is sent must be
DICOM JSON that pydicom reads and could write to a file. ``fault`` makes it answer something else for a while.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset, config

MEDIA_TYPE = "application/dicom+json"
LEGAL = {("SCHEDULED", "IN PROGRESS"), ("IN PROGRESS", "COMPLETED"), ("IN PROGRESS", "CANCELED")}
FINAL = ("COMPLETED", "CANCELED")
REFERENCE = (
    "StudyInstanceUID", "SeriesInstanceUID", "TypeOfInstances", "ReferencedSOPSequence", "DICOMRetrievalSequence",
)  # fmt: skip
"""What an item of the Output Information Sequence has (PS3.3 Table 10-3b)."""


@dataclass
class Item:
    """A workitem: what it says, and the lock (Transaction UID) of who performs it."""

    said: Dataset
    lock: str = ""
    states: list[str] = field(default_factory=lambda: ["SCHEDULED"])
    progress: list[float] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.said.ProcedureStepState)


@dataclass
class Fault:
    """An answer instead of the right one; ``after``: what was asked is done first."""

    status: int
    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""
    after: bool = False
    times: int = 1


class UpsServer(ThreadingHTTPServer):
    """``items`` holds the workitems by UID; ``seen`` each request; ``malformed`` what was no DICOM JSON."""

    daemon_threads = True

    def __init__(self, *, token: str = "", page: int = 1000, knows_offset: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.page, self.knows_offset = token, page, knows_offset
        self.items: dict[str, Item] = {}
        self.seen: list[tuple[str, str, bytes]] = []
        self.malformed: list[str] = []
        self.faults: list[Fault] = []
        self.short_search = False
        """Whether a search leaves the input out, as a worklist may that does not know includefield."""
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        """The base."""
        return f"http://127.0.0.1:{self.server_port}/dicom-web"

    def schedule(self, uid: str, study: str, **said: Any) -> Item:
        """A new workitem: to read a study, by its code and station."""
        item = Item(said=workitem(uid, study, **said))
        self.items[uid] = item
        return item

    def fault(self, status: int, *, times: int = 1, **more: Any) -> None:
        """Answer the next requests (of one method) with a status."""
        self.faults.append(Fault(status, times=times, **more))

    def fault_for(self, method: str, *, after: bool) -> Fault | None:
        """What to answer instead, if anything."""
        for fault in self.faults:
            if fault.times and fault.method in ("", method) and fault.after is after:
                fault.times -= 1
                return fault
        return None

    # -- the transactions

    def search(self, query: dict[str, list[str]]) -> tuple[int, list[Dataset]]:
        wanted = query.get("ProcedureStepState", [""])[0]
        found = [item.said for item in self.items.values() if item.state == wanted]
        offset = int(query.get("offset", ["0"])[0]) if self.knows_offset else 0
        limit = min(self.page, int(query.get("limit", ["1000"])[0]))
        page = found[offset : offset + limit]
        if self.short_search:
            page = [without_input(each) for each in page]
        return (200 if page else 204), page

    def change_state(self, item: Item, said: Dataset) -> tuple[int, str]:
        lock, wanted = str(said.get("TransactionUID", "")), str(said.get("ProcedureStepState", ""))
        if not lock or wanted not in ("IN PROGRESS", *FINAL):
            return 400, ""
        if wanted == item.state and wanted in FINAL and lock == item.lock:
            return 200, f"299 worklist: The UPS is already in the requested state of {wanted}"
        if (item.state, wanted) not in LEGAL or (item.lock and item.lock != lock):
            return 409, "299 worklist: The request is inconsistent with the state of the workitem"
        if wanted in FINAL and (missing := lacks(item.said, wanted)):
            return 409, f"299 worklist: The submitted request is inconsistent with the final state: {missing}"
        item.lock = lock
        item.said.ProcedureStepState = wanted
        item.states.append(wanted)
        return 200, ""

    def update(self, item: Item, said: Dataset, lock: str) -> tuple[int, str]:
        if item.state in FINAL:
            return 409, "299 worklist: The workitem may no longer be updated"
        if item.lock and not (item.lock == lock == said.get("TransactionUID", "")):
            return 409, "299 worklist: The Transaction UID is missing or wrong"
        if "ProcedureStepState" in said or "SOPInstanceUID" in said:
            return 400, ""
        for element in said:
            if element.keyword not in ("TransactionUID", "SpecificCharacterSet"):
                item.said[element.tag] = element
        for step in said.get("ProcedureStepProgressInformationSequence", []):
            item.progress.append(float(step.get("ProcedureStepProgress", -1)))
        return 200, ""

    def read(self, body: bytes) -> Dataset | None:
        """The one data set of a request; None where it is none."""
        try:
            (told,) = json.loads(body)
            found = Dataset.from_json(told)
            again = Dataset.from_json(found.to_json())
            assert again == found
            with config.strict_reading():
                found.save_as(BytesIO(), implicit_vr=False, little_endian=True)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the test is to see it
            self.malformed.append(repr(error))
            return None
        return found


def without_input(said: Dataset) -> Dataset:
    """A workitem as a search tells it that leaves out what it was not asked for by name."""
    short = Dataset()
    for element in said:
        if element.keyword != "InputInformationSequence":
            short[element.tag] = element
    return short


def lacks(said: Dataset, state: str) -> str:
    """What must be there before a workitem ends (PS3.4 Table CC.2.5-3)."""
    if len(said.get("UnifiedProcedureStepPerformedProcedureSequence", [])) != 1:
        return "UnifiedProcedureStepPerformedProcedureSequence"
    (done,) = said.UnifiedProcedureStepPerformedProcedureSequence
    needed = [
        "PerformedStationNameCodeSequence",
        "PerformedWorkitemCodeSequence",
        "PerformedProcedureStepStartDateTime",
    ]
    needed += ["PerformedProcedureStepEndDateTime"]
    missing = [name for name in needed if not done.get(name)]
    if "OutputInformationSequence" not in done:
        missing.append("OutputInformationSequence")
    for output in done.get("OutputInformationSequence", []):
        missing += [name for name in REFERENCE if not output.get(name)]
    if state == "CANCELED":
        (progress,) = said.get("ProcedureStepProgressInformationSequence", [Dataset()])
        wanted = ("ProcedureStepCancellationDateTime", "ProcedureStepDiscontinuationReasonCodeSequence")
        missing += [name for name in wanted if not progress.get(name)]
    return ", ".join(missing)


def workitem(
    uid: str,
    study: str,
    *,
    code: tuple[str, str, str] = ("LUNGS", "99HOSPITAL", "Lungs by AI"),
    station: tuple[str, str, str] | None = ("MEDAI", "99HOSPITAL", "Med-AI"),
    readiness: str = "READY",
    output_study: str = "",
    more_inputs: tuple[str, ...] = (),
) -> Dataset:
    """A scheduled workitem."""
    said = Dataset()
    said.SOPClassUID, said.SOPInstanceUID = "1.2.840.10008.5.1.4.34.6.1", uid
    said.PatientName, said.PatientID = "Plantedname^Paula", "PLANTED-ID"
    said.ProcedureStepState, said.InputReadinessState = "SCHEDULED", readiness
    said.ScheduledProcedureStepPriority = "MEDIUM"
    said.ScheduledWorkitemCodeSequence = [coded(*code)]
    said.ScheduledStationNameCodeSequence = [] if station is None else [coded(*station)]
    said.InputInformationSequence = [_input(each) for each in (study, *more_inputs) if each]
    if output_study:
        said.StudyInstanceUID = output_study
    return said


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded entry."""
    item = Dataset()
    if len(value) > 16:
        item.LongCodeValue = value
    else:
        item.CodeValue = value
    item.CodingSchemeDesignator, item.CodeMeaning = scheme, meaning
    return item


def _input(study: str) -> Dataset:
    item = Dataset()
    item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", study, "1.9.9"
    return item


class _Handler(BaseHTTPRequestHandler):
    server: UpsServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.seen.append((self.command, self.path, body))
            early = self.server.fault_for(self.command, after=False)
            if early is not None:
                return self._answer(early.status, early.data, early.headers)
            status, data, headers = self._act(body)
            late = self.server.fault_for(self.command, after=True)
            if late is not None and late.status == 0:  # the answer is lost
                self.close_connection = True
                self.connection.close()
                return None
        return self._answer(status, data, headers)

    def _act(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return 401, b"", {}
        url = urlsplit(self.path)
        parts = url.path.removeprefix("/dicom-web/").split("/")
        if parts[0] != "workitems":
            return 404, b"", {}
        if len(parts) == 1:
            status, found = self.server.search(parse_qs(url.query))
            return status, _json(found) if found else b"", {}
        item = self.server.items.get(parts[1])
        if item is None:
            return 404, b"", {}
        if self.command == "GET":
            return 200, _json([item.said]), {}
        if self.headers.get("Content-Type") != MEDIA_TYPE:
            return 415, b"", {}
        said = self.server.read(body)
        if said is None:
            return 400, b"", {}
        if self.command == "PUT" and parts[2:] == ["state"]:
            status, warning = self.server.change_state(item, said)
        elif self.command == "POST" and len(parts) == 2:
            status, warning = self.server.update(item, said, url.query)
        else:
            return 405, b"", {}
        return status, b"", {"Warning": warning} if warning else {}

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Type": MEDIA_TYPE, **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


def _json(found: list[Dataset]) -> bytes:
    return json.dumps([each.to_json_dict() for each in found]).encode()


@contextmanager
def ups_server(**settings: Any) -> Iterator[UpsServer]:
    """A worklist on a free loopback port."""
    server = UpsServer(**settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
