"""What a workitem says, from the DICOM JSON of a worklist (PS3.18 F, PS3.3 C.30): its state, study and codes.

Worklists are foreign: what is not of the form that the standard gives it counts as not said. Next: server.py (who
asks), performer.py (what follows from it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medai.router.contract import is_uid

SOP_INSTANCE_UID, STUDY_UID = "00080018", "0020000D"
STATE, READINESS, INPUT = "00741000", "00404041", "00404021"
WORK_CODES, STATION_CODES = "00404018", "00404025"
CODE_VALUES, SCHEME, MEANING = ("00080100", "00080119", "00080120"), "00080102", "00080104"
"""A code's value is short, long or a URN (PS3.3 8.8)."""
VALUE_LENGTH, SCHEME_LENGTH, MEANING_LENGTH = 1024, 16, 64
CODES_LIMIT = 50
INPUTS_LIMIT = 1000


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded entry."""

    value: str
    scheme: str
    meaning: str

    @property
    def key(self) -> str:
        """As [workitems.routes] names it."""
        return f"{self.value}^{self.scheme}"


@dataclass(frozen=True, kw_only=True)
class Workitem:
    """A workitem as far as it matters to who performs it."""

    uid: str
    state: str
    ready: bool
    """Whether its input is said to be there (Input Readiness State)."""
    study: str
    """The study to be read: that of the workitem itself where it is an input, else of the first input; may be empty."""
    work: tuple[Code, ...]
    """What is to be done, Scheduled Workitem Code Sequence; the standard allows one."""
    stations: tuple[Code, ...]
    """By whom, Scheduled Station Name Code Sequence; empty: by anybody."""


def workitem(said: Mapping[str, Any], uid: str = "") -> Workitem | None:
    """Read a workitem; ``uid``: its own where the answer need not repeat it. None where nothing tells which it is."""
    own = uid or text(said, SOP_INSTANCE_UID)
    if not is_uid(own):
        return None
    inputs = [text(item, STUDY_UID) for item in items(said, INPUT, INPUTS_LIMIT)]
    studies = [study for study in inputs if is_uid(study)]
    output = text(said, STUDY_UID)
    return Workitem(
        uid=own,
        state=text(said, STATE),
        ready=text(said, READINESS) in ("READY", ""),
        study=output if output in studies else next(iter(studies), ""),
        work=codes(said, WORK_CODES),
        stations=codes(said, STATION_CODES),
    )


def codes(said: Mapping[str, Any], tag: str) -> tuple[Code, ...]:
    """The coded entries of a sequence that have a value. What is longer than the standard allows is none of ours."""
    found = []
    for item in items(said, tag, CODES_LIMIT):
        value = next(filter(None, (text(item, each) for each in CODE_VALUES)), "")
        scheme = text(item, SCHEME)
        if 0 < len(value) <= VALUE_LENGTH and len(scheme) <= SCHEME_LENGTH:
            found.append(Code(value=value, scheme=scheme, meaning=text(item, MEANING)[:MEANING_LENGTH]))
    return tuple(found)


def items(said: Mapping[str, Any], tag: str, limit: int) -> Iterator[Mapping[str, Any]]:
    """The items of a sequence, up to a number of them."""
    yield from (item for item in _values(said, tag)[:limit] if isinstance(item, dict))


def text(said: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute where it is text, else nothing."""
    first = next(iter(_values(said, tag)), "")
    return first.strip(" \0") if isinstance(first, str) else ""


def _values(said: Mapping[str, Any], tag: str) -> list[Any]:
    element = said.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
