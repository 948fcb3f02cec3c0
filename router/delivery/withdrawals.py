"""How a result is taken back at each destination that can be told, because its study is gone or a person says so.

Next: hl7/oru_edit.py, fhir.py and objects.py (the messages), ledger/removals.py and ledger/actions.py (who asks for
them).
"""

from __future__ import annotations

from collections.abc import Callable

from medai.router.contract import RIS
from medai.router.delivery import fhir, objects
from medai.router.hl7 import oru_edit
from medai.router.ledger.removals import Withdrawn
from medai.router.settings.destinations import FhirDestination, TakesObjects
from medai.router.settings.tables import Settings


def withdrawals(settings: Settings, clock: Callable[[], float], *, words: str = oru_edit.WORDS) -> dict[str, Withdrawn]:
    """Destination -> what makes its message; a DICOM node that wants no rejection notes can't be told."""

    def at_ris(payload: bytes, number: str) -> bytes:
        return oru_edit.withdrawn(payload, control_id=number, now=clock(), words=words)

    def at_fhir(payload: bytes, _number: str) -> bytes:
        return fhir.withdrawn(payload, now=clock(), words=words)

    told: dict[str, Withdrawn] = {RIS: at_ris}
    for name, destination in settings.destinations.items():
        if isinstance(destination, FhirDestination):
            told[name] = at_fhir
        elif isinstance(destination, TakesObjects) and destination.rejection_notes:
            told[name] = objects.withdrawn
    return told
