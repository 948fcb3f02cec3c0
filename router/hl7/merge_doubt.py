"""Merges of patients that contradict what is known here: they wait for a person. Pure.

A merge gives one patient's results another number, and whoever may send ADT messages may say anything. So it is held
against whatever orders, results and images say of both identifiers: one that unites two persons is not followed. What a
duplicate registration brings agrees: the same birth date and given name, the family name written otherwise or another
since a marriage. Nor does a name contradict anybody that stands for nobody (UNKNOWN, TRAUMA). One may come before the
patient does: it is held against the images and orders that come under the old number later. Next: persons.py,
patients.py (what a merge means), ledger/identities.py (who asks), ledger/held_merges.py (those that wait).
"""

from __future__ import annotations

from collections.abc import Sequence

from medai.router.hl7.patients import Aliases, Patient
from medai.router.hl7.persons import NAME, SEX, Person, differences, known_alike

UNPROVEN = "nothing in common"
"""Nothing that is known here says that they are one person."""
CIRCLE = "circle"
"""The surviving patient was merged into the prior one before."""
ELSEWHERE = "merged before"
"""The prior patient was merged into somebody else before."""
EVERY = "all are held"
"""The settings want a person to look at each."""


def doubts(told: Person, prior: Sequence[Person], surviving: Sequence[Person]) -> tuple[str, ...]:
    """What speaks against a merge; nothing where it may be followed.

    ``told``: whom the message names. ``prior``, ``surviving``: whom orders, results and images name under the two
    identifiers. Of a prior identifier that nobody has met nothing moves, and only what is told can be wrong.
    """
    now_is = [each for each in (told, *surviving) if each.is_said]
    real = [each for each in prior if each.is_said and not each.is_placeholder]
    found = {name for one in real for other in now_is for name in differences(one, other)}
    found |= {name for each in surviving for name in differences(told, each)}
    placeholders = [each for each in prior if each.is_placeholder]
    found |= {SEX for one in placeholders for other in now_is if SEX in differences(one, other)}
    if prior and not found and not _proven(real, placeholders, now_is):
        return (UNPROVEN,)
    return tuple(sorted(found, key=lambda name: (name != NAME, name)))


def _proven(real: Sequence[Person], placeholders: Sequence[Person], now_is: Sequence[Person]) -> bool:
    if not real:
        return bool(placeholders and now_is)
    return any(known_alike(one, other) for one in real for other in now_is)


def believed(aliases: Aliases, patient: Patient, person: Person) -> Aliases:
    """The merges without those on a patient's way that were of somebody else than images or an order say."""
    while (step := doubted(aliases, patient, person)) is not None:
        aliases = aliases.without(step)
    return aliases


def doubted(aliases: Aliases, patient: Patient, person: Person) -> Patient | None:
    """The prior identifier of the first merge on a patient's way that was of another person; None: all may be."""
    seen = {patient}
    while (step := aliases.step(patient)) is not None and step[1] not in seen:
        prior, patient = step
        if prior in aliases.persons and doubts(aliases.persons[prior], [person], ()):
            return prior
        seen.add(patient)
    return None
