"""The router's DICOM listener: MPPS and IAN as SCP, and C-ECHO, on pynetdicom; Orthanc rejects the first two.

A success leaves only after ``keeper`` (the ledger) has kept what was said. Who connects is weighed before pynetdicom
gives it a thread (admission.py), in which a handshake (TLS) keeps nobody waiting. What a peer sends is weighed before
it is parsed: bytes while they come, attributes and nesting before pydicom sees them, and how much it says in an hour.
Handlers run in pynetdicom's threads, one at a time. Next: read.py (what an announcement says),
ledger/announcements.py (the keeper).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import structlog

from medai.router import tls
from medai.router.admission import Admission, Allowance, Guest
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
    Series,
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
WHOLE_TIMEOUT_S = 120.0
"""Longest time from a message's first byte to its last: a byte now and then keeps nothing open."""
ASKED_WITHIN_S = 30.0
"""A connection that has asked for no association within this time ends."""
OBJECTS_PER_HOUR = 50 * INSTANCES_LIMIT
"""Objects that one address may name in an hour: what is kept of them (some 70 bytes each) fills no disk."""
HANDSHAKE_S = 10.0
BACKLOG = 128
_CHUNK = 65536
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

    def __init__(
        self, settings: AnnouncementsSettings, keeper: Keeper, clock: Callable[[], float],
        turned_away: Counter[str] | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._keeper = keeper
        self._clock = clock
        self._keep_s = settings.keep_h * 3600.0
        self._one_at_a_time = threading.Lock()
        self._measured: WeakKeyDictionary[Any, _Measured] = WeakKeyDictionary()
        self._admission = Admission(
            allowed=settings.allowed_peers,
            total=settings.connections,
            of_peer=settings.connections_of_peer,
            held_bytes=settings.connections * MESSAGE_LIMIT,
            turned_away=Counter() if turned_away is None else turned_away,
        )
        self._tls = tls.server_context(settings.tls, where="announcements.tls")
        self._callers: list[_Caller] = []
        self._announcements = Allowance(settings.per_hour)
        self._objects = Allowance(OBJECTS_PER_HOUR)
        self._server: Any = None

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        from pynetdicom import AE, evt  # slow to import, and off by default

        entity = AE(ae_title=self._settings.ae_title)
        entity.require_calling_aet = list(self._settings.calling_ae_titles)
        entity.maximum_associations = 2 * self._settings.connections  # those that end are still counted for a moment
        entity.acse_timeout = min(ASKED_WITHIN_S, self._settings.idle_s)
        entity.dimse_timeout = entity.network_timeout = self._settings.idle_s
        entity.add_supported_context(VERIFICATION, SYNTAXES)
        entity.add_supported_context(MPPS, SYNTAXES)
        entity.add_supported_context(IAN, SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_DIMSE_RECV, self._whole),
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_SET, self._set),
        ]
        address = (self._settings.host, self._settings.port)
        server: Any = entity.start_server(address, block=False, evt_handlers=handlers)
        server.verify_request = self._may_connect  # who came before this line is closed by ``_opened``
        if self._tls is not None:
            server.process_request = partial(self._wrap, server.process_request)
            server.process_request_thread = partial(self._shake_hands, server.process_request_thread)
        server.socket.listen(BACKLOG)
        self._server = server
        log.info("announcements_listening", host=self._settings.host, port=self._settings.port)

    def stop(self) -> None:
        """Take no more, and end the associations."""
        server, self._server = self._server, None
        if server is not None:
            for caller in [each for each in self._callers if each.is_early]:
                caller.end()  # shutdown() waits for handshakes
            server.shutdown()
            for association in server.active_associations:
                if association.is_established:
                    association.abort()
                elif association.dul.socket is not None:  # not asked for yet: pynetdicom has nothing to abort
                    association.dul.socket.close()

    # -- who is there

    def _may_connect(self, request: socket.socket, address: tuple[Any, ...]) -> bool:
        """In the server's thread, one at a time, before there is an association."""
        peer = str(address[0])
        for caller in [each for each in self._callers if each.is_over]:
            self._callers.remove(caller)
            self._admission.leave(caller.guest)
        if not self._admission.allows(peer):
            self._turned_away(peer, "peer")
            return False
        ending: list[Callable[[str], None]] = []
        guest = self._admission.enter(peer, time.monotonic(), lambda reason: ending[0](reason))
        if guest is None:
            self._turned_away(peer, "limit")
            return False
        caller = _Caller(request, guest)

        def end(reason: str) -> None:
            self._turned_away(peer, reason)
            caller.end()

        ending.append(end)
        self._callers.append(caller)
        return True

    def _wrap(self, go_on: Callable[[socket.socket, Any], None], request: socket.socket, address: Any) -> None:
        """In the server's thread, where pynetdicom itself would shake hands and keep all others waiting."""
        caller = next((each for each in self._callers if each.request is request), None)
        try:
            if caller is None or self._tls is None:
                raise OSError("not let in")
            secured = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has ended since
            request.close()
            return
        caller.request = secured
        go_on(secured, address)

    def _shake_hands(self, go_on: Callable[[socket.socket, Any], None], request: ssl.SSLSocket, address: Any) -> None:
        """In the connection's own thread."""
        try:
            request.settimeout(HANDSHAKE_S)  # for all of it
            request.do_handshake()
            request.settimeout(None)
        except OSError:
            self._turned_away(str(address[0]), "tls")
            request.close()
            return
        go_on(request, address)

    def _turned_away(self, peer: str, reason: str) -> None:
        if self._admission.turn_away(peer, reason, time.monotonic()):
            log.warning("announcements_turned_away", peer=peer, reason=reason)

    # -- bytes

    def _opened(self, event: Any) -> None:
        connection = event.assoc.dul.socket
        caller = next((each for each in list(self._callers) if each.request is connection.socket), None)
        if caller is None:
            connection.socket.close()
            return
        caller.belongs_to(event.assoc)
        self._measured[event.assoc] = _Measured(connection, caller.guest)
        with contextlib.suppress(OSError):  # it has ended since
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _accepted(self, event: Any) -> None:
        measured = self._measured.get(event.assoc)
        if measured is not None:
            measured.begin()

    def _whole(self, event: Any) -> None:
        measured = self._measured.get(event.assoc)
        if measured is not None:
            measured.whole()

    # -- messages

    def _create(self, event: Any) -> tuple[Any, Any]:
        uid = str(event.request.AffectedSOPInstanceUID or "")
        if event.request.AffectedSOPClassUID == MPPS:
            return self._answer(event, "AttributeList", lambda said: self._step_begun(event, uid, said))
        return self._answer(event, "AttributeList", lambda said: self._notice(event, uid, said))

    def _set(self, event: Any) -> tuple[Any, Any]:
        uid = str(event.request.RequestedSOPInstanceUID or "")
        if event.request.RequestedSOPClassUID != MPPS:
            return NOT_OFFERED, None
        return self._answer(event, "ModificationList", lambda said: self._step_changed(event, uid, said))

    def _step_begun(self, event: Any, uid: str, said: Attributes) -> None:
        step = read.step_begun(uid, said)
        self._spend(event, self._objects, _count(step.series))
        self._keeper.step_begun(step, self._clock(), keep_s=self._keep_s)
        log.info("step_begun", studies=len(step.studies))

    def _step_changed(self, event: Any, uid: str, said: Attributes) -> None:
        change = read.step_change(uid, said)
        self._spend(event, self._objects, _count(change.series or ()))
        state = self._keeper.step_changed(change, self._clock())
        objects = None if change.series is None else _count(change.series)
        log.info("step_changed", state=state.value, objects=objects)

    def _notice(self, event: Any, uid: str, said: Attributes) -> str | None:
        """The UID of the notice where its sender gave it none."""
        notice = read.notice(uid, said)
        self._spend(event, self._objects, _count(notice.online) + _count(notice.away))
        try:
            self._keeper.notice(notice, self._clock(), keep_s=self._keep_s)
        except Refused:
            if uid:
                raise  # else it is the same notice again, under the UID that we gave it
        log.info("instances_available", objects=_count(notice.online))
        return None if uid else notice.uid

    def _spend(self, event: Any, allowance: Allowance, amount: int) -> None:
        """Raises Refused where the peer has used up its hour, by a clock that nobody steps."""
        peer = self._measured[event.assoc].guest.peer
        if not allowance.take(peer, amount, time.monotonic()):
            self._turned_away(peer, "often")
            raise Refused(RESOURCE_LIMIT, "too many announcements in an hour: send it again later")

    def _answer(self, event: Any, part: str, act: Callable[[Attributes], str | None]) -> tuple[Any, Any]:
        """Status (with a comment where it is a failure) and attributes of the answer."""
        kind: Any = None
        try:
            self._spend(event, self._announcements, 1)
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


