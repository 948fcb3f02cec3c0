"""Which SEG and SR in the archive are somebody's edits of our results: told by what they refer to.

An edit is a SEG or SR that is not ours, in a study whose reading has a result, and that refers to the series that was
read or to the result itself. What was stored before there was a result is no edit of it. Next: ledger/edits.py (where
it is kept), changes.py (who asks), workers/feedback/runner.py (what follows).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from medai.router.errors import OrthancBroke, OrthancRefused, PermanentError
from medai.router.ledger import Ledger
from medai.router.ledger.edits import EditSeen, Reading
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import ResultSettings

KINDS = {"SEG": "seg", "SR": "sr"}
"""Modality -> kind."""
OUR_SOFTWARE = "med-ai "
"""Begins Software Versions (0018,1020) of every result of ours (workers/results/identity.py)."""
BREAKS_LIMIT = 2
"""How often Orthanc may fail on a header before it is not asked for it again."""


class Recogniser:
    """Looks at what is new in a study; remembers only the headers that broke Orthanc."""

    def __init__(self, orthanc: Orthanc, ledger: Ledger, results: ResultSettings) -> None:
        self._orthanc = orthanc
        self._ledger = ledger
        self._results = results
        self._breaks: Counter[str] = Counter()

    def look(self, orthanc_study: str, series: Sequence[Mapping[str, Any]] | None = None) -> list[EditSeen]:
        """The edits among a study's SEG and SR that the ledger does not hold as they are now.

        ``series``: as ``Orthanc.series_of`` gave them, where the caller has just asked; else all of the study.
        """
        mine = None if series is None else _candidates(series)
        readings = self._ledger.edits.readings_with_results(orthanc_study) if mine is None or mine else []
        if not readings:
            return []
        if mine is None:
            mine = _candidates(self._orthanc.series_of([orthanc_study]))
        return [edit for kind, names in mine for edit in self._of_series(orthanc_study, kind, names, readings)]

    def _of_series(
        self, orthanc_study: str, kind: str, names: Sequence[str], readings: Sequence[Reading]
    ) -> Iterator[EditSeen]:
        ours = self._ledger.deliveries.known_results(names)
        known = self._ledger.edits.digests(names)
        for name in names:
            if name in ours or self._breaks[name] >= BREAKS_LIMIT:
                continue
            try:
                digest = self._orthanc.md5(name)
                if known.get(name) == digest:
                    continue
                tags = self._tags(name)
            except OrthancRefused as error:
                if error.status == 404:  # deleted between two calls
                    continue
                raise
            if tags is None or self._is_ours(tags, readings):
                continue
            reading = reading_of(tags, readings) or self._by_images(tags, readings)
            if reading is not None:
                yield _edit(orthanc_study, name, kind, digest, tags, reading)

    def _tags(self, name: str) -> dict[str, Any] | None:
        """The header of an instance; None where it is nested too deeply to be read."""
        try:
            return self._orthanc.tags(name)
        except OrthancBroke:
            self._breaks[name] += 1
            raise
        except OrthancRefused:
            raise
        except (PermanentError, RecursionError):
            return None

    def _is_ours(self, tags: Mapping[str, Any], readings: Sequence[Reading]) -> bool:
        """By its UID (a copy under another patient), or by the equipment (a ledger that was lost, another Med-AI)."""
        if any(str(tags.get("SOPInstanceUID", "")) in reading.objects for reading in readings):
            return True
        equipment = (str(tags.get("Manufacturer", "")), str(tags.get("ManufacturerModelName", "")))
        same = equipment == (self._results.manufacturer, self._results.device_name)
        return same and str(tags.get("SoftwareVersions", "")).startswith(OUR_SOFTWARE)

    def _by_images(self, tags: Mapping[str, Any], readings: Sequence[Reading]) -> Reading | None:
        """An object that names images but not their series."""
        series, objects = references(tags)
        if series or not objects:
            return None
        for reading in readings:
            for name in reading.series:
                uids = {str(item["MainDicomTags"]["SOPInstanceUID"]) for item in self._orthanc.instances(name)}
                if uids & objects:
                    return reading
        return None


def _candidates(series: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The kind and the instances of each series of SEG or SR."""
    modalities = (item["MainDicomTags"].get("0008,0060", item["MainDicomTags"].get("Modality", "")) for item in series)
    return [
        (KINDS[modality], [str(name) for name in item["Instances"]])
        for modality, item in zip(modalities, series, strict=True)
        if modality in KINDS and item["Instances"]
    ]


def reading_of(tags: Mapping[str, Any], readings: Sequence[Reading]) -> Reading | None:
    """The reading whose result an object refers to, else the newest of a series that it refers to."""
    series, objects = references(tags)
    named = [reading for reading in readings if reading.objects & (series | objects)]
    same = [reading for reading in readings if reading.series_uids & series]
    return next(iter([*named, *same]), None)


def references(tags: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The Series and SOP Instance UIDs that an object's sequences name, at any depth."""
    series: set[str] = set()
    objects: set[str] = set()
    waiting: list[Any] = [value for value in tags.values() if isinstance(value, list)]
    while waiting:
        for item in waiting.pop():
            if not isinstance(item, dict):
                continue
            for keyword, value in item.items():
                if isinstance(value, list):
                    waiting.append(value)
                elif keyword == "SeriesInstanceUID":
                    series.add(str(value))
                elif keyword == "ReferencedSOPInstanceUID":
                    objects.add(str(value))
    return series, objects


def _edit(orthanc_study: str, name: str, kind: str, digest: str, tags: Mapping[str, Any], reading: Reading) -> EditSeen:
    series, objects = references(tags)
    words = (str(tags.get("Manufacturer", "")).strip(), str(tags.get("ManufacturerModelName", "")).strip())
    return EditSeen(
        study_orthanc_id=orthanc_study,
        job_id=reading.job_id,
        orthanc_id=name,
        series_uid=str(tags.get("SeriesInstanceUID", "")),
        sop_uid=str(tags.get("SOPInstanceUID", "")),
        kind=kind,
        named=bool(reading.objects & (series | objects)),
        digest=digest,
        tool=" ".join(word for word in words if word),
    )


def arrived_in(series: Mapping[str, Any], arrived: Collection[str]) -> dict[str, Any]:
    """A series with those of its instances alone that have just arrived."""
    return {**series, "Instances": [name for name in series["Instances"] if str(name) in arrived]}
