"""HL7 v2 as a RIS speaks it to the router: what kind of message it is, and who reads it. Pure.

Next: orders_in.py, patients_in.py (what they say), acknowledge.py (the answer), listener.py (who asks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from medai.router.hl7.orders_in import ORDER_TYPES, OrderMessage, orders
from medai.router.hl7.patients_in import PATIENT_TYPES, PatientMessage, patients
from medai.router.hl7.segments import BadMessage, Header, header_of, read


def parse(
    data: bytes, ignore: Collection[str] = ()
) -> tuple[Header, tuple[OrderMessage, ...] | tuple[PatientMessage, ...]]:
    """Read one message; raises BadMessage, after ``header`` could be read or not.

    ``ignore``: kinds of which the content is left unread, such as ADT^A11 or SIU^*; they give nothing.
    """
    message = read(data)
    head = header_of(message)
    if {"^".join(head.kind), f"{head.kind[0]}^*"}.intersection(ignore):
        return head, ()
    digest = hashlib.sha256(data).hexdigest()
    if head.kind in ORDER_TYPES:
        return head, orders(message, head, digest)
    if head.kind in PATIENT_TYPES:
        return head, patients(message, head, digest)
    known = {kind for kind, _ in ORDER_TYPES | PATIENT_TYPES}
    code = "201" if head.kind[0] in known else "200"
    text = "this listener accepts ORM^O01, OMG^O19, OMI^O23 and ADT (A01 to A14, A28, A31, merges, A47)"
    raise BadMessage(text, ack="AR", code=code, location="MSH^1^9")
