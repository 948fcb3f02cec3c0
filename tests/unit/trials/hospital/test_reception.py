"""What a trial says to the RIS of its patients and orders."""

from __future__ import annotations

import time
from dataclasses import replace

from trial_cases import Ris, scenario

from medai.trials.hospital import reception
from medai.trials.hospital.timeline import PlannedStudy, plan


def planned(*habits: str) -> PlannedStudy:
    return replace(plan(scenario())[0], case="chest-ct", priority="urgent", habits=habits)


def test_an_order_says_who_what_and_how_soon() -> None:
    ris, who = Ris({"placer": "PL1"}), reception.identity(planned())
    assert reception.place(ris.box, scenario(), planned()) == "PL1"
    ((method, path, body),) = ris.asked
    assert (method, path) == ("POST", "/orders")
    assert body == {
        "patient_id": who.patient.patient_id, "patient_name": who.patient.name, "birth_date": who.patient.birth_date,
        "sex": who.patient.sex, "accession": who.accession, "study_uid": who.study_uid, "modality": "CT",
        "procedure_code": "CTSTUDY", "procedure_text": "CT of the chest", "priority": "A",
    }  # fmt: skip


def test_who_comes_unknown_is_ordered_unknown_and_merged_into_who_it_is() -> None:
    ris, study = Ris({"placer": "PL1"}), planned("patient_merged")
    reception.register(ris.box, study)
    reception.place(ris.box, scenario(), study)
    reception.merge(ris.box, study)
    registered, ordered, merged = (body or {} for _, _, body in ris.asked)
    assert "birth_date" not in registered, "nobody knows it yet"
    assert registered["patient_id"] == ordered["patient_id"] == merged["prior_id"] != merged["patient_id"]
    assert merged["patient_id"] == reception.identity(study).patient.patient_id


def test_a_correction_changes_the_name_alone() -> None:
    ris, study = Ris(), planned("patient_updated")
    reception.register(ris.box, study)
    reception.update(ris.box, study)
    before, after = (body or {} for _, _, body in ris.asked)
    assert after["patient_name"] == f"{before['patient_name']}-Corrected"
    assert {**after, "patient_name": before["patient_name"]} == before


def test_an_order_is_cancelled_raised_and_reported_by_its_number() -> None:
    ris = Ris()
    reception.cancel(ris.box, "PL1")
    reception.raise_to_stat(ris.box, "PL1")
    reception.report(ris.box, "PL1", 2, used_ai=True)
    assert [(path, body) for _, path, body in ris.asked[:2]] == [
        ("/orders/PL1/cancel", None), ("/orders/PL1/change", {"priority": "S"})
    ]  # fmt: skip
    assert ris.asked[2][2] is not None
    assert {"placer": "PL1", "radiologist": "R03", "used_ai": True}.items() <= ris.asked[2][2].items()


def test_results_are_asked_for_since_the_newest_that_is_known() -> None:
    ris = Ris([{"received_at": 5.25}, {"received_at": 7.125}])
    assert reception.results_since(ris.box, 3.5)[1] == 7.125
    assert ris.asked[0][1] == "/results?since=3.5&brief=1"
    ris.answer = []
    assert reception.results_since(ris.box, 7.125) == ([], 7.125)


def test_who_is_merged_comes_under_another_number_and_keeps_the_study() -> None:
    study = plan(scenario())[0]
    who, unknown = reception.identity(study), reception.temporary(study)
    assert who == reception.identity(study)
    assert unknown.patient.patient_id != who.patient.patient_id
    assert (unknown.accession, unknown.study_uid) == (who.accession, who.study_uid)
    assert len(who.accession) <= 16
    assert len({reception.identity(each).study_uid for each in plan(scenario())}) == len(plan(scenario()))


def test_birth_dates_are_dates() -> None:
    for study in plan(scenario()):
        time.strptime(reception.identity(study).patient.birth_date, "%Y%m%d")
