"""Errors that state their disposition: try again later, or never.

A foreign exception is translated once, at the edge where it is caught, with its cause kept.
``str(error)`` is shown to people and logged: it never holds a patient identifier or a DICOM UID.
"""

from __future__ import annotations

import argparse
import json
import sys


class MedaiError(Exception):
    """Root of every error of ours; its text says what happened and what to do."""


class TemporaryError(MedaiError):
    """Something outside is away; the same job may succeed later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(MedaiError):
    """No retry can help; the text is the reason that a radiographer reads."""


class ReadingBroke(MedaiError):
    """The process of a model crashed, hung, or answered what it may not: tried again as often as a crash is."""


class SettingsError(MedaiError):
    """The configuration is wrong; the text names the key and the nearest known one."""


class OrthancUnreachable(TemporaryError):
    """Orthanc did not answer, or answered 5xx.

    ``status`` is that of HTTP (0: no answer), ``code`` is OrthancStatus, and ``said`` is Orthanc's own words, to look
    into and never to show.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, status: int = 0, code: int = 0, said: str = ""
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.status = status
        self.code = code
        self.said = said


class OrthancBroke(OrthancUnreachable):
    """Orthanc took the request and then failed on it: it answered 5xx, or broke the connection off."""


class OrthancRefused(PermanentError):
    """Orthanc answered 4xx: the resource is gone or the request is wrong. ``code`` is OrthancStatus, where it says."""

    def __init__(self, message: str, *, status: int, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DestinationUnreachable(TemporaryError):
    """An extra DICOM node or DICOMweb server is away, or did not take, or did not commit, what it was sent."""


class DestinationRefused(PermanentError):
    """An extra DICOM node or DICOMweb server will not have what it was sent: it needs a person."""


class FhirUnreachable(TemporaryError):
    """A FHIR server is away, overloaded, or not as configured."""


class FhirRefused(PermanentError):
    """A FHIR server read the result and will not have it: it needs a person."""


class WorklistUnreachable(TemporaryError):
    """A worklist (UPS-RS) is away, overloaded, or not as configured."""


class WorkitemRefused(PermanentError):
    """A worklist does not change a workitem so. ``gone``: it knows no such workitem, or has done with it."""

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone


class AuditReceiverAway(TemporaryError):
    """Who takes the audit trail is away, or not as configured: its lines wait."""


class BrokerUnreachable(TemporaryError):
    """Redis did not take the message; the sweeper will send it again."""


class LedgerUnreachable(TemporaryError):
    """The ledger's database is away, locked or overloaded."""


class LedgerNewer(LedgerUnreachable):
    """The ledger's tables are newer than this program: it writes nothing, and waits to be updated."""


class LedgerFull(LedgerUnreachable):
    """The file system of the ledger is full: a person must free space, then everything goes on."""


class DiskFull(TemporaryError):
    """A disk is full: a person must free space, then everything goes on."""


class RisUnreachable(TemporaryError):
    """The RIS did not acknowledge in time."""


class RisBusy(TemporaryError):
    """The RIS answered AR: it would not have this message now."""


class RisRefused(PermanentError):
    """The RIS answered AE, or AR for good: the message needs a person."""


class LeaseLost(MedaiError):
    """Another worker owns the job now, or it was superseded; what this one does no longer counts."""


def failed(options: argparse.Namespace, text: str, code: int) -> int:
    """How every command ends badly: the reason on standard error, as JSON with ``--json``; returns the exit code."""
    as_json = getattr(options, "json", False)
    print(json.dumps({"error": text, "exit_code": code}) if as_json else f"medai: {text}", file=sys.stderr)
    return code
