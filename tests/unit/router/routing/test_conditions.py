"""Conditions: what they accept, what they come to, and what they say when they can't be decided."""

from __future__ import annotations

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medai.router.errors import SettingsError
from medai.router.routing.condition_values import ALLOWANCE, STEP_LIMIT, Allowance, Items, Record
from medai.router.routing.conditions import Condition, Outcome

STUDY = {
    "Modality": "CT", "ModalitiesInStudy": ("CT", "SR"), "Rows": 512, "KVP": 120.0, "PatientName": "DOE^JANE", "StudyDescription": "DOE",
    "BodyPartExamined": "", "ImageType": ("ORIGINAL", "PRIMARY"), "RequestAttributesSequence": ({"ScheduledProcedureStepDescription": "X1", "RequestedProcedureID": "RP77"},),
}  # fmt: skip
SERIES = (
    {"SeriesNumber": 1, "SliceThickness": 3.0, "EchoNumbers": 1},
    {"SeriesNumber": 2, "EchoNumbers": 2},
    {"SeriesNumber": 3, "SliceThickness": 5.0, "EchoNumbers": 2},
)


def outcome(text: str) -> Outcome:
    condition = Condition(text, names=frozenset({"study", "series"}), place="routes.x.when")
    rows = [Record(row, path="", where=f"series {row['SeriesNumber']}") for row in SERIES]
    return condition.test({"study": Record(STUDY, path="study"), "series": Items(rows)})


