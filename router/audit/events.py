"""What a line of the audit trail means to an auditor: which event, done by whom, about which patient and study. Pure.

Event codes are those of DICOM PS3.15 A.5.3 and PS3.16 (CID 400, 401, 403). Each action that this system writes down has
its place in ``KINDS``; one that is not there still goes out, as an access to its study or as the use of a function.
Next: dicom_message.py and fhir_event.py (the two ways to write it), ledger/audit_lines.py (where lines come from).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from medai.router.ledger.audit_lines import Subject, TrailLine
from medai.router.ledger.trail import PRUNED


class Code(NamedTuple):
    """A code of a coding scheme, with its meaning."""

    value: str
    meaning: str
    scheme: str = "DCM"


APPLICATION = Code("110100", "Application Activity")
LOG_USED = Code("110101", "Audit Log Used")
ACCESSED = Code("110103", "DICOM Instances Accessed")
TRANSFERRED = Code("110104", "DICOM Instances Transferred")
ORDER = Code("110109", "Order Record")
PATIENT = Code("110110", "Patient Record")
PROCEDURE = Code("110111", "Procedure Record")
QUERY = Code("110112", "Query")
ALERT = Code("110113", "Security Alert")
AUTHENTICATION = Code("110114", "User Authentication")

START, STOP = Code("110120", "Application Start"), Code("110121", "Application Stop")
LOGIN, LOGOUT = Code("110122", "Login"), Code("110123", "Logout")
RESTRICTED = Code("110132", "Use of Restricted Function")
USER_CHANGED = Code("110137", "User Security Attributes Changed")

CREATE, READ, UPDATE, DELETE, EXECUTE = "C", "R", "U", "D", "E"
SUCCESS, MINOR_FAILURE = "0", "4"


class Kind(NamedTuple):
    """The event that an action is."""

    event: Code
    action: str
    type: Code | None = None
    outcome: str = SUCCESS


_LOOKED = Kind(ACCESSED, READ)
_ORDERED = Kind(ORDER, UPDATE)
_STEERED = Kind(PROCEDURE, UPDATE)
_USED = Kind(ALERT, EXECUTE, RESTRICTED)
_ACCOUNT = Kind(ALERT, EXECUTE, USER_CHANGED)
KINDS: Mapping[str, Kind] = {
    "start": Kind(APPLICATION, EXECUTE, START),
    "stop": Kind(APPLICATION, EXECUTE, STOP),
    "login": Kind(AUTHENTICATION, EXECUTE, LOGIN),
    "login failed": Kind(AUTHENTICATION, EXECUTE, LOGIN, MINOR_FAILURE),
    "logout": Kind(AUTHENTICATION, EXECUTE, LOGOUT),
    # who saw what
    "studies": Kind(QUERY, EXECUTE),
    "held orders": Kind(QUERY, EXECUTE),
    "held merges": Kind(QUERY, EXECUTE),
    "study": _LOOKED,
    "images": _LOOKED,
    "report": _LOOKED,
    "messages": _LOOKED,
    "message": _LOOKED,
    "viewer": _LOOKED,
    "viewer refused": Kind(ACCESSED, READ, None, MINOR_FAILURE),
    "rule test": _USED,
    "patient": Kind(PATIENT, READ),
    "audit": Kind(LOG_USED, READ),
    # what was read by which model, and where its result went
    "reading": Kind(TRANSFERRED, READ),
    "delivered": Kind(TRANSFERRED, READ),
    "sent outside": Kind(TRANSFERRED, READ),
    # what the RIS said
    "patient merge": Kind(PATIENT, UPDATE),
    "patient update": Kind(PATIENT, UPDATE),
    "patient erased": Kind(PATIENT, DELETE),
    "merge_held": Kind(PATIENT, UPDATE),
    "merge_released": Kind(PATIENT, UPDATE),
    "merge_rejected": Kind(PATIENT, UPDATE),
    "order change": _ORDERED,
    "order_held": _ORDERED,
    "order_released": _ORDERED,
    "order_rejected": _ORDERED,
    "order_joined": _ORDERED,
    # what people did to readings
    "stat": _STEERED,
    "cancel": _STEERED,
    "read_again": _STEERED,
    "retry": _STEERED,
    "drop": _STEERED,
    "withdraw": Kind(ACCESSED, DELETE),
    "survey usefulness": _USED,
    "survey usability": _USED,
    "survey export": _USED,
    "edits export": _USED,
    "backup": _USED,
    "restore": _USED,
    PRUNED: _USED,
    # accounts
    "account": _ACCOUNT,
    "account add": _ACCOUNT,
    "account password": _ACCOUNT,
    "account role": _ACCOUNT,
    "account disable": _ACCOUNT,
    "account enable": _ACCOUNT,
    "token": _ACCOUNT,
    "revoke token": _ACCOUNT,
}


HELD_MERGES = frozenset({"merge_held", "merge_released", "merge_rejected"})
"""Their details say why, after who was to become whom."""


class Agent(StrEnum):
    """Who acts in a line."""

    PERSON = "person"
    RIS = "ris"
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class AuditedEvent:
    """A line as an auditor reads it."""

    line: TrailLine
    kind: Kind
    agent: Agent
    address: str
    """Where a person came from; empty where the line does not say."""
    subject: Subject
    """Whose record it is; without an identifier where nobody knows."""
    order: str
    """The number of the order that it is about."""
    to: str
    """Where a result, or a study, went."""

    @property
    def about_study(self) -> bool:
        """Whether it is about one study."""
        return bool(self.line.study_uid)


def event_of(line: TrailLine, subject: Subject) -> AuditedEvent:
    """``subject``: whose study it is, where it is about one."""
    kind = KINDS.get(line.action) or (_LOOKED if line.study_uid else _USED)
    if kind.event is ACCESSED and not line.study_uid:
        kind = _USED._replace(outcome=kind.outcome)
    named = kind.event is PATIENT and kind.action != DELETE and not line.study_uid  # who is erased stays unnamed
    told = line.detail.partition(": ")[0] if line.action in HELD_MERGES else line.detail
    merged = told.split(" to ")[-1] if named else ""
    return AuditedEvent(
        line=line,
        kind=kind,
        agent=_agent(line.account),
        address=_as_ip(line.address) or (_address(line.detail) if kind.event is AUTHENTICATION else ""),
        subject=Subject(identifier=merged) if merged else subject,
        order=line.detail.partition(": ")[0] if kind.event is ORDER else "",
        to=line.detail if kind.event is TRANSFERRED else "",
    )


def _agent(account: str) -> Agent:
    return {"(RIS)": Agent.RIS, "router": Agent.SYSTEM}.get(account, Agent.PERSON)


def _as_ip(address: str) -> str:
    """The address; nothing where a proxy has said something else of whoever came."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return address


def _address(detail: str) -> str:
    """Of a line of before lines had addresses: from such details as "from 10.1.2.3" and "password change, from …"."""
    found = re.fullmatch(r"(?:.*, )?from ([0-9A-Fa-f:.%\w-]+)", detail)
    return found[1] if found else ""
