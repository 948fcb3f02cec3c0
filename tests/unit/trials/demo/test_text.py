"""What people read at the end of a demo."""

from __future__ import annotations

from medai.trials.demo.text import measurement_table, new_stamps, oru_lines, waterfall

STAMPS = {
    "ordered": 90.0,
    "first_instance": 100.0,
    "last_instance": 101.0,
    "study_complete": 104.0,
    "enqueued": 104.01,
    "started": 104.05,
    "inferred": 109.0,
    "oru_acknowledged": 110.0,
}


def test_each_stage_has_its_bar_and_its_time() -> None:
    told = waterfall(STAMPS, block="#")
    assert [line.split("#")[0].strip() for line in told] == ["receiving", "completeness wait", "routing", "queue wait"]
    assert told[1].endswith("3.00 s")


def test_a_job_without_stamps_has_no_waterfall() -> None:
    assert waterfall({}) == ["(no stamps)"]


def test_a_stamp_is_told_once_with_its_distance_from_the_last_image() -> None:
    told: set[str] = set()
    assert (
        new_stamps({"first_instance": 100.0, "last_instance": 101.0}, told)[1]
        == "last instance      +0.00 s from the last image"
    )
    assert new_stamps(STAMPS, told)[0] == "study complete     +3.00 s from the last image"
    assert new_stamps(STAMPS, told) == []


def test_measurements_stand_in_columns() -> None:
    lines = measurement_table(
        [
            {"segment_name": "Brain", "quantity": "volume", "value": 1500.04, "unit": "ml"},
            {"segment_name": "Right lung", "quantity": "mean_attenuation", "value": -820.0, "unit": "[hnsf'U]"},
        ]
    )
    assert lines[0] == "Brain       volume                 1500.0 ml"
    assert lines[1].startswith("Right lung  mean attenuation")
    assert measurement_table([]) == ["(none)"]


def test_an_hl7_message_is_shown_a_segment_a_line() -> None:
    assert oru_lines("MSH|^~\\&|A\rPID|1\r") == ["MSH|^~\\&|A", "PID|1"]
    assert oru_lines("X" * 200, width=10) == ["XXXXXXXXX…"]
