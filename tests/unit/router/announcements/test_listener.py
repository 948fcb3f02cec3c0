"""The DICOM listener over real associations: what is kept, what is refused with which status, what nothing may break."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from typing import Any

import pytest
from certificates import Authority
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dimse_primitives import N_CREATE
from servers import free_port, wait_for
from structlog.testing import capture_logs

from medai.router import tls
from medai.router.announcements import listener as module
from medai.router.announcements.listener import IAN, MPPS, SYNTAXES, VERIFICATION, AnnouncementListener
from medai.router.announcements.read import Notice, Refused, StepBegun, StepChange, StepState
from medai.router.errors import LedgerUnreachable
from medai.router.settings.tables import AnnouncementsSettings
from medai.router.settings.tls import ClientTls, ServerTls

STUDY, IMAGE = "1.2.3.4444", "1.9.5555"


class Keeper:
    """A ledger in memory; ``fails`` is what it raises."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.fails: Exception | None = None

    def step_begun(self, step: StepBegun, now: float, *, keep_s: float) -> None:
        self._keep(step)

    def step_changed(self, change: StepChange, now: float) -> StepState:
        self._keep(change)
        return change.state or StepState.IN_PROGRESS

    def notice(self, notice: Notice, now: float, *, keep_s: float) -> None:
        self._keep(notice)

    def _keep(self, said: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.kept.append(said)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def port(keeper: Keeper) -> Iterator[int]:
    with listening(keeper) as found:
        yield found


@contextmanager
def listening(keeper: Keeper, turned_away: Counter[str] | None = None, **more: Any) -> Iterator[int]:
    settings = AnnouncementsSettings(port=free_port(), **more)
    made = AnnouncementListener(settings, keeper, lambda: 1.0, turned_away)
    made.start()
    try:
        yield settings.port
    finally:
        made.stop()


@contextmanager
def association(port: int, title: str = "CT1", context: ssl.SSLContext | None = None) -> Iterator[Any]:
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = 10
    entity.network_timeout = 60  # a busy machine may take a while over what a test does meanwhile
    for sop_class in (VERIFICATION, MPPS, IAN):
        entity.add_requested_context(sop_class, SYNTAXES[1])
    with_tls = None if context is None else (context, "localhost")
    made = entity.associate("127.0.0.1", port, ae_title="ANY", tls_args=with_tls)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()
        connection = made.dul.socket
        if (
            connection is not None and connection.socket is not None
        ):  # pynetdicom leaves it open where the peer ended it
            connection.socket.close()


def data(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def begun(state: str = "IN PROGRESS") -> Dataset:
    return data(PerformedProcedureStepStatus=state, ScheduledStepAttributesSequence=[data(StudyInstanceUID=STUDY)])


def ended() -> Dataset:
    images = [data(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=IMAGE)]
    series = [data(SeriesInstanceUID="1.8", ReferencedImageSequence=images)]
    return data(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=series)


def available() -> Dataset:
    image = data(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=IMAGE, InstanceAvailability="ONLINE",
        RetrieveAETitle="PACS",
    )  # fmt: skip
    series = data(SeriesInstanceUID="1.8", ReferencedSOPSequence=[image])
    return data(StudyInstanceUID=STUDY, ReferencedSeriesSequence=[series])


def create(peer: Any, said: Dataset, sop_class: str = MPPS, uid: str | None = "1.5") -> Any:
    return peer.send_n_create(said, sop_class, uid)[0]


def test_an_echo_a_step_and_a_notice_are_answered_with_success(keeper: Keeper, port: int) -> None:
    with association(port) as peer, capture_logs() as logs:
        statuses = [
            peer.send_c_echo(),
            create(peer, begun()),
            peer.send_n_set(ended(), MPPS, "1.5")[0],
            create(peer, available(), IAN, "1.6"),
        ]
    assert [status.Status for status in statuses] == [0, 0, 0, 0]
    step, change, notice = keeper.kept
    assert (step.studies, change.series[0].instances, notice.online[0].instances) == ((STUDY,), (IMAGE,), (IMAGE,))
    assert not any(secret in str(logs) for secret in (STUDY, IMAGE))


def test_a_notice_without_a_uid_is_answered_with_one_also_when_it_comes_again(keeper: Keeper, port: int) -> None:
    with association(port) as peer:
        status, _ = peer.send_n_create(available(), IAN, None)
        keeper.fails = Refused(0x0111, "this was announced before")
        again, _ = peer.send_n_create(available(), IAN, None)
    assert (status.Status, again.Status) == (0, 0)
    assert keeper.kept[0].uid.startswith("2.25.")


def test_a_step_without_a_uid_is_refused(keeper: Keeper, port: int) -> None:
    with association(port) as peer:
        assert create(peer, begun(), uid=None).Status == 0x0117
    assert keeper.kept == []


@pytest.mark.parametrize(
    ("raised", "status", "error_id"),
    [
        (Refused(0x0112, "no such step"), 0x0112, None),
        (Refused(0x0110, "the step has ended", error_id=0xA710), 0x0110, 0xA710),
        (LedgerUnreachable("the ledger does not answer"), 0x0110, None),
        (ValueError(STUDY), 0x0110, None),
    ],
)
def test_what_the_ledger_will_not_keep_is_refused(
    keeper: Keeper, port: int, raised: Exception, status: int, error_id: int | None
) -> None:
    keeper.fails = raised
    with association(port) as peer, capture_logs() as logs:
        answer, _ = peer.send_n_set(ended(), MPPS, "1.5")
    assert (answer.Status, answer.get("ErrorID")) == (status, error_id)
    assert STUDY not in str(answer.get("ErrorComment"))
    assert STUDY not in "".join(f"{line['event']} {line.get('reason', '')}" for line in logs)


def test_a_step_must_begin_in_progress(keeper: Keeper, port: int) -> None:
    with association(port) as peer:
        answer = create(peer, begun("COMPLETED"))
    assert (answer.Status, answer.ErrorComment) == (0x0106, "a step must begin IN PROGRESS")


def test_who_is_not_named_may_not_announce(keeper: Keeper) -> None:
    with listening(keeper, calling_ae_titles=("CT1",)) as port:
        with association(port, "CT2") as peer:
            assert peer.is_rejected
        with association(port, "CT1") as peer:
            assert create(peer, begun()).Status == 0


# -- hostile data sets


def raw(peer: Any, content: bytes, *, wait: bool = True) -> int | None:
    """An N-CREATE whose data set is these bytes; None where the connection ended."""
    request = N_CREATE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, MPPS, "1.5"
    request.AttributeList = BytesIO(content)
    context = next(each for each in peer.accepted_contexts if each.abstract_syntax == MPPS)
    peer._reactor_checkpoint.clear()
    peer.dimse.send_msg(request, context.context_id)
    _, answer = peer.dimse.get_msg(block=wait)
    peer._reactor_checkpoint.set()
    return None if answer is None else answer.Status


def item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def sequence(content: bytes) -> bytes:
    return struct.pack("<HHI", 0x0040, 0x0340, len(content)) + content


def deep(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = sequence(item(content))
    return content


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b"\x00" * 7, {0x0110, 0x0120}),
        (b"\x40\x00\x40\x03\xff\xff\xff\x7f", {0x0110, 0x0120}),
        (bytes(range(256)) * 40, {0x0106, 0x0110, 0x0120}),
        (deep(400), {0x0213}),
        (sequence(item(b"") * (module.ELEMENTS_LIMIT + 1)), {0x0213}),
    ],
)
def test_a_data_set_that_is_none_is_refused_and_the_next_is_taken(
    keeper: Keeper, port: int, content: bytes, statuses: set[int]
) -> None:
    with association(port) as peer:
        assert raw(peer, content) in statuses
    with association(port) as peer:
        assert create(peer, begun()).Status == 0


