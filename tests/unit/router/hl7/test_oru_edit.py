"""Re-coding and taking back an ORU that is kept: what changes, what does not, and that it stays a valid message."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medai.hl7_mock.checks import check_header, check_result
from medai.hl7_mock.inbox import _contradictions
from medai.hl7_mock.message import parse
from medai.hl7_mock.results import Result, Step, readings
from medai.router.contract import Order, short_id
from medai.router.hl7.oru_edit import WORDS, ordered, recode, withdrawn
from medai.router.hl7.patients_in import PatientMessage
from medai.router.hl7.text import escape

KEPT = (
    "MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|20260102030405+0000||ORU^R01^ORU_R01|CTRL1|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||A^^^H&1.2.3&ISO^MR~4711^^^INSURER^NI||Doe^Jane~\u5c71^\u592a^^^^^L^I||19700101|F",
    "PV1|1|U|||||||||||||||||V1",
    "OBR|1|ORD1|AI1|CTCHEST^CT chest^L|||20260102030000+0000|||||||||||ACC1|RP1|SPS1||20260102030405+0000||CT|P",
    "OBX|1|HD|113014^DICOM Study^DCM||1.2.840.1.2||||||P|||20260102030405+0000",
    "OBX|2|CWE|121071^Finding^DCM|1|39607008^Lung^SCT||||||P",
    "OBX|3|NM|118565006^Volume^SCT|1|4123.5|mL^milliliter^UCUM||N|||P",
    "OBX|4|RP|SEG^AI Segmentation^99MEDAI||http://pacs/1.2^^IM^DICOM||||||P",
)
MERGE = PatientMessage(
    control_id="C9",
    sender=("RIS", "HOSPITAL"),
    kind="merge",
    patient_id="B|2",
    patient_id_authority="H",
    prior_id="A",
    prior_id_authority="H",
    patient_name="R\u00f6e^Joan",
    birth_date="19710202",
    sex="O",
    digest="d",
)
SILENT = replace(MERGE, patient_name="", birth_date="", sex="")


def kept(*changes: tuple[str, str]) -> bytes:
    text = "".join(f"{line}\r" for line in KEPT)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def lines(data: bytes) -> list[str]:
    assert data.endswith(b"\r")
    return data.decode("utf-8").split("\r")[:-1]


def faults(data: bytes) -> list[str]:
    message = parse(data)
    header = check_header(message)
    return [header.text] if header else [each.text for each in check_result(message)]


def test_only_the_patient_of_a_kept_result_changes() -> None:
    changed = recode(kept(), prior_id="A", prior_authority="H", patient=MERGE)
    assert changed is not None
    before, after = lines(kept()), lines(changed)
    assert after[1] == "PID|1||B\\F\\2^^^H&1.2.3&ISO^MR~4711^^^INSURER^NI||R\u00f6e^Joan||19710202|O"
    assert [after[0], *after[2:]] == [before[0], *before[2:]]
    assert faults(changed) == []


def test_what_the_adt_does_not_say_stays() -> None:
    changed = recode(kept(), prior_id="A", prior_authority="H", patient=SILENT)
    assert changed == kept(("|A^", "|B\\F\\2^"))


def test_what_the_adt_deletes_is_empty() -> None:
    gone = replace(SILENT, deletes=frozenset({"birth_date", "sex"}))
    changed = recode(kept(), prior_id="A", prior_authority="H", patient=gone)
    assert changed is not None
    assert lines(changed)[1].split("|")[7:9] == ["", ""]
    assert faults(changed) == []
    nameless = recode(
        kept(), prior_id="A", prior_authority="H", patient=replace(SILENT, deletes=frozenset({"patient_name"}))
    )
    assert nameless is not None
    assert lines(nameless)[1].split("|")[5] == "^^^^^^U"
    assert faults(nameless) == []


def test_the_same_name_keeps_its_other_scripts() -> None:
    same = replace(SILENT, patient_name="Doe^Jane")
    assert recode(kept(), prior_id="A", prior_authority="", patient=same) == kept(("|A^", "|B\\F\\2^"))


@pytest.mark.parametrize(
    ("prior", "authority"), [("X", "H"), ("A", "OTHER"), ("4711", "H"), ("", ""), ("A^", ""), ("a", "H")]
)
def test_a_result_of_another_patient_is_left_alone(prior: str, authority: str) -> None:
    assert recode(kept(), prior_id=prior, prior_authority=authority, patient=MERGE) is None


def test_a_result_without_a_patient_identifier_is_nobodys() -> None:
    assert (
        recode(kept(("A^^^H&1.2.3&ISO^MR~4711^^^INSURER^NI", "")), prior_id="", prior_authority="", patient=MERGE)
        is None
    )
    assert recode(kept((lines(kept())[1] + "\r", "")), prior_id="A", prior_authority="H", patient=MERGE) is None


def test_doing_it_twice_changes_nothing_more() -> None:
    once = recode(kept(), prior_id="A", prior_authority="H", patient=MERGE)
    assert once is not None
    assert recode(once, prior_id="A", prior_authority="H", patient=MERGE) == once


def test_a_surviving_identifier_that_was_there_already_comes_once() -> None:
    both = kept(("~4711^^^INSURER^NI", "~B\\F\\2^^^H^MR"))
    changed = recode(both, prior_id="A", prior_authority="H", patient=SILENT)
    assert changed is not None
    assert lines(changed)[1].split("|")[3] == "B\\F\\2^^^H&1.2.3&ISO^MR"


@pytest.mark.parametrize(
    ("cx", "authority", "becomes"),
    [
        ("A", "", "B\\F\\2^^^"),
        ("A", "H", "B\\F\\2^^^H"),
        ("A^7^M11^H^MR", "H", "B\\F\\2^^^H^MR"),
        ("A^^^H^MR", "NEW", "B\\F\\2^^^NEW^MR"),
        ("A^^^&1.2.3&ISO^MR", "H", "B\\F\\2^^^&1.2.3&ISO^MR"),
    ],
)
def test_the_new_identifier_stands_where_the_old_one_stood(cx: str, authority: str, becomes: str) -> None:
    patient = replace(SILENT, patient_id_authority=authority)
    changed = recode(
        kept(("A^^^H&1.2.3&ISO^MR~4711^^^INSURER^NI", cx)), prior_id="A", prior_authority="", patient=patient
    )
    assert changed is not None
    assert lines(changed)[1].split("|")[3] == becomes


def test_a_name_that_would_break_the_message_does_not() -> None:
    hostile = replace(MERGE, patient_id=" B\r\x0b2", patient_name="Roe|\r\nPID^Joan", sex="F\rOBX")
    changed = recode(kept(), prior_id="A", prior_authority="H", patient=hostile)
    assert changed is not None
    assert [lines(changed)[1].split("|")[n] for n in (3, 5, 8)] == [
        "B 2^^^H&1.2.3&ISO^MR~4711^^^INSURER^NI",
        "Roe\\F\\ PID^Joan",
        "F OBX",
    ]
    assert faults(changed) == []


def test_a_message_that_is_not_ours_is_refused() -> None:
    for foreign in (b"MSH#^~\\&#MEDAI\r", b"PID|1\r", b""):
        with pytest.raises(ValueError, match="not an ORU"):
            withdrawn(foreign, control_id="X", now=0)


def test_a_withdrawal_names_the_same_result_and_holds_no_value() -> None:
    news = withdrawn(kept(), control_id="CTRL2", now=1_800_000_000.5)
    moment = "20270115080000+0000"
    before, after = [line.split("|") for line in lines(kept())], [line.split("|") for line in lines(news)]
    assert (after[0][6], after[0][9]) == (moment, "CTRL2")
    assert after[1:3] == before[1:3]
    assert after[3][:22] == before[3][:22]
    assert (after[3][22], after[3][24], after[3][25]) == (moment, "CT", "X")
    assert after[4][:6] == before[4][:6]
    assert [row[11] for row in after[4:]] == ["X"] * 5
    assert [row[1:9] for row in after[5:8]] == [[row[1], "", row[3], row[4], "", "", "", ""] for row in before[5:]]
    assert after[8][:6] == ["OBX", "5", "TX", "WITHDRAWN^Withdrawal of the AI result^99MEDAI", "", WORDS]
    assert after[8][14] == moment
    assert faults(news) == []


def test_a_withdrawal_follows_what_it_withdraws() -> None:
    for status in ("P", "C", "F"):
        told = kept(("CT|P\r", f"CT|{status}\r"))
        (first,), (then,) = readings(parse(told)), readings(parse(withdrawn(told, control_id="CTRL2", now=0)))
        before = Result(reading=first, history=(Step(status=status, control_id="1", received_at=0, message_id="1"),))
        assert _contradictions(1, before, then) == []
        assert (then.status, then.measurements, then.study_uid) == ("X", (), first.study_uid)


def test_a_withdrawal_of_a_withdrawal_has_its_reason_once() -> None:
    once = withdrawn(kept(), control_id="CTRL2", now=0)
    assert withdrawn(once, control_id="CTRL2", now=0) == once


# -- older versions

OLDER = {
    "2.3": (("ORU^R01^ORU_R01", "ORU^R01"), ("P|2.5.1", "P|2.3"), ("|CWE|", "|CE|")),
    "2.3.1": (("P|2.5.1", "P|2.3.1"), ("|CWE|", "|CE|")),
    "2.4": (("P|2.5.1", "P|2.4"), ("|CWE|", "|CE|")),
}


@pytest.mark.parametrize("version", OLDER)
def test_a_withdrawal_keeps_what_its_version_asks_for(version: str) -> None:
    found = [line.split("|") for line in lines(withdrawn(kept(*OLDER[version]), control_id="W", now=0.0))]
    values = [row for row in found if row[0] == "OBX"]
    assert [row[2] for row in values] == (
        ["HD", "", "", "", "TX"] if version == "2.4" else ["HD", "CE", "NM", "RP", "TX"]
    )
    assert [row[5] for row in values[1:-1]] == ["", "", ""]
    assert {row[11] for row in values} == {"X"}
    assert values[-1][4] == ("0" if version == "2.3.1" else "")
    assert found[0][11] == version


@pytest.mark.parametrize("version", OLDER)
def test_a_new_name_comes_with_all_its_repetitions_where_the_version_has_several(version: str) -> None:
    news = replace(MERGE, patient_name="^~R\u00f6e^Joan~\u5c71^\u592a^^^^^L^I")
    coded = recode(kept(*OLDER[version]), prior_id="A", prior_authority="H", patient=news)
    assert coded is not None
    name = lines(coded)[1].split("|")[5]
    assert name == ("R\u00f6e^Joan" if version == "2.3" else news.patient_name)


# -- whatever our encoder can write


@pytest.fixture(scope="module")
def write() -> Any:
    """``write(order, revision, warnings)``: the message that workers/results/oru.py makes."""
    folder = Path(__file__).parents[2] / "workers" / "results"
    module = _module(folder / "conftest.py")
    from medai.workers.results.oru import encode_oru

    make = module.Factory()
    source = make.source(shape=(6, 24, 32))
    plain = make.segmentation(source)

    def encode(order: Order | None, revision: int, warnings: tuple[str, ...]) -> bytes:
        job = make.job(source, order=order, revision=revision)
        return encode_oru(make.context(source, segmentation=replace(plain, warnings=warnings), job=job))

    return encode


def _module(path: Path) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("results_makers", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TEXT = st.text(
    st.one_of(
        st.sampled_from("|^~\\&\r\n\x0b\x1c\u00e4\u00df\u5c71\U0001f600 ABC123.="),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=24,
)
IDENTIFIERS = TEXT.map(lambda text: " ".join("".join(c if c.isprintable() else " " for c in text).split()))
SHORT = st.text(st.characters(codec="ascii", categories=["Lu", "Nd"]), min_size=1, max_size=12)
NAMES = st.lists(TEXT.map(escape), max_size=5).map("^".join)
AUTHORITIES = st.sampled_from(["", "H", "H&1.2.3&ISO", "OTHER"])
DATES = st.sampled_from(["", "19700101", "2026"])
SEXES = st.sampled_from(["", "F", "M", "O", "U"])
ORDERS = st.builds(
    Order,
    placer=SHORT,
    accession=SHORT,
    patient_id=IDENTIFIERS,
    patient_id_authority=AUTHORITIES,
    patient_name=NAMES,
    birth_date=DATES,
    sex=SEXES,
    procedure=st.tuples(SHORT, TEXT, st.just("L")),
    visit_number=SHORT,
)
PEOPLE = st.builds(
    replace,
    st.just(MERGE),
    patient_id=IDENTIFIERS.filter(bool),
    patient_id_authority=AUTHORITIES,
    patient_name=NAMES,
    birth_date=DATES,
    sex=SEXES,
)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(
    order=st.none() | ORDERS,
    person=PEOPLE,
    revision=st.sampled_from([1, 2]),
    warnings=st.lists(TEXT, max_size=2).map(tuple),
)
def test_what_our_encoder_writes_stays_valid_and_names_the_new_patient(
    write: Any, order: Order | None, person: PatientMessage, revision: int, warnings: tuple[str, ...]
) -> None:
    told = write(order, revision, warnings)
    was = parse(told).first("PID")
    assert was is not None
    assert faults(told) == []
    changed = recode(told, prior_id=was.value(3), prior_authority=was.value(3, 4), patient=person)
    assert changed is not None
    assert faults(changed) == []
    pid = parse(changed).first("PID")
    assert pid is not None
    assert pid.value(3) == person.patient_id
    assert [line for line in lines(changed) if line[:3] != "PID"] == [line for line in lines(told) if line[:3] != "PID"]
    assert recode(changed, prior_id=was.value(3), prior_authority=was.value(3, 4), patient=person) == changed


@MANY
@given(order=st.none() | ORDERS, revision=st.sampled_from([1, 2]), warnings=st.lists(TEXT, max_size=2).map(tuple))
def test_what_our_encoder_writes_can_be_taken_back(
    write: Any, order: Order | None, revision: int, warnings: tuple[str, ...]
) -> None:
    told = write(order, revision, warnings)
    news = withdrawn(told, control_id=short_id("another"), now=1_800_000_000)
    assert faults(news) == []
    (before,), (after,) = readings(parse(told)), readings(parse(news))
    assert (after.filler, after.placer, after.patient_id, after.study_uid) == (
        before.filler, before.placer, before.patient_id, before.study_uid,
    )  # fmt: skip
    assert {each.status for each in after.observations} == {"X"}
    assert len(after.observations) == len(before.observations) + 1
    assert after.measurements == ()


# -- an order that a person joined later

LEFT = ("OBX|4|RP|SEG", "OBX|4|CWE|PLAUSIBILITY^P^99MEDAI|W1|CHECK^the order names another name than the images: it was left out, please check^99MEDAI||||||P\rOBX|5|RP|SEG")  # fmt: skip
UNSOLICITED = (("OBR|1|ORD1|", "OBR|1||"), ("|ACC1|RP1|SPS1|", "||||"), LEFT)
JOINED = Order(
    placer="PL-1^RIS", accession="A|1", ordered_by="77^House", requested_procedure_id="RP&9", scheduled_step_id="S9",
    patient_id="MALLORY", patient_name="Mallory^Eve",
)  # fmt: skip


def test_a_result_is_told_once_more_under_the_order_that_was_joined_to_it() -> None:
    before, after = kept(*UNSOLICITED), ordered(kept(*UNSOLICITED), JOINED, control_id="CTRL9", now=1_800_000_000.0)
    assert after is not None
    changed = {
        new.split("|")[0]: new.split("|") for old, new in zip(lines(before), lines(after), strict=True) if old != new
    }
    assert changed.keys() == {"MSH", "OBR", "OBX"}, "the patient is that of the images"
    assert (changed["MSH"][9], changed["MSH"][6]) == ("CTRL9", "20270115080000+0000")
    numbers = [changed["OBR"][number] for number in (2, 3, 16, 18, 19, 20, 22, 25)]
    assert numbers == ["PL-1^RIS", "AI1", "77^House", "A\\F\\1", "RP\\T\\9", "S9", "20270115080000+0000", "P"]
    assert "left out" not in after.decode()
    assert "a person has joined it" in after.decode()
    assert b"Mallory" not in after
    assert b"MALLORY" not in after


def test_what_the_order_does_not_say_stays_and_a_result_with_an_order_is_not_told_again() -> None:
    told = ordered(kept(("OBR|1|ORD1|", "OBR|1||")), Order(placer="PL", accession="X" * 17), control_id="C", now=0.0)
    assert told is not None
    assert "|ACC1|RP1|SPS1|" in told.decode()
    assert ordered(kept(), JOINED, control_id="C", now=0.0) is None
    assert ordered(told, JOINED, control_id="C", now=0.0) is None
