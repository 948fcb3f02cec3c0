"""Erase one patient: from the ledger, from what the watch folder rejected and, where it is asked for, from the archive.

The ledger goes first, in one transaction that refuses what is in work; files and the archive follow. Each step may be
repeated: who runs it again after an interruption finds what is left. Next: ledger/erasure.py, rejected.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medai.router.errors import OrthancRefused
from medai.router.hl7.patients import Patient
from medai.router.intake.watch_folder import REJECTED
from medai.router.keeping import rejected
from medai.router.keeping.rejected import Rejected
from medai.router.ledger import Ledger
from medai.router.ledger.erasure import Found, several_issuers
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.reports.report import Report
from medai.router.settings.tables import Settings


class Kept(Report):
    """Something that is not erased, and why."""

    what: str
    count: int
    why: str


class ErasureReport(Report):
    """What an erasure came to, or would come to. Nobody is named in it."""

    patient: str
    """A pseudonym: the audit trail has the same."""
    done: bool
    erased: dict[str, int]
    kept: list[Kept]
    in_work: list[str]
    """Why it can't be done now."""
    look_into: list[str]
    """Files that a person must look into."""


@dataclass(frozen=True, kw_only=True)
class _Archived:
    """The archive's studies of a patient, by its ids."""

    updates: Mapping[str, str] = field(default_factory=dict)
    issuers: Mapping[str, str] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    """Those under the very identifier that was asked for."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    patient: Patient
    found: Found
    archived: _Archived
    files: Rejected


class Eraser:
    """Plans an erasure, and does it. ``studies_too``: also from the archive."""

    def __init__(self, settings: Settings, ledger: Ledger, orthanc: Orthanc, *, studies_too: bool) -> None:
        self._settings = settings
        self._ledger = ledger
        self._orthanc = orthanc
        self._studies_too = studies_too
        self._names = Pseudonyms(settings.log.key.get_secret_value() or ledger.log_key())

    def plan(self, patient: Patient) -> ErasureReport:
        """What would be erased. The archive must answer: what is erased here must not be read there anew."""
        return self._report(self._planned(patient), done=False)

    def erase(self, patient: Patient, now: float, *, by: str) -> ErasureReport:
        """Do it; raises ErasureRefused where something is in work."""
        plan = self._planned(patient)
        found = self._ledger.erasure.erase(
            patient,
            plan.archived.issuers,
            now,
            updates=plan.archived.updates,
            by=by,
            pseudonym=self._pseudonym(patient),
        )
        rejected.remove(plan.files)
        if self._studies_too and plan.archived.updates:
            for study in plan.archived.updates:
                self._orthanc.delete("studies", study)
            self._ledger.erasure.archive_forgot(list(plan.archived.updates))
            detail = f"patient {self._pseudonym(patient)}; archive studies: {len(plan.archived.updates)}"
            self._ledger.accounts.note_action(by, "patient erased", now, detail=detail)
        done = _Plan(patient=patient, found=found, archived=plan.archived, files=plan.files)
        return self._report(done, done=True)

    def _pseudonym(self, patient: Patient) -> str:
        return self._names.patient(patient.identifier, patient.authority)

    def _planned(self, patient: Patient) -> _Plan:
        known = self._ledger.erasure.known_as(patient)
        archived = self._archived(patient, known)
        given_out = sorted({archived.issuers[name] for name in archived.asked} - {""})
        if not patient.authority and len(given_out) > 1:
            raise several_issuers(given_out)
        found = self._ledger.erasure.find(patient, archived.issuers)
        theirs = {
            name for name, issuer in archived.issuers.items()
            if issuer and not any(each.matches(Patient.of(each.identifier, issuer)) for each in known)
        }  # fmt: skip
        mine = {name: at for name, at in archived.updates.items() if name not in theirs}
        folder = self._settings.watch_folder.path
        files = rejected.of_patient(Path(folder).absolute() / REJECTED, known) if folder else Rejected()
        return _Plan(
            patient=patient, found=found, archived=_Archived(updates=mine, issuers=archived.issuers), files=files
        )

    def _archived(self, patient: Patient, known: tuple[Patient, ...]) -> _Archived:
        updates: dict[str, str] = {}
        issuers: dict[str, str] = {}
        asked: set[str] = set()
        for identifier in dict.fromkeys(each.identifier for each in known):
            for name in self._orthanc.studies_of(identifier):
                try:
                    updates[name] = str(self._orthanc.study(name).get("LastUpdate", ""))
                    issuers[name] = self._issuer(name)
                except OrthancRefused:  # deleted meanwhile
                    updates.pop(name, None)
                    continue
                if identifier == patient.identifier:
                    asked.add(name)
        return _Archived(updates=updates, issuers=issuers, asked=frozenset(asked))

    def _issuer(self, study: str) -> str:
        series = self._orthanc.series_of([study])
        names = [str(name) for item in series for name in item["Instances"]]
        return str(self._orthanc.tags(names[0]).get("IssuerOfPatientID", "")) if names else ""

    # -- the report

    def _report(self, plan: _Plan, *, done: bool) -> ErasureReport:
        erased = dict(plan.found.counts)
        if plan.files.files:
            erased["rejected files"] = len(plan.files.files)
        if self._studies_too and plan.archived.updates:
            erased["archive studies"] = len(plan.archived.updates)
        return ErasureReport(
            patient=self._pseudonym(plan.patient), done=done, erased=erased,
            kept=[kept for kept in self._kept(plan) if kept.count],
            in_work=[] if done else list(plan.found.in_work),
            look_into=[str(path) for path in plan.files.shared],
        )  # fmt: skip

    def _kept(self, plan: _Plan) -> list[Kept]:
        archived = 0 if self._studies_too else len(plan.archived.updates)
        days = self._settings.retention.audit_d
        until = f"until they are {days:g} days old ([retention] audit_d)" if days else "for ever ([retention] audit_d)"
        told = [
            Kept(what=f"results at {name}", count=count, why="they were sent: whoever received them must erase them")
            for name, count in sorted(plan.found.told.items())
            if name != "archive"
        ]
        return [
            Kept(what="archive studies", count=archived, why="--studies-too erases them; they are not read again"),
            *told,
            Kept(what="audit trail", count=plan.found.audit_lines, why=f"it must show who saw what; kept {until}"),
            Kept(
                what="studies of another issuer", count=plan.found.strangers,
                why="another patient has the same identifier from another issuer",
            ),
            Kept(
                what="comments and reasons", count=plan.found.mentions,
                why="somebody wrote the identifier into them: look into answers, dropped readings and held orders",
            ),
            Kept(
                what="rejected zips", count=len(plan.files.shared),
                why="they hold other patients, too: look into them and remove them by hand",
            ),
            Kept(
                what="rejected files", count=plan.files.unread,
                why="no patient can be found in them: look into them and remove them by hand",
            ),
        ]  # fmt: skip