def test_a_message_without_a_data_set_is_refused(keeper: Keeper, port: int) -> None:
    with association(port) as peer:
        assert peer.send_n_create(None, MPPS, "1.5")[0].Status == 0x0120
        assert peer.send_n_create(None, IAN, "1.5")[0].Status == 0x0121


def test_a_peer_that_stops_in_mid_message_does_not_keep_the_listener_from_stopping(keeper: Keeper) -> None:
    with listening(keeper) as port, association(port) as peer:
        assert raw(peer, b"", wait=False) is None


def test_a_peer_that_says_nothing_does_not_keep_the_listener_from_stopping(keeper: Keeper) -> None:
    with listening(keeper) as port:
        peer = socket.create_connection(("127.0.0.1", port), timeout=10)
        wait_for(lambda: [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name])
    with peer:
        assert peer.recv(1) == b""


def test_a_message_without_end_ends_the_connection(keeper: Keeper, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_LIMIT", 100_000)
    with association(port) as peer, capture_logs() as logs:
        assert raw(peer, sequence(b"\x00" * 200_000)) is None
    assert "announcement_too_long" in [line["event"] for line in logs]
    with association(port) as peer:
        for _ in range(3):  # the limit is that of a message
            assert raw(peer, sequence(b"\x00" * 60_000)) is not None


def test_what_is_no_dicom_ends_its_connection_alone(keeper: Keeper, port: int) -> None:
    for content in (b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\xff\xff\xff\xff" + b"x" * 100, b"\x04\x00\x00\x00\x00\x01x"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(content)
    with association(port) as peer:
        assert create(peer, begun()).Status == 0


def test_a_port_that_is_taken_is_told(keeper: Keeper) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = AnnouncementsSettings(port=other.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            AnnouncementListener(settings, keeper, lambda: 1.0).start()


# -- who connects


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def trickle(connection: socket.socket, start: bytes) -> None:
    """A byte now and then, until the other end has had enough."""
    connection.sendall(start)
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def acceptors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]


@pytest.mark.slow
@pytest.mark.parametrize("sources", [1, 10])
def test_connections_that_say_nothing_keep_nobody_out(keeper: Keeper, sources: int) -> None:
    """From one address, which is the scanner's own, and from many."""
    turned_away: Counter[str] = Counter()
    with listening(keeper, turned_away) as port, ExitStack() as stack, capture_logs() as logs:
        scanner = stack.enter_context(association(port, "CT1"))
        assert create(scanner, begun()).Status == 0
        for number in range(300):
            stack.enter_context(connected(port, f"127.0.0.{2 + number % sources if sources > 1 else 1}"))
        began = time.monotonic()
        with association(port, "CT2") as other:
            assert create(other, begun()).Status == 0
        assert scanner.send_n_set(ended(), MPPS, "1.5")[0].Status == 0, "the association that announced was kept"
        assert time.monotonic() - began < 10
        left = AnnouncementsSettings().connections_of_peer if sources == 1 else AnnouncementsSettings().connections
        wait_for(lambda: len(acceptors()) <= left + 2, what="the end of the others' threads")
        told = [line for line in logs if line["event"] == "announcements_turned_away"]
    assert turned_away["limit"] >= 300 - left
    assert len(told) <= sources
    assert len(keeper.kept) == 3


def test_a_message_that_does_not_end_ends_its_connection(
    keeper: Keeper, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_TIMEOUT_S", 0.5)
    with connected(port) as drip, pytest.raises(OSError):  # noqa: PT011 - whichever way the kernel tells
        trickle(drip, b"\x01\x00\x00\x00\x10\x00")
    with association(port) as peer:
        assert create(peer, begun()).Status == 0


def test_the_wait_between_two_messages_is_not_the_time_of_a_message(
    keeper: Keeper, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_TIMEOUT_S", 0.5)
    with association(port) as peer:
        time.sleep(0.7)
        assert create(peer, begun()).Status == 0
        time.sleep(0.7)
        assert peer.send_n_set(ended(), MPPS, "1.5")[0].Status == 0


def test_an_address_that_is_not_in_the_list_is_not_listened_to(keeper: Keeper) -> None:
    turned_away: Counter[str] = Counter()
    with listening(keeper, turned_away, allowed_peers=("127.0.0.1",)) as port:
        with suppress(OSError), connected(port, "127.0.0.2") as stranger:
            assert stranger.recv(1) == b""
        with association(port) as peer:
            assert create(peer, begun()).Status == 0
    assert turned_away == {"peer": 1}


def test_a_peer_that_announces_without_end_is_refused(keeper: Keeper) -> None:
    turned_away: Counter[str] = Counter()
    with listening(keeper, turned_away, per_hour=5) as port, association(port) as peer:
        assert [create(peer, begun(), uid=f"1.5.{n}").Status for n in range(7)] == [0] * 5 + [0x0213] * 2
    assert (len(keeper.kept), turned_away) == (5, {"often": 2})


def test_a_peer_that_names_more_objects_than_any_hospital_is_refused(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OBJECTS_PER_HOUR", 2)
    with listening(keeper) as port, association(port) as peer:
        answers = [
            create(peer, begun()).Status,
            peer.send_n_set(ended(), MPPS, "1.5")[0].Status,
            create(peer, available(), IAN, "1.6").Status,
            create(peer, available(), IAN, "1.7").Status,
        ]
    assert (answers, len(keeper.kept)) == ([0, 0, 0, 0x0213], 3)


class Secured:
    """The files of a site with TLS, and what its peers connect with."""

    def __init__(self, authority: Authority) -> None:
        self._authority, pair = authority, authority.pair()
        self.port = ServerTls(certificate_file=pair.certificate, key_file=pair.key, ca_file=authority.ca_file)
        self._pair = pair

    def peer(self, *, shows: bool = True) -> ssl.SSLContext:
        files = {"certificate_file": self._pair.certificate, "key_file": self._pair.key} if shows else {}
        return tls.client_context(ClientTls(ca_file=self._authority.ca_file, **files), where="test")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    return Secured(Authority(tmp_path_factory.mktemp("announcements")))


def test_over_tls_a_step_is_kept_and_nobody_without_a_certificate_gets_in(keeper: Keeper, secured: Secured) -> None:
    turned_away: Counter[str] = Counter()
    with listening(keeper, turned_away, tls=secured.port) as port:
        for context in (None, secured.peer(shows=False)):
            with association(port, context=context) as peer:
                assert not peer.is_established
        with association(port, context=secured.peer()) as peer:
            assert create(peer, begun()).Status == 0
            assert peer.send_n_set(ended(), MPPS, "1.5")[0].Status == 0
        assert len(keeper.kept) == 2
        wait_for(lambda: turned_away["tls"] == 2)


def test_handshakes_that_do_not_end_keep_no_announcement_out(
    keeper: Keeper, secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_S", 1.0)
    turned_away: Counter[str] = Counter()
    with listening(keeper, turned_away, tls=secured.port) as port, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(30)]
        for half in idle[1::2]:
            half.sendall(b"\x16\x03\x01")
        with association(port, context=secured.peer()) as peer:
            assert create(peer, begun()).Status == 0
            assert turned_away["limit"] >= 20
            wait_for(lambda: all(_is_closed(connection) for connection in idle), within_s=10)
            assert peer.send_c_echo().Status == 0


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return not connection.recv(100)
    except TimeoutError:
        return False
    except OSError:
        return True
