"""FHIR data types: codings, identifiers, times and quantities out of DICOM and HL7 v2. Next: fhir.py.

Datatypes as in FHIR R4 and R5, which are the same in all that is used; system URIs as in their terminologies page and,
for DICOM, their ImagingStudy page (urn:dicom:uid).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from medai.models.volume import Code
from medai.router.contract import NAMESPACE
from medai.workers.results.hl7_text import CONTROL, dicom_timestamp
from medai.workers.results.measure import HOUNSFIELD, MILLILITRE

Json = dict[str, Any]
LOCAL_SYSTEM = f"urn:uuid:{NAMESPACE}"
"""System of our own codes and numbers."""
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
UCUM = "http://unitsofmeasure.org"
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "RADLEX": "http://radlex.org",
    "99MEDAI": LOCAL_SYSTEM,
}
"""Of DICOM's and HL7's coding schemes; a scheme of the hospital's own has no URI that we know."""
UNITS = {MILLILITRE: ("mL", "mL"), HOUNSFIELD: ("HU", "[hnsf'U]")}
"""For people, and by UCUM."""


def coding(value: str, scheme: str, meaning: str) -> Json:
    """A Coding; without a system where the scheme has no known URI."""
    return present(system=SYSTEMS.get(scheme), code=value, display=meaning)


def concept(code: Code, text: str = "") -> Json:
    """A CodeableConcept."""
    return present(coding=[coding(code.value, code.scheme, code.meaning)], text=text)


def hl7_concept(table: str, code: str) -> Json:
    """A CodeableConcept of one of HL7's own code systems (v2-0203, v3-ObservationValue …)."""
    return {"coding": [{"system": f"{TERMINOLOGY}/{table}", "code": code}]}


def quantity(value: float, unit: str) -> Json:
    """A Quantity in UCUM."""
    name, code = UNITS[unit]
    return {"value": value, "unit": name, "system": UCUM, "code": code}


def identifier(value: str, kind: str, *, system: str = "", assigner: str = "") -> Json:
    """An Identifier; ``kind`` is of HL7 table 0203 (MR, ACSN, PLAC, FILL)."""
    issuer = {"display": assigner} if assigner else None
    return present(type=hl7_concept("v2-0203", kind), system=system, value=printable(value), assigner=issuer)


def printable(text: str) -> str:
    """Without control characters, which no FHIR string holds; a file may have them in an identifier."""
    return CONTROL.sub(" ", text).strip()


def uid_identifier(uid: str) -> Json:
    """An Identifier that is a DICOM UID."""
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}


def sop_class(uid: str) -> Json:
    """A SOP Class as Coding."""
    return {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{uid}"}


def date_time(date: str, time: str, offset: str) -> str:
    """A dateTime of a DICOM date and time; the date alone where no offset from UTC is known, which FHIR asks for."""
    found = dicom_timestamp(date, time, offset)
    if not found:
        return ""
    day = f"{found[:4]}-{found[4:6]}-{found[6:8]}"
    if len(found) <= 8 or found[-5] not in "+-":
        return day
    clock, zone = found[8:-5].ljust(6, "0"), found[-5:]
    return f"{day}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}{zone[:3]}:{zone[3:]}"


def instant(moment: datetime) -> str:
    """An instant, to the second; a moment without a zone has none, and is left out."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment.tzinfo is not None else ""


def present(**elements: Any) -> Json:
    """The elements that have something in them: FHIR knows no empty ones."""
    return {name: value for name, value in elements.items() if value not in (None, "", [], {})}
