"""Moments, durations and counts in the words that people read, the same on every screen and page.

Pure, and of the lowest floor, so that anything may say a time or a number. The mock RIS says its own: it is an
independent check and imports nothing of ours. Next: waterfall.py (stages as bars), cli/text.py (the terminal),
console/pages.py.
"""

from __future__ import annotations

import time

NOTHING = "–"
"""What stands where there is no moment and no duration."""
UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def lasted(length_s: float | None, *, rough: bool = False) -> str:
    """A duration in its largest unit: "0.35 s", "12.3 s", "1.5 min", "2.0 h"; ``rough``: "12 s", "2 min", "2 h"."""
    if length_s is None:
        return NOTHING
    size, unit = next(((size, unit) for size, unit in UNITS if length_s >= size), (1.0, "s"))
    places = 0 if rough else 2 if length_s < 9.995 else 1
    return f"{length_s / size:.{places}f} {unit}"


def ago(at: float | None, now: float) -> str:
    """How long ago, roughly."""
    return NOTHING if at is None else lasted(max(0.0, now - at), rough=True)


def clock(at: float | None) -> str:
    """A moment, local time."""
    return NOTHING if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 image", "2 images"; ``plural`` where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
