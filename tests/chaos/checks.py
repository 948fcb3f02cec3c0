"""The verdict, from outside: by what Orthanc, the RIS and the other node hold; then whether the ledger agrees.

``judge`` looks at one study and returns what is wrong with it. An empty list means: exactly one current SEG, SR and SC
for each route, one ORU for each revision, placer and filler right, no orphan, nothing stuck, and the ledger says the
same. Next: report.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from chaos.ledger_view import FINAL
from chaos.site import Site
from chaos.studies import Study
from medai.router.contract import control_id, derived_uid, filler_number

Kind = Literal["lost", "duplicate", "stuck", "orphan", "wrong", "disagrees", "slow"]
TAGS = "simplified-tags"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One thing that must not be."""

    kind: Kind
    study: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study's result objects in the archive, by kind; values are Orthanc's simplified tags."""

    seg: tuple[Mapping[str, Any], ...]
    sr: tuple[Mapping[str, Any], ...]
    sc: tuple[Mapping[str, Any], ...]

    @property
    def uids(self) -> set[str]:
        """SOP Instance UIDs."""
        return {str(item["SOPInstanceUID"]) for item in (*self.seg, *self.sr, *self.sc)}


CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.66.7": "seg",
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",
    "1.2.840.10008.5.1.4.1.1.7": "sc",
    "1.2.840.10008.5.1.4.1.1.7.4": "sc",
}


def archived(site: Site, study: Study) -> tuple[Results, int]:
    """What Orthanc holds of a study: its results, and how many images."""
    query = {"Level": "Series", "Query": {"StudyInstanceUID": study.uid}, "Expand": True}
    found: dict[str, list[Mapping[str, Any]]] = {"seg": [], "sr": [], "sc": []}
    images = 0
    for series in site.archive("POST", "/tools/find", json.dumps(query).encode()):
        if series["MainDicomTags"].get("SeriesNumber") == "1":
            images += len(series["Instances"])
            continue
        for instance in series["Instances"]:
            tags = site.archive("GET", f"/instances/{instance}/{TAGS}")
            found[CLASSES[str(tags["SOPClassUID"])]].append(tags)
    return Results(**{kind: tuple(items) for kind, items in found.items()}), images


def judge(site: Site, study: Study) -> list[Violation]:
    """Everything that is wrong with one study; the parts must be up."""
    results, images = archived(site, study)
    ris = site.ask_ris("GET", f"/results?study_uid={study.uid}")
    jobs = site.view.jobs(study.uid)
    out = _Notes(study)
    if images != study.images:
        out.add("wrong", f"Orthanc holds {images} images of {study.images}: the sender did not finish")
    _results_of_routes(out, study, results)
    _messages(out, site, study, ris, results, overtaken(jobs))
    _other_node(out, site, study, results)
    _rejections(out, site, jobs)
    _ledger(out, site, study, jobs, results, ris)
    return out.found


class _Notes:
    def __init__(self, study: Study) -> None:
        self._study = study
        self.found: list[Violation] = []

    def add(self, kind: Kind, text: str) -> None:
        self.found.append(Violation(kind=kind, study=self._study.name, text=text))


def _items(tags: Mapping[str, Any], keyword: str) -> list[Mapping[str, Any]]:
    value = tags.get(keyword)
    return list(value) if isinstance(value, list) else []


def _referenced(tags: Mapping[str, Any], keyword: str) -> set[str]:
    """SOP Instance UIDs named in an evidence or predecessor sequence (study / series / instance)."""
    return {
        str(sop.get("ReferencedSOPInstanceUID"))
        for study in _items(tags, keyword)
        for series in _items(study, "ReferencedSeriesSequence")
        for sop in _items(series, "ReferencedSOPSequence")
    }


def filler_of(seg: Mapping[str, Any]) -> str:
    """The filler number that a SEG's tracking id begins with."""
    segments = _items(seg, "SegmentSequence")
    return str(segments[0].get("TrackingID", "")).partition(".")[0] if segments else ""


