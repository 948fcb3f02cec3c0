"""Merges that contradict what is known rename nothing until a person says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, make, said, seen
from sqlalchemy import select

from medai.router.contract import Order
from medai.router.hl7.merge_doubt import CIRCLE, ELSEWHERE, EVERY, UNPROVEN
from medai.router.hl7.patients import Patient
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.persons import Person
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.claims import Owed
from medai.router.ledger.held_orders import HoldState
from medai.router.ledger.identities import Weighing
from medai.router.reports.status import status
from medai.router.reports.story import actions
from medai.router.settings.tables import MergeRule

JANE = {"patient_name": "Moss^Jane", "birth_date": "19700101", "sex": "F"}
EVE = {"patient_name": "Mallory^Eve", "birth_date": "19991231", "sex": "F"}
ORU = (
    b"MSH|^~\\&|MEDAI|AI|RIS|H|20260102030405+0000||ORU^R01^ORU_R01|C1|P|2.5.1||||||UNICODE UTF-8\r"
    b"PID|1||A^^^H^MR||Moss^Jane||19700101|F\rOBR|1|ORD1|AI1|CT^CT^L\r"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.migrate()
    yield made
    made.close()


def order(ledger: Ledger, number: str, person: dict[str, str], placer: str = "ORD1") -> None:
    known = Order(placer=placer, accession=f"ACC-{placer}", patient_id=number, patient_id_authority="H", **person)
    ledger.orders.take([said(known, digest=placer, sent_at=T0)], T0)


def merge(prior: str, new: str, person: dict[str, str], *, digest: str = "", at: float = T0 + 10) -> PatientMessage:
    return PatientMessage(
        control_id="M", sender=("RIS", "H"), kind="merge", patient_id=new, patient_id_authority="H", prior_id=prior,
        prior_id_authority="H", digest=digest or f"{prior} {new}", sent_at=at, **person,
    )  # fmt: skip


def take(ledger: Ledger, message: PatientMessage, rule: MergeRule = "agreeing") -> int:
    """How many wait for a person."""
    return ledger.identities.patient_changed([message], T0 + 20, Weighing(rule=rule)).held


def whose(ledger: Ledger, placer: str = "ORD1") -> tuple[str, str]:
    (found,) = ledger.orders.of_study(study_uid="9.9", accession=f"ACC-{placer}")
    return found.patient_id, found.patient_name


def follow(ledger: Ledger) -> None:
    for number, message in ledger.held_merges.to_follow():
        ledger.identities.patient_changed([message], T0 + 40, Weighing(vouched=True))
        ledger.held_merges.followed(number)


def differs(ledger: Ledger) -> list[tuple[str, ...]]:
    return [each.differs for each in ledger.held_merges.waiting()]


def test_a_merge_of_two_persons_is_held_and_of_one_is_followed(ledger: Ledger) -> None:
    order(ledger, "A", JANE)
    assert take(ledger, merge("A", "E", EVE)) == 1
    assert whose(ledger) == ("A", "Moss^Jane")
    assert ledger.identities.aliases().targets == {}
    assert differs(ledger) == [("name", "birth date")]
    assert (status(ledger, T0).merges_held, status(ledger, T0).orders_held) == (1, 0)
    assert take(ledger, merge("A", "B", {**JANE, "patient_name": "Married^Jane"})) == 0
    assert whose(ledger) == ("B", "Married^Jane")


def test_the_archives_images_are_asked_too(ledger: Ledger) -> None:
    jane = Person(name="Moss^Jane", birth_date="19700101", sex="F")
    weighing = Weighing(seen=[(Patient("A"), jane)])
    assert ledger.identities.patient_changed([merge("A", "E", EVE)], T0, weighing).held == 1


def test_a_released_merge_is_followed_once_and_a_rejected_one_never(ledger: Ledger) -> None:
    order(ledger, "A", JANE)
    order(ledger, "C", JANE, "ORD2")
    for prior in ("A", "C"):
        take(ledger, merge(prior, "E", EVE, digest=prior))
    first, second = ledger.held_merges.waiting()
    assert ledger.held_merges.decide(first.id, HoldState.RELEASED, "looked", T0 + 30, by="anna")
    assert ledger.held_merges.decide(second.id, HoldState.REJECTED, "two persons", T0 + 30, by="anna")
    assert not ledger.held_merges.decide(second.id, HoldState.RELEASED, "too late", T0 + 31, by="anna")
    assert whose(ledger)[0] == "A", "the router follows"
    follow(ledger)
    assert (whose(ledger), whose(ledger, "ORD2")[0]) == (("E", "Mallory^Eve"), "C")
    assert (list(ledger.held_merges.to_follow()), differs(ledger)) == ([], [])
    again = merge("C", "E", EVE, digest="said again", at=T0 + 50)
    assert take(ledger, again) == 1
    assert (differs(ledger), whose(ledger, "ORD2")[0]) == ([], "C"), "a person said so"
    found = [(row.account, row.action, row.detail) for row in actions(ledger)]
    for line in (
        ("router", "merge_held", "A to E: name, birth date"), ("anna", "merge_released", "A to E: looked"),
        ("anna", "merge_rejected", "C to E: two persons"),
    ):  # fmt: skip
        assert line in found
    assert ledger.verify_audit().faults == ()


def test_what_is_held_is_written_down_once(ledger: Ledger) -> None:
    order(ledger, "A", JANE)
    for number in range(3):
        take(ledger, merge("A", "E", EVE, digest=str(number)))
    assert [ledger.held_merges.note_new(T0), ledger.held_merges.note_new(T0)] == [1, 0]


def test_a_chain_that_ends_at_another_person_is_held(ledger: Ledger) -> None:
    """By way of a number that nobody knows, and that says of itself what fits."""
    order(ledger, "A", JANE)
    assert take(ledger, merge("A", "X", JANE)) == 0
    assert take(ledger, merge("X", "E", EVE, at=T0 + 11)) == 1
    assert whose(ledger)[0] == "X"
    assert take(ledger, merge("X", "B", JANE, at=T0 + 12)) == 0
    assert ledger.identities.aliases().surviving(Patient("A", "H")) == Patient("B", "H")


def test_a_circle_and_a_second_target_are_held_and_a_person_may_release_them(ledger: Ledger) -> None:
    order(ledger, "A", JANE)
    take(ledger, merge("A", "B", JANE))
    assert take(ledger, merge("A", "C", JANE, at=T0 + 11)) == 1
    assert take(ledger, merge("B", "A", JANE, at=T0 + 12)) == 1
    assert differs(ledger) == [(ELSEWHERE,), (CIRCLE,)]
    circle = ledger.held_merges.waiting()[1]
    ledger.held_merges.decide(circle.id, HoldState.RELEASED, "the wrong way round", T0 + 30, by="anna")
    follow(ledger)
    assert whose(ledger)[0] == "A"
    assert ledger.identities.aliases().surviving(Patient("B", "H")) == Patient("A", "H")


@pytest.mark.parametrize(("rule", "held", "number"), [("hold", 1, "A"), ("agreeing", 0, "B"), ("all", 0, "B")])
def test_the_settings_say_which_merges_are_followed_at_once(
    ledger: Ledger, rule: MergeRule, held: int, number: str
) -> None:
    order(ledger, "A", JANE)
    assert take(ledger, merge("A", "B", JANE), rule) == held
    assert whose(ledger)[0] == number
    assert differs(ledger) == [(EVERY,)] * held
    assert take(ledger, merge(number, "E", EVE, digest="forged", at=T0 + 11), rule) == (rule != "all")


# -- the merge came before the patient


def read(ledger: Ledger) -> bytes:
    """What is owed to the RIS of a study whose images name Jane under A."""
    job_id, _ = make(ledger, arrive(ledger, seen()))
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 30)
    assert claim is not None
    ledger.claims.keep(
        job_id, claim.token, objects=[], measurements=[], warnings=[], now=T0 + 31,
        deliveries=[Owed(destination="ris", control_id="C1", payload=ORU)],
    )  # fmt: skip
    with ledger.begin() as db:
        mine = select(t.deliveries.c.payload).where(t.deliveries.c.destination == "ris")
        return bytes(db.execute(mine).scalar_one())


def test_a_merge_of_somebody_else_is_not_believed_once_images_come(ledger: Ledger) -> None:
    assert take(ledger, merge("A", "E", EVE)) == 0, "nobody is known as A"
    assert read(ledger) == ORU
    assert differs(ledger) == [("name", "birth date")]
    assert ledger.identities.aliases().targets == {}
    (held,) = ledger.held_merges.waiting()
    ledger.held_merges.decide(held.id, HoldState.RELEASED, "looked", T0 + 33, by="anna")
    follow(ledger)
    with ledger.begin() as db:
        payload = db.execute(select(t.deliveries.c.payload).where(t.deliveries.c.destination == "ris")).scalar_one()
    assert b"PID|1||E^^^H^MR||Mallory^Eve" in bytes(payload)


def test_a_merge_that_fits_the_images_holds_for_them(ledger: Ledger) -> None:
    take(ledger, merge("A", "B", JANE))
    assert b"PID|1||B^^^H^MR||Moss^Jane" in read(ledger)


def test_a_merge_that_says_nothing_waits_until_a_person_looked(ledger: Ledger) -> None:
    take(ledger, merge("A", "B", dict.fromkeys(JANE, "")))
    assert read(ledger) == ORU
    assert differs(ledger) == [(UNPROVEN,)]
