"""Turn Orthanc's change log into studies in the ledger, behind a durable cursor; sweep for what it never told.

``Subscription.poll`` takes one page of ``/changes`` in and moves the cursor in the same transaction, so a crash
repeats a page and never skips one. ``Subscription.sweep`` compares Orthanc's studies with the ledger (Orthanc forgets
events: orthanc.md, pitfall 2). Next: daemon.py (who calls this), completeness.py (when a study is whole).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from router.facts import FactsReader, StudyView, change_time
from router.ledger import Ledger
from router.log import Pseudonyms, describe
from router.orthanc import Orthanc

CURSOR = "orthanc"
SWEEP_PAGE = 100
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
        clock: Clock = time.time,
    ) -> None:
        self._orthanc = orthanc
        self._ledger = ledger
        self._reader = reader
        self._backlog_s = backlog_h * 3600.0
        self._names = names
        self._clock = clock
        self._cursor: int | None = None
        self._heard_at = 0.0

    def start(self) -> None:
        """Find the cursor: where it was, or, at the very first start, the end of the log (the sweep reads back)."""
        self._cursor = self._ledger.read_cursor(CURSOR)
        if self._cursor is None:
            first = self._clock() - self._backlog_s
            self._ledger.setting("first_start", repr(first))
            self._cursor = self._orthanc.last_change()
            self._ledger.write_cursor(CURSOR, self._cursor, self._clock())
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
        ours = self._ledger.known_results(list(arrived))
        foreign = {name: at for name, at in arrived.items() if name not in ours}
        views = self._views(foreign) if foreign else []
        with self._ledger.begin() as db:
            for view, at in views:
                self._ledger.see_study(view.seen, at=at, due_at=now, db=db)
            self._ledger.write_cursor(CURSOR, last, now, db)
        for view, _ in views:
            count = sum(item.instances for item in view.seen.series)
            log.info("instances_arrived", study=self._names.study(view.seen.study_uid), in_touched_series=count)
        return tuple(view.seen.orthanc_id for view, _ in views)

    def _views(self, arrived: Mapping[str, float]) -> list[tuple[StudyView, float]]:
        series = self._orthanc.series_of(arrived)
        by_study: dict[str, list[dict[str, Any]]] = {}
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
        try:
            return self._reader.read(study, series)
        except Exception as error:  # noqa: BLE001 - a header that we can't digest costs its study time, not all of them
            self._orthanc.system()
            log.warning("study_unreadable", study=self._names.study(study), reason=describe(error))
            return None

    def sweep(self) -> tuple[str, ...]:
        """Compare every study in Orthanc with the ledger; returns those that had to be looked at (Orthanc ids)."""
        since_text = self._ledger.setting("first_start", repr(self._clock() - self._backlog_s))
        since = float(since_text)
        touched: list[str] = []
        start = 0
        while page := self._orthanc.studies(since=start, limit=SWEEP_PAGE):
            start += len(page)
            known = self._ledger.archive_updates([str(item["ID"]) for item in page])
            for item in page:
                if known.get(str(item["ID"])) == str(item.get("LastUpdate", "")):
                    continue
                if str(item["ID"]) not in known and change_time({"Date": item.get("LastUpdate", "")}, since) < since:
                    continue  # older than this installation: left alone
                touched += self._look_again(str(item["ID"]), str(item.get("LastUpdate", "")))
        return tuple(touched)

    def _look_again(self, orthanc_study: str, updated: str) -> list[str]:
        view = self._read(orthanc_study)
        if view is None:
            return []
        now = self._clock()
        before = self._ledger.study_row(orthanc_study)
        at = change_time({"Date": updated}, now)
        with self._ledger.begin() as db:
            study_id = self._ledger.see_study(view.seen, at=at, due_at=now, db=db)
            self._ledger.forget_series(study_id, [item.orthanc_id for item in view.seen.series], db)
        after = self._ledger.study_row(orthanc_study)
        changed = before is None or after is None or before["last_instance_at"] != after["last_instance_at"]
        if changed:
            log.info("sweep_found", study=self._names.study(view.seen.study_uid))
        return [orthanc_study] if changed else []