def _results_of_routes(out: _Notes, study: Study, results: Results) -> None:
    """Exactly one current SEG, SR and SC for each route, of all the images."""
    fillers = {filler_number(study.uid, route): route for route in study.routes}
    replaced = {uid for sr in results.sr for uid in _referenced(sr, "PredecessorDocumentsSequence")}
    by_filler: dict[str, list[Mapping[str, Any]]] = {filler: [] for filler in fillers}
    for seg in results.seg:
        if filler_of(seg) in by_filler:
            by_filler[filler_of(seg)].append(seg)
        else:
            out.add("orphan", "a SEG belongs to no route that reads this study")
    for filler, route in fillers.items():
        mine = {str(seg["SOPInstanceUID"]) for seg in by_filler[filler]}
        reports = [sr for sr in results.sr if _referenced(sr, "CurrentRequestedProcedureEvidenceSequence") & mine]
        current = [sr for sr in reports if str(sr["SOPInstanceUID"]) not in replaced]
        if not current:
            out.add("lost", f"route {route}: no current SR ({len(mine)} SEG, {len(reports)} SR)")
        elif len(current) > 1:
            out.add("duplicate", f"route {route}: {len(current)} current SR, none of which replaces the other")
        else:
            _current(out, study, route, current[0], mine)
        if len(mine) > len(reports):
            out.add("orphan", f"route {route}: {len(mine)} SEG for {len(reports)} SR")
    if len(results.sc) != len(results.sr):
        kind: Kind = "orphan" if len(results.sc) > len(results.sr) else "lost"
        out.add(kind, f"{len(results.sc)} key images for {len(results.sr)} SR")


def _current(out: _Notes, study: Study, route: str, sr: Mapping[str, Any], segs: set[str]) -> None:
    evidence = _referenced(sr, "CurrentRequestedProcedureEvidenceSequence")
    if len(evidence & segs) != 1:
        out.add("duplicate", f"route {route}: the current SR names {len(evidence & segs)} SEG")
    read = len(evidence - segs)
    if read != study.images:
        out.add("lost", f"route {route}: the current result was read from {read} images of {study.images}")


