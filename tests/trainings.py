"""Trainings in processes of their own, to be killed in the middle."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def history(run: Path) -> list[dict[str, str]]:
    """A row for each epoch done."""
    with (run / "history.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def losses(run: Path) -> list[float]:
    """Of each epoch done."""
    return [float(row["loss"]) for row in history(run)]


def kill_in_the_middle(arguments: Sequence[str], run: Path, *, most_s: float = 240.0) -> None:
    """Begin ``medai-train ARGUMENTS`` and end it by SIGKILL once two epochs are done."""
    command = [sys.executable, "-m", "medai.training.cli", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + most_s
    try:
        while not (run / "history.csv").exists() or len(history(run)) < 2:
            assert child.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline, "no two epochs in time"
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
