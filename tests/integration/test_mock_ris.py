"""The mock RIS as a process of its own, driven over real sockets: results in, orders out, restarts, faults."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 20.0


def oru(control_id: str = "C1", status: str = "P", volume: str = "12.5", **fields: str) -> bytes:
    """A good result; ``fields`` replace placer, accession, patient_id, study_uid, filler."""
    given = {"placer": "X1", "accession": "A1", "patient_id": "P1", "study_uid": "1.2.3", "filler": "AI1", **fields}
    when = "20260102030405+0000"
    segments = (
        f"MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|{when}||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||UNICODE UTF-8",
        f"PID|1||{given['patient_id']}^^^HOSPITAL^MR||Müller^Jane||19700101|F",
        f"OBR|1|{given['placer']}|{given['filler']}|24627-2^CT Chest^LN|||{when}{'|' * 11}{given['accession']}"
        f"||||{when}||CT|{status}",
        f"OBX|1|HD|113014^DICOM Study^DCM||{given['study_uid']}||||||P",
        "OBX|2|CWE|121071^Finding^DCM|1|39607008^Lung^SCT||||||P",
        f"OBX|3|NM|118565006^Volume^SCT|1|{volume}|ml^milliliter^UCUM|||||P",
    )
    return "".join(f"{segment}\r" for segment in segments).encode()


def read_reply(connection: socket.socket) -> bytes:
    """What comes until the end mark, or until the other side closes."""
    received = b""
    while not received.endswith(b"\x1c\r"):
        data = connection.recv(65536)
        if not data:
            break
        received += data
    return received


def ack_of(reply: bytes) -> tuple[str, str]:
    line = next(line for line in reply.decode().split("\r") if line.startswith("MSA|"))
    _, code, control_id, *_ = [*line.split("|"), ""]
    return code, control_id


class RisProcess:
    """``medai ris`` on free ports."""

    def __init__(self, data: Path, router_port: int = 1, *options: str) -> None:
        arguments = ["--mllp-port", "0", "--http-port", "0", "--router-port", str(router_port), "--data", str(data)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "medai.hl7_mock.cli", *arguments, *options], stderr=subprocess.PIPE, bufsize=0
        )
        self.log: list[dict[str, Any]] = []
        ready = self._ready_line()
        self.mllp = ("127.0.0.1", int(ready["mllp"].rpartition(":")[2]))
        self.url = f"http://{ready['http']}"
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _ready_line(self) -> dict[str, Any]:
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], WAIT_S)[0], "the RIS did not say that it is ready"
        first: dict[str, Any] = json.loads(self.process.stderr.readline())
        assert first["event"] == "ris_ready"
        return first

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def connect(self) -> socket.socket:
        return socket.create_connection(self.mllp, timeout=WAIT_S)

    def send(self, payload: bytes) -> bytes:
        with self.connect() as connection:
            connection.sendall(b"\x0b" + payload + b"\x1c\r")
            return read_reply(connection)

    def http(self, path: str, body: Any = None, *, method: str | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback server
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - as above
                return answer.status, _decoded(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error)


def _decoded(answer: Any) -> Any:
    text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers["content-type"] else text


class OrderReceiver:
    """A small MLLP receiver that stands for the router; ``answer`` makes MSA-1, or None for silence."""

    def __init__(self, answer: Callable[[int], str | None]) -> None:
        self.got: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(WAIT_S)
                    self._reply(connection)

    def _reply(self, connection: socket.socket) -> None:
        message = read_reply(connection)[1:-2]
        self.got.append(message)
        control_id = message.split(b"\r")[0].split(b"|")[9].decode()
        code = self._answer(len(self.got))
        if code is not None:
            ack = f"MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|20260101||ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r"
            connection.sendall(b"\x0b" + ack.encode() + b"\x1c\r")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        self._listener.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RisProcess]]:
    running: list[RisProcess] = []

    def make(*options: str, router_port: int = 1, data: Path = tmp_path / "ris") -> RisProcess:
        running.append(RisProcess(data, router_port, *options))
        return running[-1]

    yield make
    for ris in running:
        if ris.process.poll() is None:
            ris.stop(signal.SIGKILL)


@pytest.fixture
def receiver() -> Iterator[Callable[..., OrderReceiver]]:
    running: list[OrderReceiver] = []

    def make(answer: Callable[[int], str | None] = lambda _: "AA") -> OrderReceiver:
        running.append(OrderReceiver(answer))
        return running[-1]

    yield make
    for each in running:
        each.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_result_is_acknowledged_shown_and_kept_over_a_kill(start) -> None:
    ris = start()
    assert ack_of(ris.send(oru())) == ("AA", "C1")
    assert ack_of(ris.send(oru("C2", "P", "13"))) == ("AA", "C2")
    status, before = ris.http("/results?accession=A1")
    (result,) = before
    assert status == 200
    assert (result["filler"], result["status"], result["control_id"]) == ("AI1", "P", "C2")
    assert (result["study_uid"], result["placer"], result["flags"]) == ("1.2.3", "X1", ["unsolicited"])
    assert [(each["name"], each["value"], each["unit"], each["subject"]) for each in result["measurements"]] == [
        ("Volume", 13.0, "ml", "Lung")
    ]
    assert [step["status"] for step in result["history"]] == ["P", "P"]
    assert result["raw"] == oru("C2", "P", "13").decode()
    assert abs(result["received_at"] - time.time()) < 600
    ris.stop(signal.SIGKILL)

    again = start()
    assert again.http("/results?accession=A1")[1] == before
    assert ack_of(again.send(oru())) == ("AA", "C1")
    assert again.http("/stats")[1] == {"received": 3, "accepted": 2, "duplicates": 1, "rejected": 0}
    assert ack_of(again.send(oru("C3", "C"))) == ("AE", "C3")


def test_one_connection_carries_many_messages_in_order_even_when_they_are_pipelined(start) -> None:
    ris = start()
    with ris.connect() as connection:
        stream = b"".join(b"\x0b" + oru(f"C{n}", filler=f"F{n}") + b"\x1c\r" for n in range(5))
        for at in range(0, len(stream), 97):
            connection.sendall(stream[at : at + 97])
        received = b""
        while received.count(b"\x1c\r") < 5:
            received += connection.recv(65536)
    replies = received.split(b"\x1c\r")[:5]
    assert [ack_of(reply) for reply in replies] == [("AA", f"C{n}") for n in range(5)]


def test_several_connections_are_served_at_once(start) -> None:
    ris = start()
    with ris.connect() as idle, ThreadPoolExecutor(8) as pool:
        idle.sendall(b"\x0bMSH|half a mess")
        replies = list(pool.map(lambda n: ris.send(oru(f"C{n}", filler=f"F{n}")), range(40)))
    assert {ack_of(reply)[0] for reply in replies} == {"AA"}
    assert ris.http("/stats")[1]["accepted"] == 40


def test_a_connection_that_is_half_closed_still_gets_its_reply(start) -> None:
    ris = start()
    with ris.connect() as connection:
        connection.sendall(b"\x0b" + oru() + b"\x1c\r")
        connection.shutdown(socket.SHUT_WR)
        assert ack_of(read_reply(connection)) == ("AA", "C1")
        assert connection.recv(10) == b""


def test_garbage_gets_an_answer_or_is_skipped_and_harms_nobody(start) -> None:
    ris = start()
    assert ack_of(ris.send(b"not HL7 at all")) == ("AR", "")
    with ris.connect() as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n" + b"\x0bMSH|unfinished" + b"\x0b" + oru() + b"\x1c\r")
        assert ack_of(read_reply(connection)) == ("AA", "C1")
    with ris.connect() as connection:
        connection.sendall(os.urandom(5000))
    assert ack_of(ris.send(oru("C2", filler="F2"))) == ("AA", "C2")


def test_a_message_of_a_megabyte_is_taken_and_one_beyond_the_limit_is_refused(start) -> None:
    ris = start("--max-message-mb", "2")
    note = "NTE|1||" + "x" * 1000 + "\r"
    assert ack_of(ris.send(oru() + note.encode() * 1000)) == ("AA", "C1")
    with ris.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"\x0b" + oru("C2") + note.encode() * 3000)
        while connection.recv(65536):
            pass
    assert ris.http("/stats")[1]["rejected"] == 1
    assert ack_of(ris.send(oru("C3", filler="F3"))) == ("AA", "C3")


def test_an_order_is_sent_acknowledged_and_answered_by_a_result(start, receiver) -> None:
    router = receiver()
    ris = start(router_port=router.port)
    asked = {"patient_id": "P1", "patient_name": "Müller^Jane", "accession": "A1", "study_uid": "1.2.3"}
    status, order = ris.http("/orders", {**asked, "priority": "STAT", "modality": "CT"})
    assert (status, order["ack"], order["state"], order["attempts"]) == (201, "AA", "acknowledged", 1)
    (message,) = router.got
    assert message.decode() == order["messages"][0]["text"]
    assert f"ORC|NW|{order['placer']}|" in message.decode()
    assert "ZDS|1.2.3^" in message.decode()

    assert ack_of(ris.send(oru(placer=order["placer"])))[0] == "AA"
    assert ris.http("/results")[1][0]["flags"] == []
    assert ris.http(f"/orders/{order['placer']}")[1]["state"] == "resulted"
    status, page = ris.http("/")
    assert status == 200
    assert all(shown in page for shown in ("Müller, Jane", "A1", "Volume", "12.5", "preliminary"))
    assert "<script>" not in page


def test_an_order_without_reply_is_sent_again_byte_for_byte_even_after_a_restart(start, receiver) -> None:
    router = receiver(lambda count: None if count < 3 else "AA")
    ris = start(router_port=router.port)
    _, order = ris.http("/orders", {})
    assert (order["state"], order["ack"]) == ("placed", "")
    ris.stop(signal.SIGKILL)
    again = start(router_port=router.port)
    until(lambda: again.http(f"/orders/{order['placer']}")[1]["state"] == "acknowledged")
    assert len(router.got) >= 3
    assert len(set(router.got)) == 1


def test_a_refused_order_is_not_sent_again(start, receiver) -> None:
    router = receiver(lambda _: "AE")
    ris = start(router_port=router.port)
    assert ris.http("/orders", {})[1]["state"] == "refused"
    assert len(router.got) == 1


def test_an_order_can_be_cancelled(start, receiver) -> None:
    router = receiver()
    ris = start(router_port=router.port)
    placer = ris.http("/orders", {"accession": "A1"})[1]["placer"]
    status, order = ris.http(f"/orders/{placer}/cancel", method="POST")
    assert (status, order["state"]) == (200, "cancelled")
    assert f"ORC|CA|{placer}|" in router.got[-1].decode()
    assert ris.http("/orders/NONE/cancel", method="POST")[0] == 404


def test_a_merge_is_told_and_orders_and_results_follow(start, receiver) -> None:
    router = receiver()
    ris = start(router_port=router.port)
    asked = {"patient_id": "P1", "patient_name": "Müller^Jane", "accession": "A1", "study_uid": "1.2.3"}
    placer = ris.http("/orders", asked)[1]["placer"]
    assert ack_of(ris.send(oru(placer=placer)))[0] == "AA"
    status, event = ris.http("/patients/merge", {"patient_id": "P2", "prior_id": "P1"})
    assert (status, event["kind"], event["ack"], event["attempts"]) == (201, "merge", "AA", 1)
    assert "|ADT^A40^ADT_A39|" in router.got[-1].decode()
    assert "PID|1||P2^^^HOSPITAL^MR||Müller^Jane||" in router.got[-1].decode()
    assert "\rMRG|P1^^^HOSPITAL^MR\r" in router.got[-1].decode()
    assert ris.http(f"/orders/{placer}")[1]["patient_id"] == "P2"
    (result,) = ris.http("/results?patient_id=P2")[1]
    assert (result["sent_patient_id"], result["order"], len(result["history"])) == ("P1", placer, 1)

    assert ack_of(ris.send(oru("C2", "P", placer=placer))) == ("AE", "C2")
    assert ack_of(ris.send(oru("C2", "P", placer=placer, patient_id="P2"))) == ("AA", "C2")
    (result,) = ris.http("/results")[1]
    assert (result["patient_id"], [step["status"] for step in result["history"]]) == ("P2", ["P", "P"])
    page = ris.http("/")[1]
    assert all(shown in page for shown in ("Patient updates", "P1 is now P2", "ADT A40"))
    assert ris.http(f"/messages/{event['control_id']}")[1] == router.got[-1].decode()
    assert ris.http("/patients/merge", {"patient_id": "P2", "prior_id": "P1"})[0] == 200
    assert ris.http("/patients/merge", {"patient_id": "P1", "prior_id": "P2"})[0] == 409
    assert ris.http("/orders", {"patient_id": "P1"})[0] == 409
    assert len(ris.http("/patients")[1]) == 1


def test_a_ris_may_file_a_result_of_a_merged_patient_under_the_surviving_one(start) -> None:
    ris = start("--merged-patients", "accept")
    ris.http("/patients/merge", {"patient_id": "P2", "prior_id": "P1", "patient_name": "Doe^Jane"})
    assert ack_of(ris.send(oru()))[0] == "AA"
    assert ris.http("/results?patient_id=P2")[1][0]["sent_patient_id"] == "P1"


def test_patient_updates_go_out_in_their_order_and_again_after_a_kill(start, receiver) -> None:
    ris = start(router_port=1)
    ris.http("/orders", {"patient_id": "P1", "patient_name": "Doe^Jane"})
    first = ris.http("/patients/update", {"patient_id": "P1", "patient_name": "Roe^Jane"})[1]
    second = ris.http("/patients/merge", {"patient_id": "P2", "prior_id": "P1"})[1]
    assert (first["ack"], second["ack"]) == ("", "")
    ris.stop(signal.SIGKILL)
    router = receiver(lambda count: None if count == 1 else "AA")
    again = start(router_port=router.port)
    until(lambda: [each["ack"] for each in again.http("/patients")[1]] == ["AA", "AA"])
    told = [message.decode() for message in router.got if b"|ADT^" in message]
    events = [text.split("\r")[0].split("|")[8:10] for text in told]
    wanted = [["ADT^A08^ADT_A01", first["control_id"]], ["ADT^A40^ADT_A39", second["control_id"]]]
    assert [each for number, each in enumerate(events) if each not in events[:number]] == wanted
    assert len(set(told)) == 2
    assert "Roe^Jane" in told[-1]


def test_many_updates_at_once_are_all_told(start, receiver) -> None:
    router = receiver()
    ris = start(router_port=router.port)
    with ThreadPoolExecutor(8) as pool:
        bodies = [{"patient_id": f"P{number}", "patient_name": "Doe^Jane"} for number in range(16)]
        answers = list(pool.map(lambda body: ris.http("/patients/update", body), bodies))
    assert {status for status, _ in answers} == {201}
    until(lambda: {each["ack"] for each in ris.http("/patients")[1]} == {"AA"})
    assert len(router.got) == 16


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/patients/update", {}),
        ("/patients/update", {"patient_id": "P1"}),
        ("/patients/merge", {"patient_id": "P1", "patient_name": "Doe^Jane"}),
        ("/patients/merge", {"patient_id": "P1", "prior_id": "P1", "patient_name": "Doe^Jane"}),
    ],
)
def test_a_wrong_update_is_refused_with_a_reason(start, path, body) -> None:
    ris = start()
    status, answer = ris.http(path, body)
    assert (status, bool(answer["error"]), ris.http("/patients")[1]) == (400, True, [])


def test_a_result_can_be_withdrawn_and_nothing_is_deleted(start, receiver) -> None:
    def withdrawal(control_id: str, **fields: str) -> bytes:
        text = oru(control_id, "X", **fields).decode().replace("||||||P\r", "||||||X\r").replace("|||||P\r", "|||||X\r")
        return text.replace("|NM|118565006^Volume^SCT|1|12.5|", "|NM|118565006^Volume^SCT|1||").encode()

    ris = start(router_port=receiver().port)
    placer = ris.http("/orders", {"patient_id": "P1", "accession": "A1", "study_uid": "1.2.3"})[1]["placer"]
    assert ack_of(ris.send(withdrawal("W1", placer=placer))) == ("AE", "W1")
    ris.send(oru(placer=placer))
    assert ack_of(ris.send(withdrawal("W1", placer=placer))) == ("AA", "W1")
    (result,) = ris.http("/results")[1]
    assert (result["status"], result["withdrawn"], result["measurements"]) == ("X", True, [])
    assert [step["status"] for step in result["history"]] == ["P", "X"]
    assert ris.http(f"/messages/{result['history'][0]['message_id']}")[1] == oru(placer=placer).decode()
    assert ris.http(f"/orders/{placer}")[1]["state"] == "acknowledged"
    assert "withdrawn" in ris.http("/")[1]
    assert ack_of(ris.send(oru("C3", "C", placer=placer))) == ("AE", "C3")
    assert ack_of(ris.send(oru("C2", "P", placer=placer))) == ("AA", "C2")
    assert ris.http("/results?withdrawn=False")[1][0]["status"] == "P"
    assert ris.http(f"/orders/{placer}")[1]["state"] == "resulted"


@pytest.mark.parametrize(
    ("body", "status"), [({"priority": "now"}, 400), ({"surname": "x"}, 400), ([], 400), ({"sex": 1}, 400)]
)
def test_a_wrong_order_is_refused_with_a_reason(start, body, status) -> None:
    ris = start()
    got, answer = ris.http("/orders", body)
    assert got == status
    assert answer["error"]
    assert ris.http("/orders")[1] == []


def test_faults_are_switched_by_http_and_the_retry_is_taken(start) -> None:
    ris = start()
    assert ris.http("/faults", {"kind": "close", "count": 1})[0] == 201
    assert ris.http("/faults", {"kind": "ae", "count": 1})[0] == 201
    assert ris.http("/faults", {"kind": "nonsense"})[0] == 400
    assert ris.send(oru()) == b""
    assert ack_of(ris.send(oru())) == ("AE", "C1")
    assert ack_of(ris.send(oru())) == ("AA", "C1")
    assert ris.http("/stats")[1] == {"received": 3, "accepted": 1, "duplicates": 1, "rejected": 1}
    ris.http("/faults", {"kind": "silent"})
    assert len(ris.http("/faults")[1]) == 1
    assert ris.http("/faults", method="DELETE") == (200, [])
    assert ack_of(ris.send(oru()))[0] == "AA"


def test_it_says_how_it_is_and_stops_when_asked(start) -> None:
    ris = start()
    assert ris.http("/health") == (200, {"status": "ok", "mllp": True, "inbox": True})
    with ris.connect():
        assert ris.stop() == 0
    assert [line["event"] for line in ris.log][-2:] == ["ris_stopping", "ris_stopped"]


def test_a_message_can_be_read_as_it_came(start) -> None:
    ris = start()
    ris.send(oru())
    ris.send(oru("BAD", volume="abc"))
    assert ris.http("/messages/1") == (200, oru().decode())
    assert ris.http("/messages/C1")[1] == oru().decode()
    (refused,) = ris.http("/refused")[1]
    assert refused["objections"][0]["code"] == "102"
    assert ris.http(f"/messages/{refused['message_id']}")[1] == oru("BAD", volume="abc").decode()
    assert ris.http("/messages/../../etc/passwd")[0] == 404
    assert ris.http("/static/ris.html")[0] == 404


def test_the_log_holds_no_patient(start, receiver) -> None:
    router = receiver(lambda count: None if count == 1 else "AE")
    ris = start("--log-level", "debug", router_port=router.port)
    secret = {
        "patient_id": "SECRETID",
        "patient_name": "Secretname^A",
        "accession": "SECRETACC",
        "study_uid": "1.9.8.7",
    }
    ris.http("/orders", secret)
    ris.http("/patients/update", {"patient_id": "SECRETID", "patient_name": "Secretname^B"})
    ris.http("/patients/merge", {"patient_id": "SECRETID", "prior_id": "SECRETPRIOR"})
    ris.send(oru(patient_id="SECRETID", accession="SECRETACC", study_uid="1.9.8.7"))
    ris.send(oru("C2", volume="abc", patient_id="SECRETID", accession="SECRETACC", study_uid="1.9.8.7"))
    ris.send(b"SECRETID Secretname")
    ris.stop()
    said = json.dumps(ris.log)
    assert len(ris.log) > 4
    assert not any(word in said for word in ("SECRET", "Secretname", "1.9.8.7", "Müller", "19700101"))


@pytest.mark.parametrize("option", ["--mllp-port", "--http-port"])
def test_a_port_that_is_taken_is_said_so(tmp_path, option) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--http-port" if option == "--mllp-port" else "--mllp-port"
        command = [sys.executable, "-m", "medai.hl7_mock.cli", option, port, other, "0", "--data", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"medai ris: port {port} on 127.0.0.1 is in use")
    assert option in done.stderr


def test_two_of_them_never_share_a_folder(start, tmp_path) -> None:
    start()
    command = [
        sys.executable,
        "-m",
        "medai.hl7_mock.cli",
        "--mllp-port",
        "0",
        "--http-port",
        "0",
        "--data",
        tmp_path / "ris",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert "used by another mock RIS" in done.stderr


def test_results_come_over_tls_only_from_those_with_a_certificate(start, tmp_path) -> None:
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
    subprocess.run(["openssl", "req", *options.split(), *names], check=True, capture_output=True)
    ris = start("--tls-certificate", str(certificate), "--tls-key", str(key), "--tls-ca", str(certificate))
    known = ssl.create_default_context(cafile=certificate)
    unknown = ssl.create_default_context(cafile=certificate)
    known.load_cert_chain(certificate, key)
    with ris.connect() as plain, known.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"\x0b" + oru() + b"\x1c\r")
        assert ack_of(read_reply(connection)) == ("AA", "C1")
    reply = b""
    with (
        contextlib.suppress(OSError),
        ris.connect() as plain,
        unknown.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"\x0b" + oru("C2") + b"\x1c\r")
        reply = read_reply(connection)
    assert reply == b""
    assert ris.http("/stats")[1]["accepted"] == 1
