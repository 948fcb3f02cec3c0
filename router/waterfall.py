"""Where a reading's time went: its stages as bars on one axis of time, for pages and for terminals. Pure.

Next: stages.py (the stages), console/pages.py and cli/text.py (who draws them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medai.router.contract import StampName
from medai.router.stages import STAGES, stages_of
from medai.router.words import lasted

WIDTH = 1000.0
"""Of the axis, in the drawing's own units."""
NOT_OURS = ("order_to_acquisition", "acquisition_to_received")
"""What passed before the first image came is told in words: it would dwarf the rest."""
KINDS = {"receiving": "wait", "completeness_wait": "wait", "routing": "wait", "queue_wait": "queue"}
COLUMNS = 40
"""Of the axis in a terminal."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One stage: ``x`` and ``width`` on the axis, its length, and whether it goes on."""

    stage: str
    kind: str
    x: float
    width: float
    length_s: float
    open: bool


def bars(stamps: Mapping[str, float], now: float) -> list[Bar]:
    """A bar for each stage that has begun; the last one of a reading under way grows until ``now`` (epoch seconds)."""
    lengths = {name: max(0.0, s) for name, s in stages_of(stamps).items() if name not in NOT_OURS}
    begun = {name: stamps[STAGES[name][0]] for name in lengths}
    growing = _growing(stamps)
    if growing is not None:
        begun[growing] = stamps[STAGES[growing][0]]
        lengths[growing] = max(0.0, now - begun[growing])
    if not begun:
        return []
    start = min(begun.values())
    whole = max(max(begun[name] + lengths[name] for name in begun) - start, 1e-6)
    return [
        Bar(
            stage=name,
            kind=KINDS.get(name, "work"),
            x=round((begun[name] - start) / whole * WIDTH, 2),
            width=round(max(lengths[name] / whole * WIDTH, 2.0), 2),
            length_s=lengths[name],
            open=name == growing,
        )
        for name in STAGES
        if name in begun
    ]


def _growing(stamps: Mapping[str, float]) -> str | None:
    """The stage that has begun and not ended; None once the result is with the RIS or where nothing is known."""
    if StampName.ORU_ACKNOWLEDGED in stamps:
        return None
    for name in reversed(list(STAGES)):
        start, end = STAGES[name]
        if name not in NOT_OURS and start in stamps and end not in stamps:
            return name
    return None


def lines(drawn: Sequence[Bar], *, block: str = "█") -> Iterator[str]:
    """The bars as lines of a terminal, each with its length; a stage that goes on ends with an ellipsis."""
    for bar in drawn:
        left = min(round(bar.x / WIDTH * COLUMNS), COLUMNS - 1)
        width = min(max(1, round(bar.width / WIDTH * COLUMNS)), COLUMNS - left)
        shape = " " * left + block * width
        length = lasted(bar.length_s) + (" …" if bar.open else "")
        yield f"{bar.stage.replace('_', ' '):<18} {shape:<{COLUMNS}} {length:>9}"
