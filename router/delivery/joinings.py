"""How a result that was told without its order is told with it at each destination that names orders.

Next: hl7/oru_edit.py and fhir.py (the messages), ledger/held_orders.py (who asks for them).
"""

from __future__ import annotations

from medai.router.contract import RIS, Order
from medai.router.delivery import fhir
from medai.router.hl7 import oru_edit
from medai.router.ledger.held_orders import Joined
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import Settings


def joinings(settings: Settings) -> dict[str, Joined]:
    """Destination -> what makes its message. Objects (DICOM) name no order: those of a result stay as they are."""

    def at_ris(payload: bytes, order: Order, number: str, now: float) -> bytes | None:
        return oru_edit.ordered(payload, order, control_id=number, now=now)

    def at_fhir(payload: bytes, order: Order, _number: str, _now: float) -> bytes | None:
        return fhir.ordered(payload, order)

    servers = {name for name, each in settings.destinations.items() if isinstance(each, FhirDestination)}
    return {RIS: at_ris, **dict.fromkeys(sorted(servers), at_fhir)}
