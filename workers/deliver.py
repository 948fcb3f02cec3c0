"""Bring results to where they belong: the archive first, then every other destination and the RIS.

The archive's objects are announced in the ledger before they are sent, so that the router knows them as ours.
What is owed to the others are rows of the ledger with their bytes: a retry sends the same ORU again, and no model runs
twice because a RIS was away. Next: tasks.py.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import structlog
from pydicom.dataset import Dataset

from router import mllp
from router.contract import Job, StampName, control_id
from router.errors import OrthancRefused, PermanentError, RisRefused, RisUnreachable, TemporaryError
from router.ledger import Claim, Ledger, Pending
from router.orthanc import Orthanc, orthanc_id
from router.settings import RisSettings, Settings
from workers.results import Results, as_json
from workers.results.oru import parse_ack

AR_TRIES = 5
"""An AR is taken for a busy RIS this many times, then for a refusal (standards.md section 3)."""
UNSUPPORTED = frozenset({"200", "201", "202", "203"})
"""ERR-3 of HL7 table 0357: message type, event, processing id or version not supported; no retry helps."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object in the archive."""

    kind: str
    sop_uid: str
    series_uid: str
    orthanc_id: str


def describe_object(kind: str, dataset: Dataset) -> Stored:
    """The object's identifiers, with the id that Orthanc gives it."""
    patient = str(dataset.get("PatientID") or "").strip()
    uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
    return Stored(kind=kind, sop_uid=uids[2], series_uid=uids[1], orthanc_id=orthanc_id(patient, *uids))


def to_bytes(dataset: Dataset) -> bytes:
    """A DICOM file in memory."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def store(
    claim: Claim, results: Results, *, orthanc: Orthanc, ledger: Ledger, settings: Settings, clock: Callable[[], float]
) -> None:
    """SEG, SR and key image into the archive, then the ledger's word that they are there."""
    job = claim.job
    objects = {kind: describe_object(kind, dataset) for kind, dataset in results.objects.items()}
    ledger.begin_storing(job.job_id, claim.token, [asdict(item) for item in objects.values()], clock())
    for kind, dataset in results.objects.items():
        _put(orthanc, kind, to_bytes(dataset))
    ledger.end_storing(
        job.job_id,
        claim.token,
        results={kind: asdict(item) for kind, item in objects.items()},
        measurements=[asdict(item) for item in results.measurements],
        warnings=results.warnings,
        plausibility=as_json(results.plausibility),
        deliveries=owed(job, results, settings),
        now=clock(),
    )


def _put(orthanc: Orthanc, kind: str, data: bytes) -> None:
    try:
        answer = orthanc.store(data)
    except OrthancRefused as error:
        raise PermanentError(f"the archive refused the {kind.upper()} object ({error.status})") from error
    if answer.get("Status") not in ("Success", "AlreadyStored"):
        raise TemporaryError(f"the archive did not keep the {kind.upper()} object ({answer.get('Status')})")


def owed(job: Job, results: Results, settings: Settings) -> list[dict[str, Any]]:
    """The deliveries that follow the archive; the RIS comes last, when everything else has been tried."""
    rows: list[dict[str, Any]] = [{"destination": name} for name in job.destinations if name not in ("archive", "ris")]
    if "ris" in job.destinations and settings.ris.host:
        number = control_id(job.job_id, "ris")
        rows.append({"destination": "ris", "control_id": number, "payload": results.oru})
    return rows


def deliver(claim: Claim, *, orthanc: Orthanc, ledger: Ledger, settings: Settings, clock: Callable[[], float]) -> None:
    """Try every delivery that is owed; raises TemporaryError when one must wait, PermanentError when one is refused."""
    late: list[TemporaryError] = []
    refused: list[PermanentError] = []
    for pending in claim.pending_deliveries:
        ledger.delivery_tried(claim.job.job_id, pending.destination, clock())
        try:
            receipt = _deliver_one(claim, pending, orthanc=orthanc, ledger=ledger, settings=settings, clock=clock)
        except TemporaryError as error:
            late.append(error)
            continue
        except PermanentError as error:
            refused.append(error)
            ledger.delivery_ended(claim.job.job_id, pending.destination, ok=False, text=str(error), now=clock())
            continue
        ledger.delivery_ended(claim.job.job_id, pending.destination, ok=True, text=receipt, now=clock())
        log.info("delivered", job=claim.job.job_id, destination=pending.destination)
    if late:
        raise late[0]
    if refused:
        raise refused[0]


def _deliver_one(
    claim: Claim, pending: Pending, *, orthanc: Orthanc, ledger: Ledger, settings: Settings, clock: Callable[[], float]
) -> str:
    if pending.destination == "ris":
        ledger.stamp(claim.job.job_id, StampName.ORU_SENT, clock())
        return send_oru(pending, settings.ris)
    return _send_dicom(claim, pending.destination, orthanc, ledger, settings)


def _send_dicom(claim: Claim, name: str, orthanc: Orthanc, ledger: Ledger, settings: Settings) -> str:
    destination = settings.destinations.get(name)
    if destination is None:
        raise PermanentError(f"the destination {name!r} is no longer configured")
    try:
        orthanc.send_to(destination.modality, ledger.result_ids(claim.job.job_id))
    except OrthancRefused as error:
        raise PermanentError(
            f"Orthanc knows no modality {destination.modality!r}: add it to DicomModalities"
        ) from error
    return "C-STORE success"


def send_oru(pending: Pending, ris: RisSettings) -> str:
    """Send the ORU as it is kept and read the acknowledgement: its code is the receipt."""
    if not ris.host:
        raise TemporaryError("no RIS is configured any more ([ris] host): the result waits")
    answer = mllp.send(
        pending.payload or b"", host=ris.host, port=ris.port, timeout_s=ris.timeout_s, tls=tls_context(ris)
    )
    ack = parse_ack(answer, pending.control_id)
    if ack.code in ("AA", "CA"):
        return ack.code
    text = f"the RIS answered {ack.code}" + (f" (error {ack.error_code})" if ack.error_code else "")
    if ack.code in ("AR", "CR") and ack.error_code not in UNSUPPORTED and pending.attempts + 1 < AR_TRIES:
        raise RisUnreachable(text)
    raise RisRefused(f"{text}: the result is in the archive, the RIS needs a person")


def tls_context(ris: RisSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, with a client certificate where one is configured; None when TLS is off."""
    if not ris.tls:
        return None
    context = ssl.create_default_context(cafile=ris.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ris.certificate_file:
        context.load_cert_chain(ris.certificate_file, ris.key_file or None)
    return context
