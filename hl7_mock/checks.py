"""Is an incoming message a good ORU^R01? Everything wrong with it, each fault with its HL7 error code and place.

Three layers: ``check_header`` (can we take it at all: AR), the order of segments and hl7types' structure and dates,
then what no validator that we know of sees: tables, numbers, lengths, escapes, the DICOM study (AE).
Sources: HL7 v2.5.1 chapter 2 (MSH, lengths, escapes) and 7 (ORU, OBR, OBX); tables.py.
Next: receiver.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from hl7types import decode_er7
from pydantic import ValidationError

from medai.hl7_mock import tables
from medai.hl7_mock.acks import Objection
from medai.hl7_mock.message import Message, Segment, escapes_are_sound
from medai.hl7_mock.results import OrderGroup, order_groups, study_uids

VERSIONS = ("2.5.1", "2.4", "2.3.1", "2.3")
"""MSH-12 that is taken; the segments and their order are the same in all of them as far as the checks go."""
CONTROL_ID_LENGTH = 20
ACCESSION_LENGTH = 16

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)\Z")
_DICOM_UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9]\d*)(\.(0|[1-9]\d*))+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_GRAMMAR = re.compile(
    r"MSH (SFT )*"
    r"((PID (PD1 )?(NTE )*(NK1 )*(PV1 (PV2 )?)?)?"
    r"((ORC )?OBR (NTE )*(TQ1 (TQ2 )*)*(CTD )?(OBX (NTE )*)*(FT1 )*(CTI )*(SPM (OBX )*)*)++)+"
    r"(DSC )?\Z"
)
"""ORU^R01 of v2.5.1 (chapter 7, 7.3.1) over the segment names, Z-segments left out. A patient's orders are taken all at
once (``++``): given back one by one, thirty of them in a wrong message would take hours."""


def check_header(message: Message) -> Objection | None:
    """Why a message cannot be taken at all (answered AR), or None."""
    msh = message.header
    kind, event = msh.value(9, 1), msh.value(9, 2)
    if kind != "ORU":
        return Objection(code="200", text="MSH-9: only ORU^R01 is accepted here", segment="MSH", field=9)
    if event != "R01":
        return Objection(code="201", text="MSH-9: only event R01 is accepted here", segment="MSH", field=9)
    if msh.value(11) not in tables.PROCESSING_IDS:
        return Objection(code="202", text="MSH-11 must be P, T or D", segment="MSH", field=11)
    if msh.value(12) not in VERSIONS:
        text = f"MSH-12: only versions {', '.join(VERSIONS)} are accepted here"
        return Objection(code="203", text=text, segment="MSH", field=12)
    return None


def check_result(message: Message) -> tuple[Objection, ...]:
    """Everything that is wrong with an ORU^R01 (answered AE); empty where nothing is."""
    found = [*_message_header(message.header), *_characters(message), *_order_of_segments(message)]
    if any(objection.code == "100" for objection in found):
        return tuple(found)  # the places of what follows would be wrong
    found += _structure(message)
    found += _patient(message)
    for group in order_groups(message):
        found += _request(group)
        found += _observations(group)
    return tuple(found)


def is_dicom_uid(text: str) -> bool:
    """DICOM PS3.5 section 9.1: at most 64 characters, numbers without leading zeros, dots between."""
    return _DICOM_UID.match(text) is not None


def _message_header(msh: Segment) -> Iterator[Objection]:
    def wrong(field: int, code: str, text: str) -> Objection:
        return Objection(code=code, text=f"MSH-{field} {text}", segment="MSH", field=field)

    control_id = msh.raw(10)
    if not control_id:
        yield wrong(10, "101", "(message control id) is empty")
    if len(control_id) > CONTROL_ID_LENGTH:
        yield wrong(10, "104", f"is longer than {CONTROL_ID_LENGTH} characters")
    structure = "" if msh.value(12) == "2.3" else "ORU_R01"
    if msh.value(9, 3) != structure:
        text = "must be ORU^R01^ORU_R01" if structure else "must be ORU^R01, as version 2.3 has no structure there"
        yield wrong(9, "101" if not msh.value(9, 3) else "103", text)
    if not msh.raw(3):
        yield wrong(3, "101", "(sending application) is empty")
    for field in (15, 16):
        if msh.raw(field):
            yield wrong(field, "207", "must be empty: acknowledgements here are in original mode")


def _characters(message: Message) -> Iterator[Objection]:
    seen: dict[str, int] = {}
    for segment in message.segments:
        seen[segment.name] = sequence = seen.get(segment.name, 0) + 1
        start = 3 if segment.name == "MSH" else 1  # MSH-1 and MSH-2 define the delimiters
        for field, text in enumerate(segment.fields[start:], start=start):
            problem = ""
            if not escapes_are_sound(text, segment.delimiters):
                problem = "holds an escape character that begins no escape sequence"
            elif _CONTROL.search(text):
                problem = "holds a control character"
            if problem:
                yield Objection(
                    code="102",
                    text=f"{segment.name}-{field} {problem}",
                    segment=segment.name,
                    sequence=sequence,
                    field=field,
                )


def _order_of_segments(message: Message) -> Iterator[Objection]:
    names = "".join(f"{segment.name} " for segment in message.segments if not segment.name.startswith("Z"))
    if not _GRAMMAR.match(names):
        yield Objection(code="100", text="the segments are not in the order of ORU^R01 (PID, PV1, ORC, OBR, OBX)")


def _structure(message: Message) -> Iterator[Objection]:
    """hl7types' judgement: required fields, dates. Its own texts quote values, so only the places are used."""
    standard = [segment for segment in message.segments if not segment.name.startswith("Z")]
    text = "".join(_line(segment) for segment in standard)
    try:
        decode_er7(text, _standard(message.header.value(12)))
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            yield _translate([str(part) for part in fault["loc"]], missing=fault["type"] == "missing", kind=error.title)
    except ValueError:  # it does not begin to read a message with other encoding characters
        yield Objection(code="102", text="MSH-2 must hold four encoding characters", segment="MSH", field=2)


