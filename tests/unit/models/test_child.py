"""A process that is asked one question after another: its answers are bounded, and it never outlives its asker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medai.models.child import LENGTHS, Child, ChildFailed, ChildSlow, plain

ECHO = """
import sys, time
from medai.models.child import Questions
print("a library greets")
questions = Questions()
while (question := questions.next()) is not None:
    header, body = question
    time.sleep(header.get("sleep", 0))
    if "raw" in header:
        questions._channel.write(bytes.fromhex(header["raw"]))
        time.sleep(600)
    if "leave" in header:
        print("Traceback", "PermissionError: numpy", sep="\\n", file=sys.stderr)
        raise SystemExit(header["leave"])
    questions.answer({"heard": header, "stdin": sys.stdin.read()}, body)
"""


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Child]:
    (tmp_path / "echo_child.py").write_text(ECHO)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[3] / ".lint")])
    child = Child("echo_child", environment={"PYTHONPATH": path}, words=True)
    yield child
    child.end()


def test_what_is_asked_comes_back_and_nothing_else_speaks_on_the_line(echo: Child) -> None:
    body = os.urandom(3_000_000)
    for header in ({"a": [1, "é"]}, {}):
        found, echoed = echo.ask(header, body, most_bytes=len(body), seconds=30)
        assert (found, bytes(echoed)) == ({"heard": header, "stdin": ""}, body)
    assert echo.is_there
    assert echo.peak_bytes() > 3_000_000


def test_an_answer_that_is_larger_than_said_ends_it(echo: Child) -> None:
    with pytest.raises(ChildFailed, match="answered more than it may: [0-9]+ and 5 bytes"):
        echo.ask({}, b"12345", most_bytes=4, seconds=30)
    assert not echo.is_there
    with pytest.raises(ChildFailed, match="was ended before"):
        echo.ask({}, most_bytes=4, seconds=30)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (LENGTHS.pack(1 << 31, 0), "answered more than it may"),
        (LENGTHS.pack(2, 1 << 60), "answered more than it may"),
        (LENGTHS.pack(2, 0) + b"{{", "answered what is no JSON$"),
        (LENGTHS.pack(60_000, 0) + b"[" * 60_000, "answered what is no JSON$"),
        (LENGTHS.pack(60_000, 0) + b"9" * 60_000, "answered what is no JSON$"),
        (LENGTHS.pack(2, 0) + b"[]", "answered what is no JSON object"),
        (LENGTHS.pack(2, 0) + b"{", r"did not answer within 0\.5 s"),
    ],
)
def test_what_is_no_answer_ends_it(raw: bytes, reason: str, echo: Child) -> None:
    echo.ask({}, most_bytes=0, seconds=30)
    with pytest.raises(ChildFailed, match=reason):
        echo.ask({"raw": raw.hex()}, most_bytes=4, seconds=0.5)
    assert not echo.is_there


def test_one_that_does_not_listen_is_not_waited_for(echo: Child) -> None:
    with pytest.raises(ChildSlow, match=r"did not answer within 0\.2 s"):
        echo.ask({"sleep": 600}, most_bytes=0, seconds=0.2)
    assert not echo.is_there


def test_one_that_ends_is_told_of_with_its_last_words(echo: Child) -> None:
    with pytest.raises(ChildFailed, match=r"^ended without an answer \(exit code 3\): PermissionError: numpy$"):
        echo.ask({"leave": 3}, most_bytes=0, seconds=30)


def test_nobody_has_to_end_it_and_a_copy_of_the_asker_does_not(echo: Child) -> None:
    copy = os.fork()
    if not copy:
        echo.end()
        os._exit(0)
    os.waitpid(copy, 0)
    assert echo.ask({}, most_bytes=0, seconds=30)
    other = Child("http.server", "--bind", "127.0.0.1", "0")
    pid = other.pid
    del other
    assert not Path(f"/proc/{pid}").exists()


def test_what_was_opened_for_one_that_cannot_be_started_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        Child("echo_child", words=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_foreign_text_is_one_short_line() -> None:
    assert plain("a\nb\x1b[1m\u202ec") == "a b [1m c"
    assert len(plain("x" * 9999)) == 300
