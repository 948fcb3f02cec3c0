"""``medai top``: what it shows of a ledger, that it fits the terminal, and what it does while the ledger is away."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, seen
from rich.console import Console

from medai.router.cli import main as cli
from medai.router.cli.top import LEAST, TopPage, Trouble, draw, gather, share
from medai.router.cli.top_screen import Watcher
from medai.router.contract import Failure, Priority
from medai.router.errors import LedgerUnreachable
from medai.router.ledger import Ledger
from medai.router.ledger.deliveries import Gate
from medai.router.settings.tables import ObjectivesSettings

NOW = T0 + 700.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One reading is done, one is read, one waits too long, one is parked; the RIS is away; a worker is silent."""
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.migrate()
    (tmp_path / "medai.toml").write_text(f'[ledger]\nurl = "{made.database.url}"\n')
    jobs = {}
    for i, (name, priority) in enumerate(
        {"done": Priority.STAT, "read": Priority.URGENT, "waits": Priority.STAT, "parked": Priority.ROUTINE}.items()
    ):
        row = arrive(made, seen(uid=f"1.2.{i}"), T0 + i)
        jobs[name], _ = make(made, row, T0 + 5 + i, priority=priority, sources=f"s{i}", route=name)
    for name in ("done", "read", "parked"):
        claim = made.claims.take(jobs[name], worker=f"w-{name}", lease_s=20.0, now=T0 + 20)
        assert claim is not None
        if name == "done":
            cases.store(made, claim, T0 + 42)
            cases.acknowledge(made, claim, T0 + 50)
        elif name == "parked":
            made.claims.fail(jobs[name], claim.token, Failure.IMAGES, "no volume", T0 + 30)
    load = {"cores_used": 1.5, "memory_bytes": 2.1e9, "gpu_busy_ratio": 0.5}
    beat = {"device": "CPU (2 threads)", "started_at": T0}
    made.fleet.worker_seen("w-read", queues=["gpu", "cpu"], job_id=jobs["read"], now=NOW - 2, load=load, **beat)  # type: ignore[arg-type]
    made.fleet.worker_seen("w-gone", queues=["cpu"], job_id=None, now=NOW - 90, **beat)  # type: ignore[arg-type]
    reason = "the RIS at 10.0.0.1 does not answer"
    made.deliveries.set_gate(Gate(name="ris", open=True, failures=5, since=NOW - 120, next_try_at=NOW, reason=reason))
    arrive(made, seen(uid="1.2.9"), NOW - 1)
    yield made
    made.close()


def content(ledger: Ledger) -> TopPage:
    return gather(ledger, NOW, ObjectivesSettings())


def shown(of: TopPage | None, *, width: int = 80, height: int | None = 24, trouble: Trouble | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, height=height or 25, color_system=None, force_terminal=True)
    console.print(draw(of, NOW, height=height, trouble=trouble))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_is_told_at_80_by_24(ledger: Ledger) -> None:
    text = shown(content(ledger))
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 24
    words = {line.split()[0]: line.split() for line in lines if line}
    assert lines[0][8:] == "  ▲ parked 1  ▲ late 1  workers 1  waiting 1  reading 1  arriving 5"
    assert words["PRIORITY"] == [
        "PRIORITY",
        "CPU",
        "GPU",
        "OLDEST",
        "LATE",
        "OBJECTIVE",
        "P50",
        "P95",
        "P99",
        "READ",
        "24H",
    ]
    assert words["stat"] == ["stat", "1", "0", "12", "min", "▲", "1", "5", "min", "50", "s", "50", "s", "50", "s", "1"]
    assert words["background"] == ["background", "0", "0", "–", "0", "4", "h", "–", "–", "–", "0"]
    assert "1.5 cores 2.1 GB GPU 50%" in text
    assert words["w-read"][2:6] == ["read", "urgent,", "11", "min"]
    assert "▲ silent for 2 min" in " ".join(words["w-gone"])
    assert "▲ down for 2 min: the RIS at 10.0.0.1 does not answer" in text
    assert "▲ parked failed" in text
    assert "arriving" in text


def test_no_identifier_is_shown_or_printed(ledger: Ledger) -> None:
    told = content(ledger).model_dump_json() + shown(content(ledger), width=200, height=None)
    assert [text for text in ("1.2.0", "1.2.9", "A1.2.") if text in told] == []