@lru_cache(maxsize=len(VERSIONS))  # what is asked for comes out of a message
def _standard(version: str) -> type[Any]:
    """hl7types' ORU^R01 of a version, of the newest where it is none that is taken here; read when first needed."""
    named = (version if version in VERSIONS else VERSIONS[0]).replace(".", "_")
    model: type[Any] = import_module(f"hl7types.hl7.v{named}.messages").ORU_R01
    return model


def _line(segment: Segment) -> str:
    fields = [segment.name, *segment.fields[2:]] if segment.name == "MSH" else segment.fields
    return segment.delimiters.field.join(fields) + "\r"


def _translate(path: list[str], *, missing: bool, kind: str) -> Objection:
    place = path[0] if path else ""
    named = re.fullmatch(r"([a-z][a-z0-9]{2})_(\d+)", place)
    segment, field = (named.group(1).upper(), int(named.group(2))) if named else ("", 0)
    what = f"{segment}-{field}" if named else f"{kind}: {place}"
    code, reason = ("101", "is required and missing") if missing else ("102", "is not a valid value of its type")
    return Objection(code=code, text=f"{what} {reason}", segment=segment, field=field)


def _patient(message: Message) -> Iterator[Objection]:
    pid = message.first("PID")
    if pid is None:
        yield Objection(code="101", text="there is no PID segment", segment="PID")
        return
    if len(list(message.all("PID"))) > 1:
        yield Objection(code="207", text="a message may hold results of one patient only", segment="PID", sequence=2)
    if not pid.value(3):
        yield Objection(code="101", text="PID-3 (patient id) is empty", segment="PID", field=3)
    elif not pid.value(3, 4):
        text = "PID-3 names no assigning authority (component 4)"
        yield Objection(code="101", text=text, segment="PID", field=3)


