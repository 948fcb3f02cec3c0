"""Performed procedure steps: what scanners say that they do, kept as files, in the states that PS3.4 F.7 allows.

IN PROGRESS by N-CREATE, then COMPLETED or DISCONTINUED by N-SET, and nothing after that. Next: dicom_server.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError
from pydicom.dataset import Dataset

from medai.hl7_mock.storage import clear_parts, make_private, write_atomic

IN_PROGRESS = "IN PROGRESS"
ENDED = ("COMPLETED", "DISCONTINUED")
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
"""With Error ID 0xA710: the step is no longer to be changed (PS3.4 F.7.2.2.2)."""
DUPLICATE, NO_SUCH = 0x0111, 0x0112
INVALID_VALUE, MISSING_ATTRIBUTE = 0x0106, 0x0120
NEEDED = (
    "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime", "PerformedProcedureStepStatus", "Modality", "ScheduledStepAttributesSequence",
)  # fmt: skip
"""Type 1 of N-CREATE (PS3.4 table F.7.2-1)."""

log = structlog.get_logger()


class RefusedError(Exception):
    """A DIMSE status that is no success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Step:
    """One performed procedure step."""

    uid: str
    status: str
    accession: str
    study_uid: str
    scheduled_step_id: str
    station: str
    modality: str
    began_at: float
    ended_at: float | None = None
    series: int = 0
    images: int = 0


_ADAPTER = TypeAdapter(Step)


class StepBook:
    """All steps of one folder. Called from the DICOM server's threads."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder / "mpps"
        self._clock = clock
        self._lock = threading.Lock()
        make_private(self._folder)
        clear_parts(self._folder)
        self._steps: dict[str, Step] = {}
        for path in self._folder.glob("*.json"):
            try:
                step = _ADAPTER.validate_json(path.read_bytes())
                self._steps[step.uid] = step
            except (ValidationError, OSError):
                log.error("mpps_file_unreadable", file=path.name)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Oldest first."""
        return tuple(sorted(self._steps.values(), key=lambda step: step.began_at))

    def of(self, *, accession: str, study_uid: str) -> Step | None:
        """The newest step of an order."""
        mine = [s for s in self.steps if (s.accession and s.accession == accession) or s.study_uid == study_uid]
        return mine[-1] if mine else None

    def begin(self, uid: str, said: Dataset) -> None:
        """N-CREATE; raises RefusedError, OSError."""
        missing = [name for name in NEEDED if name not in said or not said[name].value]
        if missing:
            raise RefusedError(MISSING_ATTRIBUTE, f"{missing[0]} is missing")
        if said.PerformedProcedureStepStatus != IN_PROGRESS:
            raise RefusedError(INVALID_VALUE, "a step must begin IN PROGRESS")
        scheduled = said.ScheduledStepAttributesSequence[0]
        step = Step(
            uid=uid,
            status=IN_PROGRESS,
            accession=str(scheduled.get("AccessionNumber", "") or ""),
            study_uid=str(scheduled.get("StudyInstanceUID", "") or ""),
            scheduled_step_id=str(scheduled.get("ScheduledProcedureStepID", "") or ""),
            station=str(said.PerformedStationAETitle),
            modality=str(said.Modality),
            began_at=self._clock(),
        )
        with self._lock:
            if uid in self._steps:
                raise RefusedError(DUPLICATE, "this step has already begun")
            self._keep(step)

    def change(self, uid: str, said: Dataset) -> None:
        """N-SET; raises RefusedError, OSError."""
        with self._lock:
            step = self._steps.get(uid)
            if step is None:
                raise RefusedError(NO_SUCH, "no such step")
            if step.status in ENDED:
                raise RefusedError(PROCESSING_FAILURE, "the step has ended: it may no longer be updated")
            status = str(said.get("PerformedProcedureStepStatus", "") or step.status)
            if status not in (IN_PROGRESS, *ENDED):
                raise RefusedError(INVALID_VALUE, "the state is not one of those of PS3.3 C.4.14")
            series = said.get("PerformedSeriesSequence")
            if status == "COMPLETED" and not series:
                raise RefusedError(MISSING_ATTRIBUTE, "a completed step must name its series")
            if series is not None:
                step = replace(step, series=len(series), images=sum(_images(each) for each in series))
            self._keep(replace(step, status=status, ended_at=self._clock() if status in ENDED else None))

    def _keep(self, step: Step) -> None:
        write_atomic(self._folder / f"{step.uid}.json", _ADAPTER.dump_json(step))
        self._steps[step.uid] = step


def _images(series: Dataset) -> int:
    return len(series.get("ReferencedImageSequence") or ())
