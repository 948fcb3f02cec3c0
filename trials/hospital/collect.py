"""What became of each study, asked from outside: the archive's series, the RIS's results, the ledger's stamps.

A study is lost where a result had to come and none holds; it is answered twice where the RIS has several results of one
route or the archive more result objects than readings that were done. Next: arm.py, record.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medai.router.contract import filler_number
from medai.trials.box import Box
from medai.trials.hospital.record import StudyRow

RESULT_MODALITIES = ("SEG", "SR", "OT", "SC")
STAMPS = {
    "complete_s": "study_complete",
    "enqueued_s": "enqueued",
    "started_s": "started",
    "fetched_s": "fetched",
    "prepared_s": "prepared",
    "inferred_s": "inferred",
    "encoded_s": "encoded",
    "stored_s": "stored",
    "result_s": "oru_acknowledged",
}
"""Column -> the ledger's stamp. The first reading that was answered counts: what came late made a correction of it."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that the parts hold, by Study UID."""

    jobs: Mapping[str, Sequence[Mapping[str, Any]]]
    """Newest last."""
    results: Mapping[str, Sequence[Mapping[str, Any]]]
    objects: Mapping[str, int]
    """SEG, SR and key images in the archive."""
    images: Mapping[str, int]
    """Other instances in the archive."""


def ask(box: Box) -> Findings:
    """Ask all three; raises BoxError."""
    jobs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for job in reversed(box.every_job()):
        jobs[str(job["study_uid"])].append(job)
    results: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in box.ask_ris("GET", "/results"):
        results[str(result["study_uid"])].append(result)
    objects: Counter[str] = Counter()
    images: Counter[str] = Counter()
    studies, each = (
        box.ask_archive("POST", "/tools/find", {"Level": level, "Query": {}, "Expand": True})
        for level in ("Study", "Series")
    )
    uids = {study["ID"]: str(study["MainDicomTags"]["StudyInstanceUID"]) for study in studies}
    for series in each:
        uid = uids.get(series["ParentStudy"], "")
        ours = series["MainDicomTags"].get("Modality") in RESULT_MODALITIES
        (objects if ours else images)[uid] += len(series["Instances"])
    return Findings(jobs=jobs, results=results, objects=objects, images=images)


def judged(row: StudyRow, uid: str, found: Findings, *, began: float) -> StudyRow:
    """The row with what became of the study; ``began`` is the arm's begin, seconds since the epoch."""
    jobs, results = found.jobs.get(uid, ()), found.results.get(uid, ())
    changes: dict[str, Any] = {}
    if jobs:
        # What came late may have overtaken the first reading: the first that was answered tells when.
        moments = next((job["stamps"] for job in jobs if STAMPS["result_s"] in job["stamps"]), jobs[0]["stamps"])
        changes = {column: moments[name] - began for column, name in STAMPS.items() if name in moments}
        changes |= {
            "route": jobs[-1]["route"],
            "model": jobs[-1]["model"],
            "state": jobs[-1]["state"],
            "attempts": max(int(job["attempt"]) for job in jobs),
            "jobs": len(jobs),
        }
    holds = [result for result in results if not result["withdrawn"]]
    done = sum(job["state"] == "done" for job in jobs)
    routes = {str(job["route"]) for job in jobs}
    strangers = {str(result["filler"]) for result in holds} - {filler_number(uid, route) for route in routes}
    objects = found.objects.get(uid, 0)
    return replace(
        row,
        **changes,
        results_at_ris=len(holds),
        objects=objects,
        lost=row.expected and (not holds or objects < 3 or found.images.get(uid, 0) != row.images),
        duplicate=len(holds) > len(routes) or bool(strangers) or objects > 3 * done or _said_twice(results),
    )


def judged_old(row: StudyRow, uid: str, found: Findings) -> StudyRow:
    """A study of a migration: kept whole, and not read."""
    read = len(found.jobs.get(uid, ()))
    return replace(row, jobs=read, lost=found.images.get(uid, 0) != row.images, duplicate=read > 0)


def _said_twice(results: Sequence[Mapping[str, Any]]) -> bool:
    """A control id that the RIS took twice as a new message."""
    names = Counter(str(step["control_id"]) for result in results for step in result["history"])
    return any(count > 1 for count in names.values())
