"""The order listener over real sockets: what is acknowledged, and what nothing may break."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import hl7 as reader
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from medai.router.errors import PermanentError, TemporaryError
from medai.router.hl7 import mllp
from medai.router.hl7.listener import OrderListener
from medai.router.hl7.orders_in import OrderMessage
from medai.router.hl7.patients_in import PatientMessage
from medai.router.settings.tables import Hl7InSettings

MSH = "MSH|^~\\&|RIS|H|MEDAI|AI|20240301101500||{kind}|{number}|P|2.5.1\r"
PID = "PID|1||12345^^^HOSP^MR||Doe^Jane\r"


def orm(number: str = "M1", placer: str = "PL1", kind: str = "ORM^O01") -> bytes:
    return (MSH.format(kind=kind, number=number) + PID + f"ORC|NW|{placer}\rOBR|1|{placer}|||S\r").encode()


class Keeper:
    """A ledger in memory; ``fails`` is what it raises."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.patients: list[str] = []
        self.fails: Exception | None = None

    def keep(self, messages: Sequence[OrderMessage]) -> None:
        if self.fails is not None:
            raise self.fails
        self.orders += [message.order.placer for message in messages]

    def keep_patients(self, messages: Sequence[PatientMessage]) -> None:
        self.patients.append(" ".join(message.kind for message in messages))


Start = Callable[..., OrderListener]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def start(keeper: Keeper) -> Iterator[Start]:
    running: list[OrderListener] = []

    def begin(limits: dict[str, object] | None = None, **more: object) -> OrderListener:
        settings = Hl7InSettings.model_validate({"port": 0, **(limits or {})})
        listener = OrderListener(settings, keeper.keep, lambda: 1.7e9, **more)  # type: ignore[arg-type]  # options vary by test
        listener.start()
        running.append(listener)
        return listener

    yield begin
    for listener in running:
        listener.stop()
        assert not listener.alive


def ask(listener: OrderListener, message: bytes) -> list[str]:
    """[MSA-1, MSA-2, ERR-3.1]"""
    return told(mllp.send(message, host="127.0.0.1", port=listener.port, timeout_s=20))


def told(answer: bytes) -> list[str]:
    message = reader.parse(answer.decode())
    error = str(message.segment("ERR")[3][0][0]) if len(message) > 2 else ""
    return [str(message.segment("MSA")[1]), str(message.segment("MSA")[2]), error]


def test_an_order_is_acknowledged_after_it_is_kept(start: Start, keeper: Keeper) -> None:
    assert ask(start(), orm()) == ["AA", "M1", ""]
    assert keeper.orders == ["PL1"]


def test_the_acknowledgement_waits_for_the_ledger(start: Start, keeper: Keeper) -> None:
    listener, release, entered = start(), threading.Event(), threading.Event()

    def slow(_messages: Sequence[OrderMessage]) -> None:
        entered.set()
        assert release.wait(20)

    listener._on_orders = slow
    with socket.create_connection(("127.0.0.1", listener.port)) as connection:
        connection.sendall(mllp.frame(orm()))
        assert entered.wait(20)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        release.set()
        connection.setblocking(True)
        assert connection.recv(1) == mllp.START


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (TemporaryError("the ledger is away"), ["AR", "M1", "207"]),
        (PermanentError("never"), ["AE", "M1", "207"]),
        (RuntimeError("Doe^Jane"), ["AE", "M1", "207"]),
    ],
)
def test_an_order_that_cannot_be_kept_is_never_accepted(
    start: Start, keeper: Keeper, error: Exception, answer: list[str]
) -> None:
    listener = start()
    keeper.fails = error
    assert ask(listener, orm()) == answer
    keeper.fails = None
    assert ask(listener, orm("M2")) == ["AA", "M2", ""]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (orm(kind="ORU^R01"), ["AR", "M1", "200"]),
        (orm(kind="ADT^A08"), ["AR", "M1", "200"]),
        (orm(placer=""), ["AE", "M1", "101"]),
        (orm(number=""), ["AE", "", "101"]),
        (b"this is not HL7", ["AE", "", "100"]),
        (b"", ["AE", "", "100"]),
        (b"\xff\xfe\x00" * 1000, ["AE", "", "100"]),
    ],
)
def test_what_cannot_be_taken_is_answered_with_its_code(
    start: Start, keeper: Keeper, message: bytes, answer: list[str]
) -> None:
    listener = start()
    assert ask(listener, message) == answer
    assert keeper.orders == []
    assert ask(listener, orm("M2")) == ["AA", "M2", ""]


