"""Who is who: which patient identifiers mean the same person since the RIS merged them, and what that changes. Pure.

A patient is an identifier and who gave it out (PID-3.1 and PID-3.4). Images often say only the identifier, so an empty
authority stands for any; where that leaves two answers, there is none. Sources: HL7 v2.5.1 chapter 3 (A08, A40 and
3.6.2, merging), IHE RAD TF-1 (Patient Information Reconciliation), DICOM PS3.3 C.7.1.1.
Next: oru_edit.py (a result that is waiting to be sent), orthanc/recode.py (the archive).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from medai.router.contract import Order
from medai.router.errors import PermanentError
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.persons import Person
from medai.router.hl7.text import escape, unescape

DICOM_SEXES = frozenset({"M", "F", "O"})
"""PatientSex (0010,0040); HL7 table 0001 has more, which DICOM leaves empty or calls O."""
_KEYWORDS = {"patient_name": "PatientName", "birth_date": "PatientBirthDate", "sex": "PatientSex"}


class Patient(NamedTuple):
    """An identifier and its assigning authority (the namespace; empty: not said)."""

    identifier: str
    authority: str = ""

    @classmethod
    def of(cls, identifier: str, authority: str = "") -> Patient:
        """From texts as they come: spaces at the ends and the universal id of an authority do not tell apart."""
        return cls(identifier.strip(), authority.split("&")[0].strip())

    def matches(self, other: Patient) -> bool:
        """The same identifier, and no two different authorities; nobody without an identifier."""
        return (
            bool(self.identifier)
            and self.identifier == other.identifier
            and authorities_agree(self.authority, other.authority)
        )


class CircularMerge(PermanentError):
    """A merge that would make a patient a part of itself; the RIS gets AE and a person must look."""


def authorities_agree(one: str, other: str) -> bool:
    """Whether two assigning authorities may be the same: equal namespaces, or one is not said."""
    one, other = one.split("&")[0].strip(), other.split("&")[0].strip()
    return not one or not other or one == other


def patient_of(identifier: str) -> Patient:
    """The patient whom a CX names."""
    parts = [*identifier.split("^"), "", "", "", ""]
    return Patient.of(unescape(parts[0]), unescape(parts[3].split("&")[0]))


def renamed_identifiers(identifiers: Iterable[str], old: tuple[Patient, ...], new: Patient) -> tuple[str, ...] | None:
    """PID-3 with the new identifier in the place of an old one; None where there is none of them."""
    kept: list[str] = []
    found = False
    for repetition in identifiers:
        if not any(patient_of(repetition).matches(each) for each in old):
            kept.append(repetition)
        elif not found:
            found = True
            kept.append(_renamed(repetition, new))
    return tuple(kept) if found else None


def _renamed(repetition: str, new: Patient) -> str:
    """CX with another number: its check digit (CX.2, CX.3) belonged to the old one."""
    was = patient_of(repetition)
    number, digit, scheme, authority, *rest = [*repetition.split("^"), *[""] * (3 - repetition.count("^"))]
    if was.identifier != new.identifier:
        number, digit, scheme = escape(new.identifier), "", ""
    if new.authority and not (authority and authorities_agree(was.authority, new.authority)):
        authority = escape(new.authority)
    return "^".join((number, digit, scheme, authority, *rest))


@dataclass(frozen=True, kw_only=True)
class Aliases:
    """Prior identifier -> the one it was merged into. Chains are followed when asked: any order of arrival is right."""

    targets: Mapping[Patient, Patient] = field(default_factory=dict)
    persons: Mapping[Patient, Person] = field(default_factory=dict)
    """Prior identifier -> of whom its merge told, where no person vouches for it (merge_doubt.py)."""

    @classmethod
    def of(cls, merges: Iterable[tuple[Patient, Patient]]) -> Aliases:
        """From (prior, surviving) pairs as they arrived; raises CircularMerge."""
        aliases = cls()
        for prior, surviving in merges:
            aliases = aliases.merged(prior, surviving)
        return aliases

    def merged(self, prior: Patient, surviving: Patient) -> Aliases:
        """With one more merge. The same again changes nothing; another target for the same prior replaces the first.

        Raises CircularMerge where the surviving patient is already a part of the prior one, or is the prior one.
        """
        if self.targets.get(prior) == surviving:
            return self
        if prior.matches(surviving):
            raise CircularMerge("MRG-1 and PID-3 name the same patient: a patient cannot be merged into itself")
        others = Aliases(targets={each: to for each, to in self.targets.items() if each != prior})
        if others.surviving(surviving) == prior:
            raise CircularMerge("the surviving patient (PID-3) was merged into the prior one (MRG-1) before")
        return replace(self, targets={**others.targets, prior: surviving})

    def changed(self, prior: Patient, new: Patient) -> Aliases:
        """With another identifier for the same record (ADT^A47): the new one is in use, whatever it was before."""
        others = {each: to for each, to in self.targets.items() if not each.matches(new)}
        return replace(self, targets=others).merged(prior, new)

    def without(self, prior: Patient) -> Aliases:
        """As if one identifier had never been merged."""
        return replace(self, targets={each: to for each, to in self.targets.items() if each != prior})

    def surviving(self, patient: Patient) -> Patient:
        """Who a patient is now; itself where it was never merged, or where it is not clear which one is meant."""
        seen = {patient}
        while (step := self.step(patient)) is not None and step[1] not in seen:
            seen.add(step[1])
            patient = step[1]
        return patient

    def step(self, patient: Patient) -> tuple[Patient, Patient] | None:
        """The merge that a patient was the prior one of: as it was told, and into whom."""
        if patient in self.targets:
            return patient, self.targets[patient]
        found = {to: prior for prior, to in self.targets.items() if prior.matches(patient)}
        return next(((prior, to) for to, prior in found.items()), None) if len(found) == 1 else None

    def merged_into(self, patient: Patient) -> frozenset[Patient]:
        """Everybody who is this patient by now, and the patient."""
        return frozenset({patient, *(each for each in self.targets if self.surviving(each).matches(patient))})


def same_patient(
    image_patient_id: str,
    order_patient_id: str,
    aliases: Aliases,
    *,
    image_authority: str = "",
    order_authority: str = "",
) -> bool:
    """Whether images and an order are of the same patient today; an empty identifier matches only an empty one."""
    image, order = Patient.of(image_patient_id, image_authority), Patient.of(order_patient_id, order_authority)
    if not image.identifier or not order.identifier:
        return image.identifier == order.identifier
    return image.matches(order) or aliases.surviving(image).matches(aliases.surviving(order))


def order_fits(order: Order, image_patient_id: str, aliases: Aliases, *, image_authority: str = "") -> bool:
    """Whether an order is of the images' patient, by any identifier that it names (every repetition of PID-3).

    Images, or an order, that name nobody contradict nobody: the accession number or the UID has joined them.
    """
    named = [patient_of(each) for each in order.patient_identifiers]
    named = named or [Patient.of(order.patient_id, order.patient_id_authority)]
    if not image_patient_id.strip() or not any(each.identifier for each in named):
        return True
    return any(
        same_patient(
            image_patient_id, each.identifier, aliases, image_authority=image_authority, order_authority=each.authority
        )
        for each in named
    )


def about(message: PatientMessage, patient: Patient) -> bool:
    """Whether an update or a merge speaks of this patient: the one it updates, the surviving or the prior one."""
    named = [Patient.of(message.patient_id, message.patient_id_authority)]
    if message.prior_id:
        named.append(Patient.of(message.prior_id, message.prior_id_authority))
    return any(patient.matches(each) for each in named)


def apply_to_order(order: Order, message: PatientMessage) -> Order | None:
    """The order with the patient's new data; None where it is another patient's, or says all that already.

    What the message leaves empty stays as it was; what it deletes (HL7's null) is empty afterwards. Of several
    identifiers only the one that is meant changes.
    """
    now_is = Patient.of(message.patient_id, message.patient_id_authority)
    meant = (now_is, Patient.of(message.prior_id, message.prior_id_authority))
    main = Patient.of(order.patient_id, order.patient_id_authority)
    identifiers = renamed_identifiers(order.patient_identifiers, meant, now_is)
    if identifiers is None and not about(message, main):
        return None
    news = replace(
        order,
        patient_identifiers=identifiers or order.patient_identifiers,
        patient_name=_news(message, "patient_name", order.patient_name),
        birth_date=_news(message, "birth_date", order.birth_date),
        sex=_news(message, "sex", order.sex),
    )
    if about(message, main):
        agree = authorities_agree(order.patient_id_authority, message.patient_id_authority)
        authority = (order.patient_id_authority if agree else "") or message.patient_id_authority
        news = replace(news, patient_id=message.patient_id, patient_id_authority=authority)
    return None if news == order else news


def _news(message: PatientMessage, name: str, known: str) -> str:
    told: str = getattr(message, name)
    return told or ("" if name in message.deletes else known)


def dicom_patient(message: PatientMessage) -> dict[str, str]:
    """The patient's new data as DICOM keywords, for ``Orthanc.recode``; what the message leaves empty is left out.

    What it deletes is empty.
    XPN has suffix before prefix, PN the other way round. A merge across authorities names the new issuer.
    """
    found = {"PatientID": message.patient_id}
    if message.prior_id and not authorities_agree(message.prior_id_authority, message.patient_id_authority):
        found["IssuerOfPatientID"] = message.patient_id_authority
    if message.patient_name:
        family, given, middle, suffix, prefix, *_ = [*map(_plain, message.patient_name.split("^")), *[""] * 5]
        found["PatientName"] = "^".join((family, given, middle, prefix, suffix)).rstrip("^")
    if message.birth_date:
        found["PatientBirthDate"] = message.birth_date
    if message.sex in DICOM_SEXES:
        found["PatientSex"] = message.sex
    return found | {_KEYWORDS[name]: "" for name in message.deletes}


def _plain(component: str) -> str:
    """Text that may stand in a component of a PN: its own delimiters and line ends become spaces."""
    return "".join(" " if c in "\\^=" or not c.isprintable() else c for c in unescape(component)).strip()
