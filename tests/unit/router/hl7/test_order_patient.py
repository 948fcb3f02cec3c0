"""Whether an order and images are of one patient: what people write in two ways is one, what is another person is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medai.router.contract import Order
from medai.router.hl7.order_patient import (
    NUMBER,
    Doubt,
    ImagePatient,
    choose,
    contradictions,
)
from medai.router.hl7.patients import Aliases, Patient
from medai.router.hl7.persons import BIRTH_DATE, NAME, SEX

REAL = ImagePatient(identifier="MRN-REAL", name="REAL^PATIENT", birth_date="19700101", sex="M")
ORDER = Order(
    placer="REAL-PL", accession="A", patient_id="MRN-REAL", patient_name="Real^Patient", birth_date="19700101", sex="M"
)
EVIL = Order(
    placer="EVIL-PL", accession="A", patient_id="MRN-REAL", patient_name="MALLORY^EVE", birth_date="19991231", sex="F"
)


@pytest.mark.parametrize(
    ("order", "image", "differs"),
    [
        (ORDER, REAL, ()),
        (EVIL, REAL, (NAME, BIRTH_DATE, SEX)),
        (Order(placer="P", patient_id="X"), REAL, (NUMBER,)),
        (Order(placer="P"), REAL, ()),
        (EVIL, ImagePatient(), ()),
        (Order(placer="P", birth_date="1970"), REAL, ()),
        (Order(placer="P", birth_date="1971"), REAL, (BIRTH_DATE,)),
        (Order(placer="P", birth_date="197001"), REAL, ()),
        (Order(placer="P", sex="U"), REAL, ()),
        (Order(placer="P", sex="F"), REAL, (SEX,)),
    ],
)
def test_what_both_say_is_compared_and_nothing_else(
    order: Order, image: ImagePatient, differs: tuple[str, ...]
) -> None:
    assert contradictions(order, image, Aliases()) == differs


MARRIED = Order(placer="P", patient_id="MRN-REAL", patient_name="Born^Patient", birth_date="19700101")


@pytest.mark.parametrize(
    ("order", "differs"),
    [
        (MARRIED, ()),
        (replace(MARRIED, patient_name="PATIENT REAL"), ()),
        (replace(MARRIED, patient_name="Patient^Real"), ()),
        (replace(MARRIED, patient_name="Mallory^Eve"), (NAME,)),
        (replace(MARRIED, patient_name="Born^P"), (NAME,)),
        (replace(MARRIED, birth_date="1970"), (NAME,)),
        (replace(MARRIED, birth_date=""), (NAME,)),
        (replace(MARRIED, patient_id=""), (NAME,)),
        (replace(MARRIED, patient_id="OTHER"), (NUMBER, NAME)),
        (replace(MARRIED, birth_date="19700102"), (NAME, BIRTH_DATE)),
    ],
)
def test_where_number_and_birth_date_are_the_same_one_part_of_the_name_will_do(
    order: Order, differs: tuple[str, ...]
) -> None:
    assert contradictions(order, REAL, Aliases()) == differs


def test_of_an_order_and_a_forged_one_the_real_one_is_joined_and_the_other_is_doubted() -> None:
    chosen = choose((EVIL, ORDER), REAL, Aliases(), study_uid="1.2")
    assert chosen.order == ORDER
    assert [(doubt.placer, doubt.differs) for doubt in chosen.doubts] == [("EVIL-PL", (NAME, BIRTH_DATE, SEX))]


def test_where_an_order_fits_that_of_another_hospital_with_its_accession_number_is_no_doubt() -> None:
    other = Order(placer="P", accession="A", patient_id="77", patient_name="Roe^Ann")
    assert choose((other, ORDER), REAL, Aliases(), study_uid="1.2").doubts == ()
    assert len(choose((other,), REAL, Aliases(), study_uid="1.2").doubts) == 1


def test_a_merged_patient_is_one() -> None:
    merged = Aliases.of([(Patient("MRN-REAL"), Patient("NEW"))])
    assert contradictions(Order(placer="P", patient_id="NEW"), REAL, merged) == ()
    unknown = ImagePatient(identifier="MRN-REAL", name="UNKNOWN^MALE", birth_date="19000101")
    known = Order(placer="P", patient_id="NEW", patient_name="Real^Patient", birth_date="19700101")
    assert contradictions(known, unknown, merged) == (), "imaged before anybody knew who it was"


def test_a_decision_holds_for_what_was_said_when_it_was_made() -> None:
    def key(order: Order, image: ImagePatient = REAL, study_uid: str = "1.2") -> str:
        (doubt,) = choose((order,), image, Aliases(), study_uid=study_uid).doubts
        return doubt.key

    same = ImagePatient(identifier=" MRN-REAL ", name="Real^Patient", birth_date="1970.01.01", sex="m")
    assert key(EVIL) == key(EVIL, same), "Orthanc's index and the file write it in two ways"
    others = {
        key(EVIL), key(EVIL, study_uid="1.3"), key(Order(placer="EVIL-PL", accession="A", patient_id="X")),
        key(Order(placer="EVIL-PL", patient_id="MRN-REAL", patient_name="ROE^ANN")),
        key(EVIL, ImagePatient(identifier="MRN-REAL", name="OTHER^ONE", birth_date="19700101", sex="M")),
    }  # fmt: skip
    assert len(others) == 5


def test_a_released_order_is_joined_and_tells_nothing_of_a_patient() -> None:
    asked: list[Doubt] = []

    def released(doubt: Doubt) -> bool:
        asked.append(doubt)
        return True

    chosen = choose((EVIL,), REAL, Aliases(), study_uid="1.2", released=released)
    assert chosen.order == Order(placer="EVIL-PL", accession="A"), "without its patient"
    assert (chosen.doubts, len(asked)) == ((), 1)
