"""HL7 v2 as a RIS speaks it to the router: what kind of message it is, and who reads it. Pure.

Next: orders_in.py, patients_in.py (what they say), acknowledge.py (the answer), listener.py (who asks).
"""

from __future__ import annotations

import hashlib

from medai.router.hl7.orders_in import ORDER_TYPES, OrderMessage, orders
from medai.router.hl7.patients_in import PATIENT_TYPES, PatientMessage, patient
from medai.router.hl7.segments import BadMessage, Header, header_of, read


def parse(data: bytes) -> tuple[Header, tuple[OrderMessage, ...] | PatientMessage]:
    """Read one message; raises BadMessage, after ``header`` could be read or not."""
    message = read(data)
    head = header_of(message)
    digest = hashlib.sha256(data).hexdigest()
    if head.kind in ORDER_TYPES:
        return head, orders(message, head, digest)
    if head.kind in PATIENT_TYPES:
        return head, patient(message, head, digest)
    known = {kind for kind, _ in ORDER_TYPES | PATIENT_TYPES}
    code = "201" if head.kind[0] in known else "200"
    text = "this listener accepts ORM^O01, OMI^O23, ADT^A08 and ADT^A40"
    raise BadMessage(text, ack="AR", code=code, location="MSH^1^9")
