"""Decide about one study: is it complete, which routes read it, and which jobs follow.

``Decider.consider`` looks at the study as the ledger and the archive have it now, writes each decision with its reason
and plans the next look. Doing it twice decides the same and makes no second job.
Next: routing/completeness.py and routing/rules.py (the rules themselves), ledger/jobs.py (what becomes of a job).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from medai.router.contract import Decision, SeriesFacts, StudyFacts, Verdict, content_hash, sources_hash
from medai.router.delivery.joinings import joinings
from medai.router.intake.facts import StudyView
from medai.router.ledger import Ledger, NewJob
from medai.router.ledger.fleet import newest_version
from medai.router.ledger.studies import DueStudy, KnownStudy
from medai.router.log import Pseudonyms, describe
from medai.router.routing.completeness import SeriesProgress, StudyProgress, decide
from medai.router.routing.rules import RouteVerdict, Rules
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import Tracer

LOOK_AGAIN_S = 10.0
"""When a model is not there yet."""
log = structlog.get_logger(__name__)


class Archive(Protocol):
    """What is asked of the archive (orthanc/client.py)."""

    def exists(self, level: str, resource: str) -> bool:
        """Whether it holds this."""
        ...

    def instances(self, orthanc_series: str) -> list[dict[str, Any]]:
        """The instances of a series, each with its ID and MainDicomTags."""
        ...

    def sop_uids(self, orthanc_study: str) -> frozenset[str]:
        """SOP Instance UIDs of all that a study holds; none where it is gone."""
        ...

    def md5(self, orthanc_instance: str) -> str:
        """Of an instance's file."""
        ...


class Reader(Protocol):
    """What reads a study from the archive (intake/facts.py)."""

    def read(self, orthanc_study: str) -> StudyView | None:
        """None where it holds no image, or is gone."""
        ...


class Farewell(Protocol):
    """What becomes of studies that are gone (intake/changes.py)."""

    def study_gone(self, orthanc_study: str, study_uid: str) -> None:
        """The whole study was deleted."""
        ...

    def images_gone(self, orthanc_study: str, study_uid: str) -> None:
        """It holds no image any more."""
        ...


