"""Which route takes which series, and the reasons that people read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from medai.router.contract import Order, OrthancId, Priority, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.errors import SettingsError
from medai.router.routing.rules import RouteVerdict, Rules
from medai.router.settings.routes import RouteSettings

CT = {"Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"), "Orientation": "axial", "SliceThickness": 1.25}


def series(number: int | None, slices: int, **attributes: Any) -> SeriesFacts:
    values = {**CT, "SeriesNumber": number, "NumberOfInstances": slices, **attributes}
    kept = {name: value for name, value in values.items() if value is not None}
    uid = f"1.2.826.0.1.{number or 0}.{slices}"
    return SeriesFacts(series_uid=SeriesUID(uid), orthanc_id=OrthancId(f"o-{uid}"), instances=slices, attributes=kept)


def study(*items: SeriesFacts, order: Order | None = None, **attributes: Any) -> StudyFacts:
    values = {"Modality": "CT", "ModalitiesInStudy": ("CT",), "PatientName": "DOE^JANE", "PatientID": "MRN77"}
    return StudyFacts(
        study_uid=StudyUID("1.2.826.0.1.9"), orthanc_id=OrthancId("o"), attributes={**values, **attributes},
        series=items, order=order,
    )  # fmt: skip


def route(name: str = "chest", when: str = 'study.Modality == "CT"', **more: Any) -> RouteSettings:
    return RouteSettings.model_validate({"name": name, "when": when, "model": "ct_lungs", **more})


def verdict(facts: StudyFacts, **settings: Any) -> RouteVerdict:
    return Rules([route(**settings)], "first").match(facts)[0]


def numbers(found: RouteVerdict) -> list[Any]:
    return [item.attributes.get("SeriesNumber") for item in found.choices]


SCOUT = series(1, 2, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"), Orientation="coronal")
THIN = series(4, 275, SliceThickness=1.0)
THICK = series(3, 60, SliceThickness=5.0)
CHEST = study(THIN, SCOUT, THICK)


def test_the_best_series_is_taken_and_the_choice_is_explained() -> None:
    found = verdict(CHEST)
    assert numbers(found) == [4]
    assert found.reason == (
        'study.Modality == "CT" is true; series 4 of 2 that qualify: most slices (275); '
        "excluded: series 1: Image Type has LOCALIZER"
    )


def test_each_series_is_told_of_with_its_own_reason() -> None:
    found = verdict(CHEST)
    assert [(item.label, item.qualifies, item.taken) for item in found.considered] == [
        ("series 1", False, False), ("series 3", True, False), ("series 4", True, True),
    ]  # fmt: skip
    assert [item.reason for item in found.considered] == [
        "Image Type has LOCALIZER",
        "qualifies; series 4 of 2 that qualify: most slices (275)",
        "series 4 of 2 that qualify: most slices (275)",
    ]
    assert found.considered[1].orthanc_id == THICK.orthanc_id


def test_the_only_series_that_qualifies_is_named_as_such() -> None:
    reason = verdict(study(THIN)).reason
    assert reason == 'study.Modality == "CT" is true; series 4 is the only one that qualifies (275 slices)'


def test_a_study_of_which_no_series_qualifies_still_tells_of_each() -> None:
    found = verdict(study(SCOUT, THICK), series={"slices_min": 100})
    assert not found.matched
    assert (
        found.reason
        == "no series qualifies: series 1: Image Type has LOCALIZER; series 3: 60 slices, at least 100 wanted"
    )
    assert [(item.label, item.qualifies, item.taken, item.reason) for item in found.considered] == [
        ("series 1", False, False, "Image Type has LOCALIZER"),
        ("series 3", False, False, "60 slices, at least 100 wanted"),
    ]


def test_all_series_that_qualify_are_named_in_their_order() -> None:
    found = verdict(CHEST, series={"take": "all", "prefer": "first"})
    assert found.reason == (
        'study.Modality == "CT" is true; all 2 series that qualify: 3, 4; excluded: series 1: Image Type has LOCALIZER'
    )
    assert found.considered[1].reason == "all 2 series that qualify: 3, 4"


def test_the_condition_on_a_series_may_ask_of_the_study() -> None:
    asked = {"where": "study.Order.Modality == s.Modality"}
    assert verdict(study(THIN, order=Order(placer="P1", modality="CT")), series=asked).matched
    assert not verdict(study(THIN, order=Order(placer="P1", modality="MR")), series=asked).matched


def test_a_series_without_a_modality_is_not_of_one_that_is_wanted() -> None:
    found = verdict(study(series(3, 50, Modality=None)), series={"modality": ["CT", "MR"]})
    assert found.reason == "no series qualifies: series 3: modality empty, CT or MR wanted"


@pytest.mark.parametrize(
    ("item", "limits", "reason"),
    [
        (series(3, 1), {"slices_min": 20}, "series 3: 1 slice, at least 20 wanted"),
        (series(3, 900), {"slices_max": 500}, "series 3: 900 slices, at most 500 wanted"),
        (series(3, 50, SliceThickness=5.0), {"thickness_max_mm": 3}, "slices are 5 mm thick, at most 3 mm wanted"),
        (series(3, 50, SliceThickness=0.5), {"thickness_min_mm": 1}, "slices are 0.5 mm thick, at least 1 mm wanted"),
        (series(3, 50, SliceThickness=None), {"thickness_max_mm": 3}, "slice thickness not given, 0 to 3 mm wanted"),
        (series(3, 50, SliceThickness=float("nan")), {"thickness_max_mm": 3}, "thickness not given, 0 to 3 mm wanted"),
        (series(3, 50, SliceThickness=""), {"thickness_max_mm": 3}, "series 3: slice thickness not given, 0 to 3 mm wanted"),
        (series(3, 50, Orientation="sagittal"), {"orientation": ["axial", "coronal"]},
         "orientation sagittal, axial or coronal wanted"),
        (series(3, 50, Orientation=""), {"orientation": ["axial"]}, "orientation unknown, axial wanted"),
        (series(3, 50, Modality="PT"), {"modality": ["CT"]}, "modality PT, CT wanted"),
        (series(3, 50, Modality="DOE^JANE"), {"modality": ["CT"]}, "modality something else, CT wanted"),
        (series(3, 50, Modality="SR"), {}, "modality SR: nothing that a model reads"),
        (series(3, 50, Modality="SEG"), {}, "modality SEG: nothing that a model reads"),
        (series(3, 50, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), {}, "secondary captures"),
        (series(3, 50, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.2"), {}, "secondary captures"),
        (series(3, 50, ImageType=("derived", "SECONDARY")), {}, "Image Type has DERIVED"),
        (series(3, 50, ImageType="ORIGINAL\\MIP THICK"), {}, "Image Type has MIP"),
        (series(3, 50, ImageType=("ORIGINAL", "X")), {"image_type_excludes": ["x"]}, "Image Type has x"),
        (series(3, 50), {"where": "s.KVP >= 100"}, "s.KVP >= 100 cannot be decided: KVP is absent in series 3"),
        (series(3, 50, KVP=80.0), {"where": "s.KVP >= 100"}, "s.KVP >= 100 is false"),
        (series(None, 1), {"slices_min": 2}, "a series without a number: 1 slice, at least 2 wanted"),
    ],
)  # fmt: skip
def test_an_excluded_series_says_why(item: SeriesFacts, limits: dict[str, Any], reason: str) -> None:
    found = verdict(study(item), series=limits)
    assert not found.matched
    assert found.choices == ()
    assert found.reason.startswith("no series qualifies: ")
    assert found.reason.endswith(reason)


@pytest.mark.parametrize(
    "item",
    [
        series(3, 50, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1"),
        series(3, 50, SliceThickness=None),
        series(3, 50, ImageType=None),
        series(None, 50),
        series(3, 1, NumberOfFrames=50),
    ],
)
def test_a_series_that_lacks_what_is_not_asked_for_is_taken(item: SeriesFacts) -> None:
    assert verdict(study(item)).choices == (item,)


@pytest.mark.parametrize(
    "limits",
    [
        {"slices_min": 50},
        {"slices_max": 50},
        {"thickness_min_mm": 1.25},
        {"thickness_max_mm": 1.25},
        {"thickness_min_mm": 1.0, "thickness_max_mm": 1.5},
        {"orientation": ["coronal", "axial"]},
    ],
)
def test_a_series_at_or_within_the_limit_is_taken(limits: dict[str, Any]) -> None:
    assert verdict(study(series(3, 50)), series=limits).matched


@pytest.mark.parametrize(("frames", "counted"), [(2, 6), (1, 3), (0, 3), (-4, 3), ("2", 3)])
def test_every_frame_counts_and_a_number_that_is_none_is_left_out(frames: Any, counted: int) -> None:
    found = verdict(study(series(3, 3, NumberOfFrames=frames)), series={"slices_min": 20})
    assert found.reason.endswith(f"series 3: {counted} slices, at least 20 wanted")


def test_frames_of_a_multi_frame_series_count_as_slices() -> None:
    assert verdict(study(series(3, 1, NumberOfFrames=50)), series={"slices_min": 20}).matched
    assert not verdict(study(series(3, 1, NumberOfFrames=10)), series={"slices_min": 20}).matched


def test_a_modality_that_the_route_names_is_taken_even_if_it_is_no_usual_image() -> None:
    assert verdict(study(series(3, 50, Modality="OT")), series={"modality": ["OT"]}).matched


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [({"prefer": "most_slices"}, [4]), ({"prefer": "thinnest"}, [4]), ({"prefer": "first"}, [3]),
     ({"take": "all"}, [4, 3]), ({"take": "all", "prefer": "first"}, [3, 4])],
)  # fmt: skip
def test_the_preference_orders_the_series(settings: dict[str, Any], chosen: list[int]) -> None:
    assert numbers(verdict(CHEST, series=settings)) == chosen


def test_ties_go_to_the_lower_series_number_whatever_the_order_of_arrival() -> None:
    items = [series(7, 50), series(2, 50), series(5, 50), series(None, 50)]
    for turned in (items, items[::-1]):
        found = verdict(study(*turned))
        assert numbers(found) == [2]
        assert "series 2 of 4 that qualify: most slices (50); the first of those that are equal" in found.reason


def test_two_that_are_equal_are_a_tie_and_two_that_differ_are_none() -> None:
    tied = verdict(study(series(7, 50), series(2, 50))).reason
    assert tied.endswith("series 2 of 2 that qualify: most slices (50); the first of those that are equal")
    first = verdict(study(series(7, 50), series(2, 50)), series={"prefer": "first"}).reason
    assert first.endswith("series 2 of 2 that qualify: the lowest series number")


def test_series_numbers_are_compared_as_numbers() -> None:
    for prefer in ("first", "most_slices"):
        assert numbers(verdict(study(series(10, 50), series(9, 50)), series={"prefer": prefer})) == [9]


def test_where_no_thickness_is_known_the_first_is_taken_for_the_thinnest() -> None:
    facts = study(series(1, 50, SliceThickness=None), series(2, 50, SliceThickness=None))
    found = verdict(facts, series={"prefer": "thinnest"})
    assert numbers(found) == [1]
    assert found.reason.endswith("series 1 of 2 that qualify: first; the first of those that are equal")


def test_a_series_without_thickness_is_the_last_choice_for_the_thinnest() -> None:
    found = verdict(study(series(1, 50, SliceThickness=None), series(2, 50)), series={"prefer": "thinnest"})
    assert numbers(found) == [2]
    assert found.reason.endswith("series 2 of 2 that qualify: thinnest slices (1.25 mm)")


def test_an_absent_attribute_is_the_reason_and_no_crash() -> None:
    found = verdict(CHEST, when='study.BodyPartExamined == "CHEST"')
    assert not found.matched
    assert found.reason == 'study.BodyPartExamined == "CHEST" cannot be decided: study.BodyPartExamined is absent'


@pytest.mark.parametrize("limit", ["3", "3.0"])
def test_a_thickness_compares_with_whole_and_fractional_numbers(limit: str) -> None:
    for value in (3, 3.0):
        facts = study(series(1, 50, SliceThickness=value))
        assert verdict(facts, when=f"series.exists(s, s.SliceThickness <= {limit})").matched


def test_a_study_without_series_and_one_of_secondary_captures_are_recorded_not_raised() -> None:
    assert verdict(study()).reason == "no series qualifies: the study has none"
    captures = study(series(1, 3, Modality="OT"), series(2, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    assert not verdict(captures).matched


ROUTES = [route("mr", 'study.Modality == "MR"'), route("thin", series={"slices_min": 500}), route("a"), route("b")]


@pytest.mark.parametrize(
    ("routing", "considered"),
    [("first", [("mr", False), ("thin", False), ("a", True)]),
     ("all", [("mr", False), ("thin", False), ("a", True), ("b", True)])],
)  # fmt: skip
def test_first_stops_at_the_first_route_that_takes_a_series_and_all_goes_on(
    routing: Literal["first", "all"], considered: list[tuple[str, bool]]
) -> None:
    assert [(v.route, v.matched) for v in Rules(ROUTES, routing).match(CHEST)] == considered


def test_no_route_is_no_verdict() -> None:
    assert Rules([], "first").match(CHEST) == ()


def test_the_order_is_open_to_conditions() -> None:
    order = Order(placer="P1", priority=Priority.STAT, procedure=("CTCHEST", "CT chest", "L"), modality="CT")
    condition = 'study.Order.Priority == "stat" && study.Order.ProcedureCode == "CTCHEST"'
    for more in ("ProcedureText == 'CT chest'", "ProcedureSystem == 'L'", "Modality == 'CT'"):
        assert verdict(replace(CHEST, order=order), when=f"study.Order.{more}").matched
    assert verdict(replace(CHEST, order=order), when=condition).matched
    assert "study.Order is absent" in verdict(CHEST, when=condition).reason


@pytest.mark.parametrize(
    ("own", "order", "attributes", "expected"),
    [
        ("order", None, {}, Priority.ROUTINE),
        ("order", Priority.STAT, {}, Priority.STAT),
        ("order", Priority.BACKGROUND, {}, Priority.BACKGROUND),
        ("order", None, {"RequestedProcedurePriority": "STAT"}, Priority.STAT),
        ("order", None, {"StudyPriorityID": "HIGH"}, Priority.URGENT),
        ("order", Priority.ROUTINE, {"RequestedProcedurePriority": "STAT"}, Priority.STAT),
        ("order", Priority.STAT, {"RequestedProcedurePriority": "ROUTINE"}, Priority.STAT),
        ("order", None, {"RequestedProcedurePriority": ""}, Priority.ROUTINE),
        ("order", None, {"RequestedProcedurePriority": 7}, Priority.ROUTINE),
        ("order", Priority.BACKGROUND, {"RequestedProcedurePriority": " "}, Priority.BACKGROUND),
        ("urgent", Priority.STAT, {}, Priority.URGENT),
        ("background", None, {"RequestedProcedurePriority": "STAT"}, Priority.BACKGROUND),
    ],
)
def test_the_priority_comes_from_the_route_the_order_or_the_images(
    own: str, order: Priority | None, attributes: dict[str, Any], expected: Priority
) -> None:
    facts = replace(CHEST, order=None if order is None else Order(placer="P1", priority=order))
    facts = replace(facts, attributes={**facts.attributes, **attributes})
    assert Rules([], "first").priority(route(priority=own), facts) is expected


def test_the_priority_of_a_series_counts_too() -> None:
    facts = study(series(1, 5), series(2, 5, RequestedProcedurePriority="STAT"))
    assert Rules([], "first").priority(route(), facts) is Priority.STAT


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"when": 'study.Modality = "CT"'}, ["routes.chest.when: ", "column 16", "write =="]),
        (
            {"series": {"where": "study.A == 1 && series.B == 2"}},
            ["routes.chest.series.where: ", "column 17", "study or s"],
        ),
    ],
)
def test_a_wrong_condition_stops_the_router_at_its_start(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Rules([route(**settings)], "first")
    for word in words:
        assert word in str(caught.value)


def test_reasons_hold_no_identifier_of_the_patient_or_the_images() -> None:
    planted = study(
        series(1, 1, PatientName="DOE^JANE", SeriesDescription="for DOE"),
        series(2, 50, ImageType=("DERIVED", "DOE^JANE")),
        AccessionNumber="ACC42",
        StudyDescription="DOE^JANE",
    )
    rules = Rules([route("a", series={"slices_min": 2}), route("b", "study.StudyDescription < 3"), route("c")], "all")
    text = repr([(v.reason, [c.reason for c in v.considered]) for v in rules.match(planted)])
    for secret in ("DOE", "JANE", "MRN77", "ACC42", "1.2.826"):
        assert secret not in text


def test_many_series_make_a_reason_of_bounded_length() -> None:
    found = verdict(study(*(series(n, 1) for n in range(1, 200))), series={"slices_min": 20})
    assert found.reason.startswith("no series qualifies: series 1: 1 slice, at least 20 wanted; series 2: ")
    assert found.reason.endswith("; series 12: 1 slice, at least 20 wanted; and 187 more")
    assert len(found.reason) < 1200
    twelve = verdict(study(*(series(n, 1) for n in range(1, 13))), series={"slices_min": 20})
    assert twelve.reason.endswith("; series 12: 1 slice, at least 20 wanted")


def test_slices_that_are_each_a_series_are_told_as_such() -> None:
    scattered = [replace(series(4, 1), series_uid=SeriesUID(f"1.2.{n}")) for n in range(90)]
    said = verdict(study(*scattered)).reason
    assert said.startswith("no series qualifies: series 4: one of 90 slices that are each a series of their own; ")
    assert "each a series" not in verdict(study(*(series(n, 1) for n in range(1, 5)))).reason, "scouts have numbers"
    views = [replace(each, attributes={**each.attributes, "Modality": "DX"}) for each in scattered]
    assert "each a series" not in verdict(study(*views)).reason, "a projection is whole"


def test_a_route_that_is_asked_for_reads_a_study_that_its_condition_leaves() -> None:
    rules = Rules([route(), route("mr", 'study.Modality == "MR"')], "all")
    assert [(v.route, v.matched) for v in rules.match(CHEST)] == [("chest", True), ("mr", False)]
    chest, mr = rules.match(CHEST, {"mr"})
    assert (chest.matched, mr.matched, numbers(mr)) == (True, True, [4])
    assert mr.reason.startswith("a workitem asks for it; series 4 of 2 that qualify")


def test_a_route_that_is_asked_for_comes_beside_the_first_that_matches() -> None:
    rules = Rules([route(), route("second"), route("third")], "first")
    assert [(v.route, v.matched) for v in rules.match(CHEST, {"third"})] == [("chest", True), ("third", True)]
    assert rules.match(CHEST, {"chest", "unknown"}) == rules.match(CHEST)


def test_a_route_that_is_asked_for_takes_no_series_that_it_cannot_read() -> None:
    (found,) = Rules([route(series={"modality": ["MR"]}, when="false")], "first").match(CHEST, {"chest"})
    assert (found.matched, found.choices) == (False, ())
    assert found.reason.startswith("a workitem asks for it; no series qualifies")
