"""The words say what the coded observations say: every number, the verdict, what to look at, and that nobody verified it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hl7
import pytest

from medai.router.contract import Order
from medai.router.hl7.oru_edit import withdrawn
from medai.workers.results.narrative import narrative
from medai.workers.results.oru import encode_oru
from medai.workers.results.oru_version import VERSIONS


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def message(context: Any, **ris: Any) -> str:
    changed = context.settings.ris.model_copy(update={"narrative": True, **ris})
    settings = context.settings.model_copy(update={"ris": changed})
    return encode_oru(replace(context, settings=settings)).decode("utf-8")


def rows(text: str, name: str) -> list[list[str]]:
    return [line.split("|") + [""] * 9 for line in text.split("\r") if line.startswith(name)]


def test_there_is_a_line_for_each_structure_and_total_between_who_made_it_and_the_disclaimer(
    make: Any, source: Any
) -> None:
    assert list(narrative(make.context(source, segmentation=make.hippocampus(source)))) == [
        "Result of AI (Lungs in CT 1.2.0), not verified by anyone.",
        "Left hippocampus, anterior: 12.1 ml, mean attenuation -800 HU",
        "Left hippocampus, posterior: 9.0 ml, mean attenuation -800 HU",
        "Left hippocampus, total: 21.1 ml",
        "Plausibility: 2 of 2 checks passed.",
        "AI, not for diagnostic use.",
    ]


def test_what_a_person_should_look_at_is_said_after_the_verdict(make: Any, source: Any) -> None:
    said = list(narrative(make.context(source, segmentation=make.segmentation(source, warnings=("a", "b")))))
    assert said[-4:] == [
        "Plausibility: nothing was checked.",
        "To be checked: a",
        "To be checked: b",
        "AI, not for diagnostic use.",
    ]


def test_a_structure_that_was_not_found_is_said_to_be_so_and_a_small_one_is_not_made_zero(
    make: Any, source: Any
) -> None:
    context = make.context(source)
    first, mean, *_ = context.measurements
    for value, words in (
        (0.0, "not found"),
        (0.017, "0.017 ml, mean attenuation -800 HU"),
        (4123.49, "4123.5 ml, mean attenuation -800 HU"),
    ):
        changed = replace(context, measurements=(replace(first, value=value), mean))
        assert list(narrative(changed))[1] == f"Right lung: {words}"


def test_the_ris_gets_it_as_the_last_observation_only_where_it_asks_for_it(make: Any, source: Any) -> None:
    context = make.context(source, segmentation=make.hippocampus(source))
    without = encode_oru(context).decode("utf-8")
    told = message(context)
    assert told.startswith(without)
    assert not [obx for obx in rows(without, "OBX") if obx[2] == "TX"]
    last = rows(told, "OBX")[-1]
    assert last[2:5] == ["TX", "59776-5^Procedure Findings^LN", ""]
    assert last[5].split("~") == list(narrative(context))
    assert last[11] == "P"


@pytest.mark.parametrize("version", VERSIONS)
def test_it_reads_the_same_in_every_version_and_no_word_can_change_a_field(
    make: Any, source: Any, version: str
) -> None:
    warned = make.segmentation(source, warnings=("a | b ^ c \\.br\\ d & e ~ f\rOBX|9",))
    context = make.context(source, segmentation=warned)
    last = rows(message(context, version=version), "OBX")[-1]
    assert last[2] == "TX"
    lines = last[5].split("~")
    assert len(lines) == len(list(narrative(context)))
    parsed = hl7.parse(message(context, version=version))
    assert parsed.unescape(lines[-2]) == "To be checked: a | b ^ c \\.br\\ d & e ~ f OBX|9"


def test_no_line_is_longer_than_a_text_may_be_and_none_loses_a_word(make: Any, source: Any) -> None:
    warned = make.segmentation(source, warnings=("word " * 60,))
    said = list(narrative(make.context(source, segmentation=warned)))
    assert max(map(len, said)) <= 120
    assert " ".join(said).count("word") == 60


def test_an_order_changes_nothing_of_it(make: Any, source: Any) -> None:
    ordered = make.context(source, job=make.job(source, order=Order(placer="ORD1", patient_id="0815")))
    assert list(narrative(ordered)) == list(narrative(make.context(source)))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_that_is_taken_back_keeps_no_word_of_it(make: Any, source: Any, version: str) -> None:
    told = message(make.context(source), version=version)
    back = withdrawn(told.encode("utf-8"), control_id="W1", now=0.0).decode("utf-8")
    (findings,) = [obx for obx in rows(back, "OBX") if obx[3].startswith("59776-5")]
    assert (findings[5], findings[11]) == ("", "X")
    assert "mean attenuation -800" not in back
