"""The ORU's must-list (docs/standards.md, section 3), above all what no validator looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medai.router.contract import Order, control_id
from medai.workers.results.identity import ResultUids
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


def test_a_correction_keeps_the_filler_and_is_another_message(make: Any, source: Any) -> None:
    first = message(make, source)
    assert {obx[11] for obx in rows(first, "OBX")} == {"P"}
    second = message(make, source, revision=2, job_id=make.other_job_id)
    assert rows(first, "OBR")[0][3] == rows(second, "OBR")[0][3]
    assert rows(first, "MSH")[0][10] != rows(second, "MSH")[0][10]
    assert rows(second, "OBR")[0][25] == "C"
    assert {obx[11] for obx in rows(second, "OBX")} == {"C"}


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


def test_the_objects_are_found_by_wado_rs(make: Any, source: Any) -> None:
    uids = ResultUids.of(make.job(source).job_id)
    study = f"https://pacs.example/dicom-web/studies/{source.first.StudyInstanceUID}"
    pointers = [obx[5].split("^")[0] for obx in rows(message(make, source), "OBX") if obx[2] == "RP"]
    assert pointers == [
        f"{study}/series/{uids.seg_series}/instances/{uids.seg}",
        f"{study}/series/{uids.sr_series}/instances/{uids.sr}",
        f"{study}/series/{uids.sc_series}/instances/{uids.sc}",
    ]


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


def test_a_patient_without_a_name_has_a_name_of_unknown_type(make: Any, source: Any) -> None:
    headers = tuple(make.copy(header, PatientName="") for header in source.headers)
    (pid,) = rows(message(make, replace(source, headers=headers)), "PID")
    assert pid[5] == "^^^^^^U"
