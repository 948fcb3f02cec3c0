"""Lines of the audit trail of every kind, with texts that nobody foresaw."""

from __future__ import annotations

from typing import Any

from medai.router.audit.dicom_message import Reporter
from medai.router.audit.events import KINDS, ORDER, PATIENT, TRANSFERRED, AuditedEvent, event_of
from medai.router.ledger.audit_lines import Subject, TrailLine

T0 = 1_800_000_000.25
REPORTER = Reporter(source="MEDAI", site="Radiology, St. Ann's", host="ai.hospital.example")
JANE = Subject(identifier="4711", name="Doe^Jäne")
NASTY = ']]><b a="1">\'&amp;\r\n\x00\x1b\ud800 <!-- é日本\u2028 𝛼 \ufffe'
WITHOUT_STUDY = frozenset(
    {"start", "stop", "login", "login failed", "logout", "studies", "held orders", "held merges", "audit"}
)
ACCOUNTS = {"start": "router", "stop": "router", "patient merge": "(RIS)", "patient update": "(RIS)", "order change": "(RIS)",
            "order_held": "router", "merge_held": "router", "reading": "router", "delivered": "router"}  # fmt: skip


def line(action: str = "study", *, number: int = 1, **own: Any) -> TrailLine:
    """A line about a study."""
    values: dict[str, Any] = {
        "id": number, "at": T0 + number, "account": ACCOUNTS.get(action, "ana"), "action": action, "detail": "",
        "study_id": 7, "job_id": None, "study_uid": "1.2.840.7", "orthanc_id": "o-1", "accession": "A7",
    }  # fmt: skip
    return TrailLine(**{**values, **own})


def bare(action: str, **own: Any) -> TrailLine:
    """A line about no study."""
    return line(action, **{"study_id": None, "study_uid": "", "orthanc_id": "", "accession": "", **own})


def event(of: TrailLine, subject: Subject = JANE) -> AuditedEvent:
    """As an auditor reads it."""
    return event_of(of, subject)


def every_kind() -> list[AuditedEvent]:
    """One event of each action, as the system writes it, and one with texts that nobody foresaw."""
    details = {ORDER: "PL-1^RIS: active", PATIENT: "4710 to 4711", TRANSFERRED: "ris"}
    found: list[AuditedEvent] = []
    for action, kind in KINDS.items():
        own = "from 10.1.2.3" if action in ("login", "login failed") else details.get(kind.event, "why")
        of_study = action not in WITHOUT_STUDY and kind.event not in (PATIENT, ORDER)
        make = line if of_study else bare
        number = len(found) + 1
        known = JANE if of_study or kind.event is ORDER else Subject()
        found.append(event(make(action, number=number, detail=own), known))
        odd = make(action, number=number + 1, detail=NASTY, account=NASTY)
        found.append(event(odd, Subject(identifier=NASTY, name=NASTY) if of_study else Subject()))
    found += [
        event(line("patient", number=900)),
        event(line("made up", number=901)),
        event(bare("made up", number=902)),
    ]
    found.append(event(line("study", number=903, accession=NASTY), Subject()))
    return found
