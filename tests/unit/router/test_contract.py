"""Identifiers that a retry repeats: some of their values are pinned, because a change would double every result."""

from __future__ import annotations

import re

import pytest

from medai.router.contract import (
    FINAL_STATES,
    Job,
    JobState,
    OrthancId,
    Priority,
    StampName,
    StudyUID,
    control_id,
    derived_uid,
    filler_number,
    make_job_id,
    short_id,
    sources_hash,
)

SOPS = ("1.2.3.4", "1.2.3.5")
SOURCES = "1c9ae8b1a05d8bab4e557c99afcf1ad698ad3142af4eb5afb79bfe33508fe70b"
JOB = "c8ff5465-a266-5718-87a2-912969aac335"
LONG_UID = "1.2.840.113619.2.408.14196467.2800456.10527.1720512345.987654321"


def job_id(**changes: str) -> str:
    parts = {"study_uid": "1.2.3", "sources": SOURCES, "route": "mr-brain", "model": "mr_brain", "version": "1.0"}
    return make_job_id(**{**parts, **changes})


def test_derived_identifiers_keep_their_values_from_release_to_release() -> None:
    assert sources_hash(SOPS) == SOURCES
    assert job_id() == JOB
    assert derived_uid(JOB, "seg") == "2.25.21809983854371089034425651560185584996"
    assert control_id(JOB, "ris") == "OW4M6B2KERMDQDJOG3RM"
    assert filler_number("1.2.3", "mr-brain") == "AI57EMKAAB57EFWJCM"


def test_the_same_images_give_the_same_hash_in_any_order_and_however_often_named() -> None:
    assert sources_hash(reversed(SOPS)) == sources_hash((*SOPS, SOPS[0])) == SOURCES
    assert sources_hash(SOPS[:1]) != SOURCES
    assert sources_hash(("1.2.3", "41.2.3.5")) != sources_hash(("1.2.34", "1.2.3.5")), "joining must not blur the ends"


@pytest.mark.parametrize("part", ["study_uid", "sources", "route", "model", "version"])
def test_a_reading_that_differs_in_any_part_is_another_job(part: str) -> None:
    assert job_id(**{part: "other"}) != JOB


def test_every_object_of_a_job_has_its_own_valid_uid() -> None:
    uids = {derived_uid(JOB, *parts) for parts in (("seg",), ("sr",), ("sc",), ("sr", "series"), ("srseries",))}
    assert len(uids) == 5
    assert all(re.fullmatch(r"2\.25\.[1-9][0-9]*", uid) and len(uid) <= 64 for uid in uids)


def test_hl7_identifiers_fit_their_fields_however_long_their_sources_are() -> None:
    assert len(control_id(JOB, "a-destination-with-a-long-name" * 10)) <= 20
    assert len(filler_number(LONG_UID, "r" * 40)) <= 20
    for value in (control_id(JOB, "ris"), filler_number(LONG_UID, "x"), short_id("seed")):
        assert re.fullmatch(r"[A-Z2-7]+", value), "nothing that HL7 would have to escape"


def test_the_filler_number_stays_when_a_correction_reads_more_images() -> None:
    def job(sources: str) -> Job:
        return Job(
            job_id=make_job_id(study_uid="1.2.3", sources=sources, route="r", model="m", version="1"),
            study_uid=StudyUID("1.2.3"), study_orthanc_id=OrthancId("o"), series_orthanc_ids=(), sources_hash=sources,
            sources_count=1, route="r", model="m", model_version="1",
        )  # fmt: skip

    first, second = job("a"), job("b")
    assert first.job_id != second.job_id
    assert first.filler == second.filler == filler_number("1.2.3", "r")


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("STAT", Priority.STAT), ("S", Priority.STAT), (" stat ", Priority.STAT),
        ("A", Priority.URGENT), ("ASAP", Priority.URGENT), ("HIGH", Priority.URGENT), ("Urgent", Priority.URGENT),
        ("R", Priority.ROUTINE), ("ROUTINE", Priority.ROUTINE), ("MEDIUM", Priority.ROUTINE),
        ("LOW", Priority.BACKGROUND), ("background", Priority.BACKGROUND),
        ("", Priority.ROUTINE), ("STTA", Priority.ROUTINE), ("T", Priority.ROUTINE),
    ],
)  # fmt: skip
def test_priority_words_of_dicom_and_hl7_are_understood_and_a_typing_error_is_routine(
    text: str, priority: Priority
) -> None:
    assert Priority.parse(text) is priority


def test_urgency_sorts_as_the_broker_serves_it() -> None:
    assert sorted(Priority) == [Priority.STAT, Priority.URGENT, Priority.ROUTINE, Priority.BACKGROUND]
    assert [int(priority) for priority in sorted(Priority)] == [0, 3, 6, 9]


def test_a_job_is_either_open_or_final() -> None:
    assert frozenset(JobState) - FINAL_STATES == {JobState.PENDING, JobState.RUNNING, JobState.DELIVERING}


def test_stamps_are_named_in_the_order_of_the_journey() -> None:
    names = [name.value for name in StampName]
    assert names[0] == "ordered"
    assert names[-1] == "oru_acknowledged"
    assert (
        names.index("last_instance") < names.index("study_complete") < names.index("enqueued") < names.index("stored")
    )
