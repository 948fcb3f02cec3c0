"""A reader's report beside ours: the same measurement of the same site, by codes, side, unit and tracking identifier."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from medai.workers.feedback.sr import compare_srs, numbers_of, verdict_of

VOLUME = ("118565006", "SCT", "Volume")
SITE, SIDE = ("363698007", "SCT", "Finding Site"), ("272741003", "SCT", "Laterality")
LUNG, LEFT, RIGHT = ("39607008", "SCT", "Lung"), ("7771000", "SCT", "Left"), ("24028007", "SCT", "Right")
NAMES = {1: "Right lung", 2: "Left lung"}


def code(value: tuple[str, str, str]) -> Dataset:
    d = Dataset()
    d.CodeValue, d.CodingSchemeDesignator, d.CodeMeaning = value
    return d


def item(
    kind: str, name: tuple[str, str, str], *children: Dataset, value: tuple[str, str, str] | None = None
) -> Dataset:
    d = Dataset()
    d.ValueType, d.ConceptNameCodeSequence = kind, [code(name)]
    if value:
        d.ConceptCodeSequence = [code(value)]
    if children:
        d.ContentSequence = list(children)
    return d


def num(value: float | str, unit: str = "cm3", concept: tuple[str, str, str] = VOLUME) -> Dataset:
    d = item("NUM", concept)
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = str(value), [code((unit, "UCUM", unit))]
    d.MeasuredValueSequence = [measured]
    return d


def segment(number: int | list[int]) -> Dataset:
    d = item("IMAGE", ("121191", "DCM", "Referenced Segment"))
    reference = Dataset()
    reference.ReferencedSegmentNumber = number
    d.ReferencedSOPSequence = [reference]
    return d


def tracking(uid: str) -> Dataset:
    d = item("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"))
    d.UID = uid
    return d


def group(*children: Dataset) -> Dataset:
    return item("CONTAINER", ("125007", "DCM", "Measurement Group"), *children)


def site(side: tuple[str, str, str], where: tuple[str, str, str] = LUNG) -> Dataset:
    return item("CODE", SITE, item("CODE", SIDE, value=side), value=where)


def report(*groups: Dataset) -> Dataset:
    d = item("CONTAINER", ("126000", "DCM", "Imaging Measurement Report"))
    d.ContentSequence = [item("CONTAINER", ("126010", "DCM", "Imaging Measurements"), *groups)]
    return d


OURS = report(
    group(tracking("1.1"), segment(1), site(RIGHT), num(2000)),
    group(tracking("1.2"), segment(2), site(LEFT), num(1800)),
)


def test_numbers_are_matched_by_site_and_side_whatever_their_order() -> None:
    theirs = report(group(site(LEFT), num(1700)), group(site(RIGHT), num(2100)))
    rows = {row.structure: row for row in compare_srs(OURS, theirs, NAMES)}
    assert {name: (row.ours, row.theirs, row.outcome) for name, row in rows.items()} == {
        "Right lung": (2000, 2100, "matched"), "Left lung": (1800, 1700, "matched"),
    }  # fmt: skip
    assert {row.unit for row in rows.values()} == {"ml"}


@pytest.mark.parametrize(("value", "unit"), [(1700, "mL"), (1700, "ml"), (1_700_000, "mm3"), (1.7, "l")])
def test_volumes_are_compared_in_millilitres(value: float, unit: str) -> None:
    rows = compare_srs(OURS, report(group(site(LEFT), num(value, unit))), NAMES)
    assert [(row.structure, row.theirs) for row in rows if row.outcome == "matched"] == [("Left lung", 1700)]


def test_another_unit_is_another_measurement() -> None:
    rows = compare_srs(OURS, report(group(site(LEFT), num(5, "cm"))), NAMES)
    assert sorted(row.outcome for row in rows) == ["added", "removed", "removed"]
    (added,) = [row for row in rows if row.outcome == "added"]
    assert (added.structure, added.unit, added.segment) == ("Left Lung", "cm", None)


def test_a_shared_tracking_identifier_tells_the_site_where_codes_do_not() -> None:
    rows = compare_srs(OURS, report(group(tracking("1.2"), num(1750))), NAMES)
    assert [(row.structure, row.theirs) for row in rows if row.outcome == "matched"] == [("Left lung", 1750)]


def test_a_total_of_several_segments_is_named_by_its_site_and_by_none_of_them() -> None:
    ours = report(group(tracking("1.1"), segment([1, 2]), site(RIGHT), num(3800)))
    (row,) = compare_srs(ours, report(), NAMES)
    assert (row.structure, row.segment, row.ours) == ("Right Lung", None, 3800)


def test_the_older_snomed_codes_are_the_same_codes() -> None:
    older = report(group(item("CODE", ("G-C0E3", "SRT", "Finding Site"), value=("T-28000", "SRT", "Lung")), num(1)))
    newer = report(group(item("CODE", SITE, value=LUNG), num(2, concept=VOLUME)))
    assert [row.outcome for row in compare_srs(newer, older, {})] == ["matched"]


def test_numbers_that_are_none_are_passed_over() -> None:
    empty, bare = num(""), num(1)
    del bare.MeasuredValueSequence
    assert list(numbers_of(report(group(site(LEFT), empty, bare)))) == []


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Accepted", "accepted"),
        ("REJECTED", "rejected"),
        ("Agree", "accepted"),
        ("Plausible", ""),
        ("not accepted", ""),
    ],
)
def test_a_coded_statement_is_taken_as_it_stands(said: str, verdict: str) -> None:
    stated = item("CODE", ("111005", "DCM", "Assessment Category"), value=("X", "99LOCAL", said))
    assert verdict_of(report(group(stated))) == verdict


def test_a_verified_report_is_said_to_be_so_and_a_statement_goes_before_that() -> None:
    signed = report(group(num(1)))
    signed.VerificationFlag = "VERIFIED"
    assert verdict_of(signed) == "verified"
    rejected = report(group(item("CODE", ("1", "99X", "x"), value=("2", "99X", "Rejected"))))
    rejected.VerificationFlag = "VERIFIED"
    assert verdict_of(rejected) == "rejected"


def test_a_report_of_great_depth_ends() -> None:
    deep = group(num(1))
    for _ in range(100):
        deep = group(deep)
    assert list(numbers_of(report(deep))) == []
