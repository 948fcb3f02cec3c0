"""The radiology department of a trial: a queue before each scanner, a thread in each, studies made as they are scanned.

STAT goes to the head of a scanner's queue; a scan that has begun is finished.
Next: scanner/examination.py, scanner/sender.py, scanner/volumes.py, scanner/sources.py.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from medai.trials.box import Box
from medai.trials.clock import Clock
from medai.trials.hospital.reception import Identity, arriving
from medai.trials.hospital.record import StudyRow
from medai.trials.hospital.site import READ_MODALITIES, SLICES_MIN
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.scanner.examination import examine
from medai.trials.scanner.scu import Peer, SendError
from medai.trials.scanner.sender import Sender, Settings
from medai.trials.scanner.sources import Sources
from medai.trials.scanner.volumes import Request, Series, Template, make_study, wrong_part
from medai.trials.scanner.worklist import Scheduled, find_scheduled
from medai.trials.scenario import Scanner, Scenario
from medai.trials.study import Patient, derive

Happened = Callable[[str, int, str], None]
"""Called with the name of an event, the study's number and a detail."""


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """A study as it left the scanner; times are seconds since the epoch."""

    images: int
    resent: int
    first_at: float
    last_at: float
    readable: bool
    """A route reads it: modality, body part and number of slices are as the routes want them."""


@dataclass
class Imaging:
    """The templates of a scenario's cases, read when they are first asked for."""

    scenario: Scenario
    sources: Sources
    _templates: dict[str, Template] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def template(self, case: str) -> Template:
        """Of a case by its name; raises ScenarioError."""
        with self._lock:
            if case not in self._templates:
                whole = self.scenario.system.models == "shipped"
                self._templates[case] = self.sources.template(self.scenario.case(case), whole=whole)
            return self._templates[case]

    def body_parts(self) -> list[tuple[str, str]]:
        """(modality, BodyPartExamined) of every case."""
        found = [self.template(case.name) for case in self.scenario.cases]
        return [(each.modality, each.body_part) for each in found]

    def told(self) -> dict[str, str]:
        """Case -> what its studies are made from."""
        return {case.name: self.template(case.name).source for case in self.scenario.cases}

    def readable(self, study: PlannedStudy, series: Sequence[Series]) -> bool:
        """Whether a route reads what was made."""
        template = self.template(study.case)
        parts = {part for modality, part in self.body_parts() if modality == template.modality}
        wrong = "wrong_body_part" in study.habits and wrong_part(template) not in parts
        most = max((len(each.images) for each in series if each.name != "localizer"), default=0)
        return template.modality in READ_MODALITIES and most >= SLICES_MIN and not wrong