@pytest.mark.parametrize(
    "text",
    [
        "", "true", "  true  ",
        'study.Modality == "CT" && series.exists(s, s.SliceThickness <= 3.0)',
        "series.exists(s, s.SliceThickness <= 3)", "series.exists(s, s.EchoNumbers == 2.0)",
        "study.KVP == 120", "study.KVP <= 120 && study.KVP >= 120", "study.Rows == 512.0", "study.Rows != 511.5",
        "study.KVP in [100, 120]", "series.map(s, s.EchoNumbers) == [1, 2.0, 2]",
        '"PRIMARY" in study.ImageType', '"CT" in study.Modality', 'study.Modality in ["CT", "MR"]',
        '"Modality" in study', '!("BodyPartExamined" in study)', "!has(study.BodyPartExamined)",
        'has(study.Absent) || study.Modality == "CT"', 'study.Absent == 1 || study.Modality == "CT"',
        "series.size() == 3", "size(series) == 3", "series.all(s, s.EchoNumbers > 0)",
        "series.exists_one(s, s.EchoNumbers == 1)",
        "series.filter(s, has(s.SliceThickness)).size() == 2",
        'study.Modality.endsWith("T")', 'study.Modality.contains("C")', 'matches(study.Modality, "^C.$")',
        "double(study.Rows) == 512.0", 'string(study.Rows) == "512"', 'int("512") == study.Rows', 'bool("true")',
        'study.Modality.matches(R"^C")', "study.Modality.matches(study.Modality)", "size(study.Modality) == 2",
        'study.Modality.startsWith("C")', 'study.Modality.matches("^C.$")', 'study["Modality"] == "CT"',
        'study.RequestAttributesSequence.exists(r, r.ScheduledProcedureStepDescription == "X1")',
        'has(study.Absent) ? study.Absent == 1 : true', "study.Rows % 2 == 0",
        'true && // a remark\n study.Modality == "CT"',
    ],
)  # fmt: skip
def test_a_condition_that_holds(text: str) -> None:
    assert outcome(text).value is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('study.Modality == "MR"', 'study.Modality == "MR" is false (study.Modality is CT)'),
        ('study.Rows == 512 && study.Modality == "MR" && study.Absent == 1', 'study.Modality == "MR" is false'),
        ('study.Absent == 1 && study.Rows == 1', "study.Rows == 1 is false"),
        ('"MR" in study.ModalitiesInStudy', "(study.ModalitiesInStudy is CT, SR)"),
        ("has(study.BodyPartExamined) && study.Rows == 512", "has(study.BodyPartExamined) is false"),
        ("study.Rows == 512 &&\n   study.Rows == 1", "study.Rows == 1 is false"),
    ],
)  # fmt: skip
def test_the_first_false_part_is_the_reason(text: str, reason: str) -> None:
    assert outcome(text).value is False
    assert reason in outcome(text).reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('study.BodyPartExamined == "CHEST"', "study.BodyPartExamined is absent"),
        ("!(study.Absent == 1)", "study.Absent is absent"),
        ("study.A == 1 || study.B == 2", "study.A is absent; study.B is absent"),
        ("study.A.B == 1", "study.A is absent"),
        ("series.exists(s, s.SliceThickness < 2)", "SliceThickness is absent in series 2"),
        ("series.all(s, s.X == 1)", "X is absent in series 1, series 2, series 3"),
        ("series.filter(s, s.SliceThickness < 4).size() > 0", "SliceThickness is absent in series 2"),
        ("study.RequestAttributesSequence.exists(r, r.Priority == 1)", "study.RequestAttributesSequence[].Priority is"),
        ("study.Modality == 3", "a text is compared with a number"),
        ("study.Rows < true", "a number is compared with true or false"),
        ("study.Modality", "neither true nor false"),
        ("series.exists(s, s.EchoNumbers)", "cannot be decided"),
        ("series[9].EchoNumbers == 1", "cannot be decided"),
        ("study.Rows / 0 > 1", "cannot be decided"),
        ('int("abc") == 1', "cannot be decided"),
        ("study.StudyDescription < 3", "a text is compared with a number"),
        ("-study.StudyDescription == 3", "does not fit"),
        ("study.StudyDescription.size() > 99999999999999999999", "does not fit"),
    ],
)
def test_what_cannot_be_decided_says_why_and_quotes_no_value(text: str, reason: str) -> None:
    decided = outcome(text)
    assert decided.value is None
    assert reason in decided.reason
    assert "DOE" not in decided.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('study.Modality = "CT"', ["routes.x.when", "line 1, column 16", "write == to compare"]),
        ("study.Rows == 1 and true", ["column 17", "write && for 'and'"]),
        ("not study.Rows", ["write ! for 'not'"]),
        ("study.Rows ==", ["the expression ends too early"]),
        ("series.exists(s, true", ["the expression ends too early"]),
        ('study.Modality == "CT" &&\n\n  study.Rows = 3', ["line 3, column 14", "  study.Rows = 3\n"]),
        ("stduy.Rows == 1", ["'stduy' is not known here", "study or series"]),
        ("s.Rows == 1", ["'s' is not known here"]),
        ("series.exists(s, s.A == 1) && s.B == 1", ["column 31", "'s' is not known here"]),
        ("study.Modality.lower() == 'ct'", ["there is no function 'lower'"]),
        ("open('x') == 1", ["there is no function 'open'"]),
        ("series.reduce(a, b, 0, a + b) > 1", ["there is no function 'reduce'"]),
        ("series.exists(s.N, true)", ["is a name"]),
        ("series.exists(true)", ["takes a name and a condition"]),
        ("series.all(a, series.all(b, series.all(c, true)))", ["at most 2 of"]),
        ("(" * 60 + "true" + ")" * 60, ["too deeply nested"]),
        ("a" * 3000, ["at most 2000"]),
        ('study.Modality.matches("^[")', ["is not a regular expression"]),
        (".study.Rows == 1", ["not supported in routes"]),
        ("Message{a: 1} == 1", ["not supported in routes"]),
        ("study.\x00", ["routes.x.when"]),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        outcome(text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("", True, "every study"),
        ("  true  ", True, "every study"),
        ("study.Rows == 512 &&\n   true", True, "study.Rows == 512 && true is true"),
        ("study.A == 1 && study.B == 1", None, "study.A == 1 cannot be decided: study.A is absent"),
        ("true && study.A == 1 && study.Rows == 1", False, "study.Rows == 1 is false"),
        ("study.A == 1 || study.A == 2", None, "study.A == 1 || study.A == 2 cannot be decided: study.A is absent"),
        ("study.A == 1 || study.B == 2", None, "study.A == 1 || study.B == 2 cannot be decided: study.A is absent; study.B is absent"),
        ("series.all(s, s.X == 1)", None, "series.all(s, s.X == 1) cannot be decided: X is absent in series 1, series 2, series 3"),
        ("study.Modality == 'MR' || study.ModalitiesInStudy == ['MR']", False,
         "study.Modality == 'MR' || study.ModalitiesInStudy == ['MR'] is false (study.ModalitiesInStudy is CT, SR; study.Modality is CT)"),
        ("study.Modality == 'CT' && study.Rows == 1", False, "study.Rows == 1 is false"),
        ("study.Modality", None, "study.Modality cannot be decided: it is neither true nor false"),
        ("study.Modality.matches()", None, "study.Modality.matches() cannot be decided: an operator or function does not fit the values"),
        ("series[9].EchoNumbers == 1", None, "series[9].EchoNumbers == 1 cannot be decided: an operator or function does not fit the values"),
    ],
)  # fmt: skip
def test_the_reasons_in_full(text: str, value: bool | None, reason: str) -> None:
    assert outcome(text) == Outcome(value=value, reason=reason)


