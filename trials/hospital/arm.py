"""One arm of a trial on one page: patients come, scanners scan, the system reads, radiologists look, things break.

``run_arm`` starts a whole real system, plays the plan against it, waits until everything is answered, asks every part
what it holds, and stops it. Nothing here knows how the system works inside. Next: scans.py, readers.py, collect.py.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medai.router.words import counted
from medai.trials.box import Box, BoxError, down
from medai.trials.clock import Clock
from medai.trials.hospital import collect, faults, messages, reception, site
from medai.trials.hospital.agenda import Agenda
from medai.trials.hospital.readers import ReadingRoom
from medai.trials.hospital.record import WITH_AI, EventRow, FaultRow, SampleRow, StudyRow
from medai.trials.hospital.scans import Imaging, Scanned, Scanners, migrate
from medai.trials.hospital.timeline import PlannedStudy
from medai.trials.hospital.watch import Watcher
from medai.trials.scenario import Fault, Scenario

STEP_S = 0.05
LOOK_S = 1.0
TELL_S = 15.0
STRIKE_S = 30.0
"""How long a fault's begin or end is tried: the fault before it may still be mending."""
SETTLE_S = 900.0
"""How long after the last study the system may take to answer everything, real seconds."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ArmOutcome:
    """What is kept of an arm."""

    studies: tuple[StudyRow, ...]
    events: tuple[EventRow, ...]
    samples: tuple[SampleRow, ...]
    faults: tuple[FaultRow, ...]
    length_s: float
    interrupted: bool = False
    """Somebody ended it before everything was answered and read."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a trial is run."""

    folder: Path
    """For the sites and all results."""
    accelerate: float
    tls: bool = False
    """On a site with TLS between all parts."""
    keep_site: bool = False
    """Leave the site's data (archive, ledger, logs) when everything went well."""


def run_arm(
    scenario: Scenario, planned: Sequence[PlannedStudy], arm: str, imaging: Imaging, options: Options, say: Say
) -> ArmOutcome:
    """Raises BoxError where the system does not come up or does not answer at the end; the site then stays."""
    place = options.folder / f"site-{arm}"
    say(f"{arm}: starting Orthanc, Redis, RIS, router and {counted(scenario.system.workers, 'worker')} ...")
    box = site.start(place, scenario, arm, body_parts=imaging.body_parts(), tls=options.tls)
    try:
        hospital = Hospital(scenario, planned, arm, box, imaging, Clock(accelerate=options.accelerate), say)
        outcome = hospital.run()
        messages.keep(box, options.folder / "messages" / arm)
    finally:
        down(place)
    if not options.keep_site:
        shutil.rmtree(place, ignore_errors=True)
    return outcome


@dataclass
class _Known:
    """What is known of a study while the trial runs."""

    planned: PlannedStudy
    placer: str = ""
    ordered_s: float = float("nan")
    scanned: Scanned | None = None
    answered: bool = False


