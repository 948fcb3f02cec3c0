"""A message without its patient, to be shown. Pure. Next: console/pictures.py (who shows it)."""

from __future__ import annotations

HIDDEN_FIELDS = {"PID": (2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 18, 19, 20), "MRG": (1, 7), "NK1": (2, 4, 5)}
"""HL7 fields that tell who the patient is."""
HIDDEN = "(hidden)"


def hidden(message: str) -> str:
    """A message without what tells who the patient is; one that is not HL7 is left out whole."""
    if not message.startswith("MSH|"):
        return HIDDEN
    return "\r".join(_hidden_segment(segment) for segment in message.split("\r"))


def _hidden_segment(segment: str) -> str:
    fields = segment.split("|")
    for index in HIDDEN_FIELDS.get(fields[0], ()):
        if index < len(fields) and fields[index]:
            fields[index] = HIDDEN
    return "|".join(fields)