@pytest.mark.parametrize("size", [(40, 24), (80, 16), (80, 24), (100, 30), (200, 60)])
def test_no_line_is_wider_and_no_screen_higher_than_the_terminal(ledger: Ledger, size: tuple[int, int]) -> None:
    width, height = size
    of = content(ledger)
    many = {name: getattr(of, name) * 20 for name in ("workers", "destinations", "last_studies")}
    of = of.model_copy(update=many)
    trouble = Trouble(reason="the ledger does not answer " * 9, since=NOW, every_s=2.0)
    lines = shown(of, width=width, height=height, trouble=trouble).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= max(height, 21)  # less than that shows the least rows, and the terminal cuts them
    assert sum("more" in line for line in lines) == 3


def test_a_larger_terminal_shows_more(ledger: Ledger) -> None:
    of = content(ledger)
    of = of.model_copy(update={"last_studies": of.last_studies * 20})
    assert len(shown(of, height=50).splitlines()) == 50
    assert len(shown(of, height=None).splitlines()) > 100


def test_rows_are_shared_fairly() -> None:
    assert share([1, 1, 1], 30) == [1, 1, 1]
    assert share([9, 9, 9], 7) == list(LEAST)
    assert share([9, 9, 9], 10) == [3, 3, 4]
    assert share([1, 2, 40], 20) == [1, 2, 17]


def test_a_ledger_that_does_not_answer_is_told_above_what_was_known(ledger: Ledger) -> None:
    answers: list[TopPage | Exception] = [
        content(ledger),
        LedgerUnreachable("the ledger does not answer (OperationalError)"),
        content(ledger),
    ]

    def ask() -> TopPage:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watcher = Watcher(ask, 2.0)
    watcher.once()
    watcher.once()
    text = shown(watcher.content, trouble=watcher.trouble)
    assert text.startswith("▲ the ledger does not answer (OperationalError); since")
    assert "w-read" in text
    watcher.once()
    assert watcher.trouble is None


def test_a_ledger_that_never_answered_is_told_too() -> None:
    assert shown(None) == "reading the ledger ...\n"
    assert (
        shown(None, trouble=Trouble(reason="away", since=NOW, every_s=5.0))
        == "▲ away; since 0 s, tried again every 5 s\n"
    )


def test_a_fault_of_ours_is_not_taken_for_a_ledger_that_is_away() -> None:
    def ask() -> TopPage:
        raise KeyError("x")

    watcher = Watcher(ask, 0.01)
    watcher.start()
    until = time.monotonic() + 5.0
    while watcher.broken is None and time.monotonic() < until:
        time.sleep(0.01)
    assert isinstance(watcher.broken, KeyError)


def test_an_empty_ledger_has_a_screen(tmp_path: Path) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}")
    made.migrate()
    text = shown(gather(made, NOW, ObjectivesSettings()))
    assert text.count("none") == 3
    assert "▲ workers 0" in text
    made.close()


# -- the command


def test_without_a_terminal_it_prints_once(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["top"]) == 0
    text = capsys.readouterr().out
    assert "PRIORITY" in text
    assert "\x1b" not in text


def test_json_has_everything(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["top", "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert {"queues", "workers", "turnaround", "objectives", "destinations", "dead_letters", "last_studies"} <= set(got)
    (reading,) = [worker["reads"] for worker in got["workers"] if worker["reads"]]
    assert (reading["route"], reading["for_s"] >= 0) == ("read", True)


@pytest.mark.parametrize("text", ["0", "x", "inf", "-1"])
def test_a_senseless_interval_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["top", f"--every={text}"])
    assert ended.value.code == 2


@pytest.mark.parametrize("way", ["q", "ctrl-c"])
def test_the_live_screen_leaves_cleanly_and_puts_the_terminal_back(ledger: Ledger, tmp_path: Path, way: str) -> None:
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "80",
        "LINES": "24",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [
        sys.executable,
        "-m",
        "medai.router.cli",
        "top",
        "--every",
        "0.2",
        "--config",
        str(tmp_path / "medai.toml"),
    ]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )  # fmt: skip
    try:
        os.close(theirs)
        seen_text = _until(ours, b"w-read")
        if way == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(signal.SIGINT)
        seen_text += _until(ours, b"\x1b[?1049l")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    os.close(ours)
    assert b"\x1b[?1049h" in seen_text  # the other screen, and back: what was on the terminal is there again
    assert b"Traceback" not in seen_text


def _until(number: int, wanted: bytes) -> bytes:
    got, until = b"", time.monotonic() + 60.0
    while wanted not in got:
        assert time.monotonic() < until, got[-500:]
        if select.select([number], [], [], 0.5)[0]:
            got += os.read(number, 65536)
    return got
