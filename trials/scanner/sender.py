"""A modality at work on one study: says that it begins, sends its series, says that it is done.

Built on pynetdicom. It behaves as scanners do: it keeps an image until the archive has answered for it, opens a new
association when one breaks, and goes on without a worklist when the RIS is away. IHE: RAD-6, RAD-7, RAD-8.
Next: worklist.py (what it asks before), volumes.py (the images), examination.py (who calls this).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import _config
from pynetdicom.presentation import build_context

from medai.router.words import counted
from medai.trials.scanner.scu import Peer, SendError, associate
from medai.trials.scanner.volumes import LATE_SLICES, MPPS, Request, Series

SUCCESS_OR_WARNING = (0x0000, 0xB000, 0xB006, 0xB007)
AGAIN_S = 1.0
"""Real seconds before an archive that did not answer is tried again."""
DISCONTINUED = ("110500", "DCM", "Doctor canceled procedure")
"""Performed Procedure Step Discontinuation Reason (CID 9300)."""

Tell = Callable[[str, str], None]
"""Called with the name of an event and a detail."""


class Waiting(Protocol):
    """A clock that can be told to stop waiting."""

    def sleep(self, hospital_s: float) -> None:
        """Wait."""

    def pause_s(self, real_s: float) -> bool:
        """Wait real seconds; whether the trial was given up meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One scanner: ``images_per_s`` and ``pause_s`` are in the clock's own time."""

    name: str
    modality: str
    images_per_s: float
    pause_s: float
    late_s: float = 240.0
    """After how long the late slices follow, in the clock's own time."""


@dataclass(kw_only=True)
class Sent:
    """What came of sending; times are seconds since the epoch of C-STORE responses."""

    images: int = 0
    """Taken by the archive, each counted once."""
    resent: int = 0
    associations: int = 0
    first_at: float = float("nan")
    last_at: float = float("nan")
    """Of what came in time: late slices and what was sent twice do not move it."""
    refused: list[str] = field(default_factory=list)


class PerformedStep:
    """A Modality Performed Procedure Step: N-CREATE when it begins, N-SET when it ends (PS3.4 F.7)."""

    def __init__(self, ris: Peer, scanner: Settings, request: Request) -> None:
        self._ris, self._scanner, self._request = ris, scanner, request
        self.uid = request.performed_step_uid

    def begin(self) -> None:
        """Raises SendError where the RIS does not take it."""
        self._send(self.created(), create=True)

    def end(self, series: Sequence[Series], *, completed: bool) -> None:
        """Raises SendError where the RIS does not take it."""
        self._send(self.ended(series, completed=completed), create=False)

    def created(self) -> Dataset:
        """The N-CREATE's attributes."""
        request, now = self._request, datetime.now(UTC).astimezone()
        scheduled = Dataset()
        scheduled.StudyInstanceUID, scheduled.ReferencedStudySequence = request.study_uid, []
        scheduled.AccessionNumber, scheduled.RequestedProcedureID = request.accession, request.requested_procedure_id
        scheduled.RequestedProcedureDescription = request.procedure
        scheduled.ScheduledProcedureStepID = request.scheduled_step_id
        scheduled.ScheduledProcedureStepDescription, scheduled.ScheduledProtocolCodeSequence = request.procedure, []
        made = Dataset()
        made.ScheduledStepAttributesSequence = [scheduled]
        made.PatientName, made.PatientID = request.patient.name, request.patient.patient_id
        made.PatientBirthDate, made.PatientSex = request.patient.birth_date, request.patient.sex
        made.ReferencedPatientSequence = []
        made.PerformedProcedureStepID = request.requested_procedure_id[:16] or "1"
        made.PerformedStationAETitle, made.PerformedStationName, made.PerformedLocation = self._scanner.name, "", ""
        made.PerformedProcedureStepStartDate = now.strftime("%Y%m%d")
        made.PerformedProcedureStepStartTime = now.strftime("%H%M%S")
        made.PerformedProcedureStepStatus, made.PerformedProcedureStepDescription = "IN PROGRESS", request.procedure
        made.PerformedProcedureTypeDescription, made.ProcedureCodeSequence = "", []
        made.PerformedProcedureStepEndDate, made.PerformedProcedureStepEndTime = "", ""
        made.Modality, made.StudyID = self._scanner.modality, request.requested_procedure_id[:16]
        made.PerformedProtocolCodeSequence, made.PerformedSeriesSequence = [], []
        return made

    def ended(self, series: Sequence[Series], *, completed: bool) -> Dataset:
        """The last N-SET's attributes: every series with its images."""
        now, made = datetime.now(UTC).astimezone(), Dataset()
        made.PerformedProcedureStepStatus = "COMPLETED" if completed else "DISCONTINUED"
        made.PerformedProcedureStepEndDate = now.strftime("%Y%m%d")
        made.PerformedProcedureStepEndTime = now.strftime("%H%M%S")
        made.PerformedSeriesSequence = [self._performed(each) for each in series]
        if not completed:
            reason = Dataset()
            reason.CodeValue, reason.CodingSchemeDesignator, reason.CodeMeaning = DISCONTINUED
            made.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
        return made

    def _performed(self, series: Series) -> Dataset:
        made, first = Dataset(), series.images[0]
        made.PerformingPhysicianName, made.ProtocolName, made.OperatorsName = "", series.name, ""
        made.SeriesInstanceUID, made.SeriesDescription = first.SeriesInstanceUID, series.name
        made.RetrieveAETitle, made.ReferencedNonImageCompositeSOPInstanceSequence = "", []
        made.ReferencedImageSequence = []
        for image in series.images:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
            made.ReferencedImageSequence.append(item)
        return made

    def _send(self, attributes: Dataset, *, create: bool) -> None:
        association = associate(self._ris, [build_context(MPPS)])
        try:
            send = association.send_n_create if create else association.send_n_set
            status, _ = send(attributes, MPPS, self.uid)
        finally:
            association.release()
        if not status or int(status.Status) not in SUCCESS_OR_WARNING:
            told = f"status 0x{int(status.Status):04X}" if status else "no answer"
            raise SendError(f"the RIS did not accept the performed procedure step ({told})")


