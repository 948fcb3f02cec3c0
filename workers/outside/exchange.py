"""A reading by an AI outside: sent without its patient, waited for, taken back under the patient again.

Nothing waits in a worker: each look is an attempt of the job, which gives it back until the next one. The way back is
in the ledger before anything leaves, and it is the only way: what it does not lead back is not taken in.
Next: deidentify.py, dicomweb.py, reidentify.py; tasks.py (who calls).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from pydicom.dataset import Dataset

from medai.models.images.header import text
from medai.models.images.isolated import GdcmProcess
from medai.router.contract import Job, StampName
from medai.router.errors import PermanentError, TemporaryError
from medai.router.ledger.outside import Exchange, Outside
from medai.router.settings.outside import OutsideSettings
from medai.router.settings.tables import WorkerSettings
from medai.router.words import counted
from medai.workers.dicom_file import Unreadable, read_image
from medai.workers.outside.deidentify import deidentified
from medai.workers.outside.dicomweb import Server
from medai.workers.outside.pseudonyms import Pseudonyms
from medai.workers.outside.reidentify import NotTaken, Way, kind_of, reidentified
from medai.workers.results.parcels import to_bytes
from medai.workers.sound_header import make_sound

Objects = list[tuple[str, Dataset]]
"""What came back, each with a name that is its own in the reading."""
_SENT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_LATER = 0.1
"""How much longer the next wait is, of what was waited for already."""


class Ports(Protocol):
    """What an exchange needs of the worker."""

    def fetch(self, job: Job) -> Sequence[Dataset]:
        """The job's images with pixels."""
        ...

    def stamp(self, job: Job, name: StampName) -> None:
        """A stage is done; raises LeaseLost when the job is no longer ours."""
        ...


class Waiting(TemporaryError):
    """The AI outside has not answered yet, or not twice the same."""


def read_outside(
    job: Job, settings: OutsideSettings, ports: Ports, ledger: Outside, *, worker: WorkerSettings,
    clock: Callable[[], float],
) -> Objects:  # fmt: skip
    """The answer under the real patient; raises Waiting until there is one, PermanentError where none is to be had."""
    server = Server(job.model, settings)
    known = ledger.exchange(job.job_id)
    if known is None or known.sent_at is None:
        _send(job, ports, ledger, server, worker)
        ports.stamp(job, StampName.PREPARED)
        ledger.sent(job.job_id, job.model, clock())
        raise Waiting(f"sent to the AI outside ({job.model}) without its patient", retry_after_s=settings.poll_s)
    originals = ledger.originals(job.job_id)
    answer = {sop: series for sop, series in server.objects(known.study_uid).items() if sop not in originals}
    _require_whole(job, settings, ledger, known, answer, clock())
    ports.stamp(job, StampName.INFERRED)
    return _taken(job, ports, ledger, server, known, answer, worker)


def _send(job: Job, ports: Ports, ledger: Outside, server: Server, worker: WorkerSettings) -> None:
    images = ports.fetch(job)
    ports.stamp(job, StampName.FETCHED)
    pseudonyms = Pseudonyms(ledger.key(), job.job_id)
    files: dict[str, bytes] = {}
    sent: set[str] = set()
    with GdcmProcess() as gdcm:
        for image in images:
            made = deidentified(image, pseudonyms, gdcm, max_bytes=worker.max_image_bytes)
            sent |= {text(made, keyword) for keyword in _SENT if text(made, keyword)}
            files[str(made.SOPInstanceUID)] = to_bytes(made)
    originals = {uid: pseudonyms.originals[uid] for uid in sent if uid in pseudonyms.originals}
    ledger.begin(job.job_id, pseudonyms.uid(text(images[0], "StudyInstanceUID")), originals)
    server.send(files)


def _require_whole(
    job: Job, settings: OutsideSettings, ledger: Outside, known: Exchange, answer: dict[str, str], now: float
) -> None:
    """Raise Waiting unless there is an answer, and the same one as at the last look."""
    if len(answer) > settings.max_objects:
        found = counted(len(answer), "object")
        raise NotTaken(f"the AI outside ({job.model}) made {found}: the limit is {settings.max_objects} (max_objects)")
    digest = hashlib.sha256("\n".join(sorted(answer)).encode()).hexdigest() if answer else ""
    if answer and digest == known.seen:
        return
    waited_s = now - (known.sent_at or now)
    if waited_s > settings.answer_h * 3600:
        raise PermanentError(f"the AI outside ({job.model}) did not answer within {settings.answer_h:g} h (answer_h)")
    ledger.saw(job.job_id, digest)
    pause_s = settings.poll_s if answer else max(settings.poll_s, waited_s * _LATER)
    raise Waiting(f"waiting for the answer of the AI outside ({job.model})", retry_after_s=pause_s)


def _taken(
    job: Job, ports: Ports, ledger: Outside, server: Server, known: Exchange, answer: dict[str, str],
    worker: WorkerSettings,
) -> Objects:  # fmt: skip
    image = ports.fetch(job)[0]
    names = (text(image, "PatientID"), text(image, "IssuerOfPatientID"))
    way = Way.of(
        job.job_id, job.model, study_uid=known.study_uid, originals=ledger.originals(job.job_id), answer=answer,
        patient=Pseudonyms(ledger.key(), job.job_id).patient(*names),
    )  # fmt: skip
    make_sound(image)
    taken: Objects = []
    for sop, series in sorted(answer.items()):
        content = server.object(known.study_uid, series, sop)
        try:
            found = read_image(content, max_bytes=worker.max_image_bytes)
        except Unreadable as error:
            raise NotTaken(f"the answer of the AI outside ({job.model}) is no readable DICOM") from error
        made = reidentified(found, image, way, asked=sop)
        same = sum(name.startswith(f"x-{kind_of(found)}") for name, _ in taken)
        taken.append((f"x-{kind_of(found)}{same + 1 if same else ''}", made))
    return taken
