"""The router as a performer of workitems (UPS-RS, IHE AIW-I): what a worklist asks for is read, and reported on.

``round`` is all of it: look what is scheduled, claim what is ours and is here, report on what has ended. Each step is
in the ledger before and after the worklist is told, and the lock (Transaction UID) derives from the workitem, so that a
round may stop anywhere and the next one goes on. The reading itself is the decider's and the workers'.
Next: ledger/workitems.py (the states), server.py (the worklist), daemon/decider.py (who reads by which route).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import structlog

from medai.router.delivery.web import RETRY_AFTER_MAX_S
from medai.router.errors import MedaiError, WorkitemRefused, WorklistUnreachable
from medai.router.ledger.workitems import ResultObject, Seen, Standing, State, WorkitemRow, Workitems
from medai.router.log import Pseudonyms, describe
from medai.router.settings.tables import Settings
from medai.router.workitems import write
from medai.router.workitems.read import Code, StepState, Workitem
from medai.router.workitems.server import Worklist
from medai.router.workitems.write import Archive, Output, Performed, transaction_uid

LEFT_ALONE_S = 60.0
"""A workitem that the worklist did not give us, and that is still scheduled, is asked for again after this time."""
BACK_OFF_S, BACK_OFF_MAX_S = 5.0, 600.0
KEEP_S = 30 * 86400.0
"""What has ended is known for so long: a worklist may offer it once more."""
OURS = "99MEDAI"
SOP_CLASSES = {
    "seg": "1.2.840.10008.5.1.4.1.1.66.4",
    "sr": "1.2.840.10008.5.1.4.1.1.88.34",
    "sc": "1.2.840.10008.5.1.4.1.1.7",
}
"""Of the objects that the archive gets."""
OUTCOMES = {State.COMPLETED: StepState.COMPLETED, State.CANCELED: StepState.CANCELED}
log = structlog.get_logger(__name__)


class Store(Protocol):
    """What is asked of the archive (orthanc/client.py)."""

    def system(self) -> dict[str, Any]:
        """What it says of itself."""
        ...


class WorkitemPerformer:
    """Performs workitems in a thread of its own, from ``start`` to ``stop``, while this router leads."""

    def __init__(
        self,
        settings: Settings,
        workitems: Workitems,
        store: Store,
        names: Pseudonyms,
        *,
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = settings.workitems
        self._give_up_s = self._own.give_up_h * 3600.0
        self._device = settings.results.device_name
        self._wado_root = settings.orthanc.wado_root
        self._worklist = Worklist(self._own)
        self._ledger = workitems
        self._store = store
        self._names = names
        self._leads = leads
        self._clock = clock
        self._failures = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- the thread

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="workitems", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = self._own.poll_s
            try:
                if self._leads():
                    self.round()
                self._answered()
            except WorklistUnreachable as error:
                wait_s = max(wait_s, error.retry_after_s or back_off_s(self._failures))
                self._away(error)
            except MedaiError as error:
                log.warning("waiting", reason=describe(error))
            except Exception as error:  # a thread that ends would leave every claimed workitem in progress for ever
                log.error("unexpected_error", part="workitems", exc_info=error)
                wait_s = max(wait_s, LEFT_ALONE_S)
            self._stop.wait(wait_s)

    def _answered(self) -> None:
        if self._failures:
            log.info("worklist_is_back")
        self._failures = 0

    def _away(self, error: WorklistUnreachable) -> None:
        if not self._failures:
            log.warning("worklist_away", reason=str(error))
        self._failures += 1

    # -- one round

    def round(self) -> None:
        """Look after all workitems once; raises TemporaryError where the worklist, ledger or archive is away."""
        for row in self._ledger.under_way(self._clock(), longest_s=RETRY_AFTER_MAX_S):
            self._step(row)
        for found in self._worklist.scheduled():
            if self._stop.is_set() or not self._leads():
                return
            self._offered(found)
        self._ledger.forget(self._clock() - KEEP_S - self._give_up_s)

    def _step(self, row: WorkitemRow) -> None:
        """One workitem that is ours, or was about to be."""
        if self._stop.is_set() or not self._leads():
            return
        act = {State.CLAIMING: self._claim, State.CLAIMED: self._look, State.ENDING: self._end}[State(row.state)]
        self._or_put_off(row, act)

    def _or_put_off(self, row: WorkitemRow, act: Callable[[WorkitemRow], None]) -> None:
        """A worklist that fails ends the round; the next one begins with others, where one workitem was the cause."""
        try:
            act(row)
        except WorklistUnreachable:
            self._ledger.put_off(row.uid, self._clock() + back_off_s(row.tries))
            raise

    def _offered(self, found: Workitem) -> None:
        """One that is scheduled: claim it where it is ours and its study is here, or will not come any more."""
        route = self._route(found)
        if route is None or not found.ready:
            return
        if not found.study:
            found = self._whole(found)
        if not found.study:
            return
        now = self._clock()
        row = self._ledger.see(self._seen(found, route), now)
        if row.state != State.WAITING or row.next_try_at > now:
            return
        here = self._ledger.studies_here(found.study)
        if len(here) == 1:
            self._or_put_off(row, partial(self._claim, study_id=here[0]))
        elif now - row.seen_at >= self._give_up_s:
            several = "several patients' studies in the archive have its UID"
            why = several if here else f"the study did not come within {self._own.give_up_h:g} h"
            self._or_put_off(row, partial(self._claim, reason=why))

    def _whole(self, found: Workitem) -> Workitem:
        """What the search did not tell of a workitem, it may tell itself; one that can't be had holds up no other."""
        try:
            return self._worklist.retrieve(found.uid) or found
        except WorklistUnreachable:
            return found

    def _claim(self, row: WorkitemRow, *, study_id: int | None = None, reason: str = "") -> None:
        """Make a workitem ours. A refusal is somebody else's claim, or our own whose answer was lost."""
        begun = self._ledger.begin_claim(row, study_id=study_id, reason=reason)
        if begun is None:
            return
        lock = begun.lock_uid
        said = write.progress(lock, f"read by {self._device}")
        try:
            self._worklist.change_state(begun.uid, lock, StepState.IN_PROGRESS)
            claimed = True
        except WorkitemRefused:
            claimed = False
        try:
            if claimed or begun.tries > 1:  # only who holds the lock may say how far it is
                self._worklist.update(begun.uid, lock, said)
                claimed = True
        except WorkitemRefused as error:
            if claimed:
                log.warning("workitem_progress_refused", study=self._study(begun), reason=str(error))
        if not claimed:
            self._ledger.let_go(begun, self._clock() + LEFT_ALONE_S)
            log.info("workitem_left", study=self._study(begun), route=begun.route)
            return
        self._ledger.claimed(begun, self._clock())
        log.info("workitem_claimed", study=self._study(begun), route=begun.route)

    def _look(self, row: WorkitemRow) -> None:
        """Whether its reading has ended, or will not begin."""
        standing = self._ledger.standing(row)
        waited_s = self._clock() - (row.claimed_at or row.seen_at)
        if not standing.ended and standing.job_id is None and waited_s >= self._give_up_s:
            standing = Standing(ended=True, reason=f"no reading began within {self._own.give_up_h:g} h")
        if standing.ended and (ending := self._ledger.ending(row, standing)) is not None:
            self._end(ending)

    def _end(self, row: WorkitemRow) -> None:
        """Say what was done, then that it is done. Said twice it is refused, and the worklist tells how it stands."""
        state = State.CANCELED if row.reason else State.COMPLETED
        lock = row.lock_uid
        try:
            self._worklist.update(row.uid, lock, write.performed(lock, self._performed(row), self._archive()))
            self._worklist.change_state(row.uid, lock, OUTCOMES[state])
        except WorkitemRefused as error:
            now_there = self._worklist.retrieve(row.uid)
            if now_there is not None and now_there.state in (StepState.IN_PROGRESS, StepState.SCHEDULED):
                self._refused(row, error)
                return
            if now_there is None or now_there.state != OUTCOMES[state]:
                state = State.LOST
        self._ledger.ended(row, state, self._clock())
        log.info("workitem_ended", study=self._study(row), route=row.route, state=state.value)

    def _refused(self, row: WorkitemRow, error: WorkitemRefused) -> None:
        """It is in progress and can't be ended: tried again, ever more seldom, until it is given up."""
        now = self._clock()
        log.warning("workitem_end_refused", study=self._study(row), route=row.route, reason=str(error))
        if now - (row.claimed_at or row.seen_at) >= self._give_up_s and row.tries > 3:
            self._ledger.ended(row, State.LOST, now)
        else:
            self._ledger.put_off(row.uid, now + back_off_s(row.tries))

    # -- what is said

    def _route(self, found: Workitem) -> str | None:
        """The route that a workitem means; None where it is not ours."""
        performer = self._own.performer
        if performer and performer not in {code.value for code in found.stations}:
            return None
        named = (self._own.routes.get(code.key) for code in (*found.work, *found.stations))
        return next(filter(None, named), None)

    def _seen(self, found: Workitem, route: str) -> Seen:
        lock = transaction_uid(found.uid, self._own.performer)
        codes = self._codes(found)
        return Seen(uid=found.uid, lock_uid=lock, study_uid=found.study, route=route, codes=codes)

    def _codes(self, found: Workitem) -> dict[str, tuple[str, str, str]]:
        """What it is reported on by: its own codes, and a station of our name where it names none of us."""
        ours = Code(value=(self._own.performer or self._device)[:16], scheme=OURS, meaning=self._device)
        stations = [code for code in found.stations if self._own.performer in ("", code.value)]
        told = {"station": next(iter(stations), ours), "work": next(iter(found.work), ours)}
        return {name: (code.value, code.scheme, code.meaning) for name, code in told.items()}

    def _performed(self, row: WorkitemRow) -> Performed:
        standing = self._ledger.standing(row)
        codes = {
            name: Code(value=value, scheme=scheme, meaning=meaning)
            for name, (value, scheme, meaning) in row.codes.items()
        }
        began = standing.began or row.claimed_at or row.seen_at
        return Performed(
            work=codes["work"],
            station=codes["station"],
            began=began,
            ended=max(began, standing.until or self._clock()),
            outputs=tuple(_output(row.study_uid, each) for each in standing.objects),
            reason=row.reason,
            reason_code=write.UNSPECIFIED if row.job_id else write.INCOMPLETE,
            description=f"read by route {row.route}"[:64],
        )

    def _archive(self) -> Archive:
        return Archive(ae_title=str(self._store.system().get("DicomAet") or "ORTHANC"), wado_root=self._wado_root)

    def _study(self, row: WorkitemRow) -> str:
        return self._names.study(row.study_uid)


def _output(study_uid: str, made: ResultObject) -> Output:
    return Output(study=study_uid, series=made.series_uid, sop_class=SOP_CLASSES[made.kind], sop_uid=made.sop_uid)


def back_off_s(tries: int) -> float:
    """5, 10, 20 … at most 600 seconds."""
    return float(min(BACK_OFF_MAX_S, BACK_OFF_S * 2 ** min(tries, 16)))
