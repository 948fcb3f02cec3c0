"""Orders are kept bit by bit: none is lost, none is taken for another, and the newest word on each field wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_cases import T0, arrive, make, said, seen
from sqlalchemy import delete

from medai.router.contract import Order, Priority
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import Action, OrderMessage
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.reports.story import actions

NORTH = Order(placer="4711^NORTH", accession="N", patient_id="1", patient_name="Doe^Jane", priority=Priority.STAT)
SOUTH = replace(NORTH, placer="4711^SOUTH", accession="S", patient_id="2")


def found(ledger: Ledger, accession: str = "", study_uid: str = "") -> list[Order]:
    return list(ledger.orders.of_study(study_uid=study_uid, accession=accession))


def placers(ledger: Ledger, accession: str = "", study_uid: str = "") -> list[str]:
    return [order.placer for order in found(ledger, accession, study_uid)]


def take(ledger: Ledger, *messages: OrderMessage, at: float = T0) -> int:
    return ledger.orders.take(messages, at)


def change(order: Order, *carries: str, at: float, digest: str = "") -> OrderMessage:
    """A message that speaks of a few fields alone."""
    return replace(
        said(order, Action.CHANGE, digest=digest or f"change-{at}", sent_at=at), carries=frozenset({"placer", *carries})
    )


# -- which order is meant


def test_two_hospitals_that_count_alike_have_two_orders(ledger: Ledger) -> None:
    assert take(ledger, said(NORTH, digest="1"), said(SOUTH, digest="2")) == 2
    take(ledger, said(SOUTH, Action.CANCEL, digest="3"), at=T0 + 1)
    assert (placers(ledger, "N"), placers(ledger, "S")) == (["4711^NORTH"], [])


@pytest.mark.parametrize("more", [{"accession": "B"}, {"accession": "A", "study_uid": "1.2.9"}])
def test_one_placer_number_with_several_studies_has_several_orders(ledger: Ledger, more: dict[str, str]) -> None:
    first = Order(placer="P", accession="A", study_uid="1.2.3", procedure=("HEAD", "", ""))
    second = replace(first, procedure=("CHEST", "", ""), **({"study_uid": ""} | more))
    take(ledger, said(first, digest="1"), said(second, digest="1"))
    assert {order.procedure[0] for order in [*found(ledger, "A"), *found(ledger, "B")]} == {"HEAD", "CHEST"}
    assert found(ledger, study_uid="1.2.3")[0].procedure[0] == "HEAD"


def test_a_cancellation_that_names_no_study_cancels_every_order_of_its_number(ledger: Ledger) -> None:
    take(ledger, *(said(Order(placer="P", accession=name), digest="1") for name in "AB"))
    take(ledger, said(Order(placer="P"), Action.CANCEL, digest="2"), at=T0 + 1)
    assert (placers(ledger, "A"), placers(ledger, "B")) == ([], [])


def test_what_an_order_is_found_by_may_be_said_later(ledger: Ledger) -> None:
    take(ledger, said(Order(placer="P", procedure=("X", "", "")), digest="1"))
    take(ledger, said(Order(placer="P", accession="A"), Action.CHANGE, digest="2"), at=T0 + 1)
    take(ledger, said(Order(placer="P", study_uid="1.2.3"), Action.CHANGE, digest="3"), at=T0 + 2)
    assert [order.procedure[0] for order in found(ledger, "A")] == ["X"]
    assert [order.accession for order in found(ledger, study_uid="1.2.3")] == ["A"]


def test_a_filler_number_serves_as_accession_number_until_one_is_said(ledger: Ledger) -> None:
    take(ledger, said(Order(placer="P", filler="F1^LAB"), digest="1"))
    assert placers(ledger, "F1") == ["P"]
    take(ledger, said(Order(placer="P", filler="F1^LAB", accession="A"), Action.CHANGE, digest="2"), at=T0 + 1)
    assert (placers(ledger, "F1"), placers(ledger, "A")) == ([], ["P"])


def test_an_order_without_a_placer_number_is_known_by_its_filler_number(ledger: Ledger) -> None:
    take(ledger, said(Order(placer="", filler="F1^LAB", accession="A"), digest="1"))
    take(ledger, said(Order(placer="", filler="F1^WARD", accession="B"), digest="2"))
    take(ledger, said(Order(placer="", filler="F1^LAB"), Action.CANCEL, digest="3"), at=T0 + 1)
    assert (len(found(ledger, "A")), len(found(ledger, "B"))) == (0, 1)
    take(ledger, said(Order(placer="P9", filler="F1^WARD"), Action.CHANGE, digest="4"), at=T0 + 2)
    assert placers(ledger, "B") == ["P9"], "NA: the placer has given it a number"


def test_requests_of_one_message_never_overwrite_each_other(ledger: Ledger) -> None:
    """One says its accession number and one does not: the second is no change of the first."""
    head, chest = (
        Order(placer="P", accession="A", procedure=("HEAD", "", "")),
        Order(placer="P", procedure=("CHEST", "", "")),
    )
    for round_ in range(2):
        take(ledger, said(head, digest="1"), said(chest, digest="1"), at=T0 + round_)
    assert [order.procedure[0] for order in found(ledger, "A")] == ["HEAD"]


def test_of_orders_that_match_the_one_that_names_both_comes_first(ledger: Ledger) -> None:
    for number, (accession, uid) in enumerate([("A", "1.2.3"), ("A", ""), ("B", "1.2.3"), ("A", "1.2.9")]):
        take(
            ledger,
            said(Order(placer=f"P{number}", accession=accession, study_uid=uid), digest=str(number)),
            at=T0 + number,
        )
    assert placers(ledger, "A", "1.2.3") == ["P0", "P2", "P1", "P3"]


def test_a_message_is_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    broken = replace(said(SOUTH, digest="1"), order=replace(SOUTH, accession=object()))  # type: ignore[arg-type] # on purpose
    with pytest.raises(Exception, match=r"object|JSON|bind"):
        take(ledger, said(NORTH, digest="1"), broken)
    assert placers(ledger, "N") == []


# -- what is said of it


def test_a_change_keeps_what_it_does_not_speak_of(ledger: Ledger) -> None:
    take(ledger, said(NORTH, digest="1", sent_at=T0))
    take(ledger, change(replace(NORTH, patient_name="Roe^Jane", priority=Priority.ROUTINE), "patient_name", at=T0 + 1))
    (order,) = found(ledger, "N")
    assert (order.patient_name, order.priority, order.patient_id) == ("Roe^Jane", Priority.STAT, "1")


def test_what_a_message_empties_is_empty(ledger: Ledger) -> None:
    take(ledger, said(NORTH, digest="1", sent_at=T0))
    take(ledger, change(Order(placer=NORTH.placer), "patient_name", at=T0 + 1))
    (order,) = found(ledger, "N")
    assert (order.patient_name, order.patient_id) == ("", "1")


def test_an_older_message_wins_nothing_that_a_newer_one_said_but_adds_what_it_did_not(ledger: Ledger) -> None:
    take(ledger, change(replace(NORTH, patient_name="Roe^Jane"), "patient_name", at=T0 + 60))
    take(ledger, said(NORTH, digest="1", sent_at=T0), at=T0 + 61)
    (order,) = found(ledger, "N")
    assert (order.patient_name, order.priority) == ("Roe^Jane", Priority.STAT)


@pytest.mark.parametrize("late", [Action.CHANGE, Action.NEW])
def test_nothing_that_was_sent_before_a_cancellation_undoes_it(ledger: Ledger, late: Action) -> None:
    take(ledger, said(NORTH, digest="1", sent_at=T0))
    take(ledger, said(NORTH, Action.CANCEL, digest="2", sent_at=T0 + 60), at=T0 + 61)
    take(ledger, said(NORTH, late, digest="3", sent_at=T0 + 30), at=T0 + 62)
    assert placers(ledger, "N") == []


def test_a_status_after_a_cancellation_does_not_revive_and_a_new_order_does(ledger: Ledger) -> None:
    take(ledger, said(NORTH, Action.CANCEL, digest="1", sent_at=T0))
    take(ledger, said(NORTH, Action.CHANGE, digest="2", sent_at=T0 + 1))
    assert placers(ledger, "N") == []
    take(ledger, said(NORTH, digest="3", sent_at=T0 + 2))
    assert placers(ledger, "N") == ["4711^NORTH"]


def test_a_cancellation_that_overtakes_its_order_holds(ledger: Ledger) -> None:
    take(ledger, said(NORTH, Action.CANCEL, digest="2", sent_at=T0 + 1))
    take(ledger, said(NORTH, digest="1", sent_at=T0))
    assert placers(ledger, "N") == []


def test_a_copy_changes_nothing_also_within_the_second_of_its_cancellation(ledger: Ledger) -> None:
    placed = said(NORTH, digest="1", sent_at=T0)
    take(ledger, placed)
    take(ledger, said(NORTH, Action.CANCEL, digest="2", sent_at=T0))
    take(ledger, placed)
    assert placers(ledger, "N") == []


def test_messages_of_one_second_are_told_apart_by_their_sequence_number(ledger: Ledger) -> None:
    take(ledger, said(NORTH, Action.CANCEL, digest="2", sent_at=T0, sequence=8))
    take(ledger, said(NORTH, digest="1", sent_at=T0, sequence=7))
    assert placers(ledger, "N") == []


def test_a_message_from_the_future_does_not_win_for_good(ledger: Ledger) -> None:
    take(ledger, said(replace(NORTH, patient_name="Wrong^Clock"), digest="1", sent_at=T0 + 400 * 86_400))
    take(ledger, change(replace(NORTH, patient_name="Roe^Jane"), "patient_name", at=T0 + 60), at=T0 + 61)
    assert found(ledger, "N")[0].patient_name == "Roe^Jane"


def test_what_was_said_of_one_patient_is_not_said_of_another(ledger: Ledger) -> None:
    order = replace(NORTH, patient_identifiers=("1^^^H^MR",), birth_date="19600101", sex="F", visit_number="V1")
    take(ledger, said(order, digest="1", sent_at=T0))
    other = replace(order, patient_id="9", patient_identifiers=("9^^^H^MR",))
    take(ledger, change(other, "patient_id", "patient_identifiers", "patient_id_authority", at=T0 + 1))
    (now,) = found(ledger, "N")
    assert (now.patient_id, now.patient_name, now.birth_date, now.sex, now.visit_number) == ("9", "", "", "", "")
    assert now.priority is Priority.STAT


def test_a_patients_new_name_holds_against_orders_that_were_sent_before_it(ledger: Ledger) -> None:
    order = replace(NORTH, patient_identifiers=("1^^^H^MR",))
    take(ledger, said(order, digest="1", sent_at=T0))
    ledger.identities.patient_changed([renamed("Roe^Jane", T0 + 60)], T0 + 61)
    take(ledger, change(order, "patient_name", at=T0 + 30), at=T0 + 62)
    assert found(ledger, "N")[0].patient_name == "Roe^Jane"
    take(ledger, change(replace(order, patient_name="Poe^Jane"), "patient_name", at=T0 + 90), at=T0 + 91)
    ledger.identities.patient_changed([renamed("Old^Jane", T0 + 70)], T0 + 92)
    assert found(ledger, "N")[0].patient_name == "Poe^Jane"


def renamed(name: str, at: float) -> PatientMessage:
    return PatientMessage(
        control_id="A", sender=("RIS", "H"), kind="update", patient_id="1", patient_id_authority="H", prior_id="",
        prior_id_authority="", patient_name=name, birth_date="", sex="", digest=f"a{at}", sent_at=at,
    )  # fmt: skip


def test_an_order_has_what_waits_looked_at_again_where_it_is_more_urgent_and_raises_nothing_itself(
    ledger: Ledger,
) -> None:
    study = arrive(ledger, seen())
    make(ledger, study)
    order = Order(placer="P", accession="A1.2.3", priority=Priority.STAT)

    def due_after(each: OrderMessage) -> bool:
        ledger.studies.set_due(study.id, None)
        take(ledger, each)
        ((only,),) = [ledger.jobs.unsent(T0, resend_before=0)]
        assert only.priority == int(Priority.ROUTINE), "who the images are of is not known here"
        return ledger.studies.next_due() is not None

    assert not due_after(said(replace(order, priority=Priority.ROUTINE), digest="0", sent_at=T0 - 1))
    assert due_after(said(order, digest="2", sent_at=T0 + 1))
    assert not due_after(said(order, Action.CANCEL, digest="1", sent_at=T0 + 2))
    assert not due_after(said(replace(order, accession="OTHER"), digest="3", sent_at=T0 + 3))


# -- conversations, against a model of the rules


@dataclass
class Kept:
    """What the rules say of an order: for each field (value, moment), for the status too."""

    said: dict[str, tuple[Any, tuple[float, int]]] = field(default_factory=dict)

    def hear(self, name: str, value: Any, at: tuple[float, int]) -> None:
        if name not in self.said or at >= self.said[name][1]:
            self.said[name] = (value, at)


NUMBERS = st.sampled_from(["1000", "1000^ED", "1000^WARD", "1000^ED^1.2.3^ISO", "7^ED"])
STUDIES = st.sampled_from([("A1", "1.2.1"), ("A2", "1.2.2"), ("A3", "1.2.3")])
CONTROLS = st.sampled_from(["NW", "NW", "XO", "SC", "HD", "CA", "DC", "OC", "RP"])
NAMES = st.sampled_from(["", "", '""', "Doe^Jane", "Roe^Richard"])
PRIORITIES = st.sampled_from(["", "", "S", "R", "A"])


@st.composite
def conversation(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Messages (some twice, in any order of arrival), each of one to three requests; each names its study."""
    messages = []
    for _ in range(draw(st.integers(1, 6))):
        sent = draw(st.integers(0, 9))
        requests = draw(st.lists(st.tuples(NUMBERS, STUDIES), min_size=1, max_size=3, unique=True))
        messages.append(
            [
                {
                    "placer": number, "accession": accession, "uid": uid, "control": draw(CONTROLS), "sent": sent,
                    "name": draw(NAMES), "priority": draw(PRIORITIES), "code": draw(st.sampled_from(["", '""', "CT", "MR"])),
                }
                for number, (accession, uid) in requests
            ]
        )  # fmt: skip
    again = draw(st.lists(st.sampled_from(messages), max_size=2))
    return draw(st.permutations([*messages, *again]))