class Sender:
    """Sends the series of one study, with the habits of the day."""

    def __init__(self, archive: Peer, scanner: Settings, habits: Sequence[str], clock: Waiting, tell: Tell) -> None:
        self._archive, self._scanner, self._habits = archive, scanner, habits
        self._clock, self._tell = clock, tell
        self._association: Any = None
        self._taken: set[str] = set()
        self.sent = Sent()
        _config.STORE_SEND_CHUNKED_DATASET = True

    def run(self, series: Sequence[Series]) -> Sent:
        """Send everything; returns when the archive has answered for all, or the trial is given up."""
        self._send_all(series)
        self._close()
        return self.sent

    def _send_all(self, series: Sequence[Series]) -> None:
        late: list[Dataset] = []
        for number, each in enumerate(series):
            if number:
                self._clock.sleep(self._scanner.pause_s)
            images = list(each.images)
            if each.name == "main" and "late_slices" in self._habits and len(images) > 2 * LATE_SLICES:
                images, late = images[:-LATE_SLICES], images[-LATE_SLICES:]
            if not self._send(images, breaks="aborted_association" in self._habits and each.name == "main"):
                return
            self._tell("series-sent", f"{each.name}: {counted(len(images), 'image')}")
            self._close()
        if "duplicate_send" in self._habits and not self._again(self._taken_of(series)):
            return
        if late:
            self._clock.sleep(self._scanner.late_s)
            if self._send(late, breaks=False, in_time=False):
                self._tell("late-slices", f"{counted(len(late), 'image')}")

    def _taken_of(self, series: Sequence[Series]) -> list[Dataset]:
        return [image for each in series for image in each.images if str(image.SOPInstanceUID) in self._taken]

    def _send(self, images: Sequence[Dataset], *, breaks: bool, in_time: bool = True) -> bool:
        """Send images at the scanner's pace; False when the trial was given up before the archive had all."""
        for place, image in enumerate(images):
            self._clock.sleep(1.0 / self._scanner.images_per_s)
            if breaks and place == len(images) // 2 and self._association is not None:
                self._association.abort()
                self._association = None
                self._tell("aborted", f"after {counted(place, 'image')}")
            if not self._persist(image):
                return False
            self._count(image, in_time=in_time)
            if "association_per_image" in self._habits:
                self._close()
        return True

    def _again(self, images: Sequence[Dataset]) -> bool:
        """The same images once more: somebody pressed the button twice."""
        for image in images:
            if not self._persist(image):
                return False
            self.sent.resent += 1
        self._tell("sent-twice", f"{counted(len(images), 'image')}")
        return True

    def _count(self, image: Dataset, *, in_time: bool) -> None:
        now = time.time()
        if not self._taken:
            self.sent.first_at = now
            self._tell("first-image", "")
        if in_time:
            self.sent.last_at = now
        self._taken.add(str(image.SOPInstanceUID))
        self.sent.images = len(self._taken)

    def _persist(self, image: Dataset) -> bool:
        """Send one image until the archive has it; False when the trial was given up before."""
        tries = 0
        while problem := self._try(image):
            tries += 1
            if tries == 1:
                self._tell("archive-away", problem)
            self.sent.resent += 1
            if self._clock.pause_s(AGAIN_S):
                self.sent.refused.append(f"given up before the archive accepted an image: {problem}")
                return False
        return True

    def _try(self, image: Dataset) -> str:
        """Send one image once; why the archive does not have it, or nothing."""
        try:
            status = self._open(image).send_c_store(image)
        except SendError as error:
            self._association = None
            return str(error)
        except (RuntimeError, ValueError):  # the association broke between two images
            self._association = None
            return "the association broke"
        if not status or "Status" not in status:
            self._close()
            return "the archive gave no answer"
        if int(status.Status) in SUCCESS_OR_WARNING:
            return ""
        return f"C-STORE status 0x{int(status.Status):04X} {status.get('ErrorComment', '')}".strip()

    def _open(self, image: Dataset) -> Any:
        if self._association is None or not self._association.is_established:
            syntax = str(image.file_meta.TransferSyntaxUID)
            self._association = associate(self._archive, [build_context(str(image.SOPClassUID), syntax)])
            self.sent.associations += 1
        return self._association

    def _close(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None
