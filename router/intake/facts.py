"""What is known of a study: from Orthanc's JSON to the typed facts that routes are decided on.

Attributes come from one instance of each series. Numbers get their DICOM type (``NUMBERS``), multi-valued ones become
tuples. A header on which Orthanc itself fails (measured: it ends at about 45 nested sequences) gives what Orthanc's
index holds of it, so that the study is decided on like any other and its worker can say what is wrong.
Next: routing/rules.py (what is decided on them), daemon/loop.py (when).
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from cachetools import LRUCache

from medai.router.contract import NOT_IMAGES, Order, OrthancId, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.errors import OrthancBroke, OrthancRefused, PermanentError
from medai.router.files import dicom_scan
from medai.router.hl7.order_patient import Doubt, ImagePatient, choose
from medai.router.hl7.patients import Aliases
from medai.router.ledger.studies import SeriesSeen, StudySeen
from medai.router.orthanc.client import Orthanc

LOOKED_INTO = 64 * 1024**2
"""Largest file that is looked into for nested sequences before Orthanc parses it, and what it may unpack to."""
EXPECTED_OF_STUDY = ("NumberOfStudyRelatedInstances",)
EXPECTED_OF_SERIES = ("NumberOfSeriesRelatedInstances", "ImagesInAcquisition")
_FLOATS = (
    "SliceThickness SpacingBetweenSlices SliceLocation KVP RepetitionTime EchoTime InversionTime FlipAngle "
    "MagneticFieldStrength ImagingFrequency ReconstructionDiameter DataCollectionDiameter DistanceSourceToDetector "
    "DistanceSourceToPatient GantryDetectorTilt TableHeight RescaleIntercept RescaleSlope WindowCenter WindowWidth "
    "PixelSpacing ImagerPixelSpacing ImageOrientationPatient ImagePositionPatient PatientWeight PatientSize "
    "NumberOfAverages PixelBandwidth PercentSampling PercentPhaseFieldOfView TriggerTime SAR ExposureIndex "
    "SpiralPitchFactor SingleCollimationWidth TotalCollimationWidth TableSpeed CTDIvol DiffusionBValue "
    "TemporalResolution ContrastBolusVolume"
)
_INTS = (
    "Rows Columns SeriesNumber InstanceNumber AcquisitionNumber BitsAllocated BitsStored HighBit SamplesPerPixel "
    "PixelRepresentation PlanarConfiguration NumberOfFrames EchoTrainLength NumberOfPhaseEncodingSteps Exposure "
    "ExposureTime XRayTubeCurrent TemporalPositionIdentifier NumberOfTemporalPositions ImagesInAcquisition "
    "NumberOfStudyRelatedInstances NumberOfSeriesRelatedInstances NumberOfStudyRelatedSeries EchoNumbers "
    "SmallestImagePixelValue LargestImagePixelValue NumberOfSlices NumberOfTimeSlices "
    "FieldOfViewDimensions"
)
NUMBERS: Mapping[str, type] = {**dict.fromkeys(_FLOATS.split(), float), **dict.fromkeys(_INTS.split(), int)}
"""Keyword -> Python type of the attributes that a condition may compare as numbers; others stay text
(CEL's ``double(s.X)`` converts them)."""

LOOKED_AT = 4
"""So many instances of a series are looked at for an image among them."""


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study read from Orthanc: what the ledger keeps of it and what rules see of it."""

    seen: StudySeen
    facts: StudyFacts


class Orders(Protocol):
    """Who knows what was ordered (ledger/orders.py)."""

    def of_study(self, *, study_uid: str, accession: str) -> tuple[Order, ...]:
        """Orders that name this study or its accession number, the best match first."""
        ...


class Merges(Protocol):
    """Who knows which patients are one by now (ledger/identities.py)."""

    def aliases(self) -> Aliases:
        """Every merge that the RIS told of."""
        ...


class OurResults(Protocol):
    """Who knows our own objects (ledger/deliveries.py)."""

    def known_results(self, orthanc_ids: Sequence[str]) -> set[str]:
        """Which of these instances are ours."""
        ...


class FactsReader:
    """Reads studies from Orthanc; remembers the attributes of the series that it met last.

    ``released``: whether a person released an order, which contradicts the images, for the study of this UID.
    """

    BREAKS_LIMIT = 2
    """How often Orthanc may fail on an instance's header before it is not asked for it again."""

    def __init__(
        self, orthanc: Orthanc, orders: Orders, merges: Merges, results: OurResults, *, remember: int = 2000,
        released: Callable[[str, Doubt], bool] = lambda _uid, _doubt: False,
    ) -> None:  # fmt: skip
        self._orthanc = orthanc
        self._orders = orders
        self._merges = merges
        self._results = results
        self._released = released
        self._attributes: LRUCache[str, dict[str, Any]] = LRUCache(remember)
        self._breaks: Counter[str] = Counter()

    def read(self, orthanc_study: str, series: Sequence[Mapping[str, Any]] | None = None) -> StudyView | None:
        """The study as it is now, without our own results; None when it is gone or holds nothing else.

        ``series`` are its series as ``Orthanc.series_of`` gave them, when the caller has just asked.
        """
        try:
            study = self._orthanc.study(orthanc_study)
        except OrthancRefused as error:
            if error.status == 404:
                return None
            raise
        items = self._orthanc.series_of([orthanc_study]) if series is None else series
        mine = [item for item in items if item.get("ParentStudy", orthanc_study) == orthanc_study]
        read = [entry for item in mine if (entry := self._series(item)) is not None]
        if not read:
            return None
        return self._view(study, [facts for facts, _ in read], [seen for _, seen in read])

    def _series(self, item: Mapping[str, Any]) -> tuple[SeriesFacts, SeriesSeen] | None:
        instances = [str(name) for name in item["Instances"]]
        modality = str(item["MainDicomTags"].get("0008,0060", item["MainDicomTags"].get("Modality", "")))
        if modality in NOT_IMAGES:
            ours = self._results.known_results(instances)
            instances = [name for name in instances if name not in ours]
        if not instances:
            return None
        attributes = self._tags(str(item["ID"]), instances)
        if attributes is None:
            return None
        attributes = attributes or self._main_tags(item)
        uid = str(attributes.get("SeriesInstanceUID", ""))
        expected = _counts(attributes, EXPECTED_OF_SERIES)
        values = {**attributes, "NumberOfInstances": len(instances), "Orientation": orientation(attributes)}
        facts = SeriesFacts(
            series_uid=SeriesUID(uid), orthanc_id=OrthancId(item["ID"]), instances=len(instances), attributes=values
        )
        seen = SeriesSeen(orthanc_id=str(item["ID"]), series_uid=uid, instances=len(instances), expected=expected)
        return facts, seen

    def _tags(self, series: str, instances: Sequence[str]) -> dict[str, Any] | None:
        """The attributes of a series' first image; None where it was deleted between two calls.

        A planning system may put its structures into the series of the images, ahead of them.
        """
        if series in self._attributes:
            return self._attributes[series]
        try:
            attributes = self._header(instances[0])
            for other in instances[1:LOOKED_AT]:
                if attributes.get("Modality", "") not in NOT_IMAGES:
                    break
                header = self._header(other)
                attributes = attributes if header.get("Modality", "") in NOT_IMAGES else header
        except OrthancRefused as error:
            if error.status == 404:
                return None
            raise
        if attributes.get("Modality", "") not in NOT_IMAGES:  # else an image may follow
            self._attributes[series] = attributes
        return attributes

    def _header(self, instance: str) -> dict[str, Any]:
        """The attributes of one instance; none where Orthanc can't give them, or not again."""
        if self._breaks[instance] >= self.BREAKS_LIMIT:
            return {}
        try:
            if self._would_break(instance):
                return {}
            return attributes_of(self._orthanc.tags(instance))
        except OrthancBroke:
            self._breaks[instance] += 1
            raise
        except OrthancRefused:
            raise
        except (PermanentError, RecursionError):  # an answer that is nested too deeply
            return {}

    def _would_break(self, instance: str) -> bool:
        """Whether Orthanc would end on this header: its file, which it hands out unparsed, is looked at first."""
        if self._orthanc.size(instance) > LOOKED_INTO:
            return False  # too large to fetch for a look; BREAKS_LIMIT remains
        return bool(dicom_scan.refusal(self._orthanc.file(instance), unpacked_limit=LOOKED_INTO))

    def _main_tags(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What Orthanc's index holds of a series, with its study's attributes; it parses no file for them."""
        study = self._orthanc.study(str(item["ParentStudy"]))
        tags = {**study.get("PatientMainDicomTags", {}), **study["MainDicomTags"], **item["MainDicomTags"]}
        return attributes_of(tags)

    def _view(self, study: Mapping[str, Any], facts: list[SeriesFacts], seen: list[SeriesSeen]) -> StudyView:
        first = facts[0].attributes
        tags = study["MainDicomTags"]
        uid, accession = str(tags["StudyInstanceUID"]), str(tags.get("AccessionNumber", "")).strip()
        images: Counter[str] = Counter()
        for item in facts:
            if item.attributes.get("Modality", "") not in NOT_IMAGES:
                images[str(item.attributes.get("Modality", ""))] += item.instances
        modality = images.most_common(1)[0][0] if images else ""
        attributes = {
            **{k: v for k, v in first.items() if k in STUDY_LEVEL},
            "Modality": modality,
            "ModalitiesInStudy": tuple(sorted({str(s.attributes.get("Modality", "")) for s in facts})),
            "AccessionNumber": accession,
            "NumberOfInstances": sum(s.instances for s in facts),
            "NumberOfSeries": len(facts),
        }
        order = self._order(uid, accession, _patient(study.get("PatientMainDicomTags", {})))
        return StudyView(
            seen=StudySeen(
                study_uid=uid,
                orthanc_id=str(study["ID"]),
                accession=accession,
                modality=modality,
                expected=_counts(first, EXPECTED_OF_STUDY),
                series=tuple(seen),
                archive_update=str(study.get("LastUpdate", "")),
                acquired_at=_acquired_at(first),
            ),
            facts=StudyFacts(
                study_uid=StudyUID(uid),
                orthanc_id=OrthancId(study["ID"]),
                attributes=attributes,
                series=tuple(facts),
                order=order,
            ),
        )

    def _order(self, study_uid: str, accession: str, patient: ImagePatient) -> Order | None:
        """The best match that does not contradict the images, or that a person released."""
        found = self._orders.of_study(study_uid=study_uid, accession=accession)
        if not found:
            return None
        aliases = self._merges.aliases()
        released = partial(self._released, study_uid)
        return choose(found, patient, aliases, study_uid=study_uid, released=released).order


def _patient(tags: Mapping[str, Any]) -> ImagePatient:
    """Whom Orthanc's index names for a study."""
    return ImagePatient(
        identifier=str(tags.get("PatientID", "")),
        name=str(tags.get("PatientName", "")),
        birth_date=str(tags.get("PatientBirthDate", "")),
        sex=str(tags.get("PatientSex", "")),
    )


_STUDY_LEVEL = (
    "StudyInstanceUID StudyDate StudyTime StudyID StudyDescription InstitutionName StationName "
    "Manufacturer ManufacturerModelName ReferringPhysicianName RequestedProcedureDescription "
    "RequestedProcedurePriority StudyPriorityID RequestedProcedureID PatientID PatientSex PatientAge PatientBirthDate "
    "PatientWeight PatientSize InstitutionalDepartmentName ProcedureCodeSequence "
    "RequestAttributesSequence BodyPartExamined AdmittingDiagnosesDescription "
    "NumberOfStudyRelatedInstances NumberOfStudyRelatedSeries SpecificCharacterSet PatientIdentityRemoved "
    "ProtocolName "
)
STUDY_LEVEL = frozenset(_STUDY_LEVEL.split())
"""Attributes of one instance that are offered as ``study.X`` (BodyPartExamined and ProtocolName for convenience)."""


def attributes_of(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Every attribute with its type; Modality, which all rules ask for, is one text whatever the header holds."""
    attributes = {k: typed(k, v) for k, v in _as_single(tags).items() if k != "PixelData"}
    modality = attributes.get("Modality", "")
    if not isinstance(modality, str):
        words = modality if isinstance(modality, tuple) else ()
        attributes["Modality"] = next((word for word in words if isinstance(word, str)), "")
    return attributes


GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def _as_single(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """An enhanced object's attributes as a single image has them: those of its first frame stand beside its own."""
    if not any(name in tags for name in GROUPS):
        return tags
    found = {keyword: value for keyword, value in tags.items() if keyword not in GROUPS}
    for name in GROUPS:
        for group in _items(tags.get(name))[:1]:
            for items in group.values() if isinstance(group, dict) else ():
                for item in _items(items)[:1]:
                    found = {**item, **found} if isinstance(item, dict) else found
    return found


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def typed(keyword: str, value: Any) -> Any:
    """An attribute of Orthanc's simplified tags as str, int, float, or a tuple of them; sequences as dicts."""
    if isinstance(value, list):
        return tuple({k: typed(k, v) for k, v in item.items()} for item in value if isinstance(item, dict))
    if not isinstance(value, str):
        return "" if value is None else value
    parts = [part.strip(" \0") for part in value.split("\\")]
    kind = NUMBERS.get(keyword)
    values = tuple(_number(part, kind) for part in parts) if kind else tuple(parts)
    return values[0] if len(values) == 1 and keyword not in ALWAYS_MANY else values


ALWAYS_MANY = frozenset({"ImageType", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "ScanOptions"})
"""Attributes that are lists by nature, so that a condition need not ask how many values there are."""


def _number(text: str, kind: type) -> Any:
    try:
        return int(float(text)) if kind is int else float(text)
    except (ValueError, OverflowError):
        return text


def _counts(attributes: Mapping[str, Any], keywords: Sequence[str]) -> dict[str, int]:
    return {k: v for k in keywords if isinstance(v := attributes.get(k), int) and v > 0}


def orientation(attributes: Mapping[str, Any]) -> str:
    """Plane of the slices by the largest component of their normal (within 30 degrees), else "oblique"."""
    cosines = attributes.get("ImageOrientationPatient")
    if not isinstance(cosines, tuple) or len(cosines) != 6 or not all(isinstance(c, float) for c in cosines):
        return ""
    a, b = cosines[:3], cosines[3:]
    normal = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    size = sum(c * c for c in normal) ** 0.5
    if not size > 0.5:
        return ""
    parts = [abs(c) / size for c in normal]
    plane = ("sagittal", "coronal", "axial")[parts.index(max(parts))]
    return plane if max(parts) >= 0.866 else "oblique"


def _acquired_at(attributes: Mapping[str, Any]) -> float | None:
    """Acquisition's start in seconds since the epoch, reading the scanner's local time by this machine's zone."""
    date = str(attributes.get("AcquisitionDate") or attributes.get("SeriesDate") or "")
    clock = str(attributes.get("AcquisitionTime") or attributes.get("SeriesTime") or "").split(".")[0]
    if len(date) != 8 or len(clock) < 6:
        return None
    try:
        return time.mktime(time.strptime(date + clock[:6], "%Y%m%d%H%M%S"))
    except (ValueError, OverflowError):
        return None


def change_time(change: Mapping[str, Any], now: float) -> float:
    """When a change happened: Orthanc dates it in UTC, to the second; a fresh one happened just now."""
    try:
        dated = float(calendar.timegm(time.strptime(str(change.get("Date", "")), "%Y%m%dT%H%M%S")))
    except ValueError:
        return now
    return now if now - dated < 2.0 else min(now, dated + 1.0)
