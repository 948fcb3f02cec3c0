"""Errors that state their disposition: try again later, or never.

A foreign exception is translated once, at the edge where it is caught, with its cause kept.
``str(error)`` is shown to people and logged: it never holds a patient identifier or a DICOM UID.
"""

from __future__ import annotations


class MedaiError(Exception):
    """Root of every error of ours; its text says what happened and what to do."""


class TemporaryError(MedaiError):
    """Something outside is away; the same job may succeed later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(MedaiError):
    """No retry can help; the text is the reason that a radiographer reads."""


class SettingsError(MedaiError):
    """The configuration is wrong; the text names the key and the nearest known one."""


class OrthancUnreachable(TemporaryError):
    """Orthanc did not answer, or answered 5xx."""


class OrthancRefused(PermanentError):
    """Orthanc answered 4xx: the resource is gone or the request is wrong."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class BrokerUnreachable(TemporaryError):
    """Redis did not take the message; the sweeper will send it again."""


class RisUnreachable(TemporaryError):
    """The RIS did not acknowledge in time."""


class RisRefused(PermanentError):
    """The RIS answered AE, or AR for good: the message needs a person."""


class LeaseLost(MedaiError):
    """Another worker owns the job now, or it was superseded; what this one does no longer counts."""
