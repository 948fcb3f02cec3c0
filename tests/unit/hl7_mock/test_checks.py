"""Each fault that a result can have is found, with the right HL7 code and place; a good one passes."""

from __future__ import annotations

import time

import pytest

from medai.hl7_mock.checks import check_header, check_result, is_dicom_uid
from medai.hl7_mock.message import parse

OBR = "|24627-2^CT Chest^LN|"


def test_a_good_result_passes(oru) -> None:
    message = parse(oru())
    assert check_header(message) is None
    assert check_result(message) == ()


@pytest.mark.parametrize(
    "change",
    [
        ("|4123.5|", "|+.5|"),
        ("|4123.5|", "|7.|"),
        ("Jane", "J\\T\\ne \\E\\ Müller"),
        ("|ACC1|", "||"),
        ("ORC|RE|ORD1|AI1\r", ""),
        ("PV1|1|O\r", ""),
        ("OBX|5|RP", "NTE|1||a note\rOBX|5|RP"),
        ("\rOBX|5|RP", "\rZAI|anything\rOBX|5|RP"),
        ("|4123.5|ml^milliliter^UCUM|||||P", "||ml^milliliter^UCUM|||||X"),
    ],
)
def test_what_is_allowed_passes(oru, change) -> None:
    assert check_result(parse(oru(change))) == ()


NO_ORC = ("ORC|RE|ORD1|AI1\r", "")
"""As our results have none; of v2.3 hl7types asks for ORC-7."""
OLDER = {
    "2.4": (("|P|2.5.1", "|P|2.4"), ("|CWE|", "|CE|")),
    "2.3": (("ORU^R01^ORU_R01", "ORU^R01"), ("|P|2.5.1", "|P|2.3"), ("|CWE|", "|CE|"), ("|CT|P", "|CT|P||1"), NO_ORC),
}


@pytest.mark.parametrize("version", OLDER)
def test_a_good_result_of_an_older_version_passes(oru, version) -> None:
    message = parse(oru(*OLDER[version]))
    assert check_header(message) is None
    assert check_result(message) == ()


def test_a_version_is_held_to_its_own_rules(oru) -> None:
    """v2.3 knows no structure in MSH-9 and asks for OBR-27, v2.3.1 asks for OBX-4."""
    for version, wanted in (("2.3", {("103", "MSH", 9), ("101", "OBR", 27)}), ("2.3.1", {("101", "OBX", 4)})):
        found = check_result(parse(oru(("|P|2.5.1", f"|P|{version}"), NO_ORC)))
        assert {(objection.code, objection.segment, objection.field) for objection in found} == wanted


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        (("ORU^R01^ORU_R01", "ADT^A08^ADT_A01"), "200", 9),
        (("ORU^R01^ORU_R01", "ORU^R30^ORU_R30"), "201", 9),
        (("|P|2.5.1", "|X|2.5.1"), "202", 11),
        (("|P|2.5.1", "||2.5.1"), "202", 11),
        (("|P|2.5.1", "|P|2.2"), "203", 12),
    ],
)
def test_a_message_that_cannot_be_taken_is_named(oru, change, code, field) -> None:
    objection = check_header(parse(oru(change)))
    assert objection is not None
    assert (objection.code, objection.field) == (code, field)


