"""Follow a study until its jobs are final, then check that every result is where it belongs.

The check asks the archive and the RIS themselves; the ledger's word alone does not count. Next: command.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medai.router.contract import FINAL_STATES, JobState, StampName, Verdict
from medai.trials.box import Box, Teller
from medai.trials.demo.text import new_stamps
from medai.trials.study import StudyFolder

POLL_S = 0.5
POLL_MAX_S = 2.0
"""Each look costs half a second of one core, which the worker needs too: while nothing new comes, look less often."""
SETTLE_S = 3.0
"""A study that no route took is given this long for a second thought before it counts as final."""

SOP_CLASSES: Mapping[str, tuple[str, frozenset[str]]] = {
    "seg": ("DICOM SEG", frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})),
    "sr": ("DICOM SR", frozenset({"1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33"})),
    "sc": ("key image", frozenset({"1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"})),
}
"""What each result must be (PS3.4 B.5): Segmentation or Label Map, (3D) Comprehensive SR, Secondary Capture."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must be there."""

    ok: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one study on one route."""

    study_uid: str
    job: Mapping[str, Any] | None
    """As ``medai jobs --json`` gives it; None where no route took the study."""
    reasons: list[str]
    checks: tuple[Check, ...] = ()
    orthanc_ids: Mapping[str, str] = field(default_factory=dict)
    """Result kind -> Orthanc's id of the stored instance."""
    oru: str = ""

    @property
    def ok(self) -> bool:
        """Whether the job is done and everything it should leave is there."""
        return self.job is not None and bool(self.checks) and all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The entry of ``--json``'s ``studies``."""
        job = self.job or {}
        return {
            "study_uid": self.study_uid,
            "route": job.get("route"),
            "state": job.get("state"),
            "seg": self._uid("seg"),
            "sr": self._uid("sr"),
            "sc": self._uid("sc"),
            "oru_ack": (job.get("oru") or {}).get("ack"),
            "stages": job.get("stages", {}),
            "turnaround_s": job.get("turnaround_s"),
            "quiet_s": job.get("quiet_s"),
        }

    def _uid(self, kind: str) -> str | None:
        """SOP Instance UID of a result that was found in the archive."""
        return result_uid(self.job or {}, kind) if kind in self.orthanc_ids else None


def result_uid(job: Mapping[str, Any], kind: str) -> str | None:
    """The SOP Instance UID that the ledger names for a result."""
    uid = ((job.get("results") or {}).get(kind) or {}).get("sop_uid")
    return str(uid) if uid else None


def follow(box: Box, study: StudyFolder, *, timeout_s: float, teller: Teller) -> list[Outcome]:
    """Tell each stage as it happens until the study's jobs are final or ``timeout_s`` passed; one outcome per job."""
    deadline = time.monotonic() + timeout_s
    told = _Told(teller=teller)
    teller.say("following it; first the router waits until no more images come ...")
    pause_s = POLL_S
    while True:
        answer = box.jobs(study.study_uid)
        jobs = current_jobs(answer)
        news = told.tell(jobs, answer)
        if _final(jobs) or told.given_up(jobs, answer) or time.monotonic() > deadline:
            break
        pause_s = POLL_S if news else min(pause_s * 1.5, POLL_MAX_S)
        time.sleep(pause_s)
    reasons = [_reason(decision) for decision in answer.get("decisions", [])][-8:]
    if not jobs:
        teller.say("no reading was made of this study: " + (reasons[-1] if reasons else "the router never saw it"))
        return [Outcome(study_uid=study.study_uid, job=None, reasons=reasons)]
    if not _final(jobs):
        teller.say(f"gave up after {timeout_s:.0f} s; the reading is {jobs[0]['state']}")
    return [inspect(box, study, job, reasons) for job in jobs]


