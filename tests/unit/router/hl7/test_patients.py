"""Who is who after merges: chains, replays, any order of arrival; and what an ADT changes of an order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.contract import Order
from medai.router.errors import PermanentError
from medai.router.hl7 import messages as hl7
from medai.router.hl7.patients import (
    Aliases,
    CircularMerge,
    Patient,
    about,
    apply_to_order,
    dicom_patient,
    same_patient,
)
from medai.router.hl7.patients_in import PatientMessage

A, B, C, D = (Patient(letter, "H") for letter in "ABCD")
ORDER = Order(
    placer="ORD1",
    accession="ACC1",
    patient_id="A",
    patient_id_authority="H",
    patient_name="Doe^Jane",
    birth_date="19700101",
    sex="F",
)


def adt(kind: str = "merge", **changes: str) -> PatientMessage:
    merge = kind == "merge"
    message = PatientMessage(
        control_id="C1",
        sender=("RIS", "HOSPITAL"),
        kind=kind,
        patient_id="B" if merge else "A",
        patient_id_authority="H",
        prior_id="A" if merge else "",
        prior_id_authority="H" if merge else "",
        patient_name="Roe^Joan",
        birth_date="19710202",
        sex="O",
        digest="d",
    )
    return replace(message, **changes)  # type: ignore[arg-type]  # a test names only real fields


@pytest.mark.parametrize(
    ("merges", "asked", "expected"),
    [
        ([], A, A),
        ([(A, B)], A, B),
        ([(A, B)], B, B),
        ([(A, B)], C, C),
        ([(A, B), (B, C)], A, C),
        ([(B, C), (A, B)], A, C),
        ([(A, B), (A, B)], A, B),
        ([(A, C), (B, C)], B, C),
        ([(A, B), (A, C)], A, C),
        ([(A, B), (A, C)], B, B),
        ([(A, B)], Patient("A"), B),
        ([(A, B)], Patient("A", "OTHER"), Patient("A", "OTHER")),
        ([(Patient("A"), B)], A, B),
        ([(A, B), (Patient("A", "G"), C)], Patient("A"), Patient("A")),
        ([(A, B), (Patient("A", "G"), B)], Patient("A"), B),
    ],
)
def test_the_surviving_patient(merges: list[tuple[Patient, Patient]], asked: Patient, expected: Patient) -> None:
    assert Aliases.of(merges).surviving(asked) == expected


@pytest.mark.parametrize(
    "merges",
    [
        [(A, A)],
        [(A, Patient("A"))],
        [(A, B), (B, A)],
        [(A, B), (B, C), (C, A)],
        [(B, C), (A, B), (C, A)],
        [(Patient("A"), B), (B, A)],
    ],
)
def test_a_patient_that_would_be_a_part_of_itself_is_refused(merges: list[tuple[Patient, Patient]]) -> None:
    before = Aliases.of(merges[:-1])
    with pytest.raises(CircularMerge) as caught:
        before.merged(*merges[-1])
    assert isinstance(caught.value, PermanentError)
    assert not any(patient.identifier in str(caught.value).split() for patient in (A, B, C))


@given(st.data())
def test_the_order_in_which_merges_arrive_does_not_matter(data: st.DataObject) -> None:
    people = [Patient(str(number), "H") for number in range(8)]
    parents = [data.draw(st.integers(min_value=number + 1, max_value=8)) for number in range(8)]
    merges = [(people[child], people[parent]) for child, parent in enumerate(parents) if parent < 8]
    shuffled = data.draw(st.permutations(merges))
    one, other = Aliases.of(merges), Aliases.of([*shuffled, *shuffled])
    assert [one.surviving(each) for each in people] == [other.surviving(each) for each in people]
    assert all(one.surviving(one.surviving(each)) == one.surviving(each) for each in people)


@pytest.mark.parametrize(
    ("image", "order", "same"),
    [
        ("A", "A", True),
        ("A ", " A", True),
        ("A", "B", True),
        ("A", "C", True),
        ("B", "A", True),
        ("D", "C", False),
        ("A", "D", False),
        ("", "A", False),
        ("A", "", False),
        ("", "", True),
    ],
)
def test_images_and_order_of_the_same_patient(image: str, order: str, same: bool) -> None:
    aliases = Aliases.of([(A, B), (B, C)])
    assert same_patient(image, order, aliases) is same


def test_two_issuers_that_both_give_out_a_number_are_told_apart_where_they_are_named() -> None:
    aliases = Aliases.of([(A, B)])
    assert same_patient("A", "B", aliases, image_authority="H", order_authority="H&1.2.3&ISO")
    assert not same_patient("A", "B", aliases, image_authority="G", order_authority="H")
    assert not same_patient("A", "A", Aliases(), image_authority="G", order_authority="H")


def test_an_update_changes_the_data_of_its_patients_orders() -> None:
    changed = apply_to_order(ORDER, adt("update"))
    assert changed == replace(ORDER, patient_name="Roe^Joan", birth_date="19710202", sex="O")


def test_a_merge_gives_the_order_to_the_surviving_patient() -> None:
    changed = apply_to_order(ORDER, adt())
    assert changed == replace(ORDER, patient_id="B", patient_name="Roe^Joan", birth_date="19710202", sex="O")


def test_what_an_adt_does_not_say_stays() -> None:
    silent = {"patient_name": "", "birth_date": "", "sex": "", "patient_id_authority": ""}
    assert apply_to_order(ORDER, adt(**silent)) == replace(ORDER, patient_id="B")
    assert apply_to_order(ORDER, adt("update", **silent)) is None


def test_what_an_adt_deletes_is_empty() -> None:
    gone = adt("update", patient_name="", sex="")
    gone = replace(gone, deletes=frozenset({"patient_name", "sex"}))
    assert apply_to_order(ORDER, gone) == replace(ORDER, patient_name="", birth_date="19710202", sex="")
    assert dicom_patient(gone) == {
        "PatientID": "A",
        "PatientBirthDate": "19710202",
        "PatientName": "",
        "PatientSex": "",
    }


@pytest.mark.parametrize(
    ("merges", "change", "asked", "expected"),
    [
        ([(A, B)], (B, A), B, A),
        ([(A, B)], (B, A), A, A),
        ([(A, B), (B, C)], (C, A), B, A),
        ([(A, B)], (B, Patient("A")), B, Patient("A")),
        ([(A, B), (C, D)], (B, A), C, D),
        ([], (A, B), A, B),
    ],
)
def test_a_number_that_is_in_use_again_is_nobodys_old_one(
    merges: list[tuple[Patient, Patient]], change: tuple[Patient, Patient], asked: Patient, expected: Patient
) -> None:
    assert Aliases.of(merges).changed(*change).surviving(asked) == expected


@pytest.mark.parametrize(
    ("was", "told", "becomes"), [("H", "H", "H"), ("", "H", "H"), ("H&1.2&ISO", "H", "H&1.2&ISO"), ("H", "", "H")]
)
def test_the_authority_of_an_order_is_as_exact_as_it_was(was: str, told: str, becomes: str) -> None:
    changed = apply_to_order(replace(ORDER, patient_id_authority=was), adt(patient_id_authority=told))
    assert changed is not None
    assert changed.patient_id_authority == becomes


def test_a_merge_across_authorities_changes_the_authority() -> None:
    changed = apply_to_order(ORDER, adt(patient_id_authority="NEW"))
    assert changed is not None
    assert (changed.patient_id, changed.patient_id_authority) == ("B", "NEW")


@pytest.mark.parametrize(
    ("patient_id", "authority"), [("X", "H"), ("A", "OTHER"), ("", ""), ("", "H")]
)  # fmt: skip
def test_the_order_of_another_patient_is_left_alone(patient_id: str, authority: str) -> None:
    order = replace(ORDER, patient_id=patient_id, patient_id_authority=authority)
    assert apply_to_order(order, adt()) is None
    assert apply_to_order(order, adt("update")) is None


def test_a_merge_that_comes_again_changes_nothing() -> None:
    once = apply_to_order(ORDER, adt())
    assert once is not None
    assert about(adt(), Patient.of(once.patient_id, once.patient_id_authority))
    assert apply_to_order(once, adt()) is None


def test_an_update_of_the_prior_patient_says_nothing_of_the_surviving_one() -> None:
    assert not about(adt("update"), B)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"PatientID": "B", "PatientName": "Roe^Joan", "PatientBirthDate": "19710202", "PatientSex": "O"}),
        ({"patient_name": "Roe^Joan^M^Jr^Dr"}, {"PatientName": "Roe^Joan^M^Dr^Jr"}),
        ({"patient_name": "O\\T\\Neil \\E\\ Co\\S\\x^A"}, {"PatientName": "O&Neil   Co x^A"}),
        ({"sex": "M"}, {"PatientSex": "M"}),
        ({"patient_id_authority": "NEW"}, {"IssuerOfPatientID": "NEW"}),
    ],
)
def test_the_archive_is_told_in_dicom(changes: dict[str, str], expected: dict[str, str]) -> None:
    assert dicom_patient(adt(**changes)).items() >= expected.items()


def test_the_archive_is_not_told_what_the_adt_does_not_say() -> None:
    assert dicom_patient(adt(patient_name="", birth_date="", sex="U")) == {"PatientID": "B"}


def test_an_adt_off_the_wire_is_understood() -> None:
    text = "MSH|^~\\&|RIS|H|MEDAI|AI|20260101||ADT^A40^ADT_A39|C1|P|2.5.1\rPID|1||B^^^H^MR||Roe^Joan\rMRG|A^^^H^MR\r"
    _, (message,) = hl7.parse(text.encode())
    assert isinstance(message, PatientMessage)
    changed = apply_to_order(ORDER, message)
    assert changed is not None
    assert (changed.patient_id, changed.patient_name, changed.birth_date) == ("B", "Roe^Joan", "19700101")
