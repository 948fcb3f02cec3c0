"""Orders as RIS send them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.contract import Order, Priority
from medai.router.hl7.acknowledge import acknowledge
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import Action, OrderMessage, as_accession
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.segments import BadMessage, Header, header
from medai.router.hl7.text import decode

NOW = 1_700_000_000.0
MSH = "MSH|^~\\&|RIS|HOSPITAL|MEDAI|AI|20240301101500+0100||ORM^O01^ORM_O01|MSG00001|P|2.5.1"
PID = "PID|1||12345^^^HOSP&1.2.3&ISO^MR||Müller^Änne^M||19500102|F"
PV1 = "PV1|1|O|||||||||||||||||V77"
ORC = "ORC|NW|PL1^RIS|FI1^RIS||||1^^^^^S||20240301100000+0100"
OBR = "OBR|1|PL1|FI1|CTCHEST^CT chest^L" + "|" * 14 + "ACC1|RP1|SPS1||||CT"
ZDS = "ZDS|1.2.826.0.1.5^RIS^Application^DICOM"


def text(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()


def orm(**swap: str) -> bytes:
    parts = {"msh": MSH, "pid": PID, "pv1": PV1, "orc": ORC, "obr": OBR, "zds": ZDS, **swap}
    return text(*(part for part in parts.values() if part))


def one(data: bytes) -> OrderMessage:
    _, found = parse(data)
    assert isinstance(found, tuple)
    assert len(found) == 1
    return found[0]


def order(**swap: str) -> Order:
    return one(orm(**swap)).order


def test_an_orm_gives_every_part_of_the_order() -> None:
    found = one(orm())
    assert found.action is Action.NEW
    assert found.control_id == "MSG00001"
    assert found.sender == ("RIS", "HOSPITAL")
    assert found.order == Order(
        placer="PL1^RIS", filler="FI1^RIS", accession="ACC1", study_uid="1.2.826.0.1.5", priority=Priority.STAT,
        patient_id="12345", patient_id_authority="HOSP", patient_identifiers=("12345^^^HOSP&1.2.3&ISO^MR",), patient_name="Müller^Änne^M", birth_date="19500102", sex="F",
        procedure=("CTCHEST", "CT chest", "L"), requested_procedure_id="RP1", scheduled_step_id="SPS1", modality="CT",
        patient_class="O", visit_number="V77", ordered_at=1709283600.0,
    )  # fmt: skip


def test_an_omi_takes_the_imaging_segment_first() -> None:
    found = order(
        msh=MSH.replace("ORM^O01^ORM_O01", "OMI^O23^OMI_O23"), orc="ORC|NW|PL1|FI1", tq1="TQ1|1||||||||A",
        ipc="IPC|ACC9|RP9|1.2.3.9|SPS9|MR",
    )  # fmt: skip
    assert (found.accession, found.requested_procedure_id, found.study_uid) == ("ACC9", "RP9", "1.2.3.9")
    assert (found.scheduled_step_id, found.modality) == ("SPS9", "MR")


def test_the_priority_in_tq1_counts() -> None:
    assert order(orc="ORC|NW|PL1|FI1", tq1="TQ1|1||||||||A^ASAP").priority is Priority.URGENT


@pytest.mark.parametrize(
    ("swap", "expected"),
    [
        ({}, Priority.STAT),
        ({"orc": "ORC|NW|PL1"}, Priority.ROUTINE),
        ({"orc": "ORC|NW|PL1|||||1^^^^^R"}, Priority.ROUTINE),
        ({"orc": "ORC|NW|PL1", "obr": "OBR|1|PL1||X|S"}, Priority.STAT),
        ({"orc": "ORC|NW|PL1", "obr": "OBR|1|PL1||X" + "|" * 23 + "^^^^^A"}, Priority.URGENT),
        ({"orc": "ORC|NW|PL1|||||^^^^^R", "obr": "OBR|1|PL1||X|STAT"}, Priority.STAT),
    ],
)
def test_the_most_urgent_of_the_priority_fields_wins(swap: dict[str, str], expected: Priority) -> None:
    assert order(**swap).priority is expected


@pytest.mark.parametrize(
    ("orc", "action"),
    [("NW|PL1", "new"), ("|PL1", "new"), ("CA|PL1", "cancel"), ("DC|PL1", "cancel"), ("OC|PL1", "cancel"),
     ("XO|PL1", "change"), ("SC|PL1", "change"), ("SC|PL1|||CA", "cancel")],
)  # fmt: skip
def test_the_order_control_says_what_is_asked(orc: str, action: str) -> None:
    assert one(orm(orc=f"ORC|{orc}")).action == action


def test_no_other_number_is_taken_for_the_accession_number_but_a_short_filler_number_may_serve() -> None:
    assert order(obr="OBR|1|PL1|FI1|CT").accession == ""
    assert as_accession("FI1^RIS") == "FI1"
    assert as_accession("A-FILLER-NUMBER-THAT-IS-LONG") == ""


def test_missing_segments_are_no_error() -> None:
    found = order(pid="", pv1="", zds="")
    assert (found.placer, found.patient_id, found.patient_name, found.study_uid) == ("PL1^RIS", "", "", "")


def test_an_order_without_orc_is_taken_from_its_obr() -> None:
    assert one(orm(orc="")).action is Action.NEW
    assert order(orc="").placer == "PL1"


def test_a_message_with_several_orders_gives_each_its_own() -> None:
    _, found = parse(orm(more="ORC|CA|PL2|FI2\rOBR|1|PL2|FI2|MR^x^L" + "|" * 14 + "ACC2"))
    assert isinstance(found, tuple)
    assert [(item.order.placer, item.order.accession, item.action.value) for item in found] == [
        ("PL1^RIS", "ACC1", "new"), ("PL2", "ACC2", "cancel"),
    ]  # fmt: skip
    assert found[1].order.patient_id == "12345"


def test_the_medical_record_number_is_chosen_among_several_identifiers() -> None:
    found = order(pid="PID|1||99^^^NATION^NI~12345^^^HOSP^MR||A^B")
    assert (found.patient_id, found.patient_id_authority) == ("12345", "HOSP")


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("UNICODE UTF-8", "utf-8"), ("", "utf-8"), ("", "iso8859-1"), ("8859/1", "iso8859-1"), ("ISO IR100", "iso8859-1"),
     ("8859/15", "iso8859-15"), ("ASCII", "utf-8"), ("ASCII", "iso8859-1"), ("UNKNOWN", "utf-8"),
     ("UNICODE UTF-8", "iso8859-1"), ("8859/1~ISO IR87", "iso8859-1")],
)  # fmt: skip
def test_the_patient_name_is_read_in_the_declared_character_set(charset: str, codec: str) -> None:
    data = orm(msh=f"{MSH}||||||{charset}").decode().encode(codec)
    assert one(data).order.patient_name == "Müller^Änne^M"


def test_a_japanese_name_is_read() -> None:
    data = orm(msh=f"{MSH}||||||ISO IR87", pid="PID|1||1||山田^太郎").decode().encode("iso2022_jp")
    assert "山田" in decode(data)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r"])
def test_any_line_end_is_read(end: str) -> None:
    assert one(orm().decode().replace("\r", end).encode()).order.accession == "ACC1"


def test_other_delimiters_and_escapes_are_read() -> None:
    data = (
        "MSH$%*!/$RIS$H$M$A$20240301$$ORM%O01$1$P$2.3\rPID$1$$7%%%HOSP$$O!S!Neil%A!X41!B\r"
        "ORC$NW$P!F!1\rOBR$1$$$C%a b%L\r"
    )
    found = one(data.encode()).order
    assert found.patient_name == "O%Neil".replace("%", "\\S\\").replace("\\S\\Neil", "%Neil") + "^AAB"
    assert found.placer == "P$1"
    assert found.procedure == ("C", "a b", "L")


def test_the_null_value_is_empty_and_said() -> None:
    told = one(orm(obr='OBR|1|PL1||X||||||||||||||""'))
    assert told.order.accession == ""
    assert "accession" in told.carries
    assert "accession" not in one(orm(obr="OBR|1|PL1||X")).carries


@pytest.mark.parametrize("uid", ["not.a.uid", "1", "1.2.", "1." + "2" * 70, "1.2.3; DROP"])
def test_a_study_uid_that_is_none_is_ignored(uid: str) -> None:
    assert order(zds=f"ZDS|{uid}").study_uid == ""


@pytest.mark.parametrize(
    ("data", "ack", "code", "location"),
    [
        (b"hello", "AE", "100", "MSH^1^1"),
        (b"", "AE", "100", "MSH^1^1"),
        (b"MSH", "AE", "100", "MSH^1^1"),
        (b"MSH|||||||||", "AE", "100", "MSH^1^1"),
        (b"GET / HTTP/1.1\r\n\r\n", "AE", "100", "MSH^1^1"),
        (orm(msh=MSH.replace("MSG00001", "")), "AE", "101", "MSH^1^10"),
        (orm(msh=MSH.replace("2.5.1", "3.0")), "AR", "203", "MSH^1^12"),
        (orm(msh=MSH.replace("ORM^O01^ORM_O01", "ORU^R01")), "AR", "200", "MSH^1^9"),
        (orm(msh=MSH.replace("ORM^O01^ORM_O01", "ADT^A60")), "AR", "201", "MSH^1^9"),
        (text(MSH, PID), "AE", "100", "ORC^1"),
        (orm(orc="ORC|NW|", obr="OBR|1|"), "AE", "101", "ORC^1^2"),
    ],
)  # fmt: skip
def test_a_bad_message_says_which_field_and_not_what_it_holds(data: bytes, ack: str, code: str, location: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(data)
    assert (caught.value.ack, caught.value.code, caught.value.location) == (ack, code, location)
    assert "12345" not in str(caught.value)
    assert "üller" not in str(caught.value)


def test_a_patient_update_and_a_merge_are_recognised() -> None:
    (update,) = parse(text(MSH.replace("ORM^O01^ORM_O01", "ADT^A08^ADT_A01"), PID))[1]
    assert isinstance(update, PatientMessage)
    assert (update.kind, update.patient_id, update.prior_id) == ("update", "12345", "")
    (merge,) = parse(text(MSH.replace("ORM^O01^ORM_O01", "ADT^A40^ADT_A39"), PID, "MRG|OLD1^^^HOSP"))[1]
    assert isinstance(merge, PatientMessage)
    assert (merge.kind, merge.patient_id, merge.prior_id, merge.prior_id_authority) == (
        "merge",
        "12345",
        "OLD1",
        "HOSP",
    )
    with pytest.raises(BadMessage, match="MRG-1"):
        parse(text(MSH.replace("ORM^O01^ORM_O01", "ADT^A40^ADT_A39"), PID))


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda junk: orm() + junk))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    head = header(data)
    assert head is None or isinstance(head, Header)
    with contextlib.suppress(BadMessage):
        parse(data)
    assert acknowledge(head, "AE", now=NOW).startswith(b"MSH|")
