"""The router's loop on one page: hear of studies, decide, make jobs, ring the workers.

``Router.tick`` is one round. Nothing here holds state that the ledger does not: a router that dies at any point starts
again and finds its work there. Next: intake/changes.py (hearing), routing/completeness.py and routing/rules.py
(deciding), queue/sweeper.py.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from medai.router.contract import Decision, SeriesFacts, StudyFacts, Verdict, content_hash, sources_hash
from medai.router.daemon.clock import StepWatch
from medai.router.delivery.withdrawals import withdrawals
from medai.router.errors import OrthancRefused, TemporaryError
from medai.router.intake.changes import Subscription
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger, NewJob
from medai.router.ledger.fleet import newest_version
from medai.router.log import Pseudonyms, describe
from medai.router.orthanc.client import Orthanc
from medai.router.queue.sweeper import Sweeper
from medai.router.routing.completeness import SeriesProgress, StudyProgress, decide
from medai.router.routing.rules import RouteVerdict, Rules
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer, Tracer

LOOK_AGAIN_S = 10.0
"""When a model is not there yet."""
LOST_CHECK_S = 1.0
log = structlog.get_logger(__name__)


class Opens(Protocol):
    """A port of this process that could not be opened yet, perhaps."""

    def open(self) -> bool:
        """Try (again); whether it is open."""
        ...


class Router:
    """One router: owns the loop, not the parts."""

    def __init__(
        self,
        settings: Settings,
        *,
        orthanc: Orthanc,
        ledger: Ledger,
        sweeper: Sweeper,
        names: Pseudonyms,
        leads: Callable[[], bool] = lambda: True,
        doors: Sequence[Opens] = (),
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._orthanc = orthanc
        self._ledger = ledger
        self._sweeper = sweeper
        self._names = names
        self._clock = clock
        self._rules = Rules(settings.routes, settings.routing)
        self._reader = FactsReader(orthanc, ledger)
        self._subscription = Subscription(
            orthanc,
            ledger,
            self._reader,
            backlog_h=settings.orthanc.backlog_h,
            withdraw_within_s=settings.ris.withdraw_within_h * 3600.0,
            withdrawn=withdrawals(settings, clock),
            results=settings.results,
            names=names,
            clock=clock,
        )
        self._leads = leads
        self._stopping = threading.Event()
        self._doors = doors
        self._tracer = tracer or NoTracer()
        self._monotonic = monotonic
        self._steps = StepWatch(clock, monotonic)
        waits = [max(r.completeness.quiet_s, r.completeness.max_wait_s) for r in settings.routes]
        self._longest_wait_s = max([LOOK_AGAIN_S, *waits])
        self._next_sweep = 0.0
        self._next_lost_check = 0.0
        self._next_version_check = 0.0
        self.orthanc_up = False
        self._never_reached = True
        self.heartbeat = clock()

    # -- the loop

    def run(self, stop: threading.Event) -> None:
        """Go round until told to stop or another router leads; what is away is waited for."""
        self._stopping = stop
        while not stop.is_set() and self._leads():
            began = self._clock()
            busy = self.tick()
            self.heartbeat = self._clock()
            if not busy:
                stop.wait(self._pause(began))

    def _pause(self, began: float) -> float:
        now = self._clock()
        poll = self._settings.orthanc.poll_s if self.orthanc_up else max(0.5, self._settings.orthanc.poll_s)
        due = self._ledger_next_due()
        until = began + poll if due is None else min(began + poll, max(due, now + 0.005))
        return min(poll, max(0.005, until - now))

    def _ledger_next_due(self) -> float | None:
        try:
            return self._ledger.next_due()
        except TemporaryError:
            return None

    def tick(self) -> bool:
        """One round; True when more changes wait already."""
        try:
            self._follow_clock()
            more = self._listen()
            for row in self._ledger.due_studies(self._clock(), longest_s=self._longest_wait_s):
                if self._stopping.is_set() or not self._leads():
                    return False  # the rest is due at the next start, or for the router that leads now
                self._consider_safely(row)
            self._send()
        except TemporaryError as error:
            log.warning("waiting", reason=describe(error))
            return False
        except Exception as error:  # a fault of ours must not end the router, nor make it spin
            log.error("unexpected_error", exc_info=error)
            self._stopping.wait(LOOK_AGAIN_S)
            return False
        return more

    def _follow_clock(self) -> None:
        step_s = self._steps.step_s()
        if step_s:
            self._ledger.shift_waits(step_s)
            self._steps.settled(step_s)
            log.warning("clock_stepped", by_s=round(step_s, 1), reason="every waiting period was moved along with it")

    def _listen(self) -> bool:
        try:
            poll = self._subscription.poll()
            if self._monotonic() >= self._next_sweep:
                self._subscription.sweep()
                self._next_sweep = self._monotonic() + self._settings.orthanc.sweep_s
        except (TemporaryError, OrthancRefused) as error:
            if self.orthanc_up or self._never_reached:
                log.warning("orthanc_unreachable", reason=describe(error))
            self._never_reached = False
            self.orthanc_up = False
            self._next_sweep = 0.0  # events may be lost meanwhile: look at everything once it is back
            return False
        if not self.orthanc_up:
            log.info("orthanc_reached")
        self.orthanc_up = True
        return poll.more

    def _send(self) -> None:
        now = self._monotonic()
        check = now >= self._next_lost_check
        if check:
            self._next_lost_check = now + LOST_CHECK_S
            for door in self._doors:
                door.open()
        if now >= self._next_version_check:
            self._next_version_check = now + LOOK_AGAIN_S
            self._replace_outdated()
            for job_id in self._ledger.settle_idle(self._clock()):
                log.warning("job_settled", job=job_id, reason="none of its deliveries was waiting any more")
        self._sweeper.tick(check_lost=check)

    def _replace_outdated(self) -> None:
        held = self._ledger.held_models(self._clock())
        for route in self._settings.routes:
            if route.model_version:  # asked for by name: it is waited for
                held.setdefault(route.model, set()).add(route.model_version)
        for job_id in self._ledger.replace_outdated(held, self._clock()):
            log.info("job_outdated", job=job_id)

    # -- deciding about one study

    def _consider_safely(self, row: Mapping[str, Any]) -> None:
        """Decide about one study; one that can't be decided is put off, and the next one comes."""
        try:
            self._consider(row)
        except Exception as error:  # noqa: BLE001 - one broken study must not stop the others, nor the router
            reason = f"it could not be examined; another try follows: {describe(error)}"
            log.warning("study_put_off", study=self._names.study(str(row["study_uid"])), reason=reason)
            decision = Decision(verdict=Verdict.WAIT, reason=reason)
            self._ledger.record(int(row["id"]), [decision], self._clock(), outcome=fingerprint([(reason,)]))
            self._ledger.set_due(int(row["id"]), self._clock() + LOOK_AGAIN_S)

    def _consider(self, due: Mapping[str, Any]) -> None:
        row = self._ledger.study_row(str(due["orthanc_id"]))
        if row is None:
            return
        progress = progress_of(row)
        clocks = {r.name: decide(progress, self._clock(), r.completeness) for r in self._settings.routes}
        ready = [name for name, clock in clocks.items() if clock.verdict is Verdict.COMPLETE]
        if not ready and clocks:
            self._plan(row, [clock.due_at for clock in clocks.values()])
            return
        view = self._reader.read(str(row["orthanc_id"]))
        if view is None:
            self._gone(row)
            return
        self._route(row, view.facts, clocks)

    def _gone(self, row: Mapping[str, Any]) -> None:
        if self._orthanc.exists("studies", str(row["orthanc_id"])):
            self._ledger.set_due(int(row["id"]), None)
            self._subscription.images_gone(str(row["orthanc_id"]), str(row["study_uid"]))
        else:
            self._ledger.set_due(int(row["id"]), self._clock() + LOOK_AGAIN_S)  # where it has only moved
            self._subscription.study_gone(str(row["orthanc_id"]), str(row["study_uid"]))

    def _plan(self, row: Mapping[str, Any], moments: Sequence[float | None]) -> None:
        known = [at for at in moments if at is not None]
        self._ledger.set_due(int(row["id"]), min(known, default=None), if_seen_at=float(row["last_instance_at"]))

    def _route(self, row: Mapping[str, Any], facts: StudyFacts, clocks: Mapping[str, Decision]) -> None:
        verdicts = self._rules.match(facts)
        matched = [v for v in verdicts if v.matched]
        waiting = [clocks[v.route] for v in matched if clocks[v.route].verdict is Verdict.WAIT]
        if not matched:
            waiting = [clock for clock in clocks.values() if clock.verdict is Verdict.WAIT]
        ready = [v for v in matched if clocks[v.route].verdict is Verdict.COMPLETE]
        later: list[float | None] = [clock.due_at for clock in waiting]
        if ready or not waiting:
            decided_at = self._clock()  # before the jobs that follow from it
            decisions, again = self._decide(row, facts, verdicts, ready, clocks)
            later.append(again)
            outcome = fingerprint([(d.verdict.value, d.route or "", d.reason) for d in decisions])
            if self._ledger.record(int(row["id"]), decisions, decided_at, outcome=outcome):
                for decision in decisions:
                    self._tracer.decided(int(row["id"]), decision, began=decided_at, ended=self._clock())
                    log.info(
                        "decided",
                        study=self._names.study(str(row["study_uid"])),
                        verdict=decision.verdict.value,
                        route=decision.route,
                        reason=decision.reason,
                    )
        self._plan(row, later)

    def _decide(
        self,
        row: Mapping[str, Any],
        facts: StudyFacts,
        verdicts: Sequence[RouteVerdict],
        ready: Sequence[RouteVerdict],
        clocks: Mapping[str, Decision],
    ) -> tuple[list[Decision], float | None]:
        """Decisions to record beside those that went with a job, and when to look again."""
        complete = self._ledger.set_complete(int(row["id"]), self._clock())
        if row["complete_at"] is None:
            self._tracer.arrived(row, complete)
        study = {**row, "complete_at": complete}
        decisions = [Decision(verdict=Verdict.SKIP, route=v.route, reason=v.reason) for v in verdicts if not v.matched]
        if not verdicts:
            decisions = [Decision(verdict=Verdict.SKIP, reason="no route is configured")]
        elif not ready:
            decisions.append(Decision(verdict=Verdict.SKIP, reason="no route reads this study"))
        again: float | None = None
        for verdict in ready:
            decisions.append(clocks[verdict.route])
            route = self._settings.route(verdict.route)
            assert route is not None
            absent = self._model_absent(route)
            if absent:
                decisions.append(absent)
                again = absent.due_at
                continue
            decisions += [d for d in self._make_jobs(study, facts, route, verdict) if d.verdict is Verdict.SKIP]
        if row.get("resent_at") is not None and again is None:
            self._ledger.resend_judged(int(row["id"]), float(row["resent_at"]))
        return decisions, again

    def _model_absent(self, route: RouteSettings) -> Decision | None:
        if self._version(route):
            return None
        model = self._ledger.model(route.model)
        again = self._clock() + LOOK_AGAIN_S
        if model is None:
            reason = f"no worker has announced the model {route.model}: is one running?"
            return Decision(verdict=Verdict.WAIT, reason=reason, route=route.name, due_at=again)
        if not model["available"]:
            reason = f"the model {route.model} is not available: {model['reason']}"
            return Decision(verdict=Verdict.WAIT, reason=reason, route=route.name, due_at=again)
        return None

    def _version(self, route: RouteSettings) -> str:
        """The newest version of the route's model that a living worker holds; empty where none is known."""
        held = self._ledger.held_models(self._clock()).get(route.model, set())
        return newest_version(held) if held else ""

    def _make_jobs(
        self, row: Mapping[str, Any], facts: StudyFacts, route: RouteSettings, verdict: RouteVerdict
    ) -> list[Decision]:
        version = self._version(route) or str((self._ledger.model(route.model) or {})["version"])
        made = []
        for series in verdict.choices:
            slot = "" if route.series.take == "best" else fingerprint([(series.series_uid,)])[:16]
            new = self._new_job(row, facts, route, series, slot, version)
            if new is None:
                continue
            began = self._clock()
            job_id, decision = self._ledger.create_job(new, study=row, reason=verdict.reason, now=began)
            if decision.verdict is not Verdict.SKIP:
                self._tracer.decided(new.study_id, decision, began=began, ended=self._clock(), job_id=job_id)
                log.info(
                    "job_made",
                    job=job_id,
                    study=self._names.study(str(row["study_uid"])),
                    route=route.name,
                    model=route.model,
                    verdict=decision.verdict.value,
                    priority=new.priority.name,
                )
            made.append(decision)
        return made

    def _new_job(
        self,
        row: Mapping[str, Any],
        facts: StudyFacts,
        route: RouteSettings,
        series: SeriesFacts,
        slot: str,
        version: str,
    ) -> NewJob | None:
        instances = self._orthanc.instances(series.orthanc_id)
        sops = [str(item["MainDicomTags"]["SOPInstanceUID"]) for item in instances]
        if not sops:
            return None
        return NewJob(
            study_id=int(row["id"]),
            study_uid=facts.study_uid,
            route=route.name,
            slot=slot,
            model=route.model,
            model_version=route.model_version or version,
            modality=str(series.attributes.get("Modality", "")),
            series=(series.orthanc_id,),
            sources_hash=sources_hash(sops),
            sources_count=len(set(sops)),
            queue=route.queue,
            priority=self._rules.priority(route, facts),
            destinations=route.destinations,
            quiet_s=route.completeness.quiet_s,
            content_hash=self._content(row, instances),
        )

    def _content(self, row: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]) -> str:
        """Hash over the files of a series that was sent again; empty for all others, which need no such look."""
        if row.get("resent_at") is None:
            return ""
        return content_hash(self._orthanc.md5(str(item["ID"])) for item in instances)


def progress_of(row: Mapping[str, Any]) -> StudyProgress:
    """A study's row of the ledger, as completeness.decide wants it."""
    return StudyProgress(
        instances=int(row["instances"]),
        first_instance_at=float(row["first_instance_at"]),
        last_instance_at=float(row["last_instance_at"]),
        expected=dict(row["expected"]),
        series=tuple(
            SeriesProgress(
                series_uid=str(item["series_uid"]),
                instances=int(item["instances"]),
                last_instance_at=float(item["last_instance_at"]),
                expected=dict(item["expected"]),
            )
            for item in row["series"]
        ),
    )


def fingerprint(parts: Sequence[Sequence[str]]) -> str:
    """SHA-256 (hex) of nested texts, to tell whether an outcome is the one of last time."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
