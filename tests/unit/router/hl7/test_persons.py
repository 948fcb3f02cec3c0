"""Names, birth dates and sexes: what people write in two ways is one, what is another person is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.hl7.persons import (
    BIRTH_DATE,
    NAME,
    SEX,
    Person,
    differences,
    known_alike,
    names_agree,
    names_overlap,
)


@pytest.mark.parametrize(
    ("ordered", "imaged"),
    [
        ("Doe^Jane", "DOE^JANE"), ("Doe^Jane^Q", "Doe^Jane"), ("Doe^J", "Doe^Jane"), ("Doe", "Doe^Jane"),
        ("O'Neill^Sean", "ONEILL^SEAN"), ("Müller^Jörg", "MUELLER^JOERG"), ("Müller^Jörg", "Muller^Jorg"),
        ("Smith-Jones^Ann", "Smith Jones^Ann"), ("Łukasz^Ł", "Lukasz^L"), ("Straße^A", "STRASSE^A"),
        ("Yamada^Tarou", "山田^太郎"), ("山田^太郎", "Yamada^Tarou=山田^太郎"), ("", "Doe^Jane"), ("Doe^Jane", ""),
        ("Born^Jane~Doe^Jane", "Doe^Jane"), ("van der Berg&van der&Berg^A", "VAN DER BERG^A"), ("Иванов^И", "Ivanov^I"),
        ("O\\T\\Hara^A", "O&Hara^A"),
        # not taken apart
        ("JOHN DOE", "DOE^JOHN"), ("DOE JOHN", "DOE^JOHN"), ("DOE, JOHN", "Doe^John"), ("John Q. Doe", "DOE^JOHN"),
        ("DOE^JOHN", "JOHN DOE"), ("Doe John", "John Doe"), ("J. Doe", "DOE^JOHN"), ("Jörg Müller", "MUELLER^JOERG"),
        ("Jan van der Berg", "BERG^JAN"), ("JAN VANDERBERG", "VAN DER BERG^JAN"),
        # particles
        ("VAN DER BERG^X", "BERG^X"), ("VAN DER BERG^X", "VANDERBERG^X"), ("VANDERBERG^X", "BERG^X"),
        ("de la Cruz^Ana", "CRUZ^ANA"), ("DELACRUZ^ANA", "Cruz^Ana"), ("Berg^X", "van den Berg^X"), ("El-Sayed^A", "SAYED^A"),
        ("von Müller^A", "MUELLER^A"), ("O'Brien^P", "BRIEN^P"), ("St. John^A", "SAINT JOHN^A"), ("van^An", "VAN^AN"),
    ],
)  # fmt: skip
def test_one_name_written_in_two_ways_is_one(ordered: str, imaged: str) -> None:
    assert names_agree(ordered, imaged)


@pytest.mark.parametrize(
    ("ordered", "imaged"),
    [
        ("MALLORY^EVE", "REAL^PATIENT"), ("Doe^John", "Doe^Jane"), ("Roe^Jane", "Doe^Jane"), ("田中^太郎", "山田^太郎"),
        ("JANE DOE", "DOE^JOHN"), ("JOHN ROE", "DOE^JOHN"), ("JOHN DOE", "JANE DOE"), ("JOHN", "DOE^JOHN"),
        ("VAN DER BERG^X", "VAN DER MEER^X"), ("DEAN^J", "AN^J"), ("VAN DER BERG^ANN", "BERG^JOHN"),
        ("de la Cruz^Ana", "de la Rosa^Ana"), ("JOHN DOE ROE", "DOE^JANE"),
        ("Jane^Doe", "Doe^Jane"), ("Mallory^Eve~Roe^Ann", "Doe^Jane=山田^太郎"),
    ],
)  # fmt: skip
def test_another_name_is_another(ordered: str, imaged: str) -> None:
    assert not names_agree(ordered, imaged)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_compared_and_a_name_agrees_with_itself(one: str, other: str) -> None:
    assert names_agree(one, other) <= names_overlap(one, other)
    assert names_agree(one.replace("\\", ""), one.replace("\\", "").split("~")[0].split("=")[0])


JANE = Person(name="Doe^Jane", birth_date="19700101", sex="F")


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (JANE, ()),
        (Person(name="Roe^Jane", birth_date="19700101", sex="F"), ()),  # married
        (Person(name="Doh^Jane", birth_date="19700101"), ()),  # a slip
        (Person(name="Doe^Anne", birth_date="19700101", sex="F"), (NAME,)),  # a twin
        (Person(name="Roe^J", birth_date="19700101", sex="F"), (NAME,)),  # an initial is no given name
        (Person(name="Roe^Jane", birth_date="1970"), (NAME,)),
        (Person(name="Doe^Jane", birth_date="19700102"), (BIRTH_DATE,)),
        (Person(name="Doe^Jane", sex="M"), (SEX,)),
        (Person(sex="O"), ()),
    ],
)
def test_who_marries_is_the_same_person_and_a_twin_is_another(other: Person, differs: tuple[str, ...]) -> None:
    assert differences(JANE, other) == differences(other, JANE) == differs


def test_who_says_nothing_is_nobody_in_particular() -> None:
    assert not known_alike(JANE, Person(sex="F"))
    assert not Person(sex="F").is_said
    assert not Person.of_hl7("^^^^^^U", "", "F").is_said
    assert known_alike(JANE, Person(birth_date="19700101"))
    assert known_alike(JANE, Person.of_hl7("Born^Jane~Doe^Jane", "", ""))
    assert not known_alike(JANE, Person(name="山田^太郎"))


@pytest.mark.parametrize(
    "name", ["Unknown^No12", "UNBEKANNT^^", "TRAUMA ALPHA", "Doe^John", "Inconnu", "Desconocido^X"]
)
def test_a_name_that_stands_for_nobody_is_known_as_such(name: str) -> None:
    assert Person(name=name).is_placeholder


@pytest.mark.parametrize(
    "name", ["", "Doe^Jane^Q=山田^太郎", "Unknowable^A", "Nunn^N", "Doe^Johanna", "Miller^Unknown"]
)
def test_a_name_of_somebody_is_none(name: str) -> None:
    assert not Person(name=name).is_placeholder