FORM = "takes a name and a condition: series.exists(s, s.SliceThickness <= 3)"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ('study.Modality = "CT"', (1, 16), "write == to compare"),
        ("study.Rows == 1 and true", (1, 17), "write && for 'and'"),
        ("study.Rows == 1 AND true", (1, 17), "write && for 'AND'"),
        ("study.Rows == 1 or true", (1, 17), "write || for 'or'"),
        ("study.Rows == 1 && not true", (1, 24), "write ! for 'not'"),
        ("study.Rows == 1 and 3 < 4", (1, 17), "write && for 'and'"),
        ("study.Rows == 3 4", (1, 17), "this is not an expression"),
        ("NOT study.Rows == 1", (1, 5), "write ! for 'not'"),
        ("study.Rows == 1 not", (1, 17), "write ! for 'not'"),
        ("study.Rows == ) 3", (1, 15), "this is not an expression"),
        ("study.Rows == 1 &&\n  study.x ?? 2", (2, 12), "this is not an expression"),
        ("study.Rows ==\n", (1, 14), "the expression ends too early"),
        ("study.Rows == 1 &&\n  (true", (2, 8), "the expression ends too early"),
        ("true && .study.Rows == 1", (1, 9), "this form of CEL is not supported in routes"),
        ("stduy.Rows == 1", (1, 1), "'stduy' is not known here; use study or series"),
        ("open('x') == 1", (1, 1), "there is no function 'open'; there are bool, double, has, int, matches, size, string"),
        ("study.Modality.lower() == 'ct'", (1, 1), "there is no function 'lower'; there are all, contains, endsWith, exists, "
         "exists_one, filter, map, matches, size, startsWith"),
        ("series.exists()", (1, 1), f"exists {FORM}"),
        ("series.exists(true)", (1, 1), f"exists {FORM}"),
        ("series.exists(s, true, true)", (1, 1), f"exists {FORM}"),
        ("series.map(s, true, true) == [1]", (1, 1), f"map {FORM}".replace("exists", "map")),
        ("series.exists(s.N, true)", (1, 1), "the first argument of exists is a name, as in series.exists(s, …)"),
        ("series.exists(3, true)", (1, 1), "the first argument of exists is a name, as in series.exists(s, …)"),
        ("series.all(a, series.all(b, series.all(c, true)))", (1, 29), "at most 2 of all, exists, exists_one, filter, map may be nested"),
        ("series.all(a, stduy.Rows == 1)", (1, 15), "'stduy' is not known here; use study or series or a"),
        ("stduy.all(a, true)", (1, 1), "'stduy' is not known here; use study or series"),
        ("study.Modality.matches('^[')", (1, 1), "'^[' is not a regular expression (RE2)"),
        ("study.Modality.matches(r\"^[\")", (1, 1), "r\"^[\" is not a regular expression (RE2)"),
    ],
)  # fmt: skip
def test_a_fault_is_shown_in_its_line_with_a_caret_below(text: str, place: tuple[int, int], what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        outcome(text)
    line, column = place
    source = text.strip().splitlines()[line - 1]
    expected = f"routes.x.when: line {line}, column {column}: {what}\n    {source}\n    {' ' * (column - 1)}^"
    assert str(caught.value) == expected


def test_the_limits_of_length_and_depth_are_told() -> None:
    longest = "true" + " " * 1992 + "||" + "true"
    assert len(longest) == 2002
    with pytest.raises(SettingsError) as caught:
        outcome(longest)
    assert str(caught.value) == "routes.x.when: 2002 characters, at most 2000 are allowed"
    assert outcome(longest.replace("   ", " ", 1)).value is True, "2000 are allowed"
    with pytest.raises(SettingsError) as caught:
        outcome("(" * 60 + "true" + ")" * 60)
    assert str(caught.value) == "routes.x.when: too deeply nested; split it by && or make two routes of it"


@pytest.mark.parametrize(
    ("count", "places"),
    [(5, "1, series 2, series 3, series 4, series 5"), (7, "1, series 2, series 3, series 4, series 5 and 2 more")],
)
def test_an_attribute_that_many_series_lack_names_the_first_five(count: int, places: str) -> None:
    condition = Condition("series.all(s, s.X == 1)", names=frozenset({"series"}), place="routes.x.when")
    rows = [Record({"SeriesNumber": n}, path="", where=f"series {n}") for n in range(1, count + 1)]
    reason = condition.test({"series": Items(rows)}).reason
    assert reason == f"series.all(s, s.X == 1) cannot be decided: X is absent in series {places}"


def test_a_note_of_values_is_of_the_study_alone() -> None:
    condition = Condition('s.Modality == "MR"', names=frozenset({"s"}), place="routes.x.series.where")
    decided = condition.test({"s": Record({"Modality": "CT"}, path="", where="series 1")})
    assert decided == Outcome(value=False, reason='s.Modality == "MR" is false')


def test_long_and_nested_conditions_within_the_limits_are_decided() -> None:
    assert outcome(" || ".join(["false"] * 200 + ["true"])).value is True
    assert outcome("(" * 25 + "true" + ")" * 25).value is True
    assert outcome(" && ".join(["true"] * 200)).value is True


def test_a_condition_that_looks_at_too_much_is_stopped() -> None:
    condition = Condition("series.all(a, series.all(b, true))", names=frozenset({"series"}), place="routes.x.when")
    rows = Items([Record({"SeriesNumber": n}, path="", where=f"series {n}") for n in range(100)])
    stopped = condition.test({"series": rows})
    assert stopped.value is None
    assert STEP_LIMIT == 5000
    assert stopped.reason == (
        "series.all(a, series.all(b, true)) cannot be decided: it looks at more than 5000 elements"
    )


LIST = "[" + ", ".join(["0"] * 115) + "]"


@pytest.mark.parametrize(
    "text",
    [
        f"{LIST}.all(x, {LIST}.all(y, x == y))",
        f"series.all(s, {LIST}.map(x, x) == {LIST} && {LIST}.all(x, x == 0 && {'&& '.join(['true '] * 100)}))",
        f'{LIST}.all(x, !study.StudyDescription.matches("(.{{0,500}}x){{0,1}}.{{0,400}}q"))',
        f"{LIST}.all(x, size({' + '.join(['study.StudyDescription'] * 60)}) > 0)",
        f"{LIST}.all(x, study.ImageType.size() > 0)",
    ],
    ids=["lists of the expression's own", "a long expression", "a pattern", "a text that grows", "many values"],
)
def test_whatever_a_condition_spends_time_on_is_bounded(text: str) -> None:
    condition = Condition(text, names=frozenset({"study", "series"}), place="routes.x.when")
    study = Record({"StudyDescription": "ab" * 5000, "ImageType": ("A",) * 5000}, path="study")
    began = time.process_time()
    decided = condition.test({"study": study, "series": Items([Record({"Rows": 1}, path="") for _ in range(50)])})
    assert time.process_time() - began < 5.0, "7.9 s were measured where only the series counted"
    assert decided.value is None
    assert "looks at more than" in decided.reason


def test_decisions_that_share_an_allowance_share_its_end() -> None:
    token = ALLOWANCE.set(Allowance(left=100))
    try:
        assert outcome("series.all(s, s.EchoNumbers > 0)").value is True
        assert [outcome(f"{LIST}.all(x, x == 0)").value for _ in range(2)] == [None, None]
        assert outcome("study.Rows == 512").value is None
    finally:
        ALLOWANCE.reset(token)
    assert outcome("study.Rows == 512").value is True


@pytest.mark.parametrize("name", ["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID",
                                  "SeriesDate", "ReferringPhysicianName", "OtherPatientIDs", "AdmissionID", "StudyID"])  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ['study.{} == "X"', 'study["{}"] == "X"', "has(study.{})", 'series.exists(s, has(s.{}) && s.{}.startsWith("D"))',
     'study.RequestAttributesSequence.exists(r, r.{} == "X")'],
)  # fmt: skip
def test_a_condition_that_asks_who_it_is_is_refused_with_the_reason(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        outcome(text.replace("{}", name))
    assert f"{name} identifies a patient (DICOM PS3.15 Annex E)" in str(caught.value)
    assert "routes.x.when: line 1" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ['study["Patient" + "Name"] == "DOE^JANE"', '"PatientName" in study', 'study.exists(k, k == "Patient" + "Name")',
     'study.exists(k, k.startsWith("PatientN"))', 'study.RequestAttributesSequence.exists(r, "RequestedProcedureID" in r)',
     'study.map(k, study[k]).exists(v, v == "DOE^JANE")', 'study["Private Of A Maker"] == "DOE^JANE"',
     'study["0009,1001"] == "DOE^JANE"'],
)  # fmt: skip
def test_a_name_that_is_put_together_shows_nothing_either(text: str) -> None:
    condition = Condition(text, names=frozenset({"study"}), place="routes.x.when")
    private = {"Private Of A Maker": "DOE^JANE", "0009,1001": "DOE^JANE"}
    assert condition.test({"study": Record({**STUDY, **private}, path="study")}).value is not True


