"""The modality worklist: which orders a scanner may begin, as answers to a C-FIND (PS3.4 annex K; IHE RAD-5).

Matching is by single value, wildcard, date range and sequence, as K.2.2.1 asks; what a query does not name matches.
Pure: dicom_server.py asks it. Source: PS3.4 table K.6-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import VR

from medai.hl7_mock.orders import Order

STATION_AE = "ANY_MODALITY"
PRIORITIES = {"S": "STAT", "A": "HIGH", "R": "ROUTINE"}
"""Our word -> Requested Procedure Priority (0040,1003)."""
NO_WILDCARD = frozenset((VR.DA, VR.TM, VR.DT, VR.UI, VR.SL, VR.SS, VR.UL, VR.US, VR.FL, VR.FD, VR.OB, VR.OW, VR.UN))


def entry(order: Order) -> Dataset:
    """An order as the worklist tells it."""
    asked, details = order.details.request, order.details
    placed = datetime.fromtimestamp(details.placed_at, UTC).astimezone()
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.AccessionNumber = asked.accession
    made.ReferringPhysicianName = ""
    made.ReferencedStudySequence, made.ReferencedPatientSequence = [], []
    made.PatientName, made.PatientID = asked.patient_name or "Unknown", asked.patient_id  # type 1 both
    made.IssuerOfPatientID = "HOSPITAL"
    made.PatientBirthDate, made.PatientSex = asked.birth_date, asked.sex if asked.sex in ("M", "F", "O") else ""
    made.MedicalAlerts, made.Allergies, made.PregnancyStatus, made.PatientWeight = "", "", 4, None
    made.StudyInstanceUID = asked.study_uid
    made.RequestingPhysician, made.RequestedProcedureDescription = "", asked.procedure_text[:64]
    made.RequestedProcedureCodeSequence = [_code(asked.procedure_code, asked.procedure_text)]
    made.AdmissionID, made.CurrentPatientLocation, made.PatientState = details.visit_number, "", ""
    made.ConfidentialityConstraintOnPatientDataDescription, made.PatientTransportArrangements = "", ""
    made.PlacerOrderNumberImagingServiceRequest = order.placer
    made.RequestedProcedureID = details.requested_procedure_id
    made.RequestedProcedurePriority = PRIORITIES.get(asked.priority, "ROUTINE")
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledStationName = asked.modality, STATION_AE, ""
    step.ScheduledProcedureStepStartDate = placed.strftime("%Y%m%d")
    step.ScheduledProcedureStepStartTime = placed.strftime("%H%M%S")
    step.ScheduledPerformingPhysicianName, step.ScheduledProcedureStepLocation, step.PreMedication = "", "", ""
    step.ScheduledProcedureStepDescription = asked.procedure_text[:64]
    step.ScheduledProtocolCodeSequence = [_code(asked.procedure_code, asked.procedure_text)]
    step.ScheduledProcedureStepID = details.scheduled_step_id
    step.ScheduledProcedureStepStatus = "SCHEDULED"
    made.ScheduledProcedureStepSequence = [step]
    return made


def answers(query: Dataset, orders: Iterable[Order]) -> Iterator[Dataset]:
    """The entries that match, each with the attributes that the query names."""
    for order in orders:
        found = entry(order)
        if matches(query, found):
            yield _returned(query, found)


def matches(query: Dataset, found: Dataset) -> bool:
    """Whether an entry has what the query asks for."""
    for element in query:
        if element.keyword in ("SpecificCharacterSet", "") or element.is_empty:
            continue
        there = found.get(element.tag)
        if element.VR == VR.SQ:
            items = there.value if there is not None else []
            wanted = element.value[0] if len(element.value) else Dataset()
            if len(wanted) and not any(matches(wanted, item) for item in items):
                return False
        elif there is not None and not _matches_value(element, _text(there.value)):
            return False
    return True


def _matches_value(element: DataElement, there: str) -> bool:
    asked, vr = _text(element.value), str(element.VR)
    if element.keyword == "ScheduledStationAETitle":
        return True  # one department: whichever scanner of the right modality is free
    if vr in ("DA", "TM") and "-" in asked:
        low, _, high = asked.partition("-")
        return (not low or there[: len(low)] >= low) and (not high or there[: len(high)] <= high)
    if vr == "UI":
        return there in asked.split("\\")
    if vr not in NO_WILDCARD and ("*" in asked or "?" in asked):
        pattern = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in asked)
        return re.fullmatch(pattern, there, re.IGNORECASE if vr == "PN" else 0) is not None
    if vr == "PN":
        return asked.casefold().rstrip("^") == there.casefold().rstrip("^")
    return asked == there


def _returned(query: Dataset, found: Dataset) -> Dataset:
    """What was asked for, and the character set; an attribute that we do not have comes back empty."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for element in query:
        if element.keyword == "SpecificCharacterSet":
            continue
        if element.tag not in found:
            made.add_new(element.tag, element.VR, [] if element.VR == VR.SQ else None)
            continue
        there = found[element.tag]
        if element.VR == VR.SQ and len(element.value) and len(element.value[0]):
            made.add_new(element.tag, VR.SQ, [_item(element.value[0], item) for item in there.value])
        else:
            made.add(there)
    return made


def _item(query: Dataset, found: Dataset) -> Dataset:
    made = _returned(query, found)
    del made.SpecificCharacterSet
    return made


def _code(value: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value[:16], "L", (meaning or value)[:64]
    return made


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
