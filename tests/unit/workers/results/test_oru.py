"""The ORU's must-list (docs/standards.md, section 3), above all what no validator looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hl7
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from medai.router.contract import Order, control_id
from medai.router.settings.tables import Settings
from medai.workers.results.hl7_text import CONTROL
from medai.workers.results.identity import ResultUids, device_uid
from medai.workers.results.oru import encode_oru

ORDER = Order(
    placer="ORD1^RIS",
    accession="A42",
    patient_id="0815",
    patient_id_authority="HOSP&1.2.3&ISO",
    patient_name="Doe^Jane^^^Dr",
    birth_date="19700101",
    sex="M",
    procedure=("CTCHEST", "CT chest & neck", "L"),
    requested_procedure_id="RP1",
    scheduled_step_id="SPS1",
    visit_number="V1",
)

HOSTILE = st.text(st.sampled_from("1.2P|^~\\&\r\n\x0b\x85\u2028 ü#"), min_size=1, max_size=20).filter(str.strip)
"""Identifiers as no sound system makes them, with every delimiter of HL7 and every end of a line."""


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def message(make: Any, source: Any, *, warnings: tuple[str, ...] = (), found: Any = None, **job: Any) -> bytes:
    segmentation = found or make.segmentation(source, warnings=warnings)
    return encode_oru(make.context(source, segmentation=segmentation, job=make.job(source, **job)))


def rows(data: bytes, name: str) -> list[list[str]]:
    """Fields by their HL7 number: row[3] is field 3 (MSH-1 is the separator, put in here)."""
    found = [line.split("|") for line in data.decode("utf-8").split("\r") if line.startswith(name)]
    return [["MSH", "|", *row[1:]] + [""] * 30 if name == "MSH" else row + [""] * 30 for row in found]


def test_the_header_is_original_mode_in_utf8(make: Any, source: Any) -> None:
    (msh,) = rows(message(make, source), "MSH")
    assert msh[2] == "^~\\&"
    assert msh[3:7] == ["MEDAI", "AI", "RIS", "HOSPITAL"]
    assert msh[7] == "20260314150926+0000"
    assert msh[9] == "ORU^R01^ORU_R01"
    assert msh[10] == control_id(make.job(source).job_id, "ris")
    assert len(msh[10]) <= 20
    assert msh[11:13] == ["P", "2.5.1"]
    assert msh[15:17] == ["", ""]
    assert msh[18] == "UNICODE UTF-8"


def test_a_retry_sends_the_same_bytes_with_carriage_returns_only(make: Any, source: Any) -> None:
    data = message(make, source)
    assert data == message(make, source)
    assert b"\n" not in data
    assert data.endswith(b"\r")


def test_without_an_order_the_identifiers_are_the_images(make: Any, source: Any) -> None:
    data = message(make, source)
    (pid,), (obr,) = rows(data, "PID"), rows(data, "OBR")
    assert pid[3] == "MRN-77\\F\\1^^^HOSPITAL^MR"
    assert pid[5] == "Müller^Änne^^MD^Dr."
    assert pid[7:9] == ["19600229", "F"]
    assert obr[2] == ""
    assert obr[4] == "25045-6^CT unspecified body region^LN"
    assert obr[18] == "ACC123"
    assert not rows(data, "PV1")


def test_an_order_names_placer_patient_accession_procedure_and_visit(make: Any, source: Any) -> None:
    data = message(make, source, order=ORDER)
    (pid,), (obr,), (pv1,) = rows(data, "PID"), rows(data, "OBR"), rows(data, "PV1")
    assert pid[3] == "0815^^^HOSP&1.2.3&ISO^MR"
    assert pid[5] == "Doe^Jane^^^Dr"
    assert pid[7:9] == ["19700101", "M"]
    assert obr[2] == "ORD1^RIS"
    assert obr[4] == "CTCHEST^CT chest \\T\\ neck^L"
    assert obr[18:21] == ["A42", "RP1", "SPS1"]
    assert pv1[19] == "V1"


@pytest.mark.parametrize(
    ("numbers", "sent"),
    [
        (("A99^^^INSURER^PI", "0815^^^HOSP^MR", "77^^^&1.2.9&ISO^NI"), (0, 1, 2)),
        (("0815^^^HOSP&1.2.3&ISO^MR", "4711^^^HOSP^MR", "4712^^^^MR", "0815^^^HOSP^PI"), (0, 3)),
        (("0815^^^&1.2.3&ISO^MR", "4711^^^&1.2.3&ISO^MR", "4712^^^&1.2.4&ISO^MR"), (0, 2)),
    ],
)
def test_numbers_of_other_authorities_go_back_in_their_order(
    make: Any, source: Any, numbers: tuple[str, ...], sent: tuple[int, ...]
) -> None:
    known = with_headers(make, source, PatientID="0815")
    (pid,) = rows(message(make, known, order=replace(ORDER, patient_id="0815", patient_identifiers=numbers)), "PID")
    assert pid[3] == "~".join(numbers[place] for place in sent)


def test_where_images_and_order_name_one_patient_the_images_say_who_it_is(make: Any, source: Any) -> None:
    """An order can be sent by whoever reaches its port."""
    numbers = ("MRN-77|1^^^TRUST^MR".replace("|", "\\F\\"), "VICTIM^^^TRUST^MR")
    evil = replace(ORDER, patient_id="MRN-77|1", patient_identifiers=numbers, patient_name="MALLORY^EVE", sex="M")
    (pid,) = rows(message(make, source, order=evil), "PID")
    assert pid[3] == numbers[0], "and no other number of the same authority"
    assert (pid[5], pid[7:9]) == ("Müller^Änne^^MD^Dr.", ["19600229", "F"])
    silent = with_headers(make, source, PatientName=None, PatientBirthDate=None, PatientSex=None)
    (pid,) = rows(message(make, silent, order=evil), "PID")
    assert (pid[5], pid[7:9]) == ("MALLORY^EVE", ["19700101", "M"]), "what the images do not say"


def test_a_loinc_code_of_the_images_stands_beside_the_ordered_one(make: Any, source: Any) -> None:
    local, loinc = Dataset(), Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "CHE", "99HOSP", "Chest"
    loinc.CodeValue, loinc.CodingSchemeDesignator, loinc.CodeMeaning = "24627-2", "LN", "CT Chest"
    both = with_headers(make, source, ProcedureCodeSequence=[local, loinc])
    (obr,) = rows(message(make, both, order=ORDER), "OBR")
    assert obr[4] == "CTCHEST^CT chest \\T\\ neck^L^24627-2^CT Chest^LN"
    (obr,) = rows(message(make, both), "OBR")
    assert obr[4] == "CHE^Chest^99HOSP^24627-2^CT Chest^LN"
    alone = with_headers(make, source, ProcedureCodeSequence=[loinc, local])
    (obr,) = rows(message(make, alone), "OBR")
    assert obr[4] == "24627-2^CT Chest^LN"


def test_an_order_that_is_silent_falls_back_to_the_images(make: Any, source: Any) -> None:
    data = message(make, source, order=Order(placer="ORD2"))
    (pid,), (obr,) = rows(data, "PID"), rows(data, "OBR")
    assert pid[3].startswith("MRN-77")
    assert (obr[2], obr[18]) == ("ORD2", "ACC123")


def test_the_request_says_what_when_and_how_far(make: Any, source: Any) -> None:
    (obr,) = rows(message(make, source), "OBR")
    assert obr[3] == make.job(source).filler
    assert obr[7] == "20260314120502"
    assert obr[22] == "20260314150926+0000"
    assert (obr[24], obr[25]) == ("CT", "P")


def test_an_accession_too_long_for_dicom_is_left_out(make: Any, source: Any) -> None:
    (obr,) = rows(message(make, source, order=replace(ORDER, accession="X" * 17)), "OBR")
    assert obr[18] == "ACC123"


def test_a_revision_keeps_the_filler_and_stays_preliminary_since_nothing_was_ever_final(make: Any, source: Any) -> None:
    first = message(make, source)
    assert {obx[11] for obx in rows(first, "OBX")} == {"P"}
    second = message(make, source, revision=2, job_id=make.other_job_id)
    assert rows(first, "OBR")[0][3] == rows(second, "OBR")[0][3]
    assert rows(first, "MSH")[0][10] != rows(second, "MSH")[0][10]
    assert rows(second, "OBR")[0][25] == "P"
    assert {obx[11] for obx in rows(second, "OBX")} == {"P"}


def test_the_study_is_named_by_its_uid(make: Any, source: Any) -> None:
    obx = rows(message(make, source), "OBX")[0]
    assert obx[2:6] == ["HD", "113014^DICOM Study^DCM", "", source.first.StudyInstanceUID]


def test_each_number_has_a_concept_a_local_name_a_unit_and_its_segment(make: Any, source: Any) -> None:
    numbers = [obx for obx in rows(message(make, source), "OBX") if obx[2] == "NM"]
    expected = make.measurements(source, make.segmentation(source))
    assert [float(obx[5]) for obx in numbers] == [m.value for m in expected]
    assert numbers[0][3] == "118565006^Volume^SCT^RIGHT_LUNG_VOLUME^Right lung volume^99MEDAI"
    assert [obx[4] for obx in numbers] == ["1", "1", "2", "2"]
    assert {obx[6].split("^")[0] for obx in numbers} == {"mL", "[hnsf'U]"}
    assert all(obx[6].endswith("^UCUM") and obx[8] == "" for obx in numbers)


def test_each_segment_is_a_coded_finding_with_its_side(make: Any, source: Any) -> None:
    coded = [(obx[3], obx[4], obx[5]) for obx in rows(message(make, source), "OBX") if obx[2] == "CWE"]
    assert coded[:-1] == [
        ("121071^Finding^DCM", "1", "RIGHT_LUNG^Right lung^99MEDAI^39607008^Lung^SCT"),
        ("272741003^Laterality^SCT", "1", "24028007^Right^SCT"),
        ("121071^Finding^DCM", "2", "LEFT_LUNG^Left lung^99MEDAI^39607008^Lung^SCT"),
        ("272741003^Laterality^SCT", "2", "7771000^Left^SCT"),
    ]


def pointers(make: Any, source: Any) -> list[str]:
    return [obx[5].split("^")[0] for obx in rows(message(make, source), "OBX") if obx[2] == "RP"]


def test_the_objects_are_found_by_wado_rs(make: Any, source: Any) -> None:
    short = with_headers(make, source, StudyInstanceUID="1.2.840.99")
    uids = ResultUids.of(make.job(short).job_id)
    study = "https://pacs.example/dicom-web/studies/1.2.840.99"
    assert pointers(make, short) == [
        f"{study}/series/{uids.seg_series}/instances/{uids.seg}",
        f"{study}/series/{uids.sr_series}/instances/{uids.sr}",
        f"{study}/series/{uids.sc_series}/instances/{uids.sc}",
    ]


def test_an_address_too_long_for_a_pointer_is_that_of_the_series_which_holds_nothing_else(
    make: Any, source: Any
) -> None:
    uids = ResultUids.of(make.job(source).job_id)
    study = f"https://pacs.example/dicom-web/studies/{source.first.StudyInstanceUID}"
    assert len(f"{study}/series/{uids.seg_series}/instances/{uids.seg}") > 199
    named = (uids.seg_series, uids.sr_series, uids.sc_series)
    assert pointers(make, source) == [f"{study}/series/{series}" for series in named]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(study=HOSTILE, patient=HOSTILE, order=st.booleans())
@example(study="1.2|3^4\\5~6&7", patient="P\rOBX|9|ST|x||y", order=True)
@example(study="1.2\x85OBX|9", patient="P\u2028PID|1", order=False)
@pytest.mark.filterwarnings("ignore")  # pydicom's, on making the case
def test_no_identifier_can_change_a_field(make: Any, source: Any, study: str, patient: str, order: bool) -> None:
    """The same segments with the same fields as of plain identifiers; and each comes back as it was, but for controls."""
    known = Order(placer="ORD1", patient_id=patient, accession="A42") if order else None
    plain = replace(known, patient_id="0815") if known else None
    context, job = make.context(source), make.job(source, order=known)
    hostile = with_headers(make, source, StudyInstanceUID=study, PatientID=patient)
    told = encode_oru(replace(context, source=hostile, job=job))
    good = encode_oru(replace(context, job=replace(job, order=plain)))
    for lines in (told.decode("utf-8").splitlines(), told.decode("utf-8").split("\r")[:-1]):
        assert [shape(line) for line in lines] == [shape(line) for line in good.decode("utf-8").splitlines()]
    parsed = hl7.parse(told.decode("utf-8"))
    (pid,), (uid,) = rows(told, "PID"), [obx for obx in rows(told, "OBX") if obx[2] == "HD"]
    for said, meant in ((uid[5], study), (pid[3].split("^")[0], patient)):
        assert parsed.unescape(said).replace(" ", "") == CONTROL.sub("", meant).replace(" ", "")


def shape(line: str) -> tuple[str, int, list[int]]:
    """Segment, fields and components of each field, but of those that say more where an identifier says something."""
    fields = line.split("|")
    counted = [field.count("^") for number, field in enumerate(fields) if (fields[0], number) != ("PID", 3)]
    return fields[0], len(fields), counted


def test_without_an_address_nothing_points_anywhere(make: Any, source: Any) -> None:
    context = replace(make.context(source), settings=Settings())
    assert not [obx for obx in rows(encode_oru(context), "OBX") if obx[2] == "RP"]


def test_every_observation_says_status_times_method_and_device(make: Any, source: Any) -> None:
    for number, obx in enumerate(rows(message(make, source), "OBX"), start=1):
        assert obx[1] == str(number)
        assert obx[11] == "P"
        assert obx[14] == "20260314120502"
        assert obx[17] == "123110^Artificial Intelligence^DCM^ct_lungs^Lungs in CT 1.2.0^99MEDAI"
        assert obx[18].startswith("ct_lungs 1.2.0^99MEDAI^2.25.")
        assert obx[19] == "20260314150926+0000"


def test_a_plausibility_warning_is_flagged_abnormal(make: Any, source: Any) -> None:
    last = rows(message(make, source, warnings=("lungs | touch",)), "OBX")[-1]
    assert (last[4], last[5], last[8]) == ("W1", "CHECK^lungs \\F\\ touch^99MEDAI", "A")


def test_the_verdict_is_always_there_and_abnormal_only_where_a_person_should_look(make: Any, source: Any) -> None:
    good = [obx for obx in rows(message(make, source, found=make.hippocampus(source)), "OBX") if obx[4] == "V"]
    assert [(obx[3], obx[5], obx[8]) for obx in good] == [
        ("VERDICT^Verdict of the plausibility checks^99MEDAI", "PLAUSIBLE^2 of 2 checks passed^99MEDAI", "N")
    ]
    bad = [obx for obx in rows(message(make, source, warnings=("a note",)), "OBX") if obx[4] == "V"]
    assert [(obx[5], obx[8]) for obx in bad] == [("CHECK^nothing was checked^99MEDAI", "A")]


def test_a_part_is_coded_beside_its_side(make: Any, source: Any) -> None:
    found = rows(message(make, source, found=make.hippocampus(source)), "OBX")
    parts = [(obx[4], obx[5]) for obx in found if obx[3] == "106233006^Topographical modifier^SCT"]
    assert parts == [("1", "255549009^Anterior^SCT"), ("2", "255551008^Posterior^SCT")]


def test_a_total_is_a_number_with_a_finding_that_names_it(make: Any, source: Any) -> None:
    segmentation = make.hippocampus(source)
    finding, number = [obx for obx in rows(message(make, source, found=segmentation), "OBX") if obx[4] == "T1"]
    assert finding[5] == "LEFT_HIPPOCAMPUS^Left hippocampus^99MEDAI"
    assert number[2:4] == ["NM", "118565006^Volume^SCT^LEFT_HIPPOCAMPUS_VOLUME^Left hippocampus volume^99MEDAI"]
    assert float(number[5]) == make.measurements(source, segmentation)[-1].value


def test_a_whole_message_with_an_order(make: Any, source: Any) -> None:
    """To the last field: nothing that a validator ignores is lost or added."""
    job = make.job(source, order=ORDER)
    uids, study = ResultUids.of(job.job_id), source.first.StudyInstanceUID
    pacs = f"https://pacs.example/dicom-web/studies/{study}/series"
    observations = [
        ("HD", "113014^DICOM Study^DCM", "", study),
        *_part(1, "anterior", "255549009^Anterior^SCT", "12.127"),
        *_part(2, "posterior", "255551008^Posterior^SCT", "8.977"),
        ("CWE", "121071^Finding^DCM", "T1", "LEFT_HIPPOCAMPUS^Left hippocampus^99MEDAI"),
        ("NM", "118565006^Volume^SCT^LEFT_HIPPOCAMPUS_VOLUME^Left hippocampus volume^99MEDAI", "T1", "21.105", "mL^milliliter^UCUM"),
        ("RP", "SEG^AI Segmentation^99MEDAI", "", f"{pacs}/{uids.seg_series}^^IM^DICOM"),
        ("RP", "SR^AI Structured Report^99MEDAI", "", f"{pacs}/{uids.sr_series}^^AP^DICOM"),
        ("RP", "SC^AI Key image^99MEDAI", "", f"{pacs}/{uids.sc_series}^^IM^DICOM"),
        ("CWE", "VERDICT^Verdict of the plausibility checks^99MEDAI", "V", "PLAUSIBLE^2 of 2 checks passed^99MEDAI", "", "", "N"),
    ]  # fmt: skip
    device = f"ct_lungs 1.2.0^99MEDAI^{device_uid(make.segmentation(source).model)}^ISO"
    method = "123110^Artificial Intelligence^DCM^ct_lungs^Lungs in CT 1.2.0^99MEDAI"
    always = f"P|||20260314120502|||{method}|{device}|20260314150926+0000"
    expected = [
        f"MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|20260314150926+0000||ORU^R01^ORU_R01|{control_id(job.job_id, 'ris')}|P|2.5.1||||||UNICODE UTF-8",
        "PID|1||0815^^^HOSP&1.2.3&ISO^MR||Doe^Jane^^^Dr||19700101|M",
        f"PV1|1|U{'|' * 17}V1",
        f"OBR|1|ORD1^RIS|{job.filler}|CTCHEST^CT chest \\T\\ neck^L|||20260314120502{'|' * 11}A42|RP1|SPS1||20260314150926+0000||CT|P",
        *("|".join(["OBX", str(number), *row, *[""] * (9 - len(row)), always]) for number, row in enumerate(observations, start=1)),
    ]  # fmt: skip
    found = message(make, source, found=make.hippocampus(source), order=ORDER).decode("utf-8").split("\r")
    assert found == [*expected, ""]


def _part(number: int, part: str, code: str, millilitres: str) -> list[tuple[str, ...]]:
    name, local = f"Left hippocampus, {part}", f"LEFT_HIPPOCAMPUS_{part.upper()}"
    attenuation = f"112031^Attenuation Coefficient^DCM^{local}_MEAN_ATTENUATION^{name} mean attenuation^99MEDAI"
    rows = [
        ("CWE", "121071^Finding^DCM", f"{local}^{name}^99MEDAI^5366008^Hippocampus^SCT"),
        ("CWE", "272741003^Laterality^SCT", "7771000^Left^SCT"),
        ("CWE", "106233006^Topographical modifier^SCT", code),
        ("NM", f"118565006^Volume^SCT^{local}_VOLUME^{name} volume^99MEDAI", millilitres, "mL^milliliter^UCUM"),
        ("NM", attenuation, "-800", "[hnsf'U]^Hounsfield unit^UCUM"),
    ]
    return [(kind, concept, str(number), *value) for kind, concept, *value in rows]


def with_headers(make: Any, source: Any, **values: Any) -> Any:
    """The source with other values in each header; None takes an attribute out."""
    headers = tuple(make.copy(header, **values) for header in source.headers)
    for header in headers:
        for keyword in (keyword for keyword, value in values.items() if value is None):
            delattr(header, keyword)
    return replace(source, headers=headers)


def test_an_order_without_a_visit_makes_no_visit(make: Any, source: Any) -> None:
    assert not rows(message(make, source, order=replace(ORDER, visit_number="")), "PV1")


def test_a_name_of_delimiters_only_is_no_name(make: Any, source: Any) -> None:
    (pid,) = rows(message(make, source, order=replace(ORDER, patient_name="^^ ~&")), "PID")
    assert pid[5] == "Müller^Änne^^MD^Dr."
    (pid,) = rows(message(make, source, order=replace(ORDER, patient_name="")), "PID")
    assert pid[5] == "Müller^Änne^^MD^Dr."


def test_without_any_issuer_the_receiver_is_the_one_whose_patient_it_is(make: Any, source: Any) -> None:
    (pid,) = rows(message(make, with_headers(make, source, IssuerOfPatientID=None)), "PID")
    assert pid[3] == "MRN-77\\F\\1^^^HOSPITAL^MR"
    (pid,) = rows(message(make, with_headers(make, source, IssuerOfPatientID="TRUST")), "PID")
    assert pid[3] == "MRN-77\\F\\1^^^TRUST^MR"
    (pid,) = rows(message(make, source, order=replace(ORDER, patient_id_authority="")), "PID")
    assert pid[3] == "0815^^^HOSPITAL^MR"


def test_images_that_name_nobody_get_a_number_of_ours_for_the_study_and_no_other(make: Any, source: Any) -> None:
    def identifier(study: str, **order: Any) -> str:
        known = with_headers(make, source, PatientID="", IssuerOfPatientID=None, StudyInstanceUID=study)
        return rows(message(make, known, **order), "PID")[0][3]

    number, *rest = identifier("1.2.3").split("^")
    assert rest == ["", "", "MEDAI", "U"]
    assert 8 <= len(number) <= 15
    assert identifier("1.2.3") == identifier("1.2.3", order=replace(ORDER, patient_id="", patient_identifiers=()))
    assert identifier("1.2.4") != identifier("1.2.3")
    assert identifier("1.2.3", order=ORDER).startswith("0815^")


def test_birth_and_sex_come_each_from_the_order_or_else_the_images_where_these_hold_something_usable(
    make: Any, source: Any
) -> None:
    (pid,) = rows(message(make, source, order=replace(ORDER, birth_date="")), "PID")
    assert pid[7:9] == ["19600229", "M"]
    (pid,) = rows(message(make, source, order=replace(ORDER, sex="")), "PID")
    assert pid[7:9] == ["19700101", "F"]
    (pid,) = rows(message(make, with_headers(make, source, PatientBirthDate=None, PatientSex=None)), "PID")
    assert pid[7:9] == ["", ""]


def test_the_requests_numbers_are_the_images_where_the_order_has_none(make: Any, source: Any) -> None:
    first, second = Dataset(), Dataset()
    first.RequestedProcedureID = "RP|7"
    second.RequestedProcedureID, second.ScheduledProcedureStepID = "RP8", "SPS8"
    asked = with_headers(make, source, RequestAttributesSequence=[first, second])
    for order in (None, Order(placer="ORD2")):
        (obr,) = rows(message(make, asked, order=order), "OBR")
        assert obr[19:21] == ["RP\\F\\7", "SPS8"], "the first item that has one"
    (obr,) = rows(message(make, asked, order=ORDER), "OBR")
    assert obr[19:21] == ["RP1", "SPS1"]
    (obr,) = rows(message(make, source), "OBR")
    assert obr[19:21] == ["", ""]


def test_the_patient_was_imaged_at_the_first_moment_that_the_images_name(make: Any, source: Any) -> None:
    moments = {
        "Acquisition": "20260314120502",
        "Content": "202603131200",
        "Series": "202603121130",
        "Study": "20260311112233-0500",
    }
    header: dict[str, Any] = {
        "ContentDate": "20260313",
        "ContentTime": "1200",
        "SeriesDate": "20260312",
        "SeriesTime": "1130",
    }
    header |= {"StudyDate": "20260311", "StudyTime": "112233"}
    for name, moment in moments.items():
        offset = "-0500" if moment.endswith("-0500") else ""
        found = message(make, with_headers(make, source, **header, TimezoneOffsetFromUTC=offset))
        assert rows(found, "OBR")[0][7] == moment
        assert {obx[14] for obx in rows(found, "OBX")} == {moment}
        header |= {f"{name}Date": "", f"{name}Time": ""}
    assert rows(message(make, with_headers(make, source, **header)), "OBR")[0][7] == "20260314150926+0000"


def test_a_moment_with_its_time_says_more_than_an_earlier_named_day(make: Any, source: Any) -> None:
    nothing = {
        f"{name}{kind}": "" for name in ("Acquisition", "Content", "Series", "Study") for kind in ("Date", "Time")
    }
    days = nothing | {"ContentDate": "20260313", "SeriesDate": "20260312"}
    (obr,) = rows(message(make, with_headers(make, source, **days)), "OBR")
    assert obr[7] == "20260313"
    (obr,) = rows(message(make, with_headers(make, source, **days | {"SeriesTime": "1130"})), "OBR")
    assert obr[7] == "202603121130"


def test_long_names_are_cut_to_what_a_field_holds(make: Any, source: Any) -> None:
    plain = make.hippocampus(source)
    name, title = "a" * 150, "t" * 150
    segmentation = replace(
        plain,
        segments=(replace(plain.segments[0], name=name), plain.segments[1]),
        totals=(replace(plain.totals[0], name=name),),
        model=replace(plain.model, name="m" * 150, title=title),
        warnings=("w" * 300,),
    )
    found = rows(message(make, source, found=segmentation), "OBX")
    for sub_id in ("1", "T1"):
        finding = next(obx[5] for obx in found if obx[4] == sub_id and obx[3] == "121071^Finding^DCM")
        number = next(obx[3] for obx in found if obx[4] == sub_id and obx[2] == "NM")
        assert finding.split("^")[:3] == ["A" * 40, "a" * 100, "99MEDAI"]
        assert number.split("^")[3:] == ["A" * 40 + "_VOLUME", "a" * 60 + " volume", "99MEDAI"]
    assert found[-1][5] == f"CHECK^{'w' * 190}^99MEDAI"
    for obx in found:
        assert obx[17].split("^")[3:5] == ["m" * 20, "t" * 100]
        assert obx[18].split("^")[0] == "m" * 60


def test_a_name_without_letters_has_a_local_code_all_the_same(make: Any, source: Any) -> None:
    plain = make.segmentation(source)
    named = replace(plain, segments=(replace(plain.segments[0], name="…"), plain.segments[1]))
    found = [obx for obx in rows(message(make, source, found=named), "OBX") if obx[4] == "1"]
    assert found[0][5] == "SEGMENT^...^99MEDAI^39607008^Lung^SCT"


def test_each_finding_and_each_total_has_its_own_number(make: Any, source: Any) -> None:
    plain = make.hippocampus(source)
    twice = replace(plain, totals=(*plain.totals, replace(plain.totals[0], name="Both")), warnings=("a", "b"))
    found = rows(message(make, source, found=twice), "OBX")
    assert [obx[4] for obx in found if obx[4][:1] in "TW" and obx[4]] == ["T1", "T1", "T2", "T2", "W1", "W2"]
    assert [(obx[2], obx[3], obx[5], obx[8]) for obx in found[-2:]] == [
        ("CWE", "PLAUSIBILITY^Plausibility of the AI result^99MEDAI", f"CHECK^{text}^99MEDAI", "A")
        for text in ("a", "b")
    ]


def test_numbers_have_no_zeros_at_their_end_and_whole_ones_no_point(make: Any, source: Any) -> None:
    context = make.context(source)
    values = (0.0, 100.0, 12.5, 0.017, -0.1)
    measured = tuple(replace(context.measurements[0], value=value) for value in values)
    found = [obx[5] for obx in rows(encode_oru(replace(context, measurements=measured)), "OBX") if obx[2] == "NM"]
    assert found == ["0", "100", "12.5", "0.017", "-0.1"]


def test_a_patient_without_a_name_has_a_name_of_unknown_type(make: Any, source: Any) -> None:
    headers = tuple(make.copy(header, PatientName="") for header in source.headers)
    (pid,) = rows(message(make, replace(source, headers=headers)), "PID")
    assert pid[5] == "^^^^^^U"
