"""Whether an order and the images that it names are of one patient, by all that both say. Pure.

An order that contradicts the images is not joined to them: it waits for a person. A result's patient is that of the
images. Names are compared as people write them: accents, capitals, hyphens, further given names and what one of both
leaves out do not tell apart; scripts that can't be compared are not. Next: patients.py (identifiers and merges),
ledger/held_orders.py (what a person decided).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medai.router.contract import Order
from medai.router.hl7.patients import Aliases, order_fits
from medai.router.hl7.text import unescape

NUMBER, NAME, BIRTH_DATE, SEX = "identifier", "name", "birth date", "sex"
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe"})
_PLAIN = str.maketrans({"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})


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
    it was: then the merge alone counts.
    """
    fits = order_fits(order, image.identifier, aliases, image_authority=image.authority)
    if fits and not order_fits(order, image.identifier, Aliases(), image_authority=image.authority):
        return ()
    found = {
        NUMBER: not fits,
        NAME: not names_agree(order.patient_name, image.name),
        BIRTH_DATE: not _dates_agree(order.birth_date, image.birth_date),
        SEX: {order.sex.strip().upper()[:1], image.sex.strip().upper()[:1]} == {"M", "F"},
    }
    return tuple(name for name, differs in found.items() if differs)


def names_agree(ordered: str, imaged: str) -> bool:
    """Whether a name of HL7 (XPN, repetitions) and one of DICOM (PN, groups) may be one person's."""
    ours = [_parts(unescape(each)) for each in ordered.split("~")]
    theirs = [_parts(each) for each in imaged.split("=")]
    pairs = [(one, other) for one in ours for other in theirs if one[0] and other[0] and _comparable(one, other)]
    return not pairs or any(_same(one, other) for one, other in pairs)


Name = tuple[str, str]
"""Family and given name as they are written."""


def _parts(name: str) -> Name:
    family, given, *_ = [*name.split("^"), ""]
    return family.split("&")[0].strip(), given.strip()


def _comparable(one: Name, other: Name) -> bool:
    """Whether both are written in letters of one kind."""
    return _is_latin(one[0]) == _is_latin(other[0])


def _is_latin(text: str) -> bool:
    return all("LATIN" in unicodedata.name(letter, "") for letter in text if letter.isalpha())


def _same(one: Name, other: Name) -> bool:
    return _begin_alike(one[0], other[0]) and (not one[1] or not other[1] or _begin_alike(one[1], other[1]))


def _begin_alike(one: str, other: str) -> bool:
    """Whether one is how the other begins, in one of the ways to write them without accents."""
    pairs = ((a, b) for a in _folded(one) for b in _folded(other))
    return any(a.startswith(b) or b.startswith(a) for a, b in pairs)


def _folded(text: str) -> set[str]:
    small = unicodedata.normalize("NFKC", text).casefold()
    ways = (small.translate(_SPELLED_OUT), small.translate(_PLAIN))
    bare = ("".join(c for c in unicodedata.normalize("NFKD", way) if not unicodedata.combining(c)) for way in ways)
    return {"".join(c for c in way if c.isalnum()) for way in bare}


def _dates_agree(ordered: str, imaged: str) -> bool:
    """Whether one is the other's beginning: a year alone contradicts only another year."""
    ours, theirs = re.sub(r"\D", "", ordered)[:8], re.sub(r"\D", "", imaged)[:8]
    return len(ours) < 4 or len(theirs) < 4 or ours.startswith(theirs) or theirs.startswith(ours)


def _doubt(order: Order, image: ImagePatient, study_uid: str, differs: Iterable[str]) -> Doubt:
    said = [
        study_uid, order.placer, order.filler, order.patient_id, sorted(order.patient_identifiers),
        order.patient_name, order.birth_date, order.sex, image.identifier.strip(), sorted(_folded(image.name)),
        re.sub(r"\D", "", image.birth_date), image.sex.strip().upper(),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return Doubt(key=key, placer=order.placer or order.filler, accession=order.accession, differs=tuple(differs))