def overtaken(jobs: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Route -> the control ids of messages that the RIS refused for good before it took the next revision's.

    An older result must never follow its correction, so these are settled by it and are not sent again.
    """
    out: dict[str, set[str]] = {}
    for job in jobs:
        for item in job["deliveries"]:
            if item["destination"] == "ris" and item["state"] == "cancelled" and item["error"].startswith("overtaken"):
                out.setdefault(str(job["route"]), set()).add(str(item["control_id"]))
    return out


def _messages(
    out: _Notes,
    site: Site,
    study: Study,
    ris: Sequence[Mapping[str, Any]],
    results: Results,
    gone: Mapping[str, set[str]],
) -> None:
    """One ORU for each revision (but those in ``gone``), under the right placer and filler, and nothing else."""
    fillers = {filler_number(study.uid, route): route for route in study.routes}
    at_ris = {str(item["filler"]): item for item in ris}
    for filler in at_ris.keys() - fillers.keys():
        out.add("wrong", f"the RIS has a result with the filler number {filler}, which no route has")
    stored = Counter(filler_of(seg) for seg in results.seg)
    for filler, route in fillers.items():
        if filler not in at_ris:
            out.add("lost", f"route {route}: the RIS has no result")
            continue
        item = at_ris[filler]
        steps = [str(step["status"]) for step in item["history"]]
        due = stored[filler] - len(gone.get(route, ()))
        if len(steps) != due:
            kind: Kind = "duplicate" if len(steps) > due else "lost"
            out.add(kind, f"route {route}: {len(steps)} messages ({' '.join(steps)}) for {due} revisions")
        if any(step != "P" for step in steps):
            out.add("wrong", f"route {route}: the states of the result were {' '.join(steps)}")
        if study.order_known and (item["placer"] != study.placer or item["order"] != study.placer):
            out.add("wrong", f"route {route}: the placer number is {item['placer']!r}, ordered as {study.placer!r}")
        if item["accession"] != study.accession:
            out.add("wrong", f"route {route}: the accession number is not the study's")
    _said_twice(out, site, study, at_ris, set().union(*gone.values()))


def _said_twice(out: _Notes, site: Site, study: Study, at_ris: Mapping[str, Mapping[str, Any]], gone: set[str]) -> None:
    """The same message again is fine; another under the same name, or for the same revision, is not."""
    uid = study.uid.encode()
    mine = [spoken for spoken in list(site.spoken) if uid in spoken.message]
    contents: dict[str, set[bytes]] = {}
    for spoken in mine:
        contents.setdefault(spoken.control_id, set()).add(spoken.message)
    for name, variants in contents.items():
        if len(variants) > 1:
            out.add("duplicate", f"{len(variants)} different messages were sent with the control id {name}")
    accepted = {str(step["control_id"]) for item in at_ris.values() for step in item["history"]}
    strangers = contents.keys() - accepted - gone
    if strangers:
        out.add("lost", f"{len(strangers)} messages were sent that the RIS never took")


def repeated_after_ack(site: Site, study: Study) -> list[Violation]:
    """Messages sent again although their acknowledgement had been passed on (only where none can have been lost)."""
    out = _Notes(study)
    seen: set[str] = set()
    for spoken in list(site.spoken):
        if study.uid.encode() not in spoken.message:
            continue
        if spoken.control_id in seen:
            out.add("duplicate", f"the message {spoken.control_id} was sent again after its AA had arrived")
        if spoken.ack in ("AA", "CA"):
            seen.add(spoken.control_id)
    return out.found


def _other_node(out: _Notes, site: Site, study: Study, results: Results) -> None:
    there = site.pacs.studies(study.uid)
    if missing := results.uids - there:
        out.add("lost", f"{len(missing)} of {len(results.uids)} results never reached the PACS")
    if strange := there - results.uids:
        out.add("orphan", f"the PACS has {len(strange)} results that the archive does not have")


def _rejections(out: _Notes, site: Site, jobs: Sequence[Mapping[str, Any]]) -> None:
    """The PACS was told of every revision that it has and that no longer holds, and of no other."""
    for route in {str(job["route"]) for job in jobs}:
        delivered = [job for job in jobs if job["route"] == route and _is_at_pacs(job)]
        *older, _ = sorted(delivered, key=lambda job: int(job["revision"])) or [None]
        wanted = {uid for job in older for uid in _uids(job)}
        told = site.pacs.rejected & {uid for job in delivered for uid in _uids(job)}
        if missing := wanted - told:
            out.add("lost", f"route {route}: the PACS was not told of {len(missing)} objects that they are superseded")
        if wrong := told - wanted:
            out.add("wrong", f"route {route}: the PACS was told to reject {len(wrong)} objects of the current result")


def _is_at_pacs(job: Mapping[str, Any]) -> bool:
    return any(item["destination"] == "pacs" and item["state"] == "done" for item in job["deliveries"])


def _uids(job: Mapping[str, Any]) -> set[str]:
    return {derived_uid(str(job["job_id"]), kind, "instance") for kind in ("seg", "sr", "sc")}


def _ledger(
    out: _Notes,
    site: Site,
    study: Study,
    jobs: Sequence[Mapping[str, Any]],
    results: Results,
    ris: Sequence[Mapping[str, Any]],
) -> None:
    """The ledger tells the same story."""
    known: set[str] = set()
    for job in jobs:
        announced = site.view.result_objects(str(job["job_id"]))
        present = set(announced.values()) & results.uids
        known |= set(announced.values())
        _job(out, study, job, announced, present, results)
        _attempts(out, site, study, job)
    if unknown := results.uids - known:
        out.add("orphan", f"{len(unknown)} results in the archive that the ledger does not know")
    for route in study.routes:
        _newest(out, study, route, [job for job in jobs if job["route"] == route and job["state"] != "superseded"])
    wanted = {control_id(str(job["job_id"]), "ris") for job in jobs if job["state"] == "done"}
    wanted -= set().union(*overtaken(jobs).values())
    had = {str(step["control_id"]) for item in ris for step in item["history"]}
    if wanted != had:
        out.add("disagrees", f"the ledger calls {len(wanted)} messages delivered, the RIS has {len(had)}")


def _job(
    out: _Notes, study: Study, job: Mapping[str, Any], announced: Mapping[str, str], present: set[str], results: Results
) -> None:
    name = f"job {job['job_id'][:8]} ({job['route']}, revision {job['revision']})"
    if job["state"] not in FINAL:
        out.add("stuck", f"{name} is {job['state']}: {job['reason']}")
    if job["state"] == "failed":
        out.add("lost", f"{name} failed: {job['reason']}")
    if job["state"] == "superseded" and present:
        out.add("orphan", f"{name} was superseded before it stored anything, yet {len(present)} objects are there")
    if job["state"] == "done" and len(present) != 3:
        out.add("disagrees", f"{name} is done; {len(present)} of its 3 objects are in the archive")
    for item in job["deliveries"]:
        settled = item["state"] == "done" or item["error"].startswith("overtaken")
        if job["state"] == "done" and not settled:
            out.add("disagrees", f"{name} is done, its delivery to {item['destination']} is {item['state']}")
    if announced and set(announced.values()) != _uids(job):
        out.add("wrong", f"{name}: its objects' UIDs do not derive from its id")
    for seg in results.seg:
        if seg["SOPInstanceUID"] in present:
            _version(out, name, job, seg)


def _version(out: _Notes, name: str, job: Mapping[str, Any], seg: Mapping[str, Any]) -> None:
    for segment in _items(seg, "SegmentSequence"):
        for algorithm in _items(segment, "SegmentationAlgorithmIdentificationSequence"):
            said = str(algorithm.get("AlgorithmVersion", ""))
            if said != str(job["model_version"]):
                out.add("wrong", f"{name} was to be read by version {job['model_version']}, the SEG says {said}")


def _newest(out: _Notes, study: Study, route: str, jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        out.add("lost", f"route {route}: the ledger has no job")
        return
    revisions = Counter(int(job["revision"]) for job in jobs)
    if doubled := [number for number, count in revisions.items() if count > 1]:
        out.add("duplicate", f"route {route}: the ledger has several jobs of revision {doubled[0]}")
    newest = max(jobs, key=lambda job: int(job["revision"]))
    if newest["images"] != study.images:
        out.add("disagrees", f"route {route}: the newest job reads {newest['images']} images of {study.images}")


def _attempts(out: _Notes, site: Site, study: Study, job: Mapping[str, Any]) -> None:
    """No attempt overlaps another, none begins after the job's end."""
    if study.clock_moved:
        return
    attempts = site.view.attempts(str(job["job_id"]))
    name = f"job {job['job_id'][:8]}"
    for one, other in pairwise(attempts):
        if one["ended_at"] is None or one["ended_at"] > other["started_at"] + 0.001:
            out.add("duplicate", f"{name}: attempts {one['number']} and {other['number']} overlap: work done twice")
    ended = job["finished_at"]
    if ended and any(each["started_at"] > ended for each in attempts):
        out.add("duplicate", f"{name}: an attempt began after the job had ended: work done twice")
    numbers = Counter(each["number"] for each in attempts)
    if any(count > 1 for count in numbers.values()):
        out.add("duplicate", f"{name}: two workers made the same attempt")