def test_patient_updates_are_taken_where_somebody_keeps_them(start: Start, keeper: Keeper) -> None:
    assert ask(start(on_patient=keeper.keep_patients), orm(kind="ADT^A08")) == ["AA", "M1", ""]
    assert keeper.patients == ["update"]


def read(connection: socket.socket, count: int) -> list[list[str]]:
    frames, found = mllp.Frames(), []
    while len(found) < count:
        data = connection.recv(4096)
        assert data, "the listener closed the connection"
        found += frames.feed(data)
    return [told(answer) for answer in found]


def test_many_messages_on_one_connection_are_answered_in_order(start: Start, keeper: Keeper) -> None:
    with socket.create_connection(("127.0.0.1", start().port), timeout=20) as connection:
        connection.sendall(b"noise" + b"".join(mllp.frame(orm(f"M{n}", f"PL{n}")) for n in range(50)))
        assert [answer[1] for answer in read(connection, 50)] == [f"M{n}" for n in range(50)]
    assert keeper.orders == [f"PL{n}" for n in range(50)]


def test_many_connections_at_once_are_served(start: Start, keeper: Keeper) -> None:
    listener = start()
    connections = [socket.create_connection(("127.0.0.1", listener.port), timeout=20) for _ in range(50)]
    for number, connection in enumerate(connections):
        connection.sendall(mllp.frame(orm(f"M{number}", f"PL{number}")))
    assert [read(connection, 1)[0][1] for connection in connections] == [f"M{n}" for n in range(50)]
    for connection in connections:
        connection.close()
    assert len(set(keeper.orders)) == 50


def test_a_message_that_is_too_long_ends_its_connection_and_no_other(start: Start) -> None:
    listener = start()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as connection:
        connection.sendall(mllp.START + b"x" * (mllp.SIZE_LIMIT + 1))
        assert read(connection, 1) == [["AE", "", "207"]]
        assert connection.recv(1) == b""
    assert ask(listener, orm())[0] == "AA"


def test_a_message_that_stops_half_way_ends_its_connection(start: Start, keeper: Keeper) -> None:
    listener = start(message_timeout_s=0.05)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as connection:
        connection.sendall(mllp.START + orm()[:30])
        assert connection.recv(1) == b""
    assert keeper.orders == []
    assert ask(listener, orm())[0] == "AA"


def test_peers_that_vanish_do_no_harm(start: Start) -> None:
    listener = start()
    for bytes_ in (b"", b"\x0bMSH|", mllp.frame(orm())):
        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST instead of FIN
            connection.sendall(bytes_)
    assert ask(listener, orm())[0] == "AA"


def test_a_stop_lets_the_message_in_hand_be_acknowledged(keeper: Keeper) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(messages: Sequence[OrderMessage]) -> None:
        entered.set()
        assert release.wait(20)
        keeper.keep(messages)

    listener = OrderListener(Hl7InSettings(port=0), slow)
    listener.start()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=20) as connection:
        connection.sendall(mllp.frame(orm()))
        assert entered.wait(20)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        release.set()
        assert read(connection, 1) == [["AA", "M1", ""]]
        stopping.join()
    assert keeper.orders == ["PL1"]


def test_a_taken_port_is_told_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = OrderListener(Hl7InSettings(port=taken.getsockname()[1]), lambda _: None)
        with pytest.raises(OSError, match="address already in use"):
            listener.start()
    listener.stop()


def connected(listener: OrderListener, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=20, source_address=(source, 0))


def trickle(connection: socket.socket, start: bytes) -> None:
    """A byte now and then, until the other end has had enough."""
    connection.sendall(start)
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("sources", [1, 20])
def test_a_thousand_connections_that_say_nothing_keep_nobody_out(start: Start, keeper: Keeper, sources: int) -> None:
    """From one address, which is the sender's own, and from many."""
    turned_away: Counter[str] = Counter()
    listener = start(turned_away=turned_away)
    with many_files(4000), ExitStack() as stack, connected(listener) as ris, capture_logs() as logs:
        ris.sendall(mllp.frame(orm("M1")))
        assert read(ris, 1) == [["AA", "M1", ""]]
        for number in range(1000):
            stack.enter_context(connected(listener, f"127.0.0.{2 + number % sources if sources > 1 else 1}"))
        began = time.monotonic()
        assert ask(listener, orm("M2", "PL2")) == ["AA", "M2", ""]
        ris.sendall(mllp.frame(orm("M3", "PL3")))
        assert read(ris, 1) == [["AA", "M3", ""]], "the connection that sent messages was kept"
        assert time.monotonic() - began < 5
        left = Hl7InSettings().connections_of_peer if sources == 1 else Hl7InSettings().connections
        assert len(listener._connections) <= left + 2
    assert turned_away["limit"] >= 1000 - left
    assert len(logs) < 100, "the flood does not fill the log"


