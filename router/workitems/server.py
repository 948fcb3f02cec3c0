"""A worklist by UPS-RS (PS3.18 11): search, retrieve, update and change of state, as a performer needs them.

A workitem that the worklist will not have changed so is ``WorkitemRefused``; everything else that is no success says
that the worklist is away or not as configured. Errors quote nothing of an answer, which may name a patient.
Next: delivery/web.py (the call), performer.py (when).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from medai.router.contract import is_uid
from medai.router.delivery import web
from medai.router.delivery.web import Answer, Peer
from medai.router.errors import WorkitemRefused, WorklistUnreachable
from medai.router.settings.workitems import WorkitemsSettings
from medai.router.workitems import read, write
from medai.router.workitems.read import StepState, Workitem

MEDIA_TYPE = "application/dicom+json"
PAGE = 200
PAGES = 50
"""So many pages of scheduled workitems are looked through at once, of a worklist that never ends, too."""
OF_THE_ITEM = frozenset({400, 404, 409, 410, 422})
"""Answers that speak of the workitem and not of the worklist (PS3.18 Tables 11.6.3-1 and 11.7.3-1)."""
GONE = frozenset({404, 410})
FIELDS = (read.INPUT, read.READINESS, read.WORK_CODES, read.STATION_CODES, read.STUDY_UID, read.STATE)


class Worklist:
    """The worklist of [workitems]."""

    def __init__(self, settings: WorkitemsSettings) -> None:
        self._peer = Peer(
            title="the worklist", url=settings.url, key="[workitems] url", server=settings, away=WorklistUnreachable,
            takes="UPS-RS",
        )  # fmt: skip

    def __str__(self) -> str:
        return str(self._peer)

    def scheduled(self) -> Iterator[Workitem]:
        """Every workitem that is scheduled, each once, page by page; raises WorklistUnreachable."""
        known: set[str] = set()
        offset = 0
        for _ in range(PAGES):
            page = self._search(offset)
            found = [item for item in map(read.workitem, page) if item is not None]
            fresh = [item for item in found if item.uid not in known]
            yield from (item for item in fresh if item.state in (StepState.SCHEDULED, ""))
            if not fresh:  # the end, or a worklist that knows no offset
                return
            known.update(item.uid for item in fresh)
            offset += len(page)

    def retrieve(self, uid: str) -> Workitem | None:
        """A workitem as it is now; None where it is gone."""
        answer = self._call("GET", f"/workitems/{_checked(uid)}")
        if answer.status in GONE:
            return None
        if not 200 <= answer.status < 300:
            raise self._failed(answer)
        return next((read.workitem(said, uid) for said in self._data_sets(answer)), None)

    def update(self, uid: str, transaction: str, change: bytes) -> None:
        """Change what a workitem says. The lock is told as PS3.18 has it, and in the data set as PS3.4 does."""
        self._change("POST", f"/workitems/{_checked(uid)}?{_checked(transaction)}", change)

    def change_state(self, uid: str, transaction: str, wanted: StepState) -> None:
        """Claim, complete or cancel a workitem."""
        self._change("PUT", f"/workitems/{_checked(uid)}/state", write.state(transaction, wanted))

    def answers(self) -> None:
        """Whether a search is answered as it should be; raises WorklistUnreachable."""
        self._search(0, limit=1)

    def _search(self, offset: int, *, limit: int = PAGE) -> list[Mapping[str, Any]]:
        query = [("ProcedureStepState", StepState.SCHEDULED.value), *(("includefield", field) for field in FIELDS)]
        answer = self._call("GET", "/workitems?" + urlencode([*query, ("limit", limit), ("offset", offset)]))
        if answer.status == 204:
            return []
        if not 200 <= answer.status < 300:
            raise web.misfortune(self._peer, answer) or self._failed(answer)
        return self._data_sets(answer)

    def _change(self, method: str, path: str, change: bytes) -> None:
        answer = self._call(method, path, change)
        if answer.status in OF_THE_ITEM:
            gone = answer.status in GONE
            raise WorkitemRefused(f"{self._peer} refused the change of a workitem with {answer.status}", gone=gone)
        if not 200 <= answer.status < 300:
            raise web.misfortune(self._peer, answer) or self._failed(answer)

    def _call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        headers = {"Accept": MEDIA_TYPE} | ({"Content-Type": MEDIA_TYPE} if body is not None else {})
        return web.request(method, self._peer, headers=headers, path=path, body=body)

    def _failed(self, answer: Answer) -> WorklistUnreachable:
        return WorklistUnreachable(f"{self._peer} answered {answer.status}")

    def _data_sets(self, answer: Answer) -> list[Mapping[str, Any]]:
        """Those of an answer; some servers send one without its array."""
        try:
            found = json.loads(answer.data or b"[]")
        except (ValueError, RecursionError) as error:
            raise WorklistUnreachable(f"{self._peer} answered something that is not JSON: {CHECK}") from error
        listed = found if isinstance(found, list) else [found]
        if not all(isinstance(each, dict) for each in listed):
            raise WorklistUnreachable(f"{self._peer} answered something that is not DICOM JSON: {CHECK}")
        return listed


CHECK = "is [workitems] url right?"


def _checked(uid: str) -> str:
    """A UID that goes into an address."""
    if not is_uid(uid):
        raise ValueError("not a UID")
    return uid