class _Caller:
    """A connection from the moment that it is let in until its association is over."""

    def __init__(self, request: socket.socket, guest: Guest) -> None:
        self.request = request
        self.guest = guest
        self._association: Any = None

    def belongs_to(self, association: Any) -> None:
        """This is what pynetdicom made of it."""
        self._association = association

    @property
    def is_early(self) -> bool:
        """Whether pynetdicom has not heard of it yet."""
        return self._association is None

    @property
    def is_over(self) -> bool:
        """Whether nothing runs for it any more."""
        if self._association is None:
            return self.request.fileno() < 0
        return self._association.ident is not None and not self._association.is_alive()

    def end(self) -> None:
        """End it at once, whatever it waits for."""
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)
        if self._association is not None and not self._association.is_established:
            self._association.dul.to_user_queue.put(None)  # what it would find after its whole patience


class _Measured:
    """A connection that gives up where more comes than a message may hold, or too slowly: pynetdicom would keep it all.

    Where it ends, by us or by the peer, it is closed: pynetdicom leaves that to whoever collects garbage.
    """

    def __init__(self, connection: Any, guest: Guest) -> None:
        self._socket = connection.socket
        self.guest = guest
        self._came = 0
        self._began_at = 0.0
        connection.recv = self

    def begin(self) -> None:
        """The next byte begins a message."""
        self._came = 0

    def whole(self) -> None:
        """A message is whole."""
        self.guest.proven = True
        self.begin()

    def __call__(self, size: int) -> Any:
        """So many bytes, or fewer where the connection ends; raises OSError where it must end."""
        if not self._came:
            self._began_at = time.monotonic()
        self._came += size
        data = bytearray()
        try:
            if self._came > MESSAGE_LIMIT:
                log.warning("announcement_too_long", limit=MESSAGE_LIMIT)
                raise OSError("a message is too long")
            while len(data) < size and (part := self._some(size - len(data))):
                data += part
        finally:
            if len(data) < size:
                self._socket.close()
        return data

    def _some(self, size: int) -> bytes:
        left_s = self._began_at + WHOLE_TIMEOUT_S - time.monotonic()
        if left_s <= 0:
            log.warning("announcement_too_long", seconds=WHOLE_TIMEOUT_S)
            raise OSError("a message does not end")
        self._socket.settimeout(left_s)
        part: bytes = self._socket.recv(min(size, _CHUNK))
        self.guest.heard_at = time.monotonic()
        return part


def _count(series: Iterable[Series]) -> int:
    """Objects that are named."""
    return sum(len(each.instances) for each in series)


def _failure(kind: Any, error: Refused) -> Any:
    """A status; with words where a data set was read, whose class (pydicom's, not imported here) can hold them."""
    if kind is None:
        return error.status
    status = kind()
    status.Status, status.ErrorComment = error.status, str(error)[:64]
    if error.error_id is not None:
        status.ErrorID = error.error_id
    return status