def test_messages_without_end_hold_little_memory_and_keep_nobody_out(start: Start) -> None:
    turned_away: Counter[str] = Counter()
    listener = start(turned_away=turned_away)
    before = resident_mib()
    with ExitStack() as stack:
        for _ in range(40):
            flood = stack.enter_context(connected(listener, "127.0.0.2"))
            with suppress(OSError):  # it was ended while we wrote
                flood.sendall(mllp.START + b"MSH|^~\\&|" + b"x" * (7 << 20))
        assert ask(listener, orm()) == ["AA", "M1", ""]
        assert resident_mib() - before < 100, "40 messages of 7 MiB"
    assert turned_away["memory"] >= 30


def resident_mib() -> float:
    fields = Path("/proc/self/statm").read_text("ascii").split()
    return int(fields[1]) * resource.getpagesize() / 2**20


def test_a_byte_now_and_then_keeps_no_message_open(start: Start) -> None:
    turned_away: Counter[str] = Counter()
    listener = start(whole_timeout_s=0.3, turned_away=turned_away)
    with connected(listener) as drip, pytest.raises(OSError):  # noqa: PT011 - whichever way the kernel tells
        trickle(drip, mllp.START)
    assert turned_away == {"too_long": 1}


def test_a_silent_connection_ends(start: Start) -> None:
    turned_away: Counter[str] = Counter()
    listener = start({"idle_s": 0.1}, turned_away=turned_away)
    with connected(listener) as connection:
        connection.sendall(mllp.frame(orm()))
        assert read(connection, 1)[0][0] == "AA"
        assert connection.recv(1) == b""
    assert turned_away == {"idle": 1}


def test_an_address_that_is_not_in_the_list_is_not_listened_to(start: Start, keeper: Keeper) -> None:
    turned_away: Counter[str] = Counter()
    listener = start({"allowed_peers": ["127.0.0.0/31", "10.0.0.1"]}, turned_away=turned_away)
    with capture_logs() as logs:
        for _ in range(3):
            with suppress(OSError), connected(listener, "127.0.0.2") as connection:
                connection.sendall(mllp.frame(orm()))
                assert connection.recv(1) == b""
    assert ask(listener, orm("M2", "PL2"))[0] == "AA"
    assert keeper.orders == ["PL2"]
    assert turned_away == {"peer": 3}
    assert [(each["event"], each["peer"], each["reason"]) for each in logs] == [
        ("hl7_turned_away", "127.0.0.2", "peer")
    ]


@pytest.mark.parametrize(
    ("senders", "taken"),
    [([], True), (["RIS|H"], True), (["RIS"], True), (["ADT", "RIS|H"], True), (["RIS|X"], False), (["H"], False)],
)
def test_a_sender_that_is_not_in_the_list_is_refused_and_keeps_nothing(
    start: Start, keeper: Keeper, senders: list[str], taken: bool
) -> None:
    turned_away: Counter[str] = Counter()
    listener = start({"allowed_senders": senders}, on_patient=keeper.keep_patients, turned_away=turned_away)
    for message, number in ((orm(), "M1"), (adt("M2"), "M2")):
        assert ask(listener, message) == (["AA", number, ""] if taken else ["AE", number, "103"])
    assert bool(keeper.orders) is bool(keeper.patients) is taken
    assert turned_away == ({} if taken else {"sender": 2})


def adt(number: str, event: str = "A31") -> bytes:
    return (MSH.format(kind=f"ADT^{event}", number=number) + PID).encode()


BATCH = b"FHS|^~\\&|RIS|H|MEDAI|AI|2026||||F1\rBHS|^~\\&|RIS|H|MEDAI|AI|2026||||B1\r%bBTS|%d\rFTS|1\r"


def answers_of(answer: bytes) -> list[tuple[str, str]]:
    """(MSA-1, MSA-2) of each acknowledgement in a batch."""
    return [(row.split("|")[1], row.split("|")[2]) for row in answer.decode().split("\r") if row.startswith("MSA")]