def test_values_do_not_reach_the_log_at_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert outcome('study.StudyDescription == "ROE^JIM"').value is False
    assert "DOE" not in caplog.text


def test_a_header_value_that_is_no_code_word_is_not_quoted() -> None:
    condition = Condition('study.BodyPartExamined == "CHEST"', names=frozenset({"study"}), place="routes.x.when")
    decided = condition.test({"study": Record({"BodyPartExamined": "DOE^JANE 1970-01-01"}, path="study")})
    assert decided.reason == 'study.BodyPartExamined == "CHEST" is false (study.BodyPartExamined is something else)'


words = st.sampled_from(
    ["study", "series", ".", "Modality", "(", ")", "[", "]", "==", "=", "<", "&&", "||", "!", '"CT"', "3", "3.5", "-",
     "s", ",", "exists", "has", "in", "true", "null", "?", ":", "{", "}", "'", "\\", "\n", "//", "+", "size"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(words, max_size=12).map(" ".join) | st.text(max_size=20))
def test_any_text_is_either_refused_at_the_start_or_decided_without_an_exception(text: str) -> None:
    try:
        condition = Condition(text, names=frozenset({"study", "series"}), place="routes.x.when")
    except SettingsError:
        return
    rows = Items([Record(row, path="", where="series") for row in SERIES])
    assert condition.test({"study": Record(STUDY, path="study"), "series": rows}).reason
