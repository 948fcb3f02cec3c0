"""Whether an order and the images that it names are of one patient, by all that both say. Pure.

An order that contradicts the images is not joined to them: it waits for a person. A result's patient is that of the
images. Where number and whole birth date are the same, one part of the name that both have will do: people marry.
Next: persons.py (how names are compared), patients.py (identifiers and merges), merge_doubt.py (merges that images
contradict), ledger/held_orders.py (what a person decided).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medai.router.contract import Order
from medai.router.hl7.merge_doubt import believed
from medai.router.hl7.patients import Aliases, Patient, order_fits
from medai.router.hl7.persons import (
    BIRTH_DATE,
    NAME,
    SEX,
    Person,
    born_alike,
    dates_agree,
    folded,
    names_agree,
    names_overlap,
    sexes_differ,
)

NUMBER = "identifier"
_NOBODY: Mapping[str, Any] = {
    "patient_id": "", "patient_id_authority": "", "patient_identifiers": (), "patient_account": "", "patient_name": "",
    "birth_date": "", "sex": "",
}  # fmt: skip
"""What an order says of whom it is for."""


@dataclass(frozen=True, kw_only=True)
class ImagePatient:
    """Whom images name: texts as in the header, empty where it says nothing."""

    identifier: str = ""
    authority: str = ""
    name: str = ""
    """A PN, with its groups."""
    birth_date: str = ""
    sex: str = ""

    @property
    def person(self) -> Person:
        """Without the number."""
        return Person(name=self.name, birth_date=self.birth_date, sex=self.sex)


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """An order that contradicts images. ``key`` stands for what both say: where either changes, it is another doubt."""

    key: str
    placer: str
    accession: str
    differs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The order that is joined to images, and those that wait for a person."""

    order: Order | None
    """One that a person released comes without its patient: the images' is told."""
    doubts: tuple[Doubt, ...] = ()


LEFT_OUT = "it was left out, please check"
"""How a result says that an order of its accession number is not joined to it."""
Released = Callable[[Doubt], bool]
"""Whether a person said that an order is of these images' patient all the same."""


def by_nobody(_doubt: Doubt) -> bool:
    """Where there is nobody to ask."""
    return False


def choose(
    orders: Sequence[Order], image: ImagePatient, aliases: Aliases, *, study_uid: str, released: Released = by_nobody
) -> Chosen:
    """The first order that contradicts nothing, or that a person released.

    Where one is found, another that is of another number is another patient's: two hospitals may count alike.
    """
    differs = [contradictions(order, image, aliases) for order in orders]
    settled = not all(differs)
    chosen: Order | None = None
    doubts: list[Doubt] = []
    for order, found in zip(orders, differs, strict=True):
        if found and settled and NUMBER in found:
            continue
        doubt = _doubt(order, image, study_uid, found)
        if found and not released(doubt):
            doubts.append(doubt)
        elif chosen is None:
            chosen = replace(order, **_NOBODY) if found else order
    return Chosen(order=chosen, doubts=tuple(doubts))


def contradictions(order: Order, image: ImagePatient, aliases: Aliases) -> tuple[str, ...]:
    """What an order and images say otherwise of the patient, as far as both say it.

    Where the RIS merged the images' patient into the order's, theirs may be what was written before anybody knew who
    it was: then the merge alone counts, unless it was of somebody else than the images or the order say.
    """
    aliases = believed(aliases, Patient.of(image.identifier, image.authority), image.person)
    aliases = believed(aliases, Patient.of(order.patient_id, order.patient_id_authority), _person(order))
    fits = order_fits(order, image.identifier, aliases, image_authority=image.authority)
    if fits and not order_fits(order, image.identifier, Aliases(), image_authority=image.authority):
        return ()
    sure = fits and _is_sure(order, image)
    found = {
        NUMBER: not fits,
        NAME: not (names_overlap if sure else names_agree)(order.patient_name, image.name),
        BIRTH_DATE: not dates_agree(order.birth_date, image.birth_date),
        SEX: sexes_differ(order.sex, image.sex),
    }
    return tuple(name for name, differs in found.items() if differs)


def _is_sure(order: Order, image: ImagePatient) -> bool:
    """Whether both say a number, which fits, and the same whole birth date."""
    said = bool(order.patient_id or order.patient_identifiers) and bool(image.identifier.strip())
    return said and born_alike(order.birth_date, image.birth_date)


def _person(order: Order) -> Person:
    return Person.of_hl7(order.patient_name, order.birth_date, order.sex)


def _doubt(order: Order, image: ImagePatient, study_uid: str, differs: Iterable[str]) -> Doubt:
    said = [
        study_uid, order.placer, order.filler, order.patient_id, sorted(order.patient_identifiers),
        order.patient_name, order.birth_date, order.sex, image.identifier.strip(), sorted(folded(image.name)),
        re.sub(r"\D", "", image.birth_date), image.sex.strip().upper(),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return Doubt(key=key, placer=order.placer or order.filler, accession=order.accession, differs=tuple(differs))
