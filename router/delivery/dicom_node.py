"""Bring results to an extra DICOM node: C-STORE by Orthanc, then storage commitment where the node offers it.

Orthanc sends what it holds, and passes on as they are the forms that it does not (and rejection notes): with one AE
title, one address and one certificate, whoever made the object.

What Orthanc says of a failure is put into our words, because its own may name anything. All that the node itself does
is temporary: it may be away, full or wrongly configured, and a status such as 0xC000 is also what some archives answer
while their database restarts. Doing it again is harmless: the objects have the same UIDs. Next: orthanc/client.py
(the calls), dicom_files.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from medai.router.contract import Form
from medai.router.errors import (
    DestinationRefused,
    DestinationUnreachable,
    OrthancRefused,
    OrthancUnreachable,
    PermanentError,
)
from medai.router.orthanc.client import NETWORK_ERRORS, UNKNOWN_RESOURCE, Commitment, Orthanc
from medai.router.settings.destinations import DicomDestination
from medai.router.words import counted

AGAIN_S = 1.0
"""How long a node that did not report last time is waited for, where its report is not required."""
STORE_TIMEOUT_S = 600.0
"""For all objects; a node that is silent is given up by Orthanc long before (DicomScuTimeout)."""
KIND_REFUSED = "presentation context"
STORED = "SEG, SR or SC"
"""What Orthanc holds of a result."""
SAID = (
    ("TCP Initialization Error", "cannot be reached"),
    ("Association Rejected", "rejected the association: check the AE titles on both sides"),
    ("timeout", "did not answer in time"),
    ("Unable to read", "did not answer in time"),
    ("Abort", "broke off the association"),
)
"""What Orthanc's words (1.10.1) hold, and ours for it."""
STATUSES = {0xA7: "out of resources", 0xA9: "data set does not match its class", 0xC0: "cannot understand"}
"""By the first byte of a C-STORE status (PS3.4 B.2.3)."""
REASONS = {
    0x0110: "processing failure",
    0x0112: "not there",
    0x0119: "of another class",
    0x0122: "class not supported",
    0x0131: "duplicate transaction",
    0x0213: "out of resources",
}
"""Failure Reason (0008,1197), PS3.3 C.14.1.1."""


class DicomNode:
    """One extra DICOM node. One that asks for no commitment and never reports is waited for in full only once."""

    def __init__(self, orthanc: Orthanc, destination: DicomDestination) -> None:
        self._orthanc = orthanc
        self._destination = destination
        self._silent = False

    def send(self, resources: Iterable[str], passed_on: Mapping[Form, bytes] | None = None) -> str:
        """As ``send``: a node that was silent before is given a short time to show that it reports again."""
        short = {"commitment_timeout_s": min(AGAIN_S, self._destination.commitment_timeout_s)}
        impatient = self._silent and self._destination.commitment == "auto"
        destination = self._destination.model_copy(update=short) if impatient else self._destination
        receipt = send(self._orthanc, destination, resources, passed_on or {})
        self._silent = "no report" in receipt
        return receipt

    def reject(self, notes: Sequence[bytes]) -> str:
        """As ``reject``."""
        return reject(self._orthanc, self._destination, notes)


