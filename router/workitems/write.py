"""What a performer tells of a workitem, as DICOM JSON (PS3.18 F): claims, progress, results, and why there are none.

Pure. What must be there when a workitem ends is in PS3.4 Table CC.2.5-3 (final state); how an object is referred to, in
PS3.3 10.3.2 (Referenced Instances and Access Macro). Next: server.py (who sends it).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from medai.router.contract import NAMESPACE
from medai.router.workitems.read import Code, StepState

Element = Mapping[str, Any]
DataSet = Mapping[str, Element]
UTF_8: Element = {"vr": "CS", "Value": ["ISO_IR 192"]}
"""Specific Character Set, which JSON leaves no choice of."""
UNSPECIFIED = Code(value="110513", scheme="DCM", meaning="Discontinued for unspecified reason")
INCOMPLETE = Code(value="110523", scheme="DCM", meaning="Object Set incomplete")
REASON_LENGTH = 1024
SHORT = 16
"""Longest code value that a Code Value (SH) holds; a longer one is a Long Code Value (UC)."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """An object that was made."""

    study: str
    series: str
    sop_class: str
    sop_uid: str


@dataclass(frozen=True, kw_only=True)
class Performed:
    """What was done for a workitem, and with what outcome. Moments are seconds since the epoch."""

    work: Code
    station: Code
    began: float
    ended: float
    outputs: tuple[Output, ...]
    reason: str = ""
    """Why it is canceled, for people; empty: it is completed."""
    reason_code: Code = UNSPECIFIED
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where the outputs are to be had."""

    ae_title: str
    wado_root: str = ""
    """Base of WADO-RS; empty: it is not offered."""


def transaction_uid(workitem_uid: str, performer: str) -> str:
    """The lock of a workitem: the same each time, so that a claim that was cut short can be taken up."""
    return f"2.25.{uuid.uuid5(NAMESPACE, f'workitem|{workitem_uid}|{performer}').int}"


def state(transaction: str, wanted: StepState) -> bytes:
    """Change of a workitem's state (PS3.4 Table CC.2.1-1)."""
    return _sent({"00081195": _of("UI", transaction), "00741000": _of("CS", wanted.value)})


def progress(transaction: str, words: str, *, percent: int = 0) -> bytes:
    """How far it is."""
    told = {"00741004": _of("DS", percent), "00741006": _of("ST", words)}
    return _sent({"00080005": UTF_8, "00081195": _of("UI", transaction), "00741002": _sequence([told])})


def performed(transaction: str, done: Performed, archive: Archive) -> bytes:
    """What was done, which must be there before a workitem may end."""
    told: dict[str, Element] = {
        "00080005": UTF_8,
        "00081195": _of("UI", transaction),
        "00741216": _sequence([_procedure(done, archive)]),
    }
    if done.reason:
        told["00741002"] = _sequence([_canceled(done)])
    else:
        told["00741002"] = _sequence([{"00741004": _of("DS", 100)}])
    return _sent(told)


def _procedure(done: Performed, archive: Archive) -> DataSet:
    """Unified Procedure Step Performed Procedure Sequence."""
    told = {
        "00404019": _sequence([_code(done.work)]),
        "00404028": _sequence([_code(done.station)]),
        "00404033": _sequence(_outputs(done.outputs, archive)),
        "00404050": _of("DT", _moment(done.began)),
        "00404051": _of("DT", _moment(done.ended)),
    }
    return told | ({"00400254": _of("LO", done.description)} if done.description else {})


def _canceled(done: Performed) -> DataSet:
    return {
        "00404052": _of("DT", _moment(done.ended)),
        "0074100E": _sequence([_code(done.reason_code)]),
        "00741238": _of("LT", done.reason[:REASON_LENGTH]),
    }


def _outputs(outputs: Sequence[Output], archive: Archive) -> list[DataSet]:
    """An item for each series, since that is what an item refers to."""
    by_series: dict[tuple[str, str], list[Output]] = {}
    for output in outputs:
        by_series.setdefault((output.study, output.series), []).append(output)
    return [_references(study, series, objects, archive) for (study, series), objects in by_series.items()]


def _references(study: str, series: str, objects: Iterable[Output], archive: Archive) -> DataSet:
    references = [{"00081150": _of("UI", each.sop_class), "00081155": _of("UI", each.sop_uid)} for each in objects]
    told = {
        "00081199": _sequence(references),
        "0020000D": _of("UI", study),
        "0020000E": _of("UI", series),
        "0040E020": _of("CS", "DICOM"),
        "0040E021": _sequence([{"00080054": _of("AE", archive.ae_title)}]),
    }
    if archive.wado_root:
        address = f"{archive.wado_root}/studies/{study}/series/{series}"
        told["0040E025"] = _sequence([{"00081190": _of("UR", address)}])
    return told


def _code(code: Code) -> DataSet:
    value = "00080120" if not code.scheme else "00080100" if len(code.value) <= SHORT else "00080119"
    told = {value: _of({"00080100": "SH", "00080119": "UC", "00080120": "UR"}[value], code.value)}
    if code.scheme:
        told["00080102"] = _of("SH", code.scheme)
    return told | {"00080104": _of("LO", code.meaning or code.value[:64])}


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def _of(vr: str, value: str | int) -> Element:
    return {"vr": vr, "Value": [value]}


def _sequence(found: Sequence[DataSet]) -> Element:
    return {"vr": "SQ", "Value": list(found)} if found else {"vr": "SQ"}


def _sent(told: DataSet) -> bytes:
    """One data set in the array that PS3.18 F.2 asks for, its attributes in their order."""
    return json.dumps([dict(sorted(told.items()))], ensure_ascii=False).encode("utf-8")
