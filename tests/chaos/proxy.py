"""What stands between the parts: passes everything on, until it is told to misbehave or to ring a bell.

Each link (worker1 -> Orthanc, router -> Redis ...) has a proxy of its own, so it is known who is speaking. A ``Mode``
says how the link behaves; a ``Tripwire`` calls a function in the middle of an exchange, while both sides wait.
``HttpProxy`` knows requests, ``MllpProxy`` knows HL7 messages and remembers them, ``Proxy`` passes bytes.
"""

from __future__ import annotations

import contextlib
import fnmatch
import http.client
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from servers import free_port

from chaos.secured import Secured
from medai.router.queue.broker import TASK

CHUNK = 65536
Kind = Literal["pass", "refuse", "blackhole", "error", "slow", "cut"]
When = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a link behaves: ``refuse`` resets, ``blackhole`` keeps everything back until healed, ``error`` answers 500,
    ``slow`` waits ``delay_s`` before each answer, ``cut`` ends answers (of paths like ``path``) half-way."""

    kind: Kind = "pass"
    delay_s: float = 0.0
    path: str = "*"


PASS = Mode()


@dataclass(kw_only=True)
class Tripwire:
    """Rings once, at the ``skip``+1st exchange that matches; ``drop`` lets this one not pass on."""

    method: str
    path: str
    when: When
    action: Callable[[str], None]
    """Called with the name of the part that speaks."""
    skip: int = 0
    drop: bool = False
    struck: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rings(self, method: str, path: str, when: When, speaker: str) -> bool:
        """Count one exchange; True when it was the one and the action is done."""
        if when != self.when or method != self.method or not fnmatch.fnmatch(path, self.path):
            return False
        with self.lock:
            if self.struck.is_set():
                return False
            if self.skip > 0:
                self.skip -= 1
                return False
            self.action(speaker)
            self.struck.set()
            return True


def _listen() -> socket.socket:
    """On a free port; another lane may have taken the one that was free a moment ago."""
    for _ in range(20):
        try:
            return socket.create_server(("127.0.0.1", free_port()), backlog=64)
        except OSError:
            continue
    raise OSError("no free port was found in twenty tries")


class Proxy:
    """A link of bytes (Redis, PostgreSQL, DICOM).

    With ``secured`` the speaker's TLS ends here and another begins, so that what passes can be seen; else TLS passes
    like any other bytes.
    """

    def __init__(self, speaker: str, peer: str, target_port: int, secured: Secured | None = None) -> None:
        self._near = secured.port() if secured else None
        self._far = secured.caller() if secured else None
        self.speaker, self.peer, self.target_port = speaker, peer, target_port
        self._listener = _listen()
        self.port = int(self._listener.getsockname()[1])
        self.mode = PASS
        self.wires: list[Tripwire] = []
        self.closed = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name=f"{speaker}->{peer}", daemon=True).start()

    def behave(self, mode: Mode) -> None:
        """Change how the link behaves; ``refuse`` also breaks what is open."""
        self.mode = mode
        if mode.kind == "refuse":
            with self._lock:
                for connection in self._open:
                    _reset(connection)

    def close(self) -> None:
        """For good."""
        self.closed = True
        _quietly_close(self._listener)
        with self._lock:
            for connection in self._open:
                _reset(connection)

    def _accept(self) -> None:
        while not self.closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.mode.kind == "refuse":
                _reset(connection)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._connected, args=(connection,), daemon=True).start()

    def _connected(self, connection: socket.socket) -> None:
        try:
            if self._near is not None:
                self._hold()
                connection = self._near.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._open.add(connection)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self._serve(connection)
        except (OSError, ValueError):
            pass  # one of the two went away: that is what this is for
        finally:
            with self._lock:
                self._open.discard(connection)
            _reset(connection)

    def _hold(self) -> None:
        """While the link is a black hole nothing passes."""
        while self.mode.kind == "blackhole" and not self.closed:
            time.sleep(0.05)

    def _ring(self, method: str, path: str, when: When) -> bool:
        """Ring what matches; True when the exchange must be dropped."""
        rung = [wire for wire in list(self.wires) if wire.rings(method, path, when, self.speaker)]
        return any(wire.drop for wire in rung)

    # -- bytes

    def _serve(self, connection: socket.socket) -> None:
        self._hold()
        with socket.create_connection(("127.0.0.1", self.target_port), timeout=5) as upstream:
            upstream.settimeout(None)
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._far is not None:
                with self._far.wrap_socket(upstream, server_hostname="127.0.0.1") as far:
                    self._relay(connection, far)
                return
            back = threading.Thread(target=self._pump, args=(upstream, connection, "after"), daemon=True)
            back.start()
            self._pump(connection, upstream, "before")
            back.join()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        """Both ways in one thread: OpenSSL takes no two at a time for one connection."""
        ways: dict[socket.socket, tuple[socket.socket, When]] = {near: (far, "before"), far: (near, "after")}
        while True:
            for source in [each for each in ways if _pending(each)] or select.select(list(ways), [], [])[0]:
                sink, when = ways[source]
                source.settimeout(0.0)
                try:
                    data = source.recv(CHUNK)
                except ssl.SSLWantReadError:
                    continue  # not a whole record yet, or one of TLS's own
                if not data:
                    return
                self._hold()
                if self.mode.kind == "refuse" or self._look(data, when, source, sink):
                    return
                sink.settimeout(None)
                sink.sendall(data)

    def _pump(self, source: socket.socket, sink: socket.socket, when: When) -> None:
        try:
            while data := source.recv(CHUNK):
                self._hold()
                if self.mode.kind == "refuse" or self._look(data, when, source, sink):
                    break
                sink.sendall(data)
        except OSError:
            pass  # closed by either side
        finally:
            for side in (source, sink):
                with contextlib.suppress(OSError):  # closed already
                    side.shutdown(socket.SHUT_RDWR)

    def _look(self, data: bytes, when: When, source: socket.socket, sink: socket.socket) -> bool:
        """See bytes on their way; True when the link must be broken here."""
        return self._ring("DATA", _content(data), when)


def _pending(connection: socket.socket) -> bool:
    return isinstance(connection, ssl.SSLSocket) and bool(connection.pending())


def _content(data: bytes) -> str:
    """What bytes to or from Redis hold: a job's ``message``, the ``note`` that it was taken (kombu's unacked), neither."""
    if TASK.encode() not in data:
        return ""
    return "note" if b"unacked" in data else "message"


class HttpProxy(Proxy):
    """A link to Orthanc: request by request, each on a connection of its own on the far side."""

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reader:
            while line := reader.readline():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = http.client.parse_headers(reader)
                body = reader.read(int(headers.get("Content-Length") or 0))
                self._hold()
                if self._ring(method, path, "before") or self.mode.kind == "refuse":
                    return
                if not self._exchange(connection, method, path, dict(headers.items()), body):
                    return

    def _exchange(
        self, connection: socket.socket, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> bool:
        """One request and its answer; False when the connection ends with it."""
        mode = self.mode
        if mode.kind == "error":
            connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
            return True
        if mode.kind == "slow":
            time.sleep(mode.delay_s)
        try:
            status, reason, answered, data = self._ask(method, path, headers, body)
        except (OSError, http.client.HTTPException):
            return False  # as a dead Orthanc's connection would end
        if self._ring(method, path, "after"):
            return False
        self._hold()
        kept = [f"{key}: {value}" for key, value in answered if key.lower() not in HOP_BY_HOP]
        head = "\r\n".join([f"HTTP/1.1 {status} {reason}", *kept, f"Content-Length: {len(data)}", "", ""])
        cut = mode.kind == "cut" and method == "GET" and fnmatch.fnmatch(path, mode.path)
        connection.sendall(head.encode("latin-1") + (data[: len(data) // 2] if cut else data))
        return not cut

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, str, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.target_port, timeout=120)
        try:
            kept = {key: value for key, value in headers.items() if key.lower() not in HOP_BY_HOP}
            upstream.request(method, path, body=body or None, headers={**kept, "Content-Length": str(len(body))})
            answer = upstream.getresponse()
            return answer.status, answer.reason, answer.getheaders(), answer.read()
        finally:
            upstream.close()


HOP_BY_HOP = frozenset({"connection", "keep-alive", "content-length", "transfer-encoding"})


@dataclass(kw_only=True)
class Spoken:
    """One HL7 message that passed towards the RIS: an independent witness of what was sent."""

    speaker: str
    control_id: str
    message: bytes
    at: float
    ack: str = ""
    """MSA-1 of the answer that was passed on; empty while there was none."""


class MllpProxy(Proxy):
    """A link to the RIS: rings at a whole message (``before``) and at its answer (``after``)."""

    def __init__(
        self, speaker: str, peer: str, target_port: int, witness: list[Spoken], secured: Secured | None = None
    ) -> None:
        self.witness = witness
        self._buffers: dict[int, bytes] = {}
        self._last: dict[int, Spoken] = {}
        super().__init__(speaker, peer, target_port, secured)

    def _look(self, data: bytes, when: When, source: socket.socket, sink: socket.socket) -> bool:
        client = source if when == "before" else sink
        key = id(client)
        if when == "before":
            self._buffers[key] = self._buffers.get(key, b"") + data
            if b"\x1c" not in self._buffers[key]:
                return False
            message = self._buffers.pop(key).partition(b"\x0b")[2].partition(b"\x1c")[0]
            spoken = Spoken(speaker=self.speaker, control_id=control_id_of(message), message=message, at=time.time())
            self._last[key] = spoken
            self.witness.append(spoken)
            return self._ring("MLLP", spoken.control_id, "before")
        if self._ring("MLLP", self._last[key].control_id if key in self._last else "", "after"):
            return True
        found = re.search(rb"\rMSA\|(\w\w)\|([^|\r]*)", data)
        if found and key in self._last and found[2].decode("latin-1") == self._last[key].control_id:
            self._last[key].ack = found[1].decode("latin-1")
        return False


def control_id_of(message: bytes) -> str:
    """MSH-10; empty for what is no HL7."""
    fields = message.split(b"\r", 1)[0].split(b"|")
    return fields[9].decode("latin-1") if len(fields) > 9 else ""


def _reset(connection: socket.socket) -> None:
    """Close with RST, as a cut does: what was not delivered is gone."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # not connected any more
    _quietly_close(connection)


def _quietly_close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed by another thread
        connection.close()
