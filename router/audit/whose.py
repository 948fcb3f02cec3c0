"""Whose record a line of the trail is about: the images' patient, as the archive or a result of ours names it.

The archive is asked first. Where it is away, or the study is gone, whom our newest result named is told; where there
is none either, nobody, and the study's UID says enough to find out. Next: events.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from cachetools import TTLCache

from medai.router.audit.events import KINDS, ORDER, AuditedEvent, event_of
from medai.router.errors import MedaiError, TemporaryError
from medai.router.ledger.audit_lines import AuditLines, Subject, TrailLine

REMEMBER, REMEMBER_S = 2_000, 600.0
"""Studies whose patient is remembered, and for how long: a patient may be merged."""


class Archive(Protocol):
    """What is asked of the archive (orthanc/client.py)."""

    def study(self, orthanc_study: str) -> dict[str, Any]:
        """One study's main tags; raises OrthancRefused where it was deleted."""
        ...


class Whose:
    """Finds the patients of lines."""

    def __init__(self, lines: AuditLines, archive: Archive) -> None:
        self._lines = lines
        self._archive = archive
        self._known: TTLCache[int, Subject] = TTLCache(REMEMBER, REMEMBER_S)

    def events(self, lines: Iterable[TrailLine]) -> Iterator[AuditedEvent]:
        """Each line as an auditor reads it. An archive that is away is not asked again for the same page of lines."""
        away = False
        for line in lines:
            subject = Subject()
            if line.study_id is not None:
                found = self._known.get(line.study_id)
                if found is None:
                    found, away = self._of_study(line, away=away)
                subject = found
            elif line.action in KINDS and KINDS[line.action].event is ORDER:
                subject = self._lines.ordered_for(line.detail.partition(": ")[0])
            yield event_of(line, subject)

    def _of_study(self, line: TrailLine, *, away: bool) -> tuple[Subject, bool]:
        assert line.study_id is not None
        try:
            tags = {} if away else self._archive.study(line.orthanc_id).get("PatientMainDicomTags", {})
        except TemporaryError:
            tags, away = {}, True
        except MedaiError:  # the study was deleted
            tags = {}
        found = Subject(identifier=str(tags.get("PatientID", "")).strip(), name=str(tags.get("PatientName", "")))
        if not found.identifier:
            return self._lines.told_of(line.study_id), away
        self._known[line.study_id] = found
        return found, away