def as_hl7(message: Sequence[dict[str, Any]]) -> bytes:
    """One patient for each request, so that each may say another name; the sequence number is the message's own."""
    sent = message[0]["sent"]
    number = crc32(repr(message).encode())
    lines = [rf"MSH|^~\&|RIS|H|MEDAI|AI|202601051015{sent:02}+0000||ORM^O01|{number}|P|2.5.1|{number}"]
    for each in message:
        lines += [
            f"PID|1||77^^^H^MR||{each['name']}",
            f"ORC|{each['control']}|{each['placer']}|||||^^^^^{each['priority']}",
            f"OBR|1|{each['placer']}||{each['code']}" + "|" * 14 + each["accession"],
            f"ZDS|{each['uid']}",
        ]
    return ("\r".join(lines) + "\r").encode()


@lru_cache(maxsize=4000)
def spoken(data: bytes) -> list[OrderMessage]:
    """What a message says. Conversations have messages in common, and reading one takes longer than keeping it."""
    _, found_ = parse(data)
    return [each for each in found_ if isinstance(each, OrderMessage)]


def by_the_rules(messages: Sequence[Sequence[dict[str, Any]]]) -> dict[tuple[str, str], Kept]:
    known: dict[tuple[str, str], Kept] = {}
    for message in messages:
        number = crc32(repr(message).encode())
        at = (float(message[0]["sent"]), number)
        for each in message:
            kept = known.setdefault((each["placer"], each["accession"]), Kept())
            for name, value in (("name", each["name"]), ("code", each["code"])):
                if value:
                    kept.hear(name, "" if value == '""' else value, at)
            if each["priority"]:
                kept.hear(
                    "priority", {"S": Priority.STAT, "R": Priority.ROUTINE, "A": Priority.URGENT}[each["priority"]], at
                )
            if each["control"] in ("NW", "CA", "DC", "OC"):
                kept.hear("status", each["control"] == "NW", at)
    return known


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path_factory.mktemp('orders') / 'ledger.db'}")
    opened.migrate()
    yield opened
    opened.close()