@dataclass
class Hospital:
    """Plays one arm. ``run`` once."""

    scenario: Scenario
    planned: Sequence[PlannedStudy]
    arm: str
    box: Box
    imaging: Imaging
    clock: Clock
    say: Say
    events: list[EventRow] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    broken: list[FaultRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = {study.number: _Known(planned=study) for study in self.planned}
        self.by_uid = {reception.identity(study).study_uid: study.number for study in self.planned}
        self.agenda = Agenda(self.clock)
        self.scanners = Scanners(self.scenario, self.imaging, self.box, self.clock, self._event, self._scanned)
        with_ai = self.arm == WITH_AI
        self.room = ReadingRoom(self.scenario, self.planned, accelerate=self.clock.accelerate, use_ai=with_ai)
        self.watcher = Watcher(box=self.box)
        self.desk = ThreadPoolExecutor(max_workers=4, thread_name_prefix="reports")
        self.migrated: list[tuple[str, StudyRow]] = []
        self._lock = threading.Lock()
        self._mended: list[Fault] = []
        self._seen_results = 0.0
        self.interrupted = False

    def run(self) -> ArmOutcome:
        """The flow."""
        try:
            self._play()
        except KeyboardInterrupt:
            self.interrupted = True
            self.say("interrupted: the record says what has happened so far")
        return self._close()

    def _play(self) -> None:
        self._plan()
        looked = told = 0.0
        give_up_s = self.clock.real_s(self.scenario.duration_s) + SETTLE_S
        while not self._over() and self.clock.now_s() < give_up_s:
            now = self.clock.now_s()
            self.agenda.tick()
            self.scanners.check()
            self._read(now)
            if now - looked >= LOOK_S:
                looked = now
                self._poll_results(now)
                self._sample(now)
            if now - told >= TELL_S:
                told = now
                self.say(self._story())
            time.sleep(STEP_S)

    # -- planning

    def _plan(self) -> None:
        for study in self.planned:
            lead = reception.LEAD_S[study.priority]
            if "no_order" not in study.habits:
                self.agenda.at(study.at_s - lead, partial(self._order, study))
            if "order_cancelled" not in study.habits:
                self.agenda.at(study.at_s, partial(self._arrives, study))
            for habit, tell in (("patient_updated", reception.update), ("patient_merged", reception.merge)):
                if habit in study.habits and "no_order" not in study.habits:
                    act = partial(self._patient_changes, study, tell, habit.replace("_", "-"))
                    self.agenda.at(study.at_s + reception.AFTER_S, act)
        for fault in self.scenario.faults:
            self.agenda.at(fault.at_s, partial(self._break, fault))
        if self.scenario.migration is not None:
            self.agenda.at(0.0, self._migrate)

    def _order(self, study: PlannedStudy) -> None:
        known = self.known[study.number]
        if not known.placer:
            reception.register(self.box, study)
            known.placer = reception.place(self.box, self.scenario, study)
            known.ordered_s = self.clock.now_s()
            self._event("ordered", study.number, study.priority)
        before = study.at_s - reception.CHANGE_S
        if "order_cancelled" in study.habits:
            self.agenda.at(before, lambda: self._cancel(study))
        elif "order_changed" in study.habits and study.priority != "stat":
            self.agenda.at(before, lambda: self._raise(study))

    def _cancel(self, study: PlannedStudy) -> None:
        reception.cancel(self.box, self.known[study.number].placer)
        self._event("order-cancelled", study.number)

    def _raise(self, study: PlannedStudy) -> None:
        reception.raise_to_stat(self.box, self.known[study.number].placer)
        self.room.raised(study.number)
        self._event("order-raised-to-stat", study.number)

    def _patient_changes(self, study: PlannedStudy, tell: Callable[[Box, PlannedStudy], None], name: str) -> None:
        tell(self.box, study)
        self._event(name, study.number)

    def _arrives(self, study: PlannedStudy) -> None:
        self._event("patient-arrived", study.number)
        self.scanners.queue(study)

    def _scanned(self, study: PlannedStudy, scanned: Scanned) -> None:
        """A scanner is done with a study (called from its thread)."""
        self.known[study.number].scanned = scanned
        if scanned.images:
            self.room.arrived(study.number, self._since(scanned.last_at))

    def _break(self, fault: Fault) -> None:
        if not self._in_turn(fault):
            return
        playable = faults.playable()[fault.name]
        detail = self._done(playable.begin)
        began = self.clock.now_s()
        self._event("fault-begins", detail=fault.name)
        if playable.end is not None:
            self.clock.sleep(max(0.0, fault.for_s - (self.clock.now_s() - began) * self.clock.accelerate))
            mended = self._done(playable.end)  # whatever the begin did: it may have broken half
            detail = detail or mended
        with self._lock:
            ended = self.clock.now_s()
            self.broken.append(FaultRow(arm=self.arm, name=fault.name, began_s=began, ended_s=ended, detail=detail))
            self._mended.append(fault)
        self._event("fault-ends", detail=fault.name)

    def _in_turn(self, fault: Fault) -> bool:
        """Wait for the faults that are over before this one in the scenario; False: the trial ended meanwhile.

        Breaking and mending take real time, more on a busy machine: the end of one would mend the next one too.
        """
        before = [each for each in self.scenario.faults if each.at_s < fault.at_s >= each.at_s + each.for_s]
        while not all(each in self._mended for each in before):
            if self.clock.pause_s(STEP_S):
                return False
        return True

    def _done(self, strike: Callable[[Box], None]) -> str:
        """Break or mend something, again and again while its part is still coming back; what went wrong in the end.

        That is part of the record, not the end of the trial.
        """
        until = self.clock.now_s() + STRIKE_S
        while True:
            try:
                strike(self.box)
            except BoxError as error:
                if self.clock.now_s() > until or self.clock.pause_s(0.5):
                    return str(error)
            else:
                return ""

    def _migrate(self) -> None:
        for sent in migrate(self.imaging, self.scenario, self.box, self.clock, self.arm):
            self.migrated.append(sent)
        self._event("migration-sent", detail=str(len(self.migrated)))

    # -- while it runs

    def _read(self, now: float) -> None:
        for look in self.room.step(now):
            self._event(look.name, look.number, f"reader {look.reader + 1}", at_s=look.at_s)
            if look.name == "report":
                placer = self.known[look.number].placer
                if placer:
                    self.desk.submit(self._report, look.number, placer, look.reader, used_ai=look.ai)

    def _report(self, number: int, placer: str, reader: int, *, used_ai: bool) -> None:
        """The final report leaves the RIS; it waits while the RIS is away."""
        while not self.clock.stopped.is_set():
            try:
                reception.report(self.box, placer, reader, used_ai=used_ai)
            except BoxError:
                self.clock.stopped.wait(1.0)
            else:
                self._event("report-sent", number)
                return

    def _poll_results(self, now: float) -> None:
        try:
            fresh, self._seen_results = reception.results_since(self.box, self._seen_results)
        except BoxError:
            return  # the RIS is away; what it has will be seen when it is back
        for result in fresh:
            number = self.by_uid.get(str(result["study_uid"]))
            if number is None or result["withdrawn"]:
                continue
            if not self.known[number].answered:
                self._event("result-at-ris", number)
                self.room.ai_result(number, now)
            self.known[number].answered = True

    def _sample(self, now: float) -> None:
        look, cpu = self.watcher.look(), self.watcher.cpu()
        if look is None:
            return
        room = self.room.state(now)
        self.samples.append(
            SampleRow(
                arm=self.arm,
                at_s=now,
                waiting_stat=look.waiting["stat"],
                waiting_urgent=look.waiting["urgent"],
                waiting_routine=look.waiting["routine"] + look.waiting["background"],
                running=look.running,
                delivering=look.delivering,
                parked=look.parked,
                oldest_wait_s=look.oldest_s,
                unread=room.unread,
                readers_busy=room.busy,
                readers=room.on_shift,
                cpu=cpu,
            )
        )

    def _over(self) -> bool:
        """Everything was made, answered and (as far as there are readers) read."""
        if not self.agenda.idle or not self.scanners.idle:
            return False
        owed = [known for known in self.known.values() if self._expected(known) and not known.answered]
        room = self.room.state(self.clock.now_s())
        return not owed and not (room.on_shift and room.unread) and not room.busy and self._router_idle()

    def _router_idle(self) -> bool:
        look = self.watcher.look()
        return look is not None and not (look.arriving or look.running or look.delivering or sum(look.waiting.values()))

    def _expected(self, known: _Known) -> bool:
        """A result must come."""
        scanned = known.scanned
        return self.arm == WITH_AI and scanned is not None and scanned.readable

    # -- the end

    def _close(self) -> ArmOutcome:
        length_s = self.clock.now_s()
        self.say(f"{self.arm}: asking archive, RIS and ledger what they hold ...")
        self.clock.stopped.set()
        self.agenda.close()
        self.scanners.close()
        self.desk.shutdown(wait=True)
        found = collect.ask(self.box)
        rows = [self._row(known, found) for known in self.known.values()]
        rows += [collect.judged_old(row, uid, found) for uid, row in self.migrated]
        said = Counter("lost" if row.lost else "twice" if row.duplicate else "right" for row in rows)
        self.say(
            f"{self.arm}: {counted(len(rows), 'study', 'studies')}, {said['lost']} lost, {said['twice']} answered twice"
        )
        return ArmOutcome(
            studies=tuple(rows),
            events=tuple(sorted(self.events, key=lambda event: event.at_s)),
            samples=tuple(self.samples),
            faults=tuple(self.broken),
            length_s=length_s,
            interrupted=self.interrupted,
        )

    def _row(self, known: _Known, found: collect.Findings) -> StudyRow:
        study, scanned = known.planned, known.scanned
        read = self.room.of(study.number)
        row = StudyRow(
            arm=self.arm, number=study.number, case=study.case, modality=self.scenario.case(study.case).modality,
            priority=study.priority, positive=study.positive, flagged=study.flagged, migrated=False,
            habits=" ".join(study.habits), images=scanned.images if scanned else 0,
            resent=scanned.resent if scanned else 0,
            scheduled_s=self.clock.real_s(study.at_s), ordered_s=known.ordered_s,
            first_image_s=self._since(scanned.first_at) if scanned else float("nan"),
            last_image_s=self._since(scanned.last_at) if scanned else float("nan"),
            first_look_s=read.first_look_s, report_s=read.report_s, reader=read.reader, ai_when_read=read.ai,
            reading_hospital_s=study.reading_s, expected=self._expected(known),
            state="cancelled" if "order_cancelled" in study.habits else "skipped" if scanned else "not made",
        )  # fmt: skip
        return collect.judged(row, reception.identity(study).study_uid, found, began=self.clock.began)

    def _since(self, epoch_s: float) -> float:
        return epoch_s - self.clock.began

    def _event(self, name: str, study: int = -1, detail: str = "", *, at_s: float | None = None) -> None:
        at = self.clock.now_s() if at_s is None else at_s
        hospital_s = at * self.clock.accelerate
        with self._lock:
            self.events.append(
                EventRow(arm=self.arm, at_s=at, hospital_s=hospital_s, name=name, study=study, detail=detail)
            )

    def _story(self) -> str:
        made = sum(known.scanned is not None for known in self.known.values())
        answered = sum(known.answered for known in self.known.values())
        room = self.room.state(self.clock.now_s())
        clock_s = int(self.scenario.starts_s + self.clock.hospital_s())
        day, rest = divmod(clock_s, 86400)
        when = f"{rest // 3600:02d}:{rest // 60 % 60:02d}" + (f" (+{day} d)" if day else "")
        waiting = self.samples[-1] if self.samples else None
        queue = waiting.waiting_stat + waiting.waiting_urgent + waiting.waiting_routine if waiting else 0
        old = f", {len(self.migrated)} of {self.scenario.migration.studies} old ones" if self.scenario.migration else ""
        return (
            f"{when}  {made} of {len(self.known)} made{old}, {answered} answered, {queue} queued, {room.unread} unread"
        )