def send(listener: OrderListener, data: bytes) -> bytes:
    return mllp.send(data, host="127.0.0.1", port=listener.port, timeout_s=20)


def test_the_messages_of_a_batch_are_taken_in_order_and_each_is_answered(start: Start, keeper: Keeper) -> None:
    listener = start(on_patient=keeper.keep_patients)
    messages = [orm("M1", "PL1"), adt("M2"), orm("M3", ""), orm("M4", "PL4")]
    answer = send(listener, BATCH % (b"".join(messages), 4))
    assert answers_of(answer) == [("AA", "M1"), ("AA", "M2"), ("AE", "M3"), ("AA", "M4")]
    assert answer.startswith(b"FHS|^~\\&|MEDAI|AI|RIS|H|")
    assert answer.endswith(b"\rBTS|4\rFTS|1\r")
    assert (keeper.orders, keeper.patients) == (["PL1", "PL4"], ["update"])
    assert len(reader.parse_file(answer.decode())[0]) == 4


def test_a_batch_with_a_wrong_count_is_refused_before_anything_is_kept(start: Start, keeper: Keeper) -> None:
    listener = start(on_patient=keeper.keep_patients)
    assert ask(listener, BATCH % (orm("M1") + adt("M2"), 3)) == ["AE", "F1", "100"]
    assert ask(listener, orm("M1") + orm("M2", "PL2")) == ["AE", "M1", "100"]
    assert (keeper.orders, keeper.patients) == ([], [])


def test_what_follows_a_message_that_must_come_again_must_come_again_too(start: Start, keeper: Keeper) -> None:
    listener = start(on_patient=keeper.keep_patients)
    keeper.fails = TemporaryError("the ledger is away")
    whole = BATCH % (adt("M1") + orm("M2") + orm("M3", "PL3") + adt("M4"), 4)
    assert answers_of(send(listener, whole)) == [("AA", "M1"), ("AR", "M2"), ("AR", "M3"), ("AR", "M4")]
    keeper.fails = None
    assert [code for code, _ in answers_of(send(listener, whole))] == ["AA"] * 4
    assert keeper.orders == ["PL1", "PL3"]


def test_kinds_that_the_site_ignores_are_acknowledged_counted_and_not_kept(keeper: Keeper) -> None:
    answers: Counter[str] = Counter()
    ignoring = Hl7InSettings(port=0, ignore=("ADT^A11", "SIU^*", "ORM^*"))
    listener = OrderListener(ignoring, keeper.keep, on_patient=keeper.keep_patients, answers=answers)
    listener.start()
    with capture_logs() as logs:
        for number, kind in enumerate(["ADT^A11", "SIU^S12", "SIU^S15", "ORM^O01", "ADT^A08", "MDM^T02"]):
            code = "AR" if kind == "MDM^T02" else "AA"
            assert ask(listener, orm(f"M{number}", kind=kind))[:2] == [code, f"M{number}"]
    listener.stop()
    assert (keeper.orders, keeper.patients) == ([], ["update"])
    assert answers == {"ignored": 4, "taken": 1, "refused": 1}
    assert [entry["type"] for entry in logs if entry["event"] == "hl7_ignored"] == [
        "ADT^A11", "SIU^S12", "SIU^S15", "ORM^O01",
    ]  # fmt: skip
    assert not any(word in str(logs) for word in ("12345", "Doe"))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from([b"FHS|^~\\&|R\r", b"BHS|^~\\&|R\n", b"BTS|1\r", b"BTS\r\n", b"FTS|1\r", b"FTS", adt("M1"), orm(),
                             b"\xff\xfe", b"\0", b"Z01|x\r", b"MSH|^~\\&", b"MSH", b"\x1b$B", b"\\M2442\\", b"PID|1\r"]),
            max_size=9,
        ).map(b"".join),
    )
)  # fmt: skip
def test_whatever_a_frame_holds_there_is_an_answer_to_each_message_of_it(data: bytes) -> None:
    keeper = Keeper()
    listener = OrderListener(Hl7InSettings(port=0), keeper.keep, lambda: 1.7e9, on_patient=keeper.keep_patients)
    answer = listener._reply(data)
    listener.stop()
    codes = [code for code, _ in answers_of(answer)]
    assert answer.startswith((b"MSH|", b"FHS|", b"BHS|"))
    assert set(codes) <= {"AA", "AE", "AR"}
    assert codes.count("AA") == len(keeper.orders) + len(keeper.patients)
