"""Facts of a study: types are DICOM's, planes are geometry's, and our own results are not taken for images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from medai.router.contract import Order
from medai.router.errors import OrthancRefused, OrthancUnreachable
from medai.router.hl7.patients import Aliases
from medai.router.intake.facts import (
    ALWAYS_MANY,
    NUMBERS,
    STUDY_LEVEL,
    FactsReader,
    attributes_of,
    change_time,
    orientation,
    typed,
)
from medai.router.orthanc.client import Orthanc

FLOATS = {"DS", "FL", "FD"}
INTS = {"IS", "US", "SS", "UL", "SL"}
NOW = 1_800_000_000.0


@pytest.mark.parametrize("keyword", sorted(NUMBERS))
def test_numbers_have_the_type_that_the_dicom_dictionary_gives_them(keyword: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None, "no such keyword"
    kinds = set(dictionary_VR(tag).split(" or "))
    assert kinds <= (FLOATS if NUMBERS[keyword] is float else INTS)


@pytest.mark.parametrize("keyword", sorted(STUDY_LEVEL | ALWAYS_MANY))
def test_every_other_keyword_exists_too(keyword: str) -> None:
    assert tag_for_keyword(keyword) is not None


def test_attributes_that_are_always_lists_may_have_several_values() -> None:
    assert all(dictionary_VM(keyword) != "1" for keyword in ALWAYS_MANY)


@pytest.mark.parametrize(
    ("keyword", "text", "value"),
    [
        ("SliceThickness", "1.25", 1.25), ("SliceThickness", " 1e-1 ", 0.1), ("Rows", "512", 512),
        ("SeriesNumber", "5.0", 5), ("WindowCenter", "40\\80", (40.0, 80.0)), ("WindowCenter", "40", 40.0),
        ("SliceThickness", "thick", "thick"), ("Rows", "inf", "inf"), ("Rows", "", ""),
        ("Modality", "MR", "MR"), ("SeriesDescription", " t1 \0", "t1"), ("BodyPartExamined", None, ""),
        ("ImageType", "ORIGINAL", ("ORIGINAL",)), ("ImageType", "ORIGINAL\\PRIMARY", ("ORIGINAL", "PRIMARY")),
        ("PixelSpacing", "0.5\\0.5", (0.5, 0.5)), ("ContrastBolusAgent", "GADO\\", ("GADO", "")),
        ("ProcedureCodeSequence", [{"CodeValue": "X", "Rows": "2"}], ({"CodeValue": "X", "Rows": 2},)),
        ("ProcedureCodeSequence", [], ()), ("ProcedureCodeSequence", ["odd"], ()),
    ],
)  # fmt: skip
def test_a_value_becomes_a_number_a_text_or_a_tuple_of_them(keyword: str, text: Any, value: Any) -> None:
    made = typed(keyword, text)
    assert made == value
    assert type(made) is type(value)


HALF = 0.7071067811865476
OBLIQUE_PLANES = [
    ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "axial"),
    ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), "axial"),
    ((1.0, 0.0, 0.0, 0.0, 0.0, -1.0), "coronal"),
    ((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), "sagittal"),
    ((1.0, 0.0, 0.0, 0.0, 0.9063, 0.4226), "axial"),  # gantry tilt of 25 degrees
    ((1.0, 0.0, 0.0, 0.0, HALF, HALF), "oblique"),
    ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), ""),
    ((1.0, 0.0, 0.0, 1.0, 0.0, 0.0), ""),
    ((1.0, 0.0, 0.0, 0.0, 1.0), ""),
    ((1.0, 0.0, 0.0, 0.0, 1.0, "x"), ""),
    ((1.0, 0.0, 0.0, 0.0, 1.0, float("nan")), ""),
    ("1", ""),
    (None, ""),
]


@pytest.mark.parametrize(("cosines", "plane"), OBLIQUE_PLANES)
def test_the_plane_is_told_by_the_normal_of_the_slices(cosines: Any, plane: str) -> None:
    assert orientation({"ImageOrientationPatient": cosines}) == plane


def test_a_series_without_orientation_has_no_plane() -> None:
    assert orientation({}) == ""


@pytest.mark.parametrize(
    ("before_s", "expected_s"), [(600.0, 599.0), (2.0, 1.0), (1.0, 0.0), (0.0, 0.0), (-3600.0, 0.0)]
)
def test_a_change_happened_within_its_second_and_never_in_the_future(before_s: float, expected_s: float) -> None:
    date = time.strftime("%Y%m%dT%H%M%S", time.gmtime(NOW - before_s))
    assert change_time({"Date": date}, NOW) == NOW - expected_s


def test_a_change_without_a_date_happened_now() -> None:
    assert change_time({}, NOW) == change_time({"Date": "soon"}, NOW) == NOW


class Archive:
    """The calls of Orthanc that FactsReader makes, and a count of header reads."""

    def __init__(self, series: dict[str, dict[str, Any]], *, gone: frozenset[str] = frozenset()) -> None:
        self.headers = series
        self.gone = gone
        self.asked: list[str] = []
        self.failure: Exception | None = None

    def study(self, orthanc_study: str) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        tags = {"StudyInstanceUID": "1.2.3", "AccessionNumber": " A1 "}
        return {"ID": orthanc_study, "MainDicomTags": tags, "LastUpdate": "20260101T120000"}

    def series_of(self, resources: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "ID": name, "ParentStudy": resources[0], "MainDicomTags": {"Modality": header["Modality"]},
                "Instances": [f"{name}-{index}" for index in range(header["images"])],
            }
            for name, header in self.headers.items()
        ]  # fmt: skip

    def size(self, _instance: str) -> int:
        return 4

    def file(self, _instance: str) -> bytes:
        return b"file"

    def tags(self, instance: str) -> dict[str, Any]:
        self.asked.append(instance)
        if instance in self.gone:
            raise OrthancRefused("Orthanc answered 404", status=404)
        name, _, number = instance.rpartition("-")
        header = {k: v for k, v in self.headers[name].items() if k not in ("images", "ahead")}
        return header | {"Modality": "RTSTRUCT"} if int(number) < self.headers[name].get("ahead", 0) else header


class Book:
    """The two questions that FactsReader has for the ledger."""

    def __init__(self, *, ours: frozenset[str] = frozenset(), order: Order | None = None) -> None:
        self.ours, self.order = ours, order
        self.asked: dict[str, str] = {}

    def known_results(self, orthanc_ids: Sequence[str]) -> set[str]:
        return set(orthanc_ids) & self.ours

    def of_study(self, *, study_uid: str, accession: str) -> tuple[Order, ...]:
        self.asked = {"study_uid": study_uid, "accession": accession}
        return (self.order,) if self.order else ()

    def aliases(self) -> Aliases:
        return Aliases()


def reader(archive: Archive, book: Book | None = None, **options: int) -> FactsReader:
    book = book or Book()
    return FactsReader(cast(Orthanc, archive), book, book, book, **options)


def mr(images: int, **more: str) -> dict[str, Any]:
    return {"images": images, "Modality": "MR", "SeriesInstanceUID": f"1.2.3.{images}", **more}


def test_a_study_has_the_modality_of_most_of_its_images() -> None:
    archive = Archive({"a": mr(3), "b": {**mr(9), "Modality": "PT"}, "c": {**mr(99), "Modality": "SR"}})
    view = reader(archive).read("study")
    assert view is not None
    assert view.facts.attributes["Modality"] == view.seen.modality == "PT"
    assert view.facts.attributes["ModalitiesInStudy"] == ("MR", "PT", "SR")
    assert view.facts.attributes["NumberOfInstances"] == 111
    assert view.facts.attributes["NumberOfSeries"] == 3


def test_series_carry_their_count_and_plane_and_the_study_only_what_is_the_studys() -> None:
    header = mr(
        2, ImageOrientationPatient="1\\0\\0\\0\\1\\0", SliceThickness="1", StudyDescription="Head", PixelData="x"
    )
    view = reader(Archive({"a": header})).read("study")
    assert view is not None
    (series,) = view.facts.series
    assert series.attributes["Orientation"] == "axial"
    assert series.attributes["NumberOfInstances"] == series.instances == 2
    assert series.attributes["SliceThickness"] == 1.0
    assert "PixelData" not in series.attributes
    assert view.facts.attributes["StudyDescription"] == "Head"
    assert "SliceThickness" not in view.facts.attributes


def test_announced_counts_are_kept_apart_for_study_and_series_and_only_when_they_are_counts() -> None:
    counts = {"NumberOfStudyRelatedInstances": "40", "NumberOfSeriesRelatedInstances": "20"}
    view = reader(Archive({"a": mr(2, **counts, ImagesInAcquisition="0")})).read("study")
    assert view is not None
    assert view.seen.expected == {"NumberOfStudyRelatedInstances": 40}
    assert view.seen.series[0].expected == {"NumberOfSeriesRelatedInstances": 20}


def test_our_own_results_are_no_part_of_the_study() -> None:
    archive = Archive({"a": mr(2), "ours": {**mr(1), "Modality": "SEG"}})
    view = reader(archive, Book(ours=frozenset({"ours-0"}))).read("study")
    assert view is not None
    assert [item.orthanc_id for item in view.facts.series] == ["a"]
    only_ours = Archive({"ours": {**mr(1), "Modality": "SEG"}})
    assert reader(only_ours, Book(ours=frozenset({"ours-0"}))).read("study") is None


def test_the_order_is_looked_up_by_study_and_trimmed_accession() -> None:
    book = Book(order=Order(placer="P1"))
    view = reader(Archive({"a": mr(1)}), book).read("study")
    assert view is not None
    assert view.facts.order == book.order
    assert book.asked == {"study_uid": "1.2.3", "accession": "A1"}


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [
        ("20260102", "030405.600", "2026-01-02 03:04:05"),
        ("20260102", "03", None),
        ("2026", "030405", None),
        ("20261332", "030405", None),
        ("", "", None),
    ],
)
def test_the_acquisition_time_is_read_in_local_time_or_not_at_all(date: str, clock: str, expected: str | None) -> None:
    view = reader(Archive({"a": mr(1, AcquisitionDate=date, AcquisitionTime=clock)})).read("study")
    assert view is not None
    at = view.seen.acquired_at
    assert (None if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))) == expected


def test_a_series_header_is_read_once_and_the_oldest_is_forgotten_first() -> None:
    archive = Archive({"a": mr(1), "b": mr(2)})
    facts = reader(archive, remember=2)
    for _ in range(3):
        facts.read("study")
    assert archive.asked == ["a-0", "b-0"]
    archive.headers["c"] = mr(3)
    facts.read("study")
    facts.read("study", archive.series_of(["study"])[:1])
    assert archive.asked == ["a-0", "b-0", "c-0", "a-0"]


def test_a_study_or_series_that_was_deleted_meanwhile_is_nothing_and_no_error() -> None:
    archive = Archive({"a": mr(1), "b": mr(2)}, gone=frozenset({"a-0"}))
    view = reader(archive).read("study")
    assert view is not None
    assert [item.orthanc_id for item in view.facts.series] == ["b"]
    archive.failure = OrthancRefused("Orthanc answered 404", status=404)
    assert reader(archive).read("study") is None


@pytest.mark.parametrize("failure", [OrthancRefused("401", status=401), OrthancUnreachable("away")])
def test_an_archive_that_refuses_or_is_away_is_not_taken_for_a_deleted_study(failure: Exception) -> None:
    archive = Archive({"a": mr(1)})
    archive.failure = failure
    with pytest.raises(type(failure)):
        reader(archive).read("study")


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_structures_ahead_of_the_images_of_their_series_do_not_speak_for_it(ahead: int) -> None:
    archive = Archive({"s": {**mr(9), "ahead": ahead}})
    for _ in range(2):
        view = reader(archive).read("study")
        assert view is not None
        assert view.facts.attributes["Modality"] == "MR"


def test_a_series_of_which_only_the_structures_are_here_is_asked_again_when_images_follow() -> None:
    archive = Archive({"s": {**mr(1), "ahead": 1}})
    facts = reader(archive)
    first = facts.read("study")
    archive.headers["s"]["images"] = 9
    then = facts.read("study")
    assert first is not None
    assert then is not None
    assert [view.facts.series[0].attributes["Modality"] for view in (first, then)] == ["RTSTRUCT", "MR"]


def test_an_enhanced_object_is_seen_as_its_first_frame() -> None:
    frame = {"PlanePositionSequence": [{"ImagePositionPatient": "1\\2\\3"}]}
    shared = {
        "PlaneOrientationSequence": [{"ImageOrientationPatient": "1\\0\\0\\0\\1\\0"}],
        "PixelMeasuresSequence": [{"PixelSpacing": "0.5\\0.5", "SliceThickness": "2.5"}],
    }
    groups = {"PerFrameFunctionalGroupsSequence": [frame] * 3, "SharedFunctionalGroupsSequence": [shared]}
    found = attributes_of({"Modality": "CT", "NumberOfFrames": "3", "SliceThickness": "9", **groups})
    assert orientation(found) == "axial"
    assert (found["PixelSpacing"], found["ImagePositionPatient"]) == ((0.5, 0.5), (1.0, 2.0, 3.0))
    assert found["SliceThickness"] == 9.0, "what the object says itself holds"
    assert not groups.keys() & found.keys(), "thousands of frames are not kept"


@pytest.mark.parametrize("odd", [None, "", [], [None], ["x"], [{"A": None}], [{"A": ["x"]}]])
def test_odd_functional_groups_are_no_error(odd: object) -> None:
    assert attributes_of({"Modality": "CT", "SharedFunctionalGroupsSequence": odd})["Modality"] == "CT"
