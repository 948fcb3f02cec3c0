"""Whatever Orthanc's JSON holds of a header, a study is decided on: facts, rules and conditions never fail on it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medai.router.contract import Order, OrthancId, StudyFacts, StudyUID
from medai.router.errors import OrthancBroke, OrthancRefused, PermanentError
from medai.router.hl7.patients import Aliases
from medai.router.intake import facts as module
from medai.router.intake.facts import NUMBERS, FactsReader, typed
from medai.router.orthanc.client import Orthanc
from medai.router.routing.rules import Rules
from medai.router.settings.routes import RouteSettings, SeriesSettings

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
KEYWORDS = st.one_of(
    st.sampled_from(
        [*sorted(NUMBERS), "Modality", "ImageType", "SeriesInstanceUID", "SOPClassUID", "StudyPriorityID", "AcquisitionDate",
         "AcquisitionTime", "RequestAttributesSequence", "PixelData", "NumberOfStudyRelatedInstances"]
    ),
    st.text(max_size=12),
)  # fmt: skip
SCALARS = st.one_of(
    st.text(max_size=20),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.floats().map(repr), min_size=1, max_size=7).map("\\".join),
    st.integers().map(str),
    st.sampled_from(["nan", "inf", "1e999", "9" * 400, "\\", "1\\0\\0\\0\\1\\0", "20260231", "999999"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(st.dictionaries(st.text(max_size=8), inner, max_size=3), max_size=3), max_leaves=8
)
TAGS = st.dictionaries(KEYWORDS, VALUES, max_size=12)
RULES = Rules(
    [
        RouteSettings(
            name="a",
            when='study.Modality == "CT" && series.exists(s, s.SliceThickness <= 3 || s.Rows > 100) && study.PatientAge != "x"',
            model="m",
            series=SeriesSettings(
                where="s.RepetitionTime > 1.0 || size(s.ImageType) > 2", orientation=("axial",), thickness_max_mm=5.0
            ),
        ),
        RouteSettings(name="b", when='"M" in study.ModalitiesInStudy || int(study.NumberOfInstances) > 3', model="m"),
        RouteSettings(name="c", model="m", series=SeriesSettings(prefer="thinnest", take="all")),
    ],
    "all",
)


class Archive:
    """Orthanc with one study of one series, whose header is ``tags`` or an error."""

    def __init__(self, tags: Any) -> None:
        self.tags_ = tags
        self.asked = 0

    def study(self, name: str) -> dict[str, Any]:
        return {
            "ID": "study", "LastUpdate": "20260101T000000",
            "MainDicomTags": {"StudyInstanceUID": "1.2", "StudyDate": "20260101"}, "PatientMainDicomTags": {"PatientSex": "O"},
        }  # fmt: skip

    def series_of(self, names: Any) -> list[dict[str, Any]]:
        main = {"Modality": "MR", "SeriesInstanceUID": "1.2.3", "SeriesNumber": "4"}
        return [{"ID": "series", "ParentStudy": "study", "Instances": ["i1", "i2"], "MainDicomTags": main}]

    def size(self, _instance: str) -> int:
        return 4

    def file(self, _instance: str) -> bytes:
        return b"file"

    def tags(self, name: str) -> dict[str, Any]:
        self.asked += 1
        if isinstance(self.tags_, Exception):
            raise self.tags_
        return dict(self.tags_)


class Nothing:
    """A ledger without orders."""

    def known_results(self, orthanc_ids: Any) -> set[str]:
        return set()

    def of_study(self, *, study_uid: str, accession: str) -> tuple[Order, ...]:
        return ()

    def aliases(self) -> Aliases:
        return Aliases()


def reader(archive: Archive) -> FactsReader:
    return FactsReader(cast(Orthanc, archive), Nothing(), Nothing(), Nothing())


@EXAMPLES
@given(TAGS)
def test_any_header_gives_facts_that_every_rule_can_decide(tags: dict[str, Any]) -> None:
    view = reader(Archive(tags)).read("study")
    assert view is not None
    json.dumps(view.seen.series[0].expected)
    verdicts = RULES.match(view.facts)
    assert [verdict.route for verdict in verdicts] == ["a", "b", "c"]
    assert all(verdict.reason for verdict in verdicts)
    RULES.priority(RouteSettings(name="d", model="m"), view.facts)


@EXAMPLES
@given(KEYWORDS, VALUES)
def test_any_value_gets_a_type(keyword: str, value: Any) -> None:
    typed(keyword, value)


@EXAMPLES
@given(st.dictionaries(st.text(max_size=8), SCALARS, max_size=4))
def test_any_change_has_a_time(change: dict[str, Any]) -> None:
    assert module.change_time(change, 1000.0) <= 1000.0


def test_a_header_on_which_orthanc_dies_is_asked_for_twice_and_then_its_index_is_enough() -> None:
    archive = Archive(OrthancBroke("away"))
    read = reader(archive).read
    for _ in range(FactsReader.BREAKS_LIMIT):
        with pytest.raises(OrthancBroke):
            read("study")
    view = read("study")
    assert archive.asked == FactsReader.BREAKS_LIMIT
    assert view is not None
    assert view.seen.series[0].series_uid == "1.2.3"
    assert (view.facts.attributes["Modality"], view.facts.attributes["StudyDate"]) == ("MR", "20260101")
    assert view.facts.series[0].attributes["SeriesNumber"] == 4


@pytest.mark.parametrize("error", [PermanentError("nested too deeply"), RecursionError()])
def test_an_answer_that_is_nested_too_deeply_leaves_what_the_index_holds(error: Exception) -> None:
    view = reader(Archive(error)).read("study")
    assert view is not None
    assert view.facts.series[0].attributes["Modality"] == "MR"


def test_a_header_that_is_gone_is_no_series() -> None:
    assert reader(Archive(OrthancRefused("gone", status=404))).read("study") is None


def test_facts_without_series_are_decided_too() -> None:
    nothing = StudyFacts(study_uid=StudyUID("1.2"), orthanc_id=OrthancId("o"), attributes={}, series=(), order=None)
    assert [verdict.matched for verdict in RULES.match(nothing)] == [False] * 3
