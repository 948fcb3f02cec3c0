"""A process that answers one question after another, and whose answers are taken for nobody's word: both sides of it.

A message is two lengths, a little JSON and bytes, over one socket. The parent says how large an answer may be and how
long it may take before it reads any of it; whatever else comes ends the child. Nothing is ever unpickled.
Next: images/isolated.py, confined/process.py (who asks).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LENGTHS = struct.Struct(">IQ")
"""Bytes of JSON, bytes that follow."""
MOST_JSON = 64 * 1024
WORDS_BYTES = 4096
"""Of what a child wrote to its standard error, its end."""
WORDS_LENGTH = 300
ENDING_S = 1.0
"""How long a child that closed its side may take to end, so that its exit code can be told."""
Body = bytes | bytearray | memoryview


class ChildFailed(Exception):
    """The child ended, or answered what no answer is; the text says which."""


class ChildSlow(ChildFailed):
    """The child did not answer in time."""


class Child:
    """A module of ours, run by this interpreter; it ends with this process, with ``end``, and with its first fault.

    Raises OSError where this machine can start no process more.

    ``environment``: all that it gets of it (default: ours). ``words`` keeps its standard error, to say why it ended.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, words: bool = False
    ) -> None:
        with contextlib.ExitStack() as unless_started:
            self._socket, theirs = socket.socketpair()
            unless_started.callback(self._socket.close)
            self._words = os.memfd_create("words", os.MFD_CLOEXEC) if words else -1
            if words:
                unless_started.callback(os.close, self._words)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
                    [sys.executable, "-P", "-m", module, *arguments],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._words if words else subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
            unless_started.pop_all()
        self.end = weakref.finalize(self, _end, os.getpid(), self._process, self._socket, self._words)
        """Ends it now; called at the latest when nobody holds this any more."""

    def ask(
        self, header: Mapping[str, Any], body: Body = b"", *, most_bytes: int, seconds: float
    ) -> tuple[dict[str, Any], bytearray]:
        """One question and its answer: JSON, and at most so many bytes. Raises ChildFailed, and the child is gone."""
        until = time.monotonic() + seconds
        if not self.end.alive:
            raise ChildFailed("was ended before")
        try:
            self._send(header, body, until)
            return self._answer(most_bytes, until)
        except TimeoutError as error:
            self.end()
            raise ChildSlow(f"did not answer within {seconds:g} s") from error
        except (OSError, EOFError) as error:
            reason = self._ending()
            self.end()
            raise ChildFailed(reason) from error
        except ChildFailed:
            self.end()
            raise

    @property
    def is_there(self) -> bool:
        """Whether it can be asked: it was not ended, and did not end."""
        return self.end.alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def peak_bytes(self) -> int:
        """The most memory that it held until now, as the kernel counted it."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def _send(self, header: Mapping[str, Any], body: Body, until: float) -> None:
        text = json.dumps(header).encode()
        for part in (LENGTHS.pack(len(text), len(body)) + text, body):
            self._socket.settimeout(_left(until))
            self._socket.sendall(part)

    def _answer(self, most_bytes: int, until: float) -> tuple[dict[str, Any], bytearray]:
        text_bytes, body_bytes = LENGTHS.unpack(self._receive(LENGTHS.size, until))
        if text_bytes > MOST_JSON or body_bytes > most_bytes:
            raise ChildFailed(f"answered more than it may: {text_bytes} and {body_bytes} bytes")
        try:
            header = json.loads(self._receive(text_bytes, until))
        except (ValueError, RecursionError) as error:
            raise ChildFailed("answered what is no JSON") from error
        if not isinstance(header, dict):
            raise ChildFailed("answered what is no JSON object")
        return header, self._receive(body_bytes, until)

    def _receive(self, size: int, until: float) -> bytearray:
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            self._socket.settimeout(_left(until))
            count = self._socket.recv_into(rest)
            if count == 0:
                raise EOFError
            rest = rest[count:]
        return found

    def _ending(self) -> str:
        try:
            code = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return "stopped talking"
        said = f": {words}" if (words := self._last_words()) else ""
        if code < 0:
            return f"was ended by signal {-code} (out of memory, or a crash in it){said}"
        return f"ended without an answer (exit code {code}){said}"

    def _last_words(self) -> str:
        if self._words < 0:
            return ""
        written = os.fstat(self._words).st_size
        end = os.pread(self._words, WORDS_BYTES, max(0, written - WORDS_BYTES)).decode(errors="replace")
        return plain((end.strip().splitlines() or [""])[-1])


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _end(owner: int, process: subprocess.Popen[bytes], channel: socket.socket, words: int) -> None:
    """Its whole session: a child that the kernel can't keep from starting others may have done so."""
    channel.close()
    if owner == os.getpid():  # not in a copy of this process that forked
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if words >= 0:
        os.close(words)


def plain(text: str) -> str:
    """A foreign text as it may be shown: one line, short, no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:WORDS_LENGTH]).strip()


class Questions:
    """The child's side: what it is asked, until the parent is gone. Standard input is nobody else's from here on."""

    def __init__(self) -> None:
        self._channel = os.fdopen(os.dup(0), "r+b", buffering=0)
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)

    def next(self) -> tuple[dict[str, Any], bytearray] | None:
        """The next question; None when there will be no more."""
        try:
            text_bytes, body_bytes = LENGTHS.unpack(self._read(LENGTHS.size))
            return json.loads(self._read(text_bytes)), self._read(body_bytes)
        except EOFError:
            return None

    def answer(self, header: Mapping[str, Any], body: Body = b"") -> None:
        """What the parent is told."""
        text = json.dumps(header).encode()
        for part in (LENGTHS.pack(len(text), len(body)) + text, body):
            rest = memoryview(part)
            while rest:
                rest = rest[self._channel.write(rest) :]

    def _read(self, size: int) -> bytearray:
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            count = self._channel.readinto(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return found
