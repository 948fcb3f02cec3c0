"""Text for people: the waterfall of a job's stages, its measurements, its ORU.

Pure functions; command.py prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medai.router.contract import StampName
from medai.router.waterfall import bars
from medai.router.waterfall import lines as drawn


def waterfall(stamps: Mapping[str, float], *, block: str = "█") -> list[str]:
    """One line per stage: a bar where it lies between the first image and the last stamp, and how long it took."""
    return list(drawn(bars(stamps, max(stamps.values(), default=0.0)), block=block)) or ["(no stamps)"]


def measurement_table(measurements: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per measurement: what, which quantity, value and unit."""
    if not measurements:
        return ["(none)"]
    name = max(len(str(item["segment_name"])) for item in measurements)
    lines = []
    for item in measurements:
        quantity = str(item["quantity"]).replace("_", " ")
        lines.append(f"{item['segment_name']:<{name}}  {quantity:<18} {item['value']:10.1f} {item['unit']}")
    return lines


def oru_lines(raw: str, *, width: int = 150) -> list[str]:
    """The segments of an HL7 message, one a line, cut at ``width`` characters."""
    lines = [line for line in raw.replace("\r\n", "\r").replace("\n", "\r").split("\r") if line]
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]


def new_stamps(stamps: Mapping[str, float], told: set[str]) -> list[str]:
    """Lines for the stamps that were not told before, in the order they happened; adds them to ``told``."""
    order = sorted((moment, name) for name, moment in stamps.items())
    reference = stamps.get(StampName.LAST_INSTANCE)
    lines = []
    for moment, name in order:
        if name in told or name in (StampName.ORDERED, StampName.ACQUIRED):
            continue
        told.add(name)
        since = f"{moment - reference:+.2f} s from the last image" if reference is not None else ""
        lines.append(f"{name.replace('_', ' '):<18} {since}".rstrip())
    return lines