def current_jobs(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The jobs that count: a superseded one has a successor."""
    return [job for job in answer.get("jobs", []) if job["state"] != JobState.SUPERSEDED]


def inspect(box: Box, study: StudyFolder, job: Mapping[str, Any], reasons: list[str]) -> Outcome:
    """Look in the archive and at the RIS for everything that the job should have left there."""
    state = Check(ok=job["state"] == JobState.DONE, text=f"reading is {job['state']}{_because(job)}")
    checks, ids = [state], {}
    for kind in SOP_CLASSES:
        check, orthanc_id = _stored(box, study, job, kind)
        checks.append(check)
        if orthanc_id:
            ids[kind] = orthanc_id
    oru_check, oru = _at_ris(box, study, job)
    return Outcome(
        study_uid=study.study_uid, job=job, reasons=reasons, checks=(*checks, oru_check), orthanc_ids=ids, oru=oru
    )


def _stored(box: Box, study: StudyFolder, job: Mapping[str, Any], kind: str) -> tuple[Check, str]:
    name, classes = SOP_CLASSES[kind]
    uid = result_uid(job, kind)
    found = box.instance(uid) if uid else None
    if found is None:
        return Check(ok=False, text=f"{name} in the archive"), ""
    orthanc_id, tags = found
    right = tags.get("SOPClassUID") in classes and tags.get("StudyInstanceUID") == study.study_uid
    what = f"{name} in the archive: {tags.get('SeriesDescription', '')}".rstrip(": ")
    return Check(ok=right, text=what if right else f"{what} (wrong class or study)"), orthanc_id


def _at_ris(box: Box, study: StudyFolder, job: Mapping[str, Any]) -> tuple[Check, str]:
    oru = job.get("oru") or {}
    held = [result for result in box.results_at_ris(study.study_uid) if result["control_id"] == oru.get("control_id")]
    if not held:
        return Check(ok=False, text=f"ORU at the RIS (acknowledged {oru.get('ack') or 'not at all'})"), ""
    result = held[0]
    ordered = bool(result["placer"]) and result["placer"] == result["order"]
    ok = oru.get("ack") == "AA" and ordered and result["accession"] == study.accession
    flags = f", remarks {', '.join(result['flags'])}" if result.get("flags") else ""
    text = f"ORU at the RIS: acknowledged {oru.get('ack')}, answers order {result['placer'] or '(none)'}{flags}"
    return Check(ok=ok, text=text), str(result["raw"])


def _because(job: Mapping[str, Any]) -> str:
    return f": {job['reason']}" if job.get("reason") else ""


def _final(jobs: list[dict[str, Any]]) -> bool:
    return bool(jobs) and all(job["state"] in FINAL_STATES and not _ris_owes_an_answer(job) for job in jobs)


def _ris_owes_an_answer(job: Mapping[str, Any]) -> bool:
    oru = job.get("oru") or {}
    return job["state"] == JobState.DONE and bool(oru) and not oru.get("ack") and not oru.get("error")


def _reason(decision: Mapping[str, Any]) -> str:
    route = f" [{decision['route']}]" if decision.get("route") else ""
    return f"{decision['verdict']}{route}: {decision['reason']}"


@dataclass(kw_only=True)
class _Told:
    """What was said already, so that each thing is said once, and silence never lasts long."""

    teller: Teller
    stamps: dict[str, set[str]] = field(default_factory=dict)
    decisions: set[str] = field(default_factory=set)
    last_at: float = field(default_factory=time.monotonic)
    idle_since: float | None = None

    def tell(self, jobs: list[dict[str, Any]], answer: Mapping[str, Any]) -> bool:
        """Say what is new; whether there was anything."""
        lines = self._decisions(answer)
        for job in jobs:
            prefix = f"{job['route']}: " if len(jobs) > 1 else ""
            lines += [prefix + line for line in new_stamps(job["stamps"], self.stamps.setdefault(job["job_id"], set()))]
        for line in lines:
            self.teller.say(f"  {line}")
        if lines:
            self.last_at = time.monotonic()
        elif time.monotonic() - self.last_at > 5:
            self.last_at = time.monotonic()
            self.teller.say(f"  still {self._state(jobs)} ...")
        return bool(lines)

    def _decisions(self, answer: Mapping[str, Any]) -> list[str]:
        fresh = []
        for decision in answer.get("decisions", []):
            text = _reason(decision)
            if decision["verdict"] != Verdict.WAIT and text not in self.decisions:
                self.decisions.add(text)
                fresh.append(text)
        return fresh

    def _state(self, jobs: list[dict[str, Any]]) -> str:
        if not jobs:
            return "waiting for the router's decision"
        stamps = jobs[0]["stamps"]
        done = [name for name in StampName if name in stamps]
        return f"{jobs[0]['state']}, last stage: {done[-1].replace('_', ' ') if done else 'none'}"

    def given_up(self, jobs: list[dict[str, Any]], answer: Mapping[str, Any]) -> bool:
        """No job, and the newest decision says that there will be none."""
        decisions = answer.get("decisions", [])
        refused = not jobs and bool(decisions) and decisions[-1]["verdict"] in (Verdict.SKIP, Verdict.FAIL)
        if not refused:
            self.idle_since = None
            return False
        self.idle_since = self.idle_since or time.monotonic()
        return time.monotonic() - self.idle_since > SETTLE_S