def send(
    orthanc: Orthanc,
    destination: DicomDestination,
    resources: Iterable[str],
    passed_on: Mapping[Form, bytes] | None = None,
    *,
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """C-STORE these instances and ask for commitment; the receipt says which of both came about.

    ``passed_on`` are DICOM files that Orthanc does not hold. Raises DestinationUnreachable (the node),
    OrthancUnreachable, and PermanentError where Orthanc does not know the node or no longer has the results. ``pause``
    waits between two looks at the commitment.
    """
    wanted, others = list(resources), passed_on or {}
    if not wanted and not others:
        raise PermanentError(f"there is nothing to send to the DICOM destination {destination.modality}")
    sending = STORED
    try:
        if wanted:
            orthanc.send_to(destination.modality, wanted, timeout_s=STORE_TIMEOUT_S)
        for form, content in others.items():
            sending = form.value
            _pass_on(orthanc, destination.modality, content)
        if destination.commitment == "off":
            return "C-STORE success"
        commitment = orthanc.commit(
            destination.modality, wanted, references=_references(others.values()),
            timeout_s=destination.commitment_timeout_s, pause=pause,
        )  # fmt: skip
    except OrthancRefused as error:
        raise _refused(destination.modality, error) from error
    except OrthancUnreachable as error:
        raise _unreachable(destination.modality, error, sending) from error
    return _receipt(destination, commitment, len(wanted) + len(others))


def reject(orthanc: Orthanc, destination: DicomDestination, notes: Sequence[bytes]) -> str:
    """C-STORE rejection notes; the receipt says how many. Raises as ``send``.

    DestinationRefused: the node takes none at all, so that what they reject must be removed there by hand. It is away
    for nothing else because of that, so this is no reason to try again.
    """
    name = f"DICOM destination {destination.modality}"
    try:
        for note in notes:
            _pass_on(orthanc, destination.modality, note)
    except OrthancRefused as error:
        raise _refused(destination.modality, error) from error
    except OrthancUnreachable as error:
        if _is_kind_refused(error):
            raise DestinationRefused(
                f"{name} takes no rejection notes (Key Object Selection): remove the old result there by hand, and "
                "allow them there or set rejection_notes = false"
            ) from error
        raise _unreachable(destination.modality, error, "rejection notes") from error
    return counted(len(notes), "rejection note")


def _pass_on(orthanc: Orthanc, modality: str, content: bytes) -> None:
    """One file in its own transfer syntax, else in one that every node takes: Orthanc passes on what it is given."""
    from medai.router.delivery import dicom_files  # slow to import, and most sites send nothing that asks for it

    refused: OrthancUnreachable | None = None
    for variant in dicom_files.variants(content):
        try:
            return orthanc.send_through(modality, variant, timeout_s=STORE_TIMEOUT_S)
        except OrthancUnreachable as error:
            if not _is_kind_refused(error):
                raise
            refused = refused or error
    assert refused is not None  # there is one variant at least
    raise refused


def _references(files: Iterable[bytes]) -> list[tuple[str, str]]:
    from medai.router.delivery import dicom_files

    return [dicom_files.reference(content) for content in files]


def _is_kind_refused(error: OrthancUnreachable) -> bool:
    return error.status == 500 and error.code in NETWORK_ERRORS and KIND_REFUSED in error.said


def _receipt(destination: DicomDestination, commitment: Commitment, asked: int) -> str:
    name, required = f"DICOM destination {destination.modality}", destination.commitment == "required"
    if commitment.outcome == "committed":
        return f"C-STORE success, storage committed for {counted(asked, 'object')}"
    if commitment.outcome == "failed":
        counts = ", ".join(f"{count} {_reason(code)}" for code, count in sorted(commitment.failures.items()))
        text = f"{name} commits {commitment.committed} of {counted(asked, 'object')}"
        raise DestinationUnreachable(f"{text} ({counts})" if counts else text)
    if commitment.outcome == "no answer":
        text = f"no report on storage commitment within {destination.commitment_timeout_s:g} s"
        if required:
            raise DestinationUnreachable(f"{name}: {text}; does it know where to report to?")
        return f"C-STORE success, {text}"
    if required:
        raise DestinationUnreachable(f'{name} offers no storage commitment, and commitment = "required" asks for it')
    return "C-STORE success, no storage commitment offered"


def _reason(code: int) -> str:
    return f"{REASONS[code]} (0x{code:04X})" if code in REASONS else f"0x{code:04X}"


def _refused(modality: str, error: OrthancRefused) -> PermanentError:
    if error.status != 404:
        return PermanentError(f"{error} while results were sent to {modality}")
    if error.code == UNKNOWN_RESOURCE:
        return PermanentError(f"the results are no longer in the archive, and cannot be sent to {modality}")
    return PermanentError(f"Orthanc has no modality {modality!r}: add it to DicomModalities")


def _unreachable(modality: str, error: OrthancUnreachable, sending: str) -> OrthancUnreachable | DestinationUnreachable:
    """The node's doing, where Orthanc says so; else Orthanc's own."""
    if error.status != 500 or error.code not in NETWORK_ERRORS:
        return error
    said = f"accepts no objects of this kind ({sending}): allow them there" if _is_kind_refused(error) else ""
    return DestinationUnreachable(f"DICOM destination {modality} {said or _said(error.said)}")


def _said(text: str) -> str:
    status = re.search(r"DIMSE status 0x([0-9A-Fa-f]{4})", text)
    if status is not None:
        code = int(status.group(1), 16)
        meaning = STATUSES.get(0xC0 if code >> 12 == 0xC else code >> 8)
        return f"refused an object with status 0x{code:04X}" + (f" ({meaning})" if meaning else "")
    return next((ours for theirs, ours in SAID if theirs in text), "did not accept the results")
