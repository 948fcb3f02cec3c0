"""One edit, from the doorbell to its end: claim, fetch both objects, compare, keep what came of it.

``EditRunner.compare`` is what the Celery task calls. Comparing changes nothing but the edit's own rows: done twice it
says the same, and a message too many claims nothing. Next: seg.py and sr.py (the figures).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from pydicom import Dataset

from medai.models.errors import ModelsError
from medai.router.errors import LedgerUnreachable, OrthancRefused, PermanentError, TemporaryError
from medai.router.ledger import Ledger
from medai.router.ledger.edits import Candidate, Compared, EditClaim, EditState
from medai.router.log import describe
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings
from medai.workers.dicom_file import Unreadable, read_image
from medai.workers.feedback.seg import by_machine_alone, compare_segs, match, segments_of
from medai.workers.feedback.sr import compare_srs, verdict_of

log = structlog.get_logger(__name__)


class Unrelated(Exception):
    """The object is no edit of ours; the text says why."""


class EditRunner:
    """Compares one edit at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        orthanc: Orthanc,
        ledger: Ledger,
        stopping: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._orthanc = orthanc
        self._ledger = ledger
        self._stopping = stopping
        self._clock = clock

    def compare(self, edit_id: int) -> EditState | None:
        """Compare an edit; None when there was nothing to claim, or it is put off."""
        if self._stopping.is_set() or not self._ledger.fleet.fits():
            return None
        claim = self._ledger.edits.claim(edit_id, self._clock())
        if claim is None:
            log.info("no_edit_to_claim", edit=edit_id)
            return None
        try:
            job_id, rows, verdict = self._work(claim)
        except Unrelated as reason:
            return self._end(claim, EditState.UNRELATED, str(reason))
        except LedgerUnreachable:
            raise
        except TemporaryError as error:
            log.warning("edit_retries", edit=edit_id, reason=str(error))
            wait_s = error.retry_after_s or self._settings.worker.retry_max_s
            self._ledger.edits.put_off(claim, str(error), self._clock() + wait_s)
            return None
        except (PermanentError, ModelsError) as error:
            return self._end(claim, EditState.FAILED, str(error))
        except Exception as error:  # what a foreign object does to a library must not end the worker
            log.error("unexpected_error", edit=edit_id, exc_info=error)
            return self._end(claim, EditState.FAILED, f"an unexpected error stopped the comparison ({describe(error)})")
        if not self._ledger.edits.compared(claim, job_id, rows, self._clock(), verdict=verdict):
            log.info("edit_lost", edit=edit_id)
            return None
        log.info("edit_compared", edit=edit_id, job=job_id, kind=claim.kind, rows=len(rows))
        return EditState.COMPARED

    def _end(self, claim: EditClaim, state: EditState, reason: str) -> EditState:
        self._ledger.edits.ended(claim, state, reason)
        log.info("edit_ended", edit=claim.edit_id, now=state.value, reason=reason)
        return state

    def _work(self, claim: EditClaim) -> tuple[str, Sequence[Compared], str]:
        """The reading that it is an edit of, what came of the comparison, and what a report says of the whole."""
        if not claim.readings:
            raise Unrelated("the result that it was made of has been withdrawn, or is gone with its study")
        theirs = self._object(claim.orthanc_id, "the reader's object is no longer in the archive")
        if claim.kind == "seg":
            return self._seg(claim, theirs)
        return self._sr(claim, theirs)

    def _seg(self, claim: EditClaim, theirs: Dataset) -> tuple[str, Sequence[Compared], str]:
        """Where it names no reading, and several models read the series, it belongs to the one that it has most of."""
        drawn = segments_of(theirs)
        if not claim.named and by_machine_alone(drawn):
            raise Unrelated("an algorithm drew all of it, and it refers to no result of ours")
        best: tuple[int, Candidate, Dataset] | None = None
        for reading in claim.readings:
            ours = self._ours(reading, "seg")
            shared = len(match(segments_of(ours), drawn).pairs)
            if best is None or shared > best[0]:
                best = (shared, reading, ours)
        assert best is not None
        if not best[0] and not claim.named:
            raise Unrelated("it holds none of the structures that were read, and refers to no result of ours")
        return best[1].job_id, compare_segs(best[2], theirs), ""

    def _sr(self, claim: EditClaim, theirs: Dataset) -> tuple[str, Sequence[Compared], str]:
        found: list[tuple[int, str, list[Compared]]] = []
        for reading in claim.readings:
            rows = compare_srs(self._ours(reading, "sr"), theirs, reading.names)
            found.append((sum(row.outcome == "matched" for row in rows), reading.job_id, rows))
        shared, job_id, rows = max(found, key=lambda item: item[0])
        if not shared and not claim.named:
            raise Unrelated("it holds none of the measurements that were made, and refers to no result of ours")
        return job_id, rows if shared else (), verdict_of(theirs)

    def _ours(self, reading: Candidate, kind: str) -> Dataset:
        name = reading.objects.get(kind)
        if not name:
            raise PermanentError(f"the reading left no {kind.upper()} to compare with")
        try:
            return self._object(name, f"our own {kind.upper()} is no longer in the archive")
        except PermanentError as error:
            if reading.stored:
                raise
            raise TemporaryError(f"our own {kind.upper()} is not in the archive yet", retry_after_s=30.0) from error

    def _object(self, name: str, gone: str) -> Dataset:
        """One object with its pixels, still packed. Nothing is fetched of one that is larger than an image may be."""
        limit = self._settings.worker.max_image_bytes
        try:
            size = self._orthanc.size(name)
            if size > limit:
                raise PermanentError(f"an object of {size / 2**30:.2f} GiB is not compared (worker.max_image_gb)")
            data = self._orthanc.file(name)
        except OrthancRefused as error:
            if error.status == 404:
                raise PermanentError(gone) from error
            raise
        try:
            return read_image(data, max_bytes=limit)
        except Unreadable as error:
            raise PermanentError(f"the object can't be read: {str(error) or 'it is damaged or cut short'}") from error