def _request(group: OrderGroup) -> Iterator[Objection]:
    obr, orc = group.obr, group.orc

    def wrong(field: int, code: str, text: str) -> Objection:
        return Objection(code=code, text=f"OBR-{field} {text}", segment="OBR", sequence=group.number, field=field)

    if not obr.value(3):
        yield wrong(3, "101", "(filler number) is empty")
    for field in (2, 3):
        if orc is not None and orc.value(field) and obr.value(field) and orc.value(field) != obr.value(field):
            yield wrong(field, "102", f"differs from ORC-{field}")
    if len(obr.value(18)) > ACCESSION_LENGTH:
        yield wrong(18, "104", f"(accession) is longer than {ACCESSION_LENGTH} characters")
    if not obr.raw(22):
        yield wrong(22, "101", "(time of the result) is empty")
    if not obr.raw(24):
        yield wrong(24, "101", "(diagnostic service, here the modality) is empty")
    if not obr.raw(25):
        yield wrong(25, "101", "(result status) is empty")
    elif obr.raw(25) not in tables.RESULT_STATUS:
        yield wrong(25, "103", "(result status) is not in table 0123")


def _observations(group: OrderGroup) -> Iterator[Objection]:
    seen: set[tuple[str, str]] = set()
    for number, obx in group.observations:
        for field, code, text in _observation(obx):
            yield Objection(code=code, text=f"OBX-{field} {text}", segment="OBX", sequence=number, field=field)
        named = (obx.raw(3), obx.raw(4))
        if named in seen:
            text = "OBX-4 must tell apart observations with the same OBX-3"
            yield Objection(code="205", text=text, segment="OBX", sequence=number, field=4)
        seen.add(named)
        if group.obr.raw(25) == "X" and obx.raw(11) != "X":
            text = "OBX-11 must be X in a result that is withdrawn (OBR-25 X)"
            yield Objection(code="207", text=text, segment="OBX", sequence=number, field=11)
    uids = study_uids(segment for _, segment in group.observations)
    if not uids:
        text = "no OBX of type HD with code 113014 (DICOM Study) names the study"
        yield Objection(code="101", text=text, segment="OBR", sequence=group.number)
    elif not all(map(is_dicom_uid, uids)):
        text = "the DICOM Study UID is not a valid UID"
        yield Objection(code="102", text=text, segment="OBR", sequence=group.number)


_Fault = tuple[int, str, str]


def _observation(obx: Segment) -> Iterator[_Fault]:
    kind, status = obx.raw(2), obx.raw(11)
    if not status:
        yield 11, "101", "(observation status) is empty"
    elif status not in tables.OBSERVATION_STATUS:
        yield 11, "103", "(observation status) is not in table 0085"
    if any(flag not in tables.ABNORMAL_FLAGS for flag in obx.repetitions(8)):
        yield 8, "103", "(abnormal flags) is not in table 0078"
    if not obx.raw(5):
        if status not in tables.STATUS_WITHOUT_VALUE:
            yield 5, "101", "(value) is empty"
        return
    if not kind:
        yield 2, "101", "(value type) is empty"
    elif kind not in tables.VALUE_TYPES:
        yield 2, "103", "(value type) is not in table 0125"
    elif (check := _VALUE_CHECKS.get(kind)) is not None:
        yield from check(obx)


def _numeric(obx: Segment) -> Iterator[_Fault]:
    if not all(_NUMBER.match(text) for text in obx.repetitions(5)):
        yield 5, "102", "is not a number, but OBX-2 says NM"
    if not obx.value(6):
        yield 6, "101", "(unit) is empty"
    elif obx.value(6, 3) != "UCUM":
        yield 6, "103", "must name UCUM as its coding system (component 3)"


def _coded(obx: Segment) -> Iterator[_Fault]:
    if not obx.value(5, 1) and not obx.value(5, 2):
        yield 5, "101", "has neither code nor text"
    elif obx.value(5, 1) and not obx.value(5, 3):
        yield 5, "101", "names no coding system (component 3)"


def _pointer(obx: Segment) -> Iterator[_Fault]:
    if not obx.value(5, 1):
        yield 5, "101", "points nowhere (component 1)"
    for component, table, known in ((3, "0191", tables.TYPES_OF_DATA), (4, "0291", tables.SUBTYPES)):
        if obx.value(5, component) not in {"", *known}:
            yield 5, "103", f"is not of table {table} (component {component})"


_VALUE_CHECKS: dict[str, Callable[[Segment], Iterator[_Fault]]] = {
    "NM": _numeric,
    "CWE": _coded,
    "CE": _coded,
    "RP": _pointer,
}