FAULTS = [
    # what no validator sees
    (("|4123.5|", "|abc|"), "102", "OBX", 5),
    (("|4123.5|", "|1e3|"), "102", "OBX", 5),
    (("|4123.5|", "|NaN|"), "102", "OBX", 5),
    (("|4123.5|", "|4,123|"), "102", "OBX", 5),
    (("|4123.5|", "||"), "101", "OBX", 5),
    (("ml^milliliter^UCUM", ""), "101", "OBX", 6),
    (("ml^milliliter^UCUM", "ml^milliliter^L"), "103", "OBX", 6),
    (("OBX|3|NM", "OBX|3|QQ"), "103", "OBX", 2),
    (("OBX|3|NM", "OBX|3|"), "101", "OBX", 2),
    (("OBX|4|NM|112031^Attenuation^DCM|1|", "OBX|4|NM|118565006^Volume^SCT|1|"), "205", "OBX", 4),
    (("||N|||P", "||Q|||P"), "103", "OBX", 8),
    (("||N|||P", "||N|||Q"), "103", "OBX", 11),
    (("||N|||P", "||N|||"), "101", "OBX", 11),
    (("39607008^Lung^SCT", "39607008^Lung"), "101", "OBX", 5),
    (("39607008^Lung^SCT", "^^SCT"), "101", "OBX", 5),
    (("http://pacs/dicom-web/studies/1.2^", "^"), "101", "OBX", 5),
    (("CT|P\r", "CT|Q\r"), "103", "OBR", 25),
    (("CT|P\r", "CT|\r"), "101", "OBR", 25),
    (("||CT|P\r", "|||P\r"), "101", "OBR", 24),
    (("||20260102030405+0000||CT", "||||CT"), "101", "OBR", 22),
    (("OBR|1|ORD1|AI1", "OBR|1|ORD1|"), "101", "OBR", 3),
    (("OBR|1|ORD1|AI1", "OBR|1|ORD1|AI2"), "102", "OBR", 3),
    (("OBR|1|ORD1|AI1", "OBR|1|ORD2|AI1"), "102", "OBR", 2),
    (("|ACC1|", "|ACCESSION12345678|"), "104", "OBR", 18),
    (("|1.2.840.1.2|", "|1.2.840.01|"), "102", "OBR", 0),
    (("113014^DICOM Study^DCM", "113000^Of Interest^DCM"), "101", "OBR", 0),
    (("CTRL0000000000000001", "CTRL00000000000000012345"), "104", "MSH", 10),
    (("CTRL0000000000000001", ""), "101", "MSH", 10),
    (("ORU^R01^ORU_R01", "ORU^R01"), "101", "MSH", 9),
    (("|MEDAI|", "||"), "101", "MSH", 3),
    (("|2.5.1|||", "|2.5.1|||AL"), "207", "MSH", 15),
    (("PAT1^^^HOSPITAL", "^^^HOSPITAL"), "101", "PID", 3),
    (("PAT1^^^HOSPITAL^MR", "PAT1"), "101", "PID", 3),
    (("Jane", "Ja\\ne"), "102", "PID", 5),
    (("Jane", "Ja\tne"), "102", "PID", 5),
    # structure
    (("|19700101|", "|01.01.1970|"), "102", "PID", 7),
    (("||Doe^Jane|", "|||"), "101", "PID", 5),
    ((OBR, "||"), "101", "OBR", 4),
    (("118565006^Volume^SCT", ""), "101", "OBX", 3),
    (("PID|1||PAT1^^^HOSPITAL^MR||Doe^Jane||19700101|F\rPV1|1|O\r", ""), "101", "PID", 0),
    (("ORC|RE|ORD1|AI1\r", "ORC|RE|ORD1|AI1\rORC|RE\r"), "100", "", 0),
    (("OBR|1|", "OBQ|1|"), "100", "", 0),
    (("PV1|1|O\r", "AL1|1\r"), "100", "", 0),
]


@pytest.mark.parametrize(("change", "code", "segment", "field"), FAULTS)
def test_a_fault_is_found_with_its_code_and_place(oru, change, code, segment, field) -> None:
    found = check_result(parse(oru(change)))
    assert (code, segment, field) in {(each.code, each.segment, each.field) for each in found}, found


@pytest.mark.parametrize(("change", "code", "segment", "field"), FAULTS)
def test_no_reason_quotes_the_patient(oru, change, code, segment, field) -> None:
    said = " ".join(each.text for each in check_result(parse(oru(change))))
    assert not any(secret in said for secret in ("PAT1", "Jane", "1970", "ACC", "1.2.840"))


def test_the_place_counts_the_segments_of_the_message(oru) -> None:
    (objection,) = check_result(parse(oru(("|-780|", "|minus|"))))
    assert (objection.segment, objection.sequence, objection.field) == ("OBX", 4, 5)


@pytest.mark.parametrize(
    ("text", "good"),
    [("1.2.3", True), ("2.25.0", True), ("1.02", False), ("1", False), ("1..2", False), ("1." + "2" * 63, False)],
)
def test_dicom_uids_are_told_from_other_text(text, good) -> None:
    assert is_dicom_uid(text) is good


def test_encoding_characters_of_another_version_are_refused_and_no_failure(oru) -> None:
    message = parse(oru().replace(b"MSH|^~\\&|", b"MSH|^~\\&#|", 1))
    assert [(found.code, found.field) for found in check_result(message)] == [("102", 2)]


def test_many_orders_in_a_wrong_place_are_refused_at_once(oru) -> None:
    began = time.monotonic()
    head = oru().split(b"\r")[0]
    found = check_result(parse(head + b"\r" + b"OBR|1\r" * 5000 + b"PV2|1\r"))
    assert "100" in {objection.code for objection in found}
    assert time.monotonic() - began < 10