class Scanners:
    """All scanners of a scenario at one site."""

    def __init__(
        self,
        scenario: Scenario,
        imaging: Imaging,
        box: Box,
        clock: Clock,
        happened: Happened,
        scanned: Callable[[PlannedStudy, Scanned], None],
    ) -> None:
        self._imaging, self._clock = imaging, clock
        self._happened, self._scanned = happened, scanned
        archive = box.facts["orthanc"]
        self._tls = box.tls
        self._archive = Peer(
            host="127.0.0.1", port=int(archive["dicom_port"]), called_aet=str(archive["aet"]), tls=self._tls
        )
        self._ris_port = int(box.facts["ris"]["dicom_port"])
        self._queues: dict[str, queue.PriorityQueue[tuple[int, int, PlannedStudy | None]]] = {}
        self._numbers = count()
        self._open = 0
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._threads = []
        self._of_case = {case.name: case.scanner for case in scenario.cases}
        for scanner in scenario.scanners:
            self._queues[scanner.name] = queue.PriorityQueue()
            thread = threading.Thread(target=self._work, args=(scanner,), name=scanner.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def queue(self, study: PlannedStudy) -> None:
        """A patient has come."""
        with self._lock:
            self._open += 1
        urgency = 0 if study.priority == "stat" else 1
        self._queues[self._of_case[study.case]].put((urgency, next(self._numbers), study))

    def check(self) -> None:
        """Raises what stopped a scanner, if something has."""
        if self._failure is not None:
            raise self._failure

    @property
    def idle(self) -> bool:
        """Nobody waits, nothing is scanned or sent."""
        return self._open == 0

    def close(self) -> None:
        """Scan nothing more."""
        for each in self._queues.values():
            each.put((9, next(self._numbers), None))
        for thread in self._threads:
            thread.join(timeout=30)

    def _work(self, scanner: Scanner) -> None:
        while True:
            study = self._queues[scanner.name].get()[2]
            if study is None or self._clock.stopped.is_set():
                return
            try:
                self._scanned(study, self._scan(study, scanner))
            except Exception as error:  # noqa: BLE001 - a fault of ours must end the trial, not one scanner in silence
                self._failure = error
            finally:
                with self._lock:
                    self._open -= 1

    def _scan(self, study: PlannedStudy, scanner: Scanner) -> Scanned:
        """One study, from the worklist to the last image."""

        def tell(name: str, detail: str) -> None:
            self._happened(name, study.number, detail)

        settings = Settings(
            name=scanner.name, modality=scanner.modality, images_per_s=scanner.images_per_s, pause_s=scanner.pause_s
        )
        ris = Peer(
            host="127.0.0.1", port=self._ris_port, called_aet="MEDAI_RIS", calling_aet=scanner.name, timeout_s=5,
            tls=self._tls,
        )  # fmt: skip
        who = arriving(study)
        request = _request(study, who, self._worklist(study, who, scanner, ris, tell))
        archive = Peer(
            host=self._archive.host, port=self._archive.port, called_aet=self._archive.called_aet,
            calling_aet=scanner.name, timeout_s=20, tls=self._tls,
        )  # fmt: skip
        request = replace(
            request, image_s=self._clock.real_s(1.0 / scanner.images_per_s), pause_s=self._clock.real_s(scanner.pause_s)
        )
        done = examine(
            self._imaging.template(study.case), request, settings, habits=study.habits, archive=archive, ris=ris,
            clock=self._clock, tell=tell,
        )  # fmt: skip
        sent = done.sent
        return Scanned(
            images=sent.images, resent=sent.resent, first_at=sent.first_at, last_at=sent.last_at,
            readable=self._imaging.readable(study, done.series),
        )  # fmt: skip

    def _worklist(
        self, study: PlannedStudy, who: Identity, scanner: Scanner, ris: Peer, tell: Callable[[str, str], None]
    ) -> Scheduled | None:
        """The worklist's entry; without one the technologist types what the paper says."""
        try:
            found = find_scheduled(
                ris, patient_id=who.patient.patient_id, accession=who.accession, modality=scanner.modality
            )
        except SendError:
            tell("worklist-away", "")
            return None
        tell("worklist-entry" if found else "worklist-empty", "")
        return found


def migrate(imaging: Imaging, scenario: Scenario, box: Box, clock: Clock, arm: str) -> Iterator[tuple[str, StudyRow]]:
    """Send the old studies of a migration at their pace; (Study UID, row) of each as it is sent."""
    plan = scenario.migration
    assert plan is not None
    template = imaging.template(plan.case)
    old = datetime.now(UTC) - timedelta(days=365 * plan.years_old)
    archive = box.facts["orthanc"]
    peer = Peer(
        host="127.0.0.1", port=int(archive["dicom_port"]), called_aet=str(archive["aet"]), calling_aet="OLD_ARCHIVE",
        tls=box.tls,
    )  # fmt: skip
    settings = Settings(name="OLD_ARCHIVE", modality=template.modality, images_per_s=1e9, pause_s=0.0)
    for number in range(plan.studies):
        clock.sleep(number * 3600.0 / plan.per_hour - clock.hospital_s())
        if clock.stopped.is_set():
            break
        seed = f"{scenario.name}|{scenario.seed}|old|{number}"
        uid = derive(seed, "study")
        patient = Patient(patient_id=f"OLD{number:06d}", name=f"Old^No{number}", birth_date="19400101", sex="O")
        request = Request(
            patient=patient, accession=f"O{number:08d}", study_uid=uid, seed=seed,
            acquired_at=old + timedelta(minutes=number),
        )  # fmt: skip
        began = clock.now_s()
        sent = Sender(peer, settings, (), clock, lambda *_: None).run(make_study(template, request, images=plan.images))
        yield uid, _old_row(scenario, arm, number, sent.images, began, sent.last_at - clock.began)


def _old_row(scenario: Scenario, arm: str, number: int, images: int, began_s: float, last_s: float) -> StudyRow:
    plan = scenario.migration
    assert plan is not None
    return StudyRow(
        arm=arm, number=number, case=plan.case, modality=scenario.case(plan.case).modality, priority="routine",
        positive=False, flagged=False, migrated=True, habits="", images=images, resent=0, scheduled_s=began_s,
        last_image_s=last_s, state="skipped", expected=False,
    )  # fmt: skip


def _request(study: PlannedStudy, who: Identity, scheduled: Scheduled | None) -> Request:
    return Request(
        patient=who.patient,
        accession=scheduled.accession if scheduled and scheduled.accession else who.accession,
        study_uid=scheduled.study_uid if scheduled and scheduled.study_uid else who.study_uid,
        seed=study.seed,
        acquired_at=datetime.fromtimestamp(time.time(), UTC).astimezone(),
        requested_procedure_id=scheduled.requested_procedure_id if scheduled else "",
        scheduled_step_id=scheduled.scheduled_step_id if scheduled else "",
        procedure=scheduled.procedure if scheduled else "",
    )