def conversations(number: int) -> settings:
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@conversations(400)
@given(messages=conversation())
def test_no_conversation_loses_an_order_nor_takes_one_for_another(
    book: Ledger, messages: list[list[dict[str, Any]]]
) -> None:
    check_conversation(book, messages)


@pytest.mark.slow
@conversations(10_000)
@given(messages=conversation())
def test_nor_do_ten_thousand(book: Ledger, messages: list[list[dict[str, Any]]]) -> None:
    check_conversation(book, messages)


def check_conversation(book: Ledger, messages: list[list[dict[str, Any]]]) -> None:
    """Hand a conversation to the ledger as bytes, and compare every order with what the rules make of it."""
    with book.begin() as db:
        db.execute(delete(t.orders))
    for number, message in enumerate(messages):
        book.orders.take(spoken(as_hl7(message)), T0 + number)
    rules = by_the_rules(messages)
    open_ = {key for key, kept in rules.items() if kept.said.get("status", (True, None))[0]}
    got = {
        (order.placer, order.accession): order
        for accession in ("A1", "A2", "A3")
        for order in book.orders.of_study(study_uid="", accession=accession)
    }
    assert got.keys() == open_
    for key, order in got.items():
        kept = rules[key]
        assert order.patient_name == kept.said.get("name", ("", None))[0]
        assert order.procedure[0] == kept.said.get("code", ("", None))[0]
        assert order.priority == kept.said.get("priority", (Priority.ROUTINE, None))[0]
        assert order.study_uid == f"1.2.{key[1][1]}"


def test_a_change_of_an_order_is_written_down_and_a_copy_is_not(ledger: Ledger) -> None:
    order = Order(placer="PL1", accession="A1")
    take(ledger, change(order, "accession", at=1.0, digest="one"))
    news = change(replace(order, priority=Priority.STAT), "priority", at=2.0, digest="two")
    take(ledger, news)
    take(ledger, news)
    assert [(row.account, row.action) for row in actions(ledger)] == [("(RIS)", "order change")]
    assert actions(ledger)[0].detail.startswith("PL1: ")
