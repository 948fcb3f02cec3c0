"""The result in lines of plain words, as a dictation system takes them into a report. Next: oru.py (who sends them).

They say what the coded observations say, and no more: who made it, a line for each structure and total, the verdict of
the plausibility checks with what a person should look at, and that nobody verified it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from medai.router.contract import Measurement
from medai.workers.results.context import Context
from medai.workers.results.drawing import BANNER_TEXT
from medai.workers.results.measure import MEAN_ATTENUATION, TOTAL, VOLUME

LINE_LENGTH = 120
"""Characters; a text of HL7 has 199 (ST), with its delimiters escaped."""


def narrative(context: Context) -> Iterator[str]:
    """Line by line, none longer than ``LINE_LENGTH``."""
    for told in _told(context):
        yield from textwrap.wrap(told, LINE_LENGTH)


def _told(context: Context) -> Iterator[str]:
    """With the measurements in the model's order."""
    model, plausibility = context.model, context.segmentation.plausibility
    yield f"Result of AI ({model.title or model.name} {model.version}), not verified by anyone."
    for segment in context.segmentation.segments:
        own = [m for m in context.measurements if m.segment_number == segment.number]
        yield f"{segment.name}: {_numbers(own)}"
    for total in (m for m in context.measurements if m.segment_number == TOTAL):
        yield f"{total.segment_name}, total: {_numbers([total])}"
    yield f"Plausibility: {plausibility.summary}."
    for finding in plausibility.findings:
        yield f"To be checked: {finding}"
    yield f"{BANNER_TEXT}."


def _numbers(measurements: Sequence[Measurement]) -> str:
    """Without separators of thousands, which are decimal ones elsewhere."""
    told = []
    for each in measurements:
        if each.quantity == VOLUME and each.value == 0:
            return "not found"
        if each.quantity == VOLUME:
            told.append(f"{each.value:.1f} ml" if each.value >= 1 else f"{each.value:.3f} ml")
        elif each.quantity == MEAN_ATTENUATION:
            told.append(f"mean attenuation {each.value:.0f} HU")
    return ", ".join(told)
