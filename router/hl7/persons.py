"""Whether two descriptions of a person may be of one: names, birth date, sex. Pure.

Names are compared as people write them: accents, capitals, hyphens, particles (van der), further given names, a name
that is not taken apart (JOHN DOE) and what one of both leaves out do not tell apart; scripts that can't be compared
are not. Next: order_patient.py (an order and images), merge_doubt.py (two identifiers that a RIS merges).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from medai.router.hl7.text import unescape

NAME, BIRTH_DATE, SEX = "name", "birth date", "sex"
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe"})
_PLAIN = str.maketrans({"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})


@dataclass(frozen=True, kw_only=True)
class Person:
    """What somebody says of a person; empty where nothing is said."""

    name: str = ""
    """As in a DICOM header (PN), with its groups."""
    birth_date: str = ""
    sex: str = ""

    @classmethod
    def of_hl7(cls, name: str, birth_date: str, sex: str) -> Person:
        """From an XPN as it came, with its repetitions."""
        said = (unescape(each) for each in name.split("~") if each.split("^^^^^^")[0].strip("^ "))
        return cls(name="=".join(each.replace("=", " ") for each in said), birth_date=birth_date, sex=sex)

    @property
    def is_said(self) -> bool:
        """Whether there is anything to know them by."""
        return bool(self.name.strip("^= ") or _digits(self.birth_date))

    @property
    def is_placeholder(self) -> bool:
        """Whether the name is one that a hospital gives to somebody who can't say who they are."""
        parts = [_parts(each) for each in self.name.split("=") if each.strip("^ ")]
        return bool(parts) and all(_is_placeholder(each) for each in parts)


PLACEHOLDERS = frozenset({
    "unknown", "unidentified", "unnamed", "trauma", "xxunknown", "unbekannt", "notfall", "inconnu", "inconnue",
    "desconocido", "desconocida", "desconhecido", "desconhecida", "sconosciuto", "sconosciuta", "ignoto", "ignota",
    "onbekend", "okand", "ukendt", "ukjent", "tuntematon", "nieznany", "nieznana", "neznamy", "neznama", "ismeretlen",
    "nn",
})  # fmt: skip
"""First words, without accents, of names that are nobody's."""
_DOES = frozenset({("doe", "john"), ("doe", "jane")})


def differences(one: Person, other: Person) -> tuple[str, ...]:
    """What both say otherwise, as far as both say it.

    Who marries or is divorced keeps the given name: with the same whole birth date another family name is no
    difference. Twins share family name and birth date, and have other given names.
    """
    return tuple(
        name
        for name, differs in (
            (NAME, not (_said_alike(one, other) or (_born_alike(one, other) and _given_alike(one, other)))),
            (BIRTH_DATE, not dates_agree(one.birth_date, other.birth_date)),
            (SEX, sexes_differ(one.sex, other.sex)),
        )
        if differs
    )


def known_alike(one: Person, other: Person) -> bool:
    """Whether both say something of whom they know that is the same, and nothing that differs."""
    compared = bool(_pairs(_as_ours(one.name), other.name))
    return (compared or _born_alike(one, other)) and not differences(one, other)


def sexes_differ(one: str, other: str) -> bool:
    """Whether one is male and the other female: everything else (HL7 table 0001, PatientSex) contradicts nobody."""
    return {one.strip().upper()[:1], other.strip().upper()[:1]} == {"M", "F"}


def born_alike(one: str, other: str) -> bool:
    """Whether both are the same whole birth date."""
    return _digits(one) == _digits(other) and len(_digits(one)) == 8


def _born_alike(one: Person, other: Person) -> bool:
    return born_alike(one.birth_date, other.birth_date)


def _said_alike(one: Person, other: Person) -> bool:
    return names_agree(_as_ours(one.name), other.name)


def _as_ours(name: str) -> str:
    return name.replace("=", "~").replace("\\", "")


def _given_alike(one: Person, other: Person) -> bool:
    """Whether a given name, which is no initial, is the same."""
    pairs = _pairs(_as_ours(one.name), other.name)
    return any(len(a.given) > 1 and len(b.given) > 1 and _begin_alike(a.given, b.given) for a, b in pairs)


def _is_placeholder(name: Name) -> bool:
    if any((family, given) in _DOES for family in folded(name.family) for given in folded(name.given)):
        return True
    return any(way in PLACEHOLDERS for word in _words(name.family)[:1] for way in folded(word))


def _digits(date: str) -> str:
    return re.sub(r"\D", "", date)[:8]


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
        {way for word in _words(f"{name.family} {name.given}") for way in folded(word)} for name in (one, other)
    )
    return any(len(word) > 1 for word in ours & theirs)


def _words(text: str) -> list[str]:
    """The words of a name; particles belong to the word that follows."""
    words = re.split(r"[\s,.\-‐-―]+", text.strip())
    return [word for word in words if word and word.casefold() not in PARTICLES] or [word for word in words if word]


def _bare(text: str) -> set[str]:
    """How a family name is written without its particles, be they words of their own or not."""
    whole = folded(text)
    cut = {way[len(found[0]) :] for way in whole if (found := _ALL_PARTICLES.match(way))}
    words = {"".join(parts) for parts in zip(*(sorted(folded(word)) for word in _words(text)), strict=False)}
    return {way for way in whole | cut | words if len(way) >= BARE}


def _begin_alike(one: str, other: str) -> bool:
    """Whether one is how the other begins, in one of the ways to write them without accents."""
    pairs = ((a, b) for a in folded(one) for b in folded(other))
    return any(a.startswith(b) or b.startswith(a) for a, b in pairs)


def folded(text: str) -> set[str]:
    """The ways to write a text in small letters without accents."""
    small = unicodedata.normalize("NFKC", text).casefold()
    ways = (small.translate(_SPELLED_OUT), small.translate(_PLAIN))
    bare = ("".join(c for c in unicodedata.normalize("NFKD", way) if not unicodedata.combining(c)) for way in ways)
    return {"".join(c for c in way if c.isalnum()) for way in bare}


def dates_agree(ordered: str, imaged: str) -> bool:
    """Whether one is the other's beginning: a year alone contradicts only another year."""
    ours, theirs = _digits(ordered), _digits(imaged)
    return len(ours) < 4 or len(theirs) < 4 or ours.startswith(theirs) or theirs.startswith(ours)
