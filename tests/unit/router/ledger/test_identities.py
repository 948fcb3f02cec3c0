"""What the ledger holds follows a patient: all of a message or nothing, and never an older message over a newer one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_cases import said

from medai.router.contract import Order
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import Action
from medai.router.hl7.patients import CircularMerge, Patient
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Ledger
from medai.router.ledger.identities import Changed, Weighing
from medai.router.reports.story import actions
from medai.router.settings.tables import MergeRule

NOW = 1_800_000_000.0
SENT = 1_767_312_000.0
"""When ``adt`` is sent, at minute 0."""
ORDER = Order(
    placer="ORD1", accession="ACC1", patient_id="A", patient_id_authority="H", patient_name="Doe^Jane",
    birth_date="19700101", sex="F", ordered_at=1.0,
)  # fmt: skip
_NUMBERS = itertools.count()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / f'{next(_NUMBERS)}.sqlite'}")
    made.migrate()
    yield made
    made.close()


def keep(ledger: Ledger, **changes: str) -> None:
    order = replace(ORDER, **changes)  # type: ignore[arg-type]  # a test names only real fields
    ledger.orders.take([said(order, digest=order.placer, sent_at=1.0)], NOW)


def follow(ledger: Ledger, messages: Sequence[PatientMessage], now: float, rule: MergeRule = "all") -> Changed:
    return ledger.identities.patient_changed(messages, now, Weighing(rule=rule))


def kept(ledger: Ledger, accession: str = "ACC1") -> Order:
    order = next(iter(ledger.orders.of_study(study_uid="9.9", accession=accession)), None)
    assert order is not None
    return order


def adt(event: str, *segments: str, minute: int = 0, number: str = "C1") -> tuple[PatientMessage, ...]:
    head = f"MSH|^~\\&|RIS|H|MEDAI|AI|202601020{minute // 60}{minute % 60:02}00+0000||ADT^{event}|{number}|P|2.5.1"
    _, found = parse("\r".join([head, *segments, ""]).encode())
    return tuple(each for each in found if isinstance(each, PatientMessage))


def merge(prior: str, new: str, *, minute: int = 0, event: str = "A40") -> tuple[PatientMessage, ...]:
    return adt(event, f"PID|1||{new}^^^H^MR", f"MRG|{prior}^^^H^MR", minute=minute)


def update(name: str = "", birth_date: str = "", sex: str = "", *, minute: int = 0) -> tuple[PatientMessage, ...]:
    return adt("A08", f"PID|1||A^^^H^MR||{name}||{birth_date}|{sex}", minute=minute)


def test_every_merge_of_a_message_is_followed(ledger: Ledger) -> None:
    keep(ledger)
    keep(ledger, placer="ORD2", accession="ACC2", patient_id="C")
    found = adt("A40", "PID|1||B^^^H^MR", "MRG|A^^^H^MR~A2^^^H^MR", "PID|2||D^^^H^MR||Roe^Joan", "MRG|C^^^H^MR")
    changed = follow(ledger, found, NOW)
    assert changed.orders == 2
    assert changed.told == found
    assert (kept(ledger).patient_id, kept(ledger, "ACC2").patient_id) == ("B", "D")
    assert kept(ledger, "ACC2").patient_name == "Roe^Joan"
    aliases = ledger.identities.aliases()
    assert [aliases.surviving(Patient(each, "H")).identifier for each in ("A", "A2", "C")] == ["B", "B", "D"]


def test_a_message_of_which_one_merge_cannot_be_is_not_followed_at_all(ledger: Ledger) -> None:
    keep(ledger)
    found = adt("A40", "PID|1||B^^^H^MR||Roe^Joan", "MRG|A^^^H^MR", "PID|2||A^^^H^MR", "MRG|B^^^H^MR")
    with pytest.raises(CircularMerge):
        follow(ledger, found, NOW)
    assert kept(ledger) == ORDER
    assert ledger.identities.aliases().targets == {}


def test_a_copy_changes_nothing_and_is_told_to_the_archive_again(ledger: Ledger) -> None:
    keep(ledger)
    follow(ledger, merge("A", "B"), NOW)
    again = follow(ledger, merge("A", "B"), NOW + 9)
    assert (again.orders, again.messages, again.told) == (0, 0, merge("A", "B"))


def test_an_older_update_does_not_win_over_a_newer_one(ledger: Ledger) -> None:
    keep(ledger)
    old, new = update("Old^Name", "19700101", "F", minute=1), update("New^Name", "19710202", "M", minute=2)
    for message in (old, new, old):
        changed = follow(ledger, message, NOW)
    assert (kept(ledger).patient_name, kept(ledger).birth_date, kept(ledger).sex) == ("New^Name", "19710202", "M")
    assert [(each.patient_name, each.birth_date, each.sex) for each in changed.told] == [("", "", "")]


def test_what_only_the_older_message_said_is_taken_from_it(ledger: Ledger) -> None:
    keep(ledger)
    follow(ledger, update("New^Name", minute=2), NOW)
    follow(ledger, update("Old^Name", "19710202", minute=1), NOW)
    assert (kept(ledger).patient_name, kept(ledger).birth_date) == ("New^Name", "19710202")


def test_a_null_deletes_until_a_later_message_says_it_anew(ledger: Ledger) -> None:
    keep(ledger)
    follow(ledger, update('""', "", '""', minute=2), NOW)
    assert (kept(ledger).patient_name, kept(ledger).birth_date, kept(ledger).sex) == ("", "19700101", "")
    follow(ledger, update("Old^Name", minute=1), NOW)
    assert kept(ledger).patient_name == ""
    follow(ledger, update("New^Name", minute=3), NOW)
    assert kept(ledger).patient_name == "New^Name"


def test_an_older_merge_does_not_win_over_a_newer_one(ledger: Ledger) -> None:
    keep(ledger)
    for message in (merge("A", "B", minute=1), merge("A", "C", minute=2), merge("A", "B", minute=1)):
        changed = follow(ledger, message, NOW)
    assert changed.told == ()
    assert ledger.identities.aliases().surviving(Patient("A", "H")) == Patient("C", "H")


def test_merges_of_a_chain_are_right_in_any_order_of_arrival(ledger: Ledger) -> None:
    for message in (merge("B", "C", minute=2), merge("A", "B", minute=1)):
        follow(ledger, message, NOW)
    assert ledger.identities.aliases().surviving(Patient("A", "H")) == Patient("C", "H")


def test_a_change_of_number_may_be_taken_back_and_a_merge_may_not(ledger: Ledger) -> None:
    keep(ledger)
    follow(ledger, merge("A", "B", minute=1, event="A47"), NOW)
    assert kept(ledger).patient_id == "B"
    with pytest.raises(CircularMerge):
        follow(ledger, merge("B", "A", minute=2), NOW)
    follow(ledger, merge("B", "A", minute=3, event="A47"), NOW)
    assert kept(ledger).patient_id == "A"
    for old in (merge("A", "B", minute=1, event="A47"), merge("A", "B", minute=2)):
        assert follow(ledger, old, NOW).told == ()
    assert ledger.identities.aliases().surviving(Patient("B", "H")) == Patient("A", "H")


def test_a_message_from_the_far_future_does_not_stop_those_of_today(ledger: Ledger) -> None:
    keep(ledger)
    future = tuple(replace(each, sent_at=NOW + 1e8) for each in update("Wrong^Clock"))
    follow(ledger, future, NOW)
    today = tuple(replace(each, sent_at=NOW + 10) for each in update("New^Name"))
    follow(ledger, today, NOW + 10)
    assert kept(ledger).patient_name == "New^Name"


def test_a_message_without_a_time_counts_from_its_arrival(ledger: Ledger) -> None:
    keep(ledger)
    for at, name in ((NOW + 1, "One^A"), (NOW + 2, "Two^B")):
        follow(ledger, tuple(replace(each, sent_at=None) for each in update(name)), at)
    assert kept(ledger).patient_name == "Two^B"


def test_an_order_and_an_adt_win_over_each_other_by_when_they_were_sent(ledger: Ledger) -> None:
    at = {minute: SENT + 60 * minute for minute in (1, 2, 3, 4)}
    named = replace(ORDER, patient_name="Two^Order")
    ledger.orders.take([said(named, digest="2", sent_at=at[2])], NOW)
    follow(ledger, update("One^Adt", minute=1), NOW)
    assert kept(ledger).patient_name == "Two^Order"
    follow(ledger, update("Four^Adt", minute=4), NOW)
    ledger.orders.take(
        [said(replace(named, patient_name="Three^Order"), Action.CHANGE, digest="3", sent_at=at[3])], NOW
    )
    assert kept(ledger).patient_name == "Four^Adt"


def test_an_order_message_from_before_a_merge_does_not_undo_it(ledger: Ledger) -> None:
    known = replace(ORDER, patient_identifiers=("A^^^H^MR",))
    ledger.orders.take([said(known, digest="1", sent_at=SENT + 60)], NOW)
    follow(ledger, merge("A", "B", minute=3), NOW)
    ledger.orders.take([said(known, Action.CHANGE, digest="2", sent_at=SENT + 120)], NOW)
    assert kept(ledger).patient_id == "B"
    assert [each.split("^")[0] for each in kept(ledger).patient_identifiers] == ["B"]
    ledger.orders.take([said(replace(known, sex="M"), Action.CHANGE, digest="4", sent_at=SENT + 240)], NOW)
    assert kept(ledger).sex == "M"


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*[st.sampled_from(["", '""', "X", "Y", "Z"])] * 3), min_size=1, max_size=5).flatmap(
        lambda told: st.tuples(st.just(told), st.permutations([*range(len(told)), *range(len(told))]))
    )
)
def test_updates_in_any_order_and_number_end_as_in_the_order_of_sending(
    tmp_path: Path, drawn: tuple[list[tuple[str, str, str]], list[int]]
) -> None:
    told, arrivals = drawn
    ledger = Ledger(f"sqlite:///{tmp_path / f'{next(_NUMBERS)}.sqlite'}")
    ledger.migrate()
    keep(ledger)
    for number in arrivals:
        follow(ledger, update(*told[number], minute=number), NOW)
    expected = [ORDER.patient_name, ORDER.birth_date, ORDER.sex]
    for fields in told:
        expected = [old if not new else "" if new == '""' else new for old, new in zip(expected, fields, strict=True)]
    order = kept(ledger)
    assert [order.patient_name, order.birth_date, order.sex] == expected
    ledger.close()


def test_a_merge_is_written_down_once_and_an_update_where_it_changed_something(ledger: Ledger) -> None:
    keep(ledger)
    for _ in range(2):
        follow(ledger, merge("P9", "P8"), 0.0)
    follow(ledger, update("NOBODY^KNOWN"), 0.0)
    found = [(row.account, row.action, row.detail) for row in actions(ledger)]
    assert ("(RIS)", "patient merge", "P9 to P8") in found
    assert len([row for row in found if row[1] == "patient merge"]) == 1
    assert ledger.verify_audit().faults == ()