class Decider:
    """Decides about studies, one at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        archive: Archive,
        ledger: Ledger,
        reader: Reader,
        farewell: Farewell,
        names: Pseudonyms,
        tracer: Tracer,
        clock: Callable[[], float],
    ) -> None:
        self._routes = settings.routes
        self._announces = settings.announcements.port != 0
        self._asked = settings.workitems.url != ""
        self._rules = Rules(settings.routes, settings.routing)
        self._archive = archive
        self._joined = joinings(settings)
        self._ledger = ledger
        self._reader = reader
        self._farewell = farewell
        self._names = names
        self._tracer = tracer
        self._clock = clock

    def consider(self, due: DueStudy) -> None:
        """Decide about one study; one that can't be decided is put off, and the next one comes."""
        try:
            self._consider(due)
        except Exception as error:  # noqa: BLE001 - one broken study must not stop the others, nor the router
            reason = f"it could not be examined; another try follows: {describe(error)}"
            log.warning("study_put_off", study=self._names.study(due.study_uid), reason=reason)
            decision = Decision(verdict=Verdict.WAIT, reason=reason)
            self._ledger.studies.record(due.id, [decision], self._clock(), outcome=fingerprint([(reason,)]))
            self._ledger.studies.set_due(due.id, self._clock() + LOOK_AGAIN_S)

    def _consider(self, due: DueStudy) -> None:
        study = self._ledger.studies.find(due.orthanc_id)
        if study is None:
            return
        clocks = self._clocks(study)
        ready = [name for name, clock in clocks.items() if clock.verdict is Verdict.COMPLETE]
        if not ready and clocks:
            self._plan(study, [clock.due_at for clock in clocks.values()])
            return
        view = self._reader.read(study.orthanc_id)
        if view is None:
            self._gone(study)
            return
        self._route(study, view.facts, clocks)

    def _clocks(self, study: KnownStudy) -> dict[str, Decision]:
        """What each route waits for. Which objects are here is asked where their number alone would do."""
        progress = progress_of(study)
        if self._announces:
            progress = replace(progress, announced=self._ledger.announcements.of_study(study.study_uid))
        clocks = self._decided(progress)
        named = any(progress.announced.instances.values())
        if named and any(clock.verdict is Verdict.COMPLETE for clock in clocks.values()):
            clocks = self._decided(replace(progress, present=self._archive.sop_uids(study.orthanc_id)))
        return clocks

    def _decided(self, progress: StudyProgress) -> dict[str, Decision]:
        return {route.name: decide(progress, self._clock(), route.completeness) for route in self._routes}

    def _gone(self, study: KnownStudy) -> None:
        if self._archive.exists("studies", study.orthanc_id):
            self._ledger.studies.set_due(study.id, None)
            self._farewell.images_gone(study.orthanc_id, study.study_uid)
        else:
            self._ledger.studies.set_due(study.id, self._clock() + LOOK_AGAIN_S)  # where it has only moved
            self._farewell.study_gone(study.orthanc_id, study.study_uid)

    def _plan(self, study: KnownStudy, moments: Sequence[float | None]) -> None:
        known = [at for at in moments if at is not None]
        self._ledger.studies.set_due_as_seen(study, min(known, default=None))

    def _route(self, study: KnownStudy, facts: StudyFacts, clocks: Mapping[str, Decision]) -> None:
        asked = self._ledger.workitems.routes_asked(study.id) if self._asked else frozenset()
        verdicts = self._rules.match(facts, asked)
        matched = [v for v in verdicts if v.matched]
        waiting = [clocks[v.route] for v in matched if clocks[v.route].verdict is Verdict.WAIT]
        if not matched:
            waiting = [clock for clock in clocks.values() if clock.verdict is Verdict.WAIT]
        ready = [v for v in matched if clocks[v.route].verdict is Verdict.COMPLETE]
        later: list[float | None] = [clock.due_at for clock in waiting]
        if ready or not waiting:
            decided_at = self._clock()  # before the jobs that follow from it
            decisions, again = self._decide(study, facts, verdicts, ready, clocks)
            later.append(again)
            self._record(study, decisions, decided_at)
        self._plan(study, later)

    def _record(self, study: KnownStudy, decisions: Sequence[Decision], decided_at: float) -> None:
        outcome = fingerprint([(d.verdict.value, d.route or "", d.reason) for d in decisions])
        if not self._ledger.studies.record(study.id, decisions, decided_at, outcome=outcome):
            return  # as last time
        for decision in decisions:
            self._tracer.decided(study.id, decision, began=decided_at, ended=self._clock())
            log.info(
                "decided",
                study=self._names.study(study.study_uid),
                verdict=decision.verdict.value,
                route=decision.route,
                reason=decision.reason,
            )

    def _decide(
        self,
        study: KnownStudy,
        facts: StudyFacts,
        verdicts: Sequence[RouteVerdict],
        ready: Sequence[RouteVerdict],
        clocks: Mapping[str, Decision],
    ) -> tuple[list[Decision], float | None]:
        """Decisions to record beside those that went with a job, and when to look again."""
        complete = self._ledger.studies.set_complete(study.id, self._clock())
        if study.complete_at is None:
            self._tracer.arrived(study, complete)
        study = replace(study, complete_at=complete)
        decisions = [Decision(verdict=Verdict.SKIP, route=v.route, reason=v.reason) for v in verdicts if not v.matched]
        if not verdicts:
            decisions = [Decision(verdict=Verdict.SKIP, reason="no route is configured")]
        elif not ready:
            decisions.append(Decision(verdict=Verdict.SKIP, reason="no route reads this study"))
        again: float | None = None
        routes = {route.name: route for route in self._routes}
        for verdict in ready:
            decisions.append(clocks[verdict.route])
            route = routes[verdict.route]
            if self._ledger.jobs.hurry(study.id, route.name, self._rules.priority(route, facts)):
                log.info("hurried", study=self._names.study(study.study_uid), route=route.name)
            absent = self._model_absent(route)
            if absent:
                decisions.append(absent)
                again = absent.due_at
                continue
            decisions += [d for d in self._make_jobs(study, facts, route, verdict) if d.verdict is Verdict.SKIP]
        if facts.order is not None and not self._ledger.held.join(study.id, facts.order, self._clock(), self._joined):
            again = self._clock() + LOOK_AGAIN_S
        if study.resent_at is not None and again is None:
            self._ledger.studies.resend_judged(study.id, study.resent_at)
        return decisions, again

    def _model_absent(self, route: RouteSettings) -> Decision | None:
        if self._version(route):
            return None
        model = self._ledger.fleet.model(route.model)
        again = self._clock() + LOOK_AGAIN_S
        if model is None:
            reason = f"no worker has announced the model {route.model}: is one running?"
            return Decision(verdict=Verdict.WAIT, reason=reason, route=route.name, due_at=again)
        if not model.available:
            reason = f"the model {route.model} is not available: {model.reason}"
            return Decision(verdict=Verdict.WAIT, reason=reason, route=route.name, due_at=again)
        return None

    def _version(self, route: RouteSettings) -> str:
        """The newest version of the route's model that a living worker holds; empty where none is known."""
        held = self._ledger.fleet.held_models(self._clock()).get(route.model, set())
        return newest_version(held) if held else ""

    def _announced_version(self, route: RouteSettings) -> str:
        """The version that will be read by: one that is held now, else the one that was told of last."""
        held = self._version(route)
        if held:
            return held
        model = self._ledger.fleet.model(route.model)
        assert model is not None  # else _model_absent said so
        return model.version

    def _make_jobs(
        self, study: KnownStudy, facts: StudyFacts, route: RouteSettings, verdict: RouteVerdict
    ) -> list[Decision]:
        version = self._announced_version(route)
        made = []
        for series in verdict.choices:
            slot = "" if route.series.take == "best" else fingerprint([(series.series_uid,)])[:16]
            new = self._new_job(study, facts, route, series, slot, version)
            if new is None:
                continue
            began = self._clock()
            job_id, decision = self._ledger.jobs.create(new, study=study, reason=verdict.reason, now=began)
            if decision.verdict is not Verdict.SKIP:
                self._tracer.decided(new.study_id, decision, began=began, ended=self._clock(), job_id=job_id)
                log.info(
                    "job_made",
                    job=job_id,
                    study=self._names.study(study.study_uid),
                    route=route.name,
                    model=route.model,
                    verdict=decision.verdict.value,
                    priority=new.priority.name,
                )
            made.append(decision)
        return made

    def _new_job(
        self,
        study: KnownStudy,
        facts: StudyFacts,
        route: RouteSettings,
        series: SeriesFacts,
        slot: str,
        version: str,
    ) -> NewJob | None:
        instances = self._archive.instances(series.orthanc_id)
        sops = [str(item["MainDicomTags"]["SOPInstanceUID"]) for item in instances]
        if not sops:
            return None
        return NewJob(
            study_id=study.id,
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
            ordered_at=facts.order.ordered_at if facts.order else None,
            content_hash=self._content(study, instances),
        )

    def _content(self, study: KnownStudy, instances: Sequence[Mapping[str, Any]]) -> str:
        """Hash over the files of a series that was sent again; empty for all others, which need no such look."""
        if study.resent_at is None:
            return ""
        return content_hash(self._archive.md5(str(item["ID"])) for item in instances)


def progress_of(study: KnownStudy) -> StudyProgress:
    """A study of the ledger, as completeness.decide wants it."""
    return StudyProgress(
        instances=study.instances,
        first_instance_at=study.first_instance_at,
        last_instance_at=study.last_instance_at,
        expected=dict(study.expected),
        series=tuple(
            SeriesProgress(
                series_uid=item.series_uid,
                instances=item.instances,
                last_instance_at=item.last_instance_at,
                expected=dict(item.expected),
            )
            for item in study.series
        ),
    )


def fingerprint(parts: Sequence[Sequence[str]]) -> str:
    """SHA-256 (hex) of nested texts, to tell whether an outcome is the one of last time."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
