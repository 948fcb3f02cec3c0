"""Turn Orthanc's change log into studies in the ledger, behind a durable cursor; sweep for what it never told.

``Subscription.poll`` takes one page of ``/changes`` in and moves the cursor in the same transaction, so a crash
repeats a page and never skips one. ``Subscription.sweep`` compares Orthanc's studies with the ledger (Orthanc forgets
events: docs/orthanc.md, section 1). Next: daemon/loop.py (who calls this), routing/completeness.py (when a study is
whole).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from medai.router.errors import OrthancRefused, TemporaryError
from medai.router.intake.facts import FactsReader, StudyView, change_time
from medai.router.intake.reader_edits import Recogniser, arrived_in
from medai.router.ledger import Ledger
from medai.router.ledger.edits import EditSeen
from medai.router.ledger.removals import Withdrawn
from medai.router.ledger.studies import StudySeen
from medai.router.log import Pseudonyms, describe
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import ResultSettings

CURSOR = "orthanc"
SWEEP_PAGE = 100
MOVE_S = 60.0
"""A study under two patients for longer than this is two studies to us."""
MANY = 20
"""More deletions than this between two sweeps, and more than half of all studies, are not a person's doing."""
LIVE_S = 2.0
"""A poll this soon after one that emptied the log hears changes as they happen."""
Clock = Callable[[], float]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Poll:
    """What one poll brought: how many changes, which studies (Orthanc ids), whether more wait."""

    changes: int
    touched: tuple[str, ...]
    more: bool


