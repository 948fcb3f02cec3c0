"""What an ORU leaves out, and what it adds, for a RIS that speaks an older HL7; what hl7apy says is in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medai.router.contract import Order
from medai.workers.results.oru import encode_oru
from medai.workers.results.oru_version import VERSIONS

OLDER = [version for version in VERSIONS if version != "2.5.1"]
ORDER = Order(placer="ORD1^RIS^1.2.3^ISO", patient_id="0815", patient_id_authority="HOSP", procedure=("C", "CT", "L"))


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def message(make: Any, source: Any, version: str, **job: Any) -> list[list[str]]:
    """Segments with their fields by HL7 number."""
    context = make.context(source, segmentation=make.hippocampus(source), job=make.job(source, **job))
    ris = context.settings.ris.model_copy(update={"version": version})
    told = encode_oru(replace(context, settings=context.settings.model_copy(update={"ris": ris})))
    found = [line.split("|") for line in told.decode("utf-8").split("\r")[:-1]]
    return [["MSH", "|", *row[1:]] if row[0] == "MSH" else row for row in found]


def named(rows: list[list[str]], name: str) -> list[list[str]]:
    return [row + [""] * 30 for row in rows if row[0] == name]


def test_the_default_is_what_it_always_was(make: Any, source: Any) -> None:
    context = make.context(source, job=make.job(source))
    (msh,) = named([line.split("|") for line in encode_oru(context).decode("utf-8").split("\r")], "MSH")
    assert (msh[8], msh[11]) == ("ORU^R01^ORU_R01", "2.5.1")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_header_names_the_version_and_the_structure_where_the_version_has_one(
    make: Any, source: Any, version: str
) -> None:
    (msh,) = named(message(make, source, version), "MSH")
    assert msh[12] == version
    assert msh[9] == ("ORU^R01" if version == "2.3" else "ORU^R01^ORU_R01")
    assert msh[18] == "UNICODE UTF-8"


@pytest.mark.parametrize("version", OLDER)
def test_every_value_is_the_same_in_every_version(make: Any, source: Any, version: str) -> None:
    newest, older = (named(message(make, source, each, order=ORDER), "OBX") for each in ("2.5.1", version))
    places = (1, 3, 5, 6, 8, 11, 14, 17)
    assert [[obx[n] for n in places] for obx in older] == [[obx[n] for n in places] for obx in newest]
    obr_new, obr_old = (named(message(make, source, each, order=ORDER), "OBR")[0] for each in ("2.5.1", version))
    assert obr_old[:27] == obr_new[:27]


@pytest.mark.parametrize("version", OLDER)
def test_coded_values_are_ce_since_cwe_came_later_and_have_no_component_that_ce_lacks(
    make: Any, source: Any, version: str
) -> None:
    coded = [obx for obx in named(message(make, source, version), "OBX") if obx[2] == "CE"]
    assert len(coded) == 8
    assert all(obx[5].count("^") <= 5 for obx in coded)
    assert "CWE" not in {obx[2] for obx in named(message(make, source, version), "OBX")}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_device_and_the_analysis_are_told_where_obx_has_a_place_for_them(
    make: Any, source: Any, version: str
) -> None:
    for obx in named(message(make, source, version), "OBX"):
        assert bool(obx[18] and obx[19]) == (version in ("2.5.1", "2.4"))
        assert "ct_lungs" in obx[17], "the model is named as the method in every version"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_belongs_to_no_segment_has_a_number_in_2_3_1_alone_which_asks_for_one(
    make: Any, source: Any, version: str
) -> None:
    (study,) = [obx for obx in named(message(make, source, version), "OBX") if obx[2] == "HD"]
    assert study[4] == ("0" if version == "2.3.1" else "")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_request_is_timed_in_2_3_alone_which_asks_for_it(make: Any, source: Any, version: str) -> None:
    (obr,) = named(message(make, source, version), "OBR")
    assert obr[27] == ("1" if version == "2.3" else "")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_patient_has_one_name_in_2_3_and_all_of_them_later(make: Any, source: Any, version: str) -> None:
    named_twice = replace(
        source, headers=tuple(make.copy(h, PatientName="Yamada^Taro=山田^太郎") for h in source.headers)
    )
    (pid,) = named(message(make, named_twice, version), "PID")
    assert pid[5] == ("Yamada^Taro" if version == "2.3" else "Yamada^Taro~山田^太郎^^^^^L^I")
    order = replace(ORDER, patient_name="^~Doe^Jane~Roe^Jane")
    (pid,) = named(message(make, source, version, order=order), "PID")
    assert pid[5] == ("Doe^Jane" if version == "2.3" else "^~Doe^Jane~Roe^Jane")


@pytest.mark.parametrize("version", VERSIONS)
def test_identifiers_of_the_order_go_back_whole_in_every_version(make: Any, source: Any, version: str) -> None:
    order = replace(ORDER, patient_identifiers=("0815^^^HOSP&1.2.3&ISO^MR^WARD",), patient_account="A9^^^HOSP^AN")
    rows = message(make, source, version, order=order)
    (pid,), (obr,) = named(rows, "PID"), named(rows, "OBR")
    assert (pid[3], pid[18], obr[2]) == ("0815^^^HOSP&1.2.3&ISO^MR^WARD", "A9^^^HOSP^AN", "ORD1^RIS^1.2.3^ISO")
