"""What an announcement says: from the attributes of an N-CREATE or N-SET to steps and notices, or why it is refused.

A Modality Performed Procedure Step (PS3.4 F.7, PS3.3 C.4.13 to C.4.15) names, when it ends, the objects that the
scanner made; an Instance Availability Notification (PS3.4 R, PS3.3 C.4.23) those that an archive has. Senders are
foreign: what can't be used as a UID is left out, what there is nothing to go by without is refused with DIMSE's status.
Next: listener.py (who asks), ledger/announcements.py (where it is kept).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from medai.router.contract import NAMESPACE, is_uid
from medai.router.errors import PermanentError

SUCCESS = 0x0000
INVALID_VALUE, MISSING_ATTRIBUTE, MISSING_VALUE = 0x0106, 0x0120, 0x0121
PROCESSING_FAILURE, DUPLICATE, NO_SUCH_INSTANCE = 0x0110, 0x0111, 0x0112
INVALID_INSTANCE, NOT_OFFERED, RESOURCE_LIMIT = 0x0117, 0x0211, 0x0213
NO_LONGER_CHANGED = 0xA710
"""Error ID of a step that has ended (PS3.4 F.7.2.2.2)."""
INSTANCES_LIMIT = 20_000
"""Objects that one announcement may name; a perfusion study has about ten thousand."""
STUDIES_LIMIT = 100


class Attributes(Protocol):
    """A data set, as pydicom has it."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of an attribute by its keyword."""
        ...


class Refused(PermanentError):
    """An announcement that is not taken; the text quotes nothing of it."""

    def __init__(self, status: int, text: str, *, error_id: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.error_id = error_id


class StepState(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Objects of one series, each once."""

    uid: str
    instances: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StepBegun:
    """N-CREATE of a step: which studies it makes objects of."""

    uid: str
    studies: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """N-SET of a step: what it speaks of; None for what it leaves as it is."""

    uid: str
    state: StepState | None
    series: tuple[Series, ...] | None


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What an archive has of a study on line, and what it has not (any more)."""

    uid: str
    study: str
    online: tuple[Series, ...]
    away: tuple[Series, ...]


def step_begun(uid: str, said: Attributes) -> StepBegun:
    """Read an N-CREATE of a step; raises Refused."""
    state = _text(said, "PerformedProcedureStepStatus")
    if not state:
        raise Refused(MISSING_ATTRIBUTE, "PerformedProcedureStepStatus is missing")
    if state != StepState.IN_PROGRESS:
        raise Refused(INVALID_VALUE, "a step must begin IN PROGRESS")
    scheduled = _items(said, "ScheduledStepAttributesSequence")
    if not scheduled:
        raise Refused(MISSING_ATTRIBUTE, "ScheduledStepAttributesSequence is missing")
    studies = tuple(dict.fromkeys(filter(None, (_uid(item, "StudyInstanceUID") for item in scheduled))))
    if not studies:
        raise Refused(MISSING_VALUE, "no StudyInstanceUID in ScheduledStepAttributesSequence")
    if len(studies) > STUDIES_LIMIT:
        raise Refused(RESOURCE_LIMIT, f"the step names more than {STUDIES_LIMIT} studies")
    return StepBegun(uid=needed_uid(uid), studies=studies, series=_performed(said) or ())


def step_change(uid: str, said: Attributes) -> StepChange:
    """Read an N-SET of a step; raises Refused."""
    word = _text(said, "PerformedProcedureStepStatus")
    if word and word not in tuple(StepState):
        raise Refused(INVALID_VALUE, "PerformedProcedureStepStatus is none of PS3.3 C.4.14")
    return StepChange(uid=needed_uid(uid), state=StepState(word) if word else None, series=_performed(said))


def notice(uid: str, said: Attributes) -> Notice:
    """Read an N-CREATE of an Instance Availability Notification; one without a UID gets one by what it says."""
    study = _uid(said, "StudyInstanceUID")
    if not study:
        raise Refused(MISSING_VALUE, "StudyInstanceUID is missing")
    referenced = _items(said, "ReferencedSeriesSequence")
    if not referenced:
        raise Refused(MISSING_ATTRIBUTE, "ReferencedSeriesSequence is missing")
    sequence = "ReferencedSOPSequence"
    online = _bounded(_series(item, _named(item, sequence, available=True)) for item in referenced)
    away = _bounded(_series(item, _named(item, sequence, available=False)) for item in referenced)
    made = f"2.25.{uuid.uuid5(NAMESPACE, f'notice|{study}|{online}|{away}').int}"
    return Notice(uid=needed_uid(uid or made), study=study, online=online, away=away)


def needed_uid(uid: str) -> str:
    """A SOP Instance UID of a request; raises Refused where it is none."""
    if not is_uid(uid):
        raise Refused(INVALID_INSTANCE, "the SOP Instance UID is none")
    return uid


def _performed(said: Attributes) -> tuple[Series, ...] | None:
    """Images and other objects of the series that were made; None where nothing is said of series."""
    if said.get("PerformedSeriesSequence") is None:
        return None
    names = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
    items = _items(said, "PerformedSeriesSequence")
    return _bounded(_series(item, (uid for name in names for uid in _named(item, name))) for item in items)


def _bounded(found: Iterable[Series]) -> tuple[Series, ...]:
    kept, count = [], 0
    for series in found:
        count += len(series.instances)
        if count > INSTANCES_LIMIT:
            raise Refused(RESOURCE_LIMIT, f"more than {INSTANCES_LIMIT} objects in one announcement")
        if series.instances:
            kept.append(series)
    return tuple(kept)


def _series(item: Attributes, instances: Iterable[str]) -> Series:
    return Series(uid=_uid(item, "SeriesInstanceUID"), instances=tuple(dict.fromkeys(instances)))


def _named(item: Attributes, sequence: str, *, available: bool | None = None) -> Iterator[str]:
    """SOP Instance UIDs that a sequence refers to; where asked, those alone that are ONLINE, or are not."""
    for reference in _items(item, sequence):
        uid = _uid(reference, "ReferencedSOPInstanceUID")
        online = _text(reference, "InstanceAvailability") == "ONLINE"
        if uid and available in (None, online):
            yield uid


def _items(said: Attributes, keyword: str) -> list[Attributes]:
    """The items of a sequence; none where it is absent or empty, and Refused where it is something else."""
    value = said.get(keyword)
    if not value:
        return []
    items = [] if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) else list(value)
    if not items or not all(hasattr(item, "get") for item in items):
        raise Refused(INVALID_VALUE, f"{keyword} is no sequence")
    return items


def _text(said: Attributes, keyword: str) -> str:
    value = said.get(keyword)
    return value.strip(" \0") if isinstance(value, str) else ""


def _uid(said: Attributes, keyword: str) -> str:
    """A UID as it was said; empty where it is none."""
    text = _text(said, keyword)
    return text if is_uid(text) else ""