class Subscription:
    """The router's ear at one Orthanc."""

    def __init__(
        self,
        orthanc: Orthanc,
        ledger: Ledger,
        reader: FactsReader,
        *,
        backlog_h: float,
        names: Pseudonyms,
        withdraw_within_s: float = 0.0,
        withdrawn: Mapping[str, Withdrawn] | None = None,
        results: ResultSettings | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._withdraw_within_s = withdraw_within_s
        self._withdrawn = dict(withdrawn or {})
        self._orthanc = orthanc
        self._ledger = ledger
        self._reader = reader
        self._recogniser = Recogniser(orthanc, ledger, results or ResultSettings())
        self._backlog_s = backlog_h * 3600.0
        self._names = names
        self._clock = clock
        self._cursor: int | None = None
        self._heard_at = 0.0
        self._told_empty = False
        self._moved: dict[str, float] = {}
        """Orthanc id -> when it was seen that the archive had given this study another patient."""

    def start(self) -> None:
        """Find the cursor: where it was, or, at the very first start, the end of the log (the sweep reads back)."""
        self._cursor = self._ledger.studies.read_cursor(CURSOR)
        if self._cursor is None:
            first = self._clock() - self._backlog_s
            self._ledger.setting("first_start", repr(first))
            self._cursor = self._orthanc.last_change()
            self._ledger.studies.write_cursor(CURSOR, self._cursor, self._clock())
        log.info("subscribed", cursor=self._cursor)

    def poll(self) -> Poll:
        """Take in one page of changes; raises TemporaryError, and then nothing was taken."""
        if self._cursor is None:
            self.start()
        assert self._cursor is not None
        asked_at = self._clock()
        page = self._orthanc.changes(self._cursor)
        live = asked_at - self._heard_at < LIVE_S
        if page.done:
            self._heard_at = asked_at
        if page.last < self._cursor:
            log.warning("change_log_restarted", cursor=self._cursor, last=page.last)
            self._cursor = 0
            return Poll(changes=0, touched=(), more=True)
        if not page.changes:
            return Poll(changes=0, touched=(), more=False)
        touched = self._take(page.changes, page.last, live=live)
        self._cursor = page.last
        return Poll(changes=len(page.changes), touched=touched, more=not page.done)

    def _take(self, changes: Iterable[Mapping[str, Any]], last: int, *, live: bool) -> tuple[str, ...]:
        now = self._clock()
        # While it listens, the router's own clock tells best: Orthanc's has whole seconds and may be another machine's.
        arrived = {
            str(c["ID"]): now if live else change_time(c, now) for c in changes if c["ChangeType"] == "NewInstance"
        }
        ours = self._ledger.deliveries.known_results(list(arrived))
        self._remove(self._ledger.removals.unwanted_results(ours) if ours else [])
        foreign = {name: at for name, at in arrived.items() if name not in ours}
        series = self._orthanc.series_of(foreign) if foreign else []
        views = self._views(series, foreign)
        edits = self._edits_that_arrived(series, foreign)
        with self._ledger.begin() as db:
            for view, at in views:
                heard = live and not self._just_moved(view.seen.orthanc_id, now)
                self._ledger.studies.see(settled(view.seen, now), at=at, due_at=now, db=db, heard=heard)
            fresh = [edit for edit in edits if self._ledger.edits.see(edit, now, db)]
            self._ledger.studies.write_cursor(CURSOR, last, now, db)
        self._tell(fresh)
        for view, _ in views:
            count = sum(item.instances for item in view.seen.series)
            log.info("instances_arrived", study=self._names.study(view.seen.study_uid), in_touched_series=count)
        return tuple(view.seen.orthanc_id for view, _ in views)

    def _edits_that_arrived(self, series: Sequence[Mapping[str, Any]], arrived: Mapping[str, float]) -> list[EditSeen]:
        by_study: dict[str, list[dict[str, Any]]] = {}
        for item in series:
            by_study.setdefault(str(item["ParentStudy"]), []).append(arrived_in(item, arrived))
        return [edit for study, items in by_study.items() for edit in self._edits(study, items)]

    def _edits(self, study: str, series: Sequence[Mapping[str, Any]] | None = None) -> list[EditSeen]:
        """What readers made of our results; a header that we can't digest must not stop the others.

        Raises TemporaryError where another try may help.
        """
        try:
            return self._recogniser.look(study, series)
        except TemporaryError:  # a header that breaks Orthanc again and again is not asked for any more
            raise
        except Exception as error:  # noqa: BLE001 - as in _read
            self._orthanc.system()
            log.warning("edits_unreadable", study=self._names.study(study), reason=describe(error))
            return []

    def _tell(self, edits: Sequence[EditSeen]) -> None:
        for edit in edits:
            log.info("edit_seen", job=edit.job_id, kind=edit.kind, named=edit.named)

    def _views(
        self, series: Sequence[Mapping[str, Any]], arrived: Mapping[str, float]
    ) -> list[tuple[StudyView, float]]:
        by_study: dict[str, list[Mapping[str, Any]]] = {}
        for item in series:
            by_study.setdefault(str(item["ParentStudy"]), []).append(item)
        out = []
        for study, items in by_study.items():
            view = self._read(study, items)
            if view is not None:
                at = max((arrived[str(i)] for s in items for i in s["Instances"] if str(i) in arrived), default=0.0)
                out.append((view, at or self._clock()))
        return out

    def _read(self, study: str, series: Sequence[Mapping[str, Any]] | None = None) -> StudyView | None:
        """One study; one that can't be read must not stop the others: the sweep looks at it again.

        Raises TemporaryError when it is Orthanc that is away, not the study that is broken.
        """
        if self._moving(study):
            return None
        try:
            return self._reader.read(study, series)
        except Exception as error:  # noqa: BLE001 - a header that we can't digest costs its study time, not all of them
            self._orthanc.system()
            log.warning("study_unreadable", study=self._names.study(study), reason=describe(error))
            return None

    def _moving(self, orthanc_study: str) -> bool:
        """Whether the archive is just giving this study another patient: then it is looked at when that is done.

        A study that has moved keeps its row in the ledger, with what was read of it.
        """
        try:
            study = self._orthanc.study(orthanc_study)
        except OrthancRefused:
            return False
        uid = str(study["MainDicomTags"].get("StudyInstanceUID", ""))
        others = self._ledger.removals.other_ids(orthanc_study, uid)
        if not others:
            return False
        there = [name for name in others if self._orthanc.exists("studies", name)]
        now = self._clock()
        if there:
            return abs(now - change_time({"Date": study.get("LastUpdate", "")}, now)) < MOVE_S
        patient = str(study.get("PatientMainDicomTags", {}).get("PatientID", "")).strip()
        if self._ledger.removals.study_moved(others[0], orthanc_study, patient):
            self._moved = {name: at for name, at in self._moved.items() if now - at < MOVE_S} | {orthanc_study: now}
            log.info("study_moved", study=self._names.study(uid))
        return False

    def _just_moved(self, orthanc_study: str, now: float) -> bool:
        """The archive tells of a moved study's images as of new ones; nobody sent them again."""
        return now - self._moved.get(orthanc_study, -MOVE_S) < MOVE_S

    def sweep(self) -> tuple[str, ...]:
        """Compare every study in Orthanc with the ledger; returns those that had to be looked at (Orthanc ids)."""
        since_text = self._ledger.setting("first_start", repr(self._clock() - self._backlog_s))
        since = float(since_text)
        touched: list[str] = []
        start = 0
        living = self._ledger.removals.living_studies()
        wanted = self._ledger.workitems.studies_waited_for()
        known_before = len(living)
        while page := self._orthanc.studies(since=start, limit=SWEEP_PAGE):
            start += len(page)
            for item in page:
                living.pop(str(item["ID"]), None)
            known = self._ledger.studies.archive_updates([str(item["ID"]) for item in page])
            for item in page:
                if known.get(str(item["ID"])) == str(item.get("LastUpdate", "")):
                    continue
                old = change_time({"Date": item.get("LastUpdate", "")}, since) < since
                if str(item["ID"]) not in known and old and _uid_of(item) not in wanted:
                    continue  # older than this installation: left alone
                touched += self._look_again(str(item["ID"]), str(item.get("LastUpdate", "")))
        aside = self._ledger.removals.after_restore(list(living), self._clock())
        if aside is None:
            self._vanished(living, known_before)
        elif aside:
            log.warning("archive_lacks_studies", studies=aside, reason="the ledger was restored: nothing was withdrawn")
        return tuple(touched)

    def _vanished(self, missing: Mapping[str, str], known_before: int) -> None:
        """Studies that the ledger knows and Orthanc does not list: deleted, unless it is the archive that is empty."""
        if len(missing) > MANY and len(missing) > known_before / 2:  # without asking for each, at every sweep
            if not self._told_empty:
                reason = (
                    f"{len(missing)} studies vanished at once: taken for a lost or replaced archive, "
                    "not for deletions. Nothing was withdrawn."
                )
                log.error("archive_lost_studies", reason=reason)
            self._told_empty = True
            return
        self._told_empty = False
        for name, uid in missing.items():
            if not self._orthanc.exists("studies", name):
                self.study_gone(name, uid)

    def study_gone(self, orthanc_study: str, study_uid: str) -> None:
        """A study was deleted from Orthanc: cancel and withdraw what was read of it, unless it has only moved."""
        if any(name != orthanc_study for name in self._orthanc.studies_with_uid(study_uid)):
            return  # the sweep finds it under its other id
        removed = self._ledger.removals.study_removed(
            orthanc_study, self._clock(), within_s=self._withdraw_within_s, withdrawn=self._withdrawn
        )
        if removed is None:
            return
        name = self._names.study(study_uid)
        log.info("study_deleted", study=name, cancelled=removed.cancelled, withdrawn=removed.withdrawn)

    def images_gone(self, orthanc_study: str, study_uid: str) -> None:
        """Where a study holds nothing but results of ours, its images were deleted: it is gone, and they go, too."""
        names = {str(name) for item in self._orthanc.series_of([orthanc_study]) for name in item["Instances"]}
        if names and self._ledger.deliveries.known_results(sorted(names)) == names:
            self.study_gone(orthanc_study, study_uid)
            self._remove(sorted(names))

    def _remove(self, results: Sequence[str]) -> None:
        """Delete objects of ours that came after their study had been deleted."""
        for name in results:
            self._orthanc.delete("instances", name)
        if results:
            log.info("late_results_removed", objects=len(results))

    def _look_again(self, orthanc_study: str, updated: str) -> list[str]:
        view = self._read(orthanc_study)
        if view is None:
            return []
        edits = self._edits(orthanc_study)
        now = self._clock()
        before = self._ledger.studies.find(orthanc_study)
        at = change_time({"Date": updated}, now)
        with self._ledger.begin() as db:
            study_id = self._ledger.studies.see(settled(view.seen, now), at=at, due_at=now, db=db)
            self._ledger.studies.forget_series(study_id, [item.orthanc_id for item in view.seen.series], db)
            fresh = [edit for edit in edits if self._ledger.edits.see(edit, now, db)]
        self._tell(fresh)
        after = self._ledger.studies.find(orthanc_study)
        changed = before is None or after is None or before.last_instance_at != after.last_instance_at
        if changed:
            log.info("sweep_found", study=self._names.study(view.seen.study_uid))
        return [orthanc_study] if changed else []


def _uid_of(listed: Mapping[str, Any]) -> str:
    return str(listed.get("MainDicomTags", {}).get("StudyInstanceUID", ""))


def settled(seen: StudySeen, now: float) -> StudySeen:
    """What was seen, as of no known update where more may come in the same second: the next sweep looks again.

    Orthanc tells when a study was last updated in whole seconds.
    """
    just_now = change_time({"Date": seen.archive_update}, now) >= now
    return replace(seen, archive_update="") if just_now else seen
