"""What an ADT says: of which patients, and what of them is new, gone, or not said."""

from __future__ import annotations

import pytest

from medai.router.hl7.messages import parse
from medai.router.hl7.patients_in import CHANGES, MERGES, UPDATES, PatientMessage
from medai.router.hl7.segments import BadMessage

PID = "PID|1||{}||Doe^Jane||19700101|F"


def adt(event: str, *segments: str, at: str = "20260102030405+0000") -> tuple[PatientMessage, ...]:
    head = f"MSH|^~\\&|RIS|H|MEDAI|AI|{at}||ADT^{event}|C1|P|2.5.1"
    _, found = parse("\r".join([head, f"EVN|{event}|20260101000000+0000", *segments, ""]).encode())
    assert found
    assert all(isinstance(each, PatientMessage) for each in found)
    return tuple(each for each in found if isinstance(each, PatientMessage))


def pairs(messages: tuple[PatientMessage, ...]) -> list[tuple[str, str, str, str]]:
    return [(m.prior_id, m.prior_id_authority, m.patient_id, m.patient_id_authority) for m in messages]


@pytest.mark.parametrize("event", sorted(UPDATES))
def test_an_event_of_a_visit_or_a_person_says_who_the_patient_is(event: str) -> None:
    (found,) = adt(event, "ZZZ|own", PID.format("A^^^H^MR"), "PV1|1|I", "ZPD|x")
    assert (found.kind, found.patient_id, found.patient_id_authority, found.prior_id) == ("update", "A", "H", "")
    assert (found.patient_name, found.birth_date, found.sex) == ("Doe^Jane", "19700101", "F")


def test_the_events_of_a_broadcast_feed_are_those_that_the_standard_gives_demographics() -> None:
    wanted = {"A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A09", "A10", "A11", "A12", "A13", "A28", "A31"}
    assert wanted <= UPDATES
    assert not UPDATES & (MERGES | CHANGES)


@pytest.mark.parametrize(("event", "kind"), [*((e, "merge") for e in sorted(MERGES)), ("A47", "change")])
def test_an_event_that_merges_or_renames_has_both_identifiers(event: str, kind: str) -> None:
    (found,) = adt(event, PID.format("B^^^H^MR"), "PD1", "MRG|A^^^H^MR", "PV1|1|O")
    assert found.kind == kind
    assert pairs((found,)) == [("A", "H", "B", "H")]


@pytest.mark.parametrize("event", ["A39", "A40"])
def test_every_group_and_every_repetition_of_mrg_1_is_a_merge(event: str) -> None:
    found = adt(
        event,
        PID.format("B^^^H^MR"), "PD1", "MRG|A1^^^H^MR~A2^^^H^MR", "PV1|1|I",
        "Z01|own", PID.format("D^^^H^MR"), "MRG|C^^^H", "MRG|C2^^^H",
    )  # fmt: skip
    assert pairs(found) == [("A1", "H", "B", "H"), ("A2", "H", "B", "H"), ("C", "H", "D", "H"), ("C2", "H", "D", "H")]


@pytest.mark.parametrize(
    ("pid_3", "mrg_1", "expected"),
    [
        ("B^^^H^MR~N1^^^NATION^NI", "A^^^H^MR~N1^^^NATION^NI", [("A", "H", "B", "H")]),
        (
            "N2^^^NATION^NI~B^^^H^MR",
            "A^^^H^MR~N1^^^NATION^NI",
            [("A", "H", "B", "H"), ("N1", "NATION", "N2", "NATION")],
        ),
        ("B^^^H^MR", "A^^^OTHER^MR", [("A", "OTHER", "B", "H")]),
        ("B", "A", [("A", "", "B", "")]),
        ("B^^^H&1.2.3&ISO^MR", "A^^^H&1.2.3&ISO^MR", [("A", "H", "B", "H")]),
        ("B^^^H^MR~7^^^H^AN", "A^^^H^MR~6^^^H^AN", [("A", "H", "B", "H")]),
        ("7^^^G^AN~B^^^H^MR", "A^^^G^PI", [("A", "G", "B", "H")]),
        ("B^^^H^MR", "~A^^^H^MR", [("A", "H", "B", "H")]),
    ],
)
def test_an_old_identifier_becomes_the_new_one_of_its_authority(
    pid_3: str, mrg_1: str, expected: list[tuple[str, str, str, str]]
) -> None:
    assert pairs(adt("A40", PID.format(pid_3), f"MRG|{mrg_1}")) == expected


@pytest.mark.parametrize(
    ("segments", "code", "location"),
    [
        (["PV1|1"], "101", "PID^1^3"),
        ([PID.format("")], "101", "MRG^1^1"),
        ([PID.format(""), "MRG|A"], "101", "PID^1^3"),
        ([PID.format("B"), "MRG|"], "101", "MRG^1^1"),
        ([PID.format("B"), "MRG|A", PID.format("D")], "101", "MRG^2^1"),
        ([PID.format("B"), "MRG|A", PID.format(""), "MRG|C"], "101", "PID^2^3"),
        (["MRG|A", PID.format("B")], "100", "MRG^1"),
    ],
)
def test_a_merge_of_which_a_part_is_missing_is_refused_as_a_whole(
    segments: list[str], code: str, location: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        adt("A40", *segments)
    assert (caught.value.ack, caught.value.code, caught.value.location) == ("AE", code, location)


@pytest.mark.parametrize("event", ["A15", "A17", "A23", "A24", "A29", "A37", "A41", "A43", "A44", "A45", "A60", ""])
def test_events_that_say_something_else_are_not_taken(event: str) -> None:
    with pytest.raises(BadMessage) as caught:
        adt(event, PID.format("B"), "MRG|A")
    assert (caught.value.ack, caught.value.code) == ("AR", "201")


def test_a_null_deletes_and_an_empty_field_says_nothing() -> None:
    (found,) = adt("A08", 'PID|1||A^^^H^MR||""|||""')
    assert (found.patient_name, found.birth_date, found.sex) == ("", "", "")
    assert found.deletes == {"patient_name", "sex"}
    assert adt("A08", PID.format("A"))[0].deletes == frozenset()


@pytest.mark.parametrize(("at", "seconds"), [("20260102030405+0000", 1767323045.0), ("", 1767225600.0)])
def test_the_time_of_a_message_is_that_of_its_header_else_of_its_event(at: str, seconds: float) -> None:
    assert adt("A31", PID.format("A"), at=at)[0].sent_at == seconds


@pytest.mark.parametrize("ignore", [("ADT^A60",), ("SIU^*", "ADT^*")])
def test_a_kind_that_the_site_ignores_gives_nothing(ignore: tuple[str, ...]) -> None:
    head, found = parse(b"MSH|^~\\&|RIS|H|M|A|20260102||ADT^A60|C1|P|2.5.1\rPID|\r", ignore)
    assert (head.control_id, found) == ("C1", ())
    with pytest.raises(BadMessage):
        parse(b"MSH|^~\\&|RIS|H|M|A|20260102||ADT^A61|C1|P|2.5.1\rPID|\r", ("ADT^A60", "SIU^*"))
