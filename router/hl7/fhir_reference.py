"""What an HL7 v2 number is in FHIR: who gave it out, and the order that a result answers. Pure.

Sources: HL7 v2.5.1 2.A.28 (EI), 2.A.33 (HD); FHIR R4 and R5, Identifier and Reference; v2-to-FHIR (EI, HD).
Next: workers/results/fhir_record.py (a new result), delivery/fhir.py (one whose order is told later).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medai.router.hl7.text import unescape

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def authority(designator: str, known: Mapping[str, str]) -> tuple[str, str]:
    """System URI and name of an HL7 HD (namespace&universal id&type); ``known`` has URIs by namespace."""
    namespace, universal, kind = [*designator.split("&"), "", "", ""][:3]
    if _OID.fullmatch(universal) and kind.upper() in ("ISO", ""):
        return f"urn:oid:{universal}", namespace
    if _UUID.fullmatch(universal.lower()) and kind.upper() in ("UUID", "GUID"):
        return f"urn:uuid:{universal.lower()}", namespace
    if kind.upper() == "URI" and re.fullmatch(r"[a-z]+:\S+", universal):
        return universal, namespace
    return known.get(namespace, ""), namespace


def order_reference(placer: str) -> list[dict[str, Any]]:
    """The order by its placer number (an EI: number, namespace, universal id and type); nothing without one."""
    number, *rest = (unescape(part).strip() for part in placer.split("^"))
    value = _CONTROL.sub(" ", number).strip()
    if not number:
        return []
    system, name = authority("&".join(rest), {})
    found: dict[str, Any] = {"type": {"coding": [{"system": f"{TERMINOLOGY}/v2-0203", "code": "PLAC"}]}}
    found |= {"system": system} if system else {}
    found |= {"value": value} if value else {}
    found |= {"assigner": {"display": name}} if name else {}
    return [{"type": "ServiceRequest", "identifier": found}]
