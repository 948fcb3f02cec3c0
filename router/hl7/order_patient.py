"""Whether an order and the images that it names are of one patient, by all that both say. Pure.

An order that contradicts the images is not joined to them: it waits for a person. A result's patient is that of the
images. Names are compared as people write them: accents, capitals, hyphens, particles (van der), further given names,
a name that is not taken apart (JOHN DOE) and what one of both leaves out do not tell apart; scripts that can't be
compared are not. Where number and whole birth date are the same, one part of the name that both have will do: people
marry. Next: patients.py (identifiers and merges),
ledger/held_orders.py (what a person decided).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
    it was: then the merge alone counts.
    """
    fits = order_fits(order, image.identifier, aliases, image_authority=image.authority)
    if fits and not order_fits(order, image.identifier, Aliases(), image_authority=image.authority):
        return ()
    sure = fits and _is_sure(order, image)
    found = {
        NUMBER: not fits,
        NAME: not (names_overlap if sure else names_agree)(order.patient_name, image.name),
        BIRTH_DATE: not _dates_agree(order.birth_date, image.birth_date),
        SEX: {order.sex.strip().upper()[:1], image.sex.strip().upper()[:1]} == {"M", "F"},
    }
    return tuple(name for name, differs in found.items() if differs)


def _is_sure(order: Order, image: ImagePatient) -> bool:
    """Whether both say a number, which fits, and the same whole birth date."""
    said = bool(order.patient_id or order.patient_identifiers) and bool(image.identifier.strip())
    born = (re.sub(r"\D", "", order.birth_date)[:8], re.sub(r"\D", "", image.birth_date)[:8])
    return said and born[0] == born[1] and len(born[0]) == 8


def names_agree(ordered: str, imaged: str) -> bool:
    """Whether a name of HL7 (XPN, repetitions) and one of DICOM (PN, groups) may be one person's."""
    pairs = _pairs(ordered, imaged)
    return not pairs or any(_same(one, other) for one, other in pairs)


def names_overlap(ordered: str, imaged: str) -> bool:
    """Whether both have a part in common: enough where nothing else contradicts."""
    pairs = _pairs(ordered, imaged)
    return not pairs or any(_same(one, other) or _shares(one, other) for one, other in pairs)


class Name(NamedTuple):
    """Family and given name as they are written; a name that is not taken apart is all family."""

    family: str
    given: str

    @property
    def is_whole(self) -> bool:
        """Whether it is one text of several words, of which nobody said which is the family name."""
        return not self.given and len(_words(self.family)) > 1


PARTICLES = (
    "van", "von", "der", "den", "de", "del", "della", "di", "da", "do", "dos", "das", "du", "la", "le", "las", "los",
    "el", "al", "ten", "ter", "zu", "zum", "zur", "st", "saint", "mac", "mc", "o", "bin", "ibn", "abu", "y", "e", "und",
    "af", "av",
)  # fmt: skip
"""Words before a family name that some write apart, some together and some not at all."""
_ALL_PARTICLES = re.compile(f"(?:{'|'.join(PARTICLES)})+")
BARE = 3
"""A family name is at least so long without its particles: DEAN is no AN."""


def _pairs(ordered: str, imaged: str) -> list[tuple[Name, Name]]:
    """Each way in which both can be compared: names in letters of one kind."""
    ours = [_parts(unescape(each)) for each in ordered.split("~")]
    theirs = [_parts(each) for each in imaged.split("=")]
    return [(one, other) for one in ours for other in theirs if one.family and other.family and _comparable(one, other)]


def _parts(name: str) -> Name:
    family, given, *_ = [*name.split("^"), ""]
    return Name(family.split("&")[0].strip(), given.strip())


def _comparable(one: Name, other: Name) -> bool:
    """Whether both are written in letters of one kind."""
    return _is_latin(one.family) == _is_latin(other.family)


def _is_latin(text: str) -> bool:
    return all("LATIN" in unicodedata.name(letter, "") for letter in text if letter.isalpha())


def _same(one: Name, other: Name) -> bool:
    if _families_agree(one.family, other.family):
        return not one.given or not other.given or _begin_alike(one.given, other.given)
    return (one.is_whole or other.is_whole) and _holds_all(one, other)


def _families_agree(one: str, other: str) -> bool:
    """One is how the other begins, with its particles or without."""
    return _begin_alike(one, other) or any(a == b for a in _bare(one) for b in _bare(other))


def _holds_all(one: Name, other: Name) -> bool:
    """Of a name that is not taken apart: whether each word of the shorter one is a word of the other."""
    few, many = sorted((_words(f"{one.family} {one.given}"), _words(f"{other.family} {other.given}")), key=len)
    left = list(many)
    for word in few:
        match = next((each for each in left if _families_agree(word, each)), None)
        if match is None:
            return False
        left.remove(match)
    return len(few) > 1


def _shares(one: Name, other: Name) -> bool:
    """Whether one word, which is no particle or initial, is in both."""
    ours, theirs = (
        {way for word in _words(f"{name.family} {name.given}") for way in _folded(word)} for name in (one, other)
    )
    return any(len(word) > 1 for word in ours & theirs)


def _words(text: str) -> list[str]:
    """The words of a name; particles belong to the word that follows."""
    words = re.split(r"[\s,.\-‐-―]+", text.strip())
    return [word for word in words if word and word.casefold() not in PARTICLES] or [word for word in words if word]


def _bare(text: str) -> set[str]:
    """How a family name is written without its particles, be they words of their own or not."""
    whole = _folded(text)
    cut = {way[len(found[0]) :] for way in whole if (found := _ALL_PARTICLES.match(way))}
    words = {"".join(parts) for parts in zip(*(sorted(_folded(word)) for word in _words(text)), strict=False)}
    return {way for way in whole | cut | words if len(way) >= BARE}


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
