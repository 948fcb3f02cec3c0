"""A model that is not trusted yet draws once in a process of its own, and what it drew is held to what it declares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medai.models.errors import ModelUnavailable
from medai.models.foreign import dry_run
from medai.models.foreign.dry_run import Trial, main, run


def child(
    monkeypatch: pytest.MonkeyPatch, *, code: int = 0, out: str = "", said: str = "", late: bool = False
) -> list[list[str]]:
    """Stand in for the child process; returns what was started."""
    started: list[list[str]] = []

    def play(command: list[str], **options: Any) -> SimpleNamespace:
        started.append(command)
        if late:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        return SimpleNamespace(returncode=code, stdout=out, stderr=said)

    monkeypatch.setattr(dry_run.subprocess, "run", play)
    return started


def test_the_last_line_of_the_child_is_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = '{"seconds": 1.5, "load_seconds": 0.5, "memory_mb": 300, "voxels": [4, 5, 6], "found": [1], "remark": ""}'
    started = child(monkeypatch, out=f"a library greets\n{answer}\n")
    assert run(tmp_path / "b", limit_s=9) == Trial(
        seconds=1.5, load_seconds=0.5, memory_mb=300, voxels=(4, 5, 6), found=(1,)
    )
    assert started[0][:4] == [sys.executable, "-P", "-m", "medai.models.foreign.confined"], "never from the folder here"


@pytest.mark.parametrize(
    ("plays", "words"),
    [
        ({"late": True}, r"took more than 9 s \(--limit\)"),
        ({"code": -9}, "ended by signal 9: out of memory, or a crash"),
        ({"code": 3, "out": ""}, r"without an answer \(exit code 3\)"),
        ({"out": "not JSON\n"}, "without an answer"),
        ({"out": '{"reason": "it fell over"}\n'}, "the dry run failed: it fell over"),
    ],
)
def test_a_child_that_fails_is_a_reason_and_takes_nobody_with_it(
    plays: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child(monkeypatch, **plays)
    with pytest.raises(ModelUnavailable, match=words):
        run(tmp_path, limit_s=9)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelUnavailable("its weights are missing"), "its weights are missing"),
        (RuntimeError("Traceback\nof torch\nthe sizes differ"), "RuntimeError: the sizes differ"),
        (ZeroDivisionError(), "ZeroDivisionError: "),
    ],
)
def test_whatever_a_model_does_wrong_the_child_says_so_in_one_line(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(dry_run, "read_bundle", fails)
    assert main(["x"]) == 0
    assert capsys.readouterr().out == f'{{"reason": "{told}"}}\n'


def test_the_last_words_of_a_child_without_an_answer_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, code=1, said="Traceback\nPermissionError: numpy\n")
    with pytest.raises(ModelUnavailable, match=r"exit code 1\): PermissionError: numpy$"):
        run(tmp_path / "b", limit_s=9)


def test_labels_are_held_to_the_grid_and_to_the_segments() -> None:
    bundle: Any = SimpleNamespace(segments=(SimpleNamespace(number=1), SimpleNamespace(number=3)))
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, :3] = (1, 3, 0)
    dry_run._require_labels(labels, (2, 3, 4), bundle)
    with pytest.raises(ModelUnavailable, match=r"labels are \(2, 3, 4\) uint8, the volume is \(4, 3, 2\)"):
        dry_run._require_labels(labels, (4, 3, 2), bundle)
    with pytest.raises(ModelUnavailable, match="uint8 is needed"):
        dry_run._require_labels(labels.astype(np.int16), (2, 3, 4), bundle)
    labels[0, 0, 3] = 2
    with pytest.raises(ModelUnavailable, match=r"drew labels \[2\], which no segment declares"):
        dry_run._require_labels(labels, (2, 3, 4), bundle)
