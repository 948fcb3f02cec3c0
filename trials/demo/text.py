"""Text for people: the waterfall of a job's stages, its measurements, its ORU.

Pure functions; command.py prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medai.router.contract import StampName

STAGE_ENDING_AT: Mapping[str, str] = {
    StampName.LAST_INSTANCE: "images arrive",
    StampName.STUDY_COMPLETE: "wait for completeness",
    StampName.ENQUEUED: "create the reading",
    StampName.STARTED: "wait in the queue",
    StampName.FETCHED: "fetch images",
    StampName.PREPARED: "prepare volume",
    StampName.INFERRED: "segment",
    StampName.ENCODED: "encode results",
    StampName.STORED: "store in the archive",
    StampName.ORU_SENT: "send ORU",
    StampName.ORU_ACKNOWLEDGED: "ORU acknowledged",
}
"""What happens in the time that ends at a stamp, in the order of a study's journey."""


def waterfall(stamps: Mapping[str, float], *, width: int = 40, block: str = "█") -> list[str]:
    """One line per stage: a bar where it lies between the first image and the last stamp, and its seconds.

    Stages whose stamp is missing are left out; the next stage then begins at the last stamp there is.
    """
    start = stamps.get(StampName.FIRST_INSTANCE)
    known = [(name, stamps[name]) for name in STAGE_ENDING_AT if name in stamps]
    if start is None or not known:
        return ["(no stamps)"]
    span_s = max(known[-1][1] - start, 1e-6)
    lines = []
    began = start
    for name, ended in known:
        left = min(round((began - start) / span_s * width), width - 1)
        ended = max(ended, began)  # two processes stamp: a few milliseconds may run backwards
        length = max(1, round((ended - began) / span_s * width))
        bar = (" " * max(left, 0) + block * min(length, width - max(left, 0))).ljust(width)
        lines.append(f"{STAGE_ENDING_AT[name]:<22}|{bar}| {ended - began:8.3f} s")
        began = ended
    return lines


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
