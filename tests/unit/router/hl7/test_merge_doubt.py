"""Merges of patients: what a duplicate registration brings agrees, and two persons are not made one without asking."""

from __future__ import annotations

import pytest

from medai.router.hl7.merge_doubt import UNPROVEN, believed, doubts
from medai.router.hl7.patients import Aliases, Patient
from medai.router.hl7.persons import BIRTH_DATE, NAME, SEX, Person

JANE = Person(name="Moss^Jane", birth_date="19700101", sex="F")
MARRIED = Person(name="Roe^Jane", birth_date="19700101", sex="F")
TWIN = Person(name="Moss^Anne", birth_date="19700101", sex="F")
OTHER = Person(name="Mallory^Eve", birth_date="19991231", sex="F")
TRAUMA = Person(name="Unknown^No7", birth_date="19000101", sex="F")
NOBODY = Person()


@pytest.mark.parametrize(
    ("told", "prior", "surviving", "expected"),
    [
        # what feeds send
        (JANE, [JANE], [JANE], ()),
        (JANE, [JANE], [], ()),  # the surviving number was never here
        (MARRIED, [JANE], [JANE, MARRIED], ()),
        (JANE, [TRAUMA], [], ()),
        (JANE, [TRAUMA], [JANE], ()),
        (NOBODY, [JANE], [JANE], ()),  # a message that says no name
        (JANE, [], [JANE], ()),  # the prior number was never here: nothing moves
        (JANE, [], [], ()),
        # what is forged, or wrong
        (OTHER, [JANE], [], (NAME, BIRTH_DATE)),
        (JANE, [JANE], [OTHER], (NAME, BIRTH_DATE)),  # it says whom it takes, not whom it makes of her
        (OTHER, [JANE], [OTHER], (NAME, BIRTH_DATE)),
        (NOBODY, [JANE], [OTHER], (NAME, BIRTH_DATE)),
        (NOBODY, [JANE], [], (UNPROVEN,)),
        (NOBODY, [JANE], [NOBODY], (UNPROVEN,)),
        (JANE, [NOBODY], [JANE], (UNPROVEN,)),  # something is kept of the prior number, and nobody knows of whom
        (TWIN, [JANE], [TWIN], (NAME,)),
        (JANE, [JANE, OTHER], [], (NAME, BIRTH_DATE)),  # two persons have had the prior number
        (OTHER, [], [JANE], (NAME, BIRTH_DATE)),
        (NOBODY, [TRAUMA], [], (UNPROVEN,)),
        (Person(name="Unger^John", birth_date="19700101", sex="M"), [TRAUMA], [], (SEX,)),
        (JANE, [JANE], [TRAUMA], (NAME, BIRTH_DATE)),  # somebody who is known becomes nobody
    ],
)  # fmt: skip
def test_a_merge_is_weighed_by_all_that_is_known(
    told: Person, prior: list[Person], surviving: list[Person], expected: tuple[str, ...]
) -> None:
    assert doubts(told, prior, surviving) == expected


def test_a_merge_counts_for_images_of_whom_it_told_and_for_no_others() -> None:
    a, b, c = Patient("A"), Patient("B"), Patient("C")
    aliases = Aliases(targets={a: b, b: c}, persons={a: JANE, b: JANE})
    assert believed(aliases, a, MARRIED).surviving(a) == c
    assert believed(aliases, a, OTHER).surviving(a) == a
    odd = Aliases(targets={a: b, b: c}, persons={a: JANE, b: OTHER})
    assert believed(odd, a, JANE).surviving(a) == b, "as far as it is believed"
    vouched = Aliases(targets={a: b})
    assert believed(vouched, a, OTHER).surviving(a) == b


def test_a_circle_of_merges_ends() -> None:
    a, b = Patient("A"), Patient("B")
    assert believed(Aliases(targets={a: b, b: a}, persons={a: JANE, b: JANE}), a, JANE).targets == {a: b, b: a}
