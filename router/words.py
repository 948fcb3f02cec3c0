"""Moments, durations and counts in the words that people read: how long ago, when, how long, how many.

Pure, and of the lowest floor, so that anything may say a time or a number; the same on every screen.
Next: cli/text.py (the terminal), console/pages.py.
"""

from __future__ import annotations

import time


def ago(at: float | None, now: float) -> str:
    """How long ago, short."""
    if at is None:
        return "-"
    seconds = max(0.0, now - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(at: float) -> str:
    """A moment, local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def seconds(value: float | None) -> str:
    """A duration, short."""
    return "-" if value is None else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 image", "2 images"; ``plural`` where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
