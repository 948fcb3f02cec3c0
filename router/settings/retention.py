"""How long the ledger keeps what it no longer needs. Next: ledger/retention.py (what goes), daemon/pruner.py (when)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medai.router.settings.section import Section

DAY_S = 86_400.0
Days = Annotated[float, Field(ge=0)]


class RetentionSettings(Section):
    """How many days the ledger keeps what it no longer needs; 0: for ever. What is owed, in work or waits for a person
    stays in any case. Which table lives how long: docs/retention.md."""

    messages_d: Days = 90.0
    """Texts of messages (ORU, FHIR) after they were delivered or called off, and copies of results that never reached
    the archive. Without its text a result can't be withdrawn where it was sent."""
    orders_d: Days = 730.0
    """Orders after the last word on them, what became of held ones, and when ADT messages told of a patient."""
    merges_d: Days = 0.0
    """Merges of patients. Images under an identifier whose merge is forgotten are told under that identifier again."""
    history_d: Days = 1095.0
    """When a reading passed each stage, its attempts and their faults, decisions, and tries of deliveries."""
    readings_d: Days = 1825.0
    """Measurements, checks, readers' corrections and answers after a reading ended; and all that is known of a study
    after it was deleted from the archive. Which model read a study that is still there is kept as long as it is."""
    audit_d: Days = 3650.0
    """Lines of the audit trail."""
