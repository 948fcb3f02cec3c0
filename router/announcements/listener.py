"""The router's DICOM listener: MPPS and IAN as SCP, and C-ECHO, on pynetdicom; Orthanc rejects the first two.

A success leaves only after ``keeper`` (the ledger) has kept what was said. What a peer sends is weighed before it is
parsed: bytes while they come, attributes and nesting before pydicom sees them. Handlers run in pynetdicom's threads,
one at a time. Next: read.py (what an announcement says), ledger/announcements.py (the keeper).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import structlog

from medai.router.announcements import read
from medai.router.announcements.read import (
    INSTANCES_LIMIT,
    NOT_OFFERED,
    PROCESSING_FAILURE,
    RESOURCE_LIMIT,
    SUCCESS,
    Attributes,
    Notice,
    Refused,
    StepBegun,
    StepChange,
    StepState,
)
from medai.router.errors import TemporaryError
from medai.router.files.dicom_scan import dataset_refusal
from medai.router.settings.tables import AnnouncementsSettings

VERIFICATION = "1.2.840.10008.1.1"
MPPS = "1.2.840.10008.3.1.2.3.3"
IAN = "1.2.840.10008.5.1.4.33"
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and Implicit VR Little Endian; a deflated data set could unpack to anything."""
MESSAGE_LIMIT = 8 * 1024**2
"""Bytes that may come until a message is whole."""
ELEMENTS_LIMIT = 10 * INSTANCES_LIMIT
CONNECTION_LIMIT = 20
SILENCE_S = 60.0
log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Where announcements are kept; each may raise Refused, and TemporaryError while it is away."""

    def step_begun(self, step: StepBegun, now: float, *, keep_s: float) -> None:
        """A step is in progress."""
        ...

    def step_changed(self, change: StepChange, now: float) -> StepState:
        """What is new of a step; returns its state."""
        ...

    def notice(self, notice: Notice, now: float, *, keep_s: float) -> None:
        """What an archive has."""
        ...


class AnnouncementListener:
    """Listens from ``start`` to ``stop``. Port 0 of the settings means off, and is for the caller to see."""

    def __init__(self, settings: AnnouncementsSettings, keeper: Keeper, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._keeper = keeper
        self._clock = clock
        self._keep_s = settings.keep_h * 3600.0
        self._one_at_a_time = threading.Lock()
        self._measured: WeakKeyDictionary[Any, _Measured] = WeakKeyDictionary()
        self._server: Any = None

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        from pynetdicom import AE, evt  # slow to import, and off by default

        entity = AE(ae_title=self._settings.ae_title)
        entity.require_calling_aet = list(self._settings.calling_ae_titles)
        entity.maximum_associations = CONNECTION_LIMIT
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SILENCE_S
        entity.add_supported_context(VERIFICATION, SYNTAXES)
        entity.add_supported_context(MPPS, SYNTAXES)
        entity.add_supported_context(IAN, SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_DIMSE_RECV, self._whole),
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_SET, self._set),
        ]
        address = (self._settings.host, self._settings.port)
        self._server = entity.start_server(address, block=False, evt_handlers=handlers)
        log.info("announcements_listening", host=self._settings.host, port=self._settings.port)

    def stop(self) -> None:
        """Take no more, and end the associations."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            for association in server.active_associations:
                if association.is_established:
                    association.abort()
                elif association.dul.socket is not None:  # not asked for yet: pynetdicom has nothing to abort
                    association.dul.socket.close()

    # -- bytes

    def _opened(self, event: Any) -> None:
        connection = event.assoc.dul.socket
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._measured[event.assoc] = _Measured(connection)

    def _whole(self, event: Any) -> None:
        measured = self._measured.get(event.assoc)
        if measured is not None:
            measured.came = 0

    # -- messages

    def _create(self, event: Any) -> tuple[Any, Any]:
        uid = str(event.request.AffectedSOPInstanceUID or "")
        if event.request.AffectedSOPClassUID == MPPS:
            return self._answer(event, "AttributeList", lambda said: self._step_begun(uid, said))
        return self._answer(event, "AttributeList", lambda said: self._notice(uid, said))

    def _set(self, event: Any) -> tuple[Any, Any]:
        uid = str(event.request.RequestedSOPInstanceUID or "")
        if event.request.RequestedSOPClassUID != MPPS:
            return NOT_OFFERED, None
        return self._answer(event, "ModificationList", lambda said: self._step_changed(uid, said))

    def _step_begun(self, uid: str, said: Attributes) -> None:
        step = read.step_begun(uid, said)
        self._keeper.step_begun(step, self._clock(), keep_s=self._keep_s)
        log.info("step_begun", studies=len(step.studies))

    def _step_changed(self, uid: str, said: Attributes) -> None:
        change = read.step_change(uid, said)
        state = self._keeper.step_changed(change, self._clock())
        objects = None if change.series is None else sum(len(series.instances) for series in change.series)
        log.info("step_changed", state=state.value, objects=objects)

    def _notice(self, uid: str, said: Attributes) -> str | None:
        """The UID of the notice where its sender gave it none."""
        notice = read.notice(uid, said)
        try:
            self._keeper.notice(notice, self._clock(), keep_s=self._keep_s)
        except Refused:
            if uid:
                raise  # else it is the same notice again, under the UID that we gave it
        log.info("instances_available", objects=sum(len(series.instances) for series in notice.online))
        return None if uid else notice.uid

    def _answer(self, event: Any, part: str, act: Callable[[Attributes], str | None]) -> tuple[Any, Any]:
        """Status (with a comment where it is a failure) and attributes of the answer."""
        kind: Any = None
        try:
            self._weigh(getattr(event.request, part))
            said = event.attribute_list if part == "AttributeList" else event.modification_list
            kind = type(said)
            with self._one_at_a_time:
                made = act(said)
        except Refused as error:
            log.warning("announcement_refused", status=f"0x{error.status:04X}", reason=str(error))
            return _failure(kind, error), None
        except TemporaryError as error:
            log.warning("announcement_not_kept", reason=str(error))
            return _failure(kind, Refused(PROCESSING_FAILURE, "it cannot be kept now: send it again")), None
        except Exception:  # whatever a message brings about, its sender gets an answer and the listener goes on
            log.exception("announcement_failed")
            return _failure(kind, Refused(PROCESSING_FAILURE, "the data set cannot be read")), None
        if made is None:
            return SUCCESS, None
        answer = kind()
        answer.AffectedSOPInstanceUID = made
        return SUCCESS, answer

    def _weigh(self, stream: Any) -> None:
        """Read both ways: pydicom reads a data set as it looks, whatever was negotiated."""
        data = stream.getvalue() if stream else b""
        reasons = (dataset_refusal(data, implicit=implicit, elements=ELEMENTS_LIMIT) for implicit in (False, True))
        reason = next(filter(None, reasons), "")
        if reason:
            raise Refused(RESOURCE_LIMIT, f"the data set {reason}")


class _Measured:
    """A connection that gives up where more comes than a message may hold: pynetdicom would keep all of it.

    Where it ends, by us or by the peer, it is closed: pynetdicom leaves that to whoever collects garbage.
    """

    def __init__(self, connection: Any) -> None:
        self._recv = connection.recv
        self._socket = connection.socket
        self.came = 0
        connection.recv = self

    def __call__(self, size: int) -> Any:
        self.came += size
        data = b""
        try:
            if self.came > MESSAGE_LIMIT:
                log.warning("announcement_too_long", limit=MESSAGE_LIMIT)
                raise OSError("a message is too long")
            data = self._recv(size)
        finally:
            if len(data) < size:
                self._socket.close()
        return data


def _failure(kind: Any, error: Refused) -> Any:
    """A status; with words where a data set was read, whose class (pydicom's, not imported here) can hold them."""
    if kind is None:
        return error.status
    status = kind()
    status.Status, status.ErrorComment = error.status, str(error)[:64]
    if error.error_id is not None:
        status.ErrorID = error.error_id
    return status
