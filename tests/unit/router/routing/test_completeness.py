"""The table of cases of medai.router.routing.completeness.decide, and what holds for every case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.contract import Verdict
from medai.router.routing.completeness import Announced, SeriesProgress, StudyProgress, decide
from medai.router.settings.routes import CompletenessSettings

T0 = 1_700_000_000.0
STUDY_COUNT = "NumberOfStudyRelatedInstances"
SERIES_COUNT = "NumberOfSeriesRelatedInstances"
POLICY = CompletenessSettings(quiet_s=3.0, max_wait_s=60.0)


def study(
    instances: int, *, expected: dict[str, int] | None = None, series: tuple[SeriesProgress, ...] = ()
) -> StudyProgress:
    return StudyProgress(
        instances=instances, first_instance_at=T0 - 5, last_instance_at=T0, expected=expected or {}, series=series
    )


def series(instances: int, **expected: int) -> SeriesProgress:
    return SeriesProgress(series_uid=f"1.2.{instances}", instances=instances, last_instance_at=T0, expected=expected)


def announced(
    instances: int,
    *,
    here: int | None = None,
    mpps: int = 0,
    ian: int = 0,
    open_steps: int = 0,
    said_s: float = -5,
    **more: dict[str, int],
) -> StudyProgress:
    """Objects 1 to ``mpps`` are named by the scanner and 1 to ``ian`` by an archive; the first ``here`` are here."""
    named = {"mpps": frozenset(map(str, range(mpps))), "ian": frozenset(map(str, range(ian)))}
    return replace(
        study(instances, **more),
        announced=Announced(instances=named, open_steps=open_steps, said_at=T0 + said_s),
        present=None if here is None else frozenset(map(str, range(here))),
    )


TWO = (series(40, **{SERIES_COUNT: 60}), series(10))
WHOLE = (series(60, **{SERIES_COUNT: 60}), series(10, **{SERIES_COUNT: 10}))

CASES = [
    # what came, seconds after the last image, policy, verdict, due (seconds after the last image), words of the reason
    (study(275, expected={STUDY_COUNT: 275}), 0, POLICY, "complete", None, "all 275 announced images are here"),
    (study(276, expected={STUDY_COUNT: 275}), 0, POLICY, "complete", None, "all 275"),
    (study(250, expected={STUDY_COUNT: 275}), 10, POLICY, "wait", 60, "250 of 275 announced images are here"),
    (study(250, expected={STUDY_COUNT: 275}), 60, POLICY, "complete", None, "only 250 of 275 announced images came"),
    (study(50, series=TWO), 10, POLICY, "wait", 60, "40 of 60 announced images of 1 of 2 series"),
    (study(50, series=TWO), 61, POLICY, "complete", None, "only 40 of 60 announced images of 1 of 2 series came"),
    (study(40, series=TWO[:1]), 3, POLICY, "wait", 60, "40 of 60 announced images of the only series"),
    (study(70, series=WHOLE), 2.5, POLICY, "wait", 3, "70 images here; complete after 3.0 s"),
    (study(70, series=WHOLE), 3, POLICY, "complete", None, "no new image for 3.0 s"),
    (study(70, expected={STUDY_COUNT: 70}, series=TWO), 0, POLICY, "complete", None, "all 70"),
    (study(1), 0, POLICY, "wait", 3, "1 image here"),
    (study(1), 2.999, POLICY, "wait", 3, "1 image here"),
    (study(1), 3, POLICY, "complete", None, "no new image for 3.0 s; 1 image here"),
    (study(5, expected={"order": 10}), 3, POLICY, "complete", None, "no new image"),
    (study(5, expected={"order": 10}), 3, POLICY.model_copy(update={"expect": ("order",)}), "wait", 60, "5 of 10"),
    (study(5, expected={"order": 10, "mpps": 5}), 3, POLICY.model_copy(update={"expect": ("mpps",)}), "complete", None,
     "all 5"),
    (study(5, expected={STUDY_COUNT: 5, "mpps": 8}), 3, POLICY.model_copy(update={"expect": (STUDY_COUNT, "mpps")}),
     "wait", 60, "5 of 8"),
    (study(5, expected={STUDY_COUNT: 0}), 3, POLICY, "complete", None, "no new image"),
    (study(5, expected={STUDY_COUNT: -4}), 1, POLICY, "wait", 3, "5 images here"),
    (study(5, series=(series(5, ImagesInAcquisition=9),)), 3, POLICY, "complete", None, "no new image"),
    (study(1, expected={STUDY_COUNT: 1}), 0, POLICY, "complete", None, "the one announced image is here"),
    (study(1, expected={STUDY_COUNT: 2}), 3, POLICY, "wait", 60, "1 of 2"),
    (study(0), 1, POLICY, "wait", 55, "no image of this study is here yet"),
    (study(0), 55, POLICY, "skip", None, "no image of this study came"),
    (study(5), 0, POLICY.model_copy(update={"quiet_s": 0.0}), "complete", None, "no new image for 0.0 s"),
    (study(5, expected={STUDY_COUNT: 9}), 2, CompletenessSettings(quiet_s=3, max_wait_s=1), "wait", 3, "5 of 9"),
    (study(5), -2, POLICY, "wait", 3, "5 images here"),
    (study(5), -3600, POLICY, "complete", None, "the clock went back"),
    (study(5, expected={STUDY_COUNT: 9}), -3600, POLICY, "complete", None, "the clock went back"),
    (study(5), -64, POLICY, "wait", 3, "5 images here"),
    (study(5), -64.5, POLICY, "complete", None, "the clock went back"),
    (study(0), -3600, POLICY, "skip", None, "no image of this study came"),
    # what is announced by name
    (announced(40, here=40, mpps=40), 0, POLICY, "complete", None, "all 40 announced objects are here"),
    (announced(50, here=40, mpps=40), 0, POLICY, "complete", None, "all 40 announced objects are here"),
    (announced(40, mpps=40), 0, POLICY, "complete", None, "all 40 announced objects are here"),
    (announced(1, here=1, ian=1), 0, POLICY, "complete", None, "the one announced object is here"),
    (announced(40, here=30, mpps=40), 4, POLICY, "wait", 60, "30 of 40 announced objects are here"),
    (announced(30, mpps=40), 4, POLICY, "wait", 60, "30 of 40 announced objects are here"),
    (announced(50, here=30, mpps=40), 60, POLICY, "complete", None, "only 30 of 40 announced objects came"),
    (announced(30, here=30, mpps=40, said_s=30), 60, POLICY, "wait", 90, "30 of 40"),
    (announced(30, here=30, mpps=40, said_s=30), 90, POLICY, "complete", None, "only 30 of 40"),
    (announced(40, here=40, mpps=30, ian=40), 0, POLICY, "complete", None, "all 40"),
    (announced(40, here=30, mpps=30, ian=40), 0, POLICY, "wait", 60, "30 of 40"),
    (announced(40, here=30, mpps=30, ian=40), 0, POLICY.model_copy(update={"expect": ("mpps",)}), "complete", None,
     "all 30"),
    (announced(40, here=30, mpps=40, ian=40, open_steps=1), 3, POLICY.model_copy(update={"expect": (STUDY_COUNT,)}),
     "complete", None, "no new image for 3.0 s"),
    (announced(5), 1, POLICY, "wait", 3, "5 images here; complete after 3.0 s"),
    (announced(5), 3, POLICY, "complete", None, "no new image for 3.0 s"),
    (announced(5, expected={STUDY_COUNT: 5}), 0, POLICY, "complete", None, "all 5 announced images"),
    (announced(5, here=5, mpps=5, expected={STUDY_COUNT: 9}), 0, POLICY, "complete", None, "all 5 announced objects"),
    (announced(5, open_steps=1), 70, POLICY, "wait", 600, "the scanner has not ended its procedure step; 5 images here"),
    (announced(5, open_steps=1, expected={STUDY_COUNT: 5}), 0, POLICY, "wait", 600, "not ended its procedure step"),
    (announced(5, here=5, mpps=5, open_steps=1), 0, POLICY, "wait", 600, "not ended its procedure step; 5 images here"),
    (announced(5, open_steps=1, said_s=100), 600, POLICY, "wait", 700, "not ended its procedure step"),
    (announced(5, open_steps=1), 600, POLICY, "complete", None, "the scanner's procedure step was still in progress after 600.0 s"),
    (announced(9, here=3, mpps=5, open_steps=1), 600, POLICY, "complete", None, "what is here (3 of 5 announced objects)"),
    (announced(5, open_steps=1), 60, POLICY.model_copy(update={"max_step_s": 0.0}), "complete", None, "still in progress after 60.0 s"),
    (announced(5, here=5, mpps=9, said_s=3600), 0, POLICY, "complete", None, "the clock went back"),
    (announced(0, mpps=9, open_steps=1), 1, POLICY, "wait", 55, "no image of this study is here yet"),
    (announced(0, mpps=9), 55, POLICY, "skip", None, "no image of this study came"),
]  # fmt: skip


@pytest.mark.parametrize(("progress", "after_s", "policy", "verdict", "due_s", "words"), CASES)
def test_the_table_of_cases(
    progress: StudyProgress, after_s: float, policy: CompletenessSettings, verdict: str, due_s: float | None, words: str
) -> None:
    decision = decide(progress, T0 + after_s, policy)
    assert decision.verdict is Verdict(verdict)
    assert decision.due_at == (None if due_s is None else T0 + due_s)
    assert words in decision.reason


@pytest.mark.parametrize("name", ["first_instance_at", "last_instance_at"])
def test_either_moment_far_in_the_future_tells_of_a_clock_that_went_back(name: str) -> None:
    assert "the clock went back" in decide(replace(study(5), **{name: T0 + 3600}), T0, POLICY).reason


@pytest.mark.parametrize(
    ("progress", "after_s", "reason"),
    [
        (study(275, expected={STUDY_COUNT: 275}), 0, "all 275 announced images are here"),
        (study(2, expected={STUDY_COUNT: 2}), 0, "all 2 announced images are here"),
        (study(1, expected={STUDY_COUNT: 1}), 0, "the one announced image is here"),
        (study(250, expected={STUDY_COUNT: 275}), 1, "250 of 275 announced images are here"),
        (study(50, series=TWO), 1, "40 of 60 announced images of 1 of 2 series are here"),
        (study(40, series=TWO[:1]), 60, "only 40 of 60 announced images of the only series came, and no new image for 60.0 s: going on with what is here"),
        (study(5), 1, "5 images here; complete after 3.0 s without a new one"),
        (study(1), 3, "no new image for 3.0 s; 1 image here"),
        (study(0), 1, "no image of this study is here yet"),
        (study(0), 55, "no image of this study came within 60.0 s"),
        (study(5), -3600, "the clock went back since the last image: the wait cannot be measured"),
        (announced(40, here=40, mpps=40), 0, "all 40 announced objects are here"),
        (announced(2, here=2, mpps=2), 0, "all 2 announced objects are here"),
        (announced(1, here=1, mpps=1), 0, "the one announced object is here"),
        (announced(30, here=30, mpps=40), 0, "30 of 40 announced objects are here"),
        (announced(30, here=30, mpps=40), 60, "only 30 of 40 announced objects came, and no new image for 60.0 s: going on with what is here"),
        (announced(1, open_steps=2), 0, "the scanner has not ended its procedure step; 1 image here"),
        (announced(30, mpps=40, open_steps=1), 0, "the scanner has not ended its procedure step; 30 of 40 announced objects here"),
        (announced(5, open_steps=1), 600, "the scanner's procedure step was still in progress after 600.0 s without a new image: going on with what is here (5 images)"),
    ],
)  # fmt: skip
def test_the_reasons_in_full(progress: StudyProgress, after_s: float, reason: str) -> None:
    assert decide(progress, T0 + after_s, POLICY).reason == reason


counts = st.dictionaries(st.sampled_from([STUDY_COUNT, SERIES_COUNT, "order", "mpps"]), st.integers(-5, 40))
policies = st.builds(
    CompletenessSettings,
    quiet_s=st.floats(0, 30),
    max_wait_s=st.floats(0, 120),
    max_step_s=st.floats(0, 200),
    expect=st.sets(st.sampled_from([STUDY_COUNT, SERIES_COUNT, "order", "mpps", "ian"])).map(tuple),
)
some_series = st.builds(
    SeriesProgress,
    series_uid=st.just("1.2.3"), instances=st.integers(0, 40), last_instance_at=st.just(T0), expected=counts,
)  # fmt: skip
uids = st.frozensets(st.sampled_from("abcdef"))
announcements = st.builds(
    Announced, instances=st.dictionaries(st.sampled_from(["mpps", "ian"]), uids), open_steps=st.integers(0, 2),
    said_at=st.floats(T0 - 500, T0),
)  # fmt: skip
studies = st.builds(
    StudyProgress,
    instances=st.integers(0, 40), first_instance_at=st.floats(T0 - 500, T0), last_instance_at=st.just(T0),
    expected=counts, series=st.lists(some_series, max_size=4).map(tuple), announced=announcements,
    present=st.none() | uids,
)  # fmt: skip
moments = st.floats(-300, 300).map(lambda s: T0 + s)


@given(studies, moments, policies)
def test_a_wait_always_ends_in_the_future_and_never_later_than_the_policy_allows(
    progress: StudyProgress, now: float, policy: CompletenessSettings
) -> None:
    decision = decide(progress, now, policy)
    assert decision.reason
    if decision.verdict is Verdict.WAIT:
        assert decision.due_at is not None
        assert now < decision.due_at <= T0 + max(policy.quiet_s, policy.max_wait_s, policy.max_step_s)
    else:
        assert decision.due_at is None


@given(studies, moments, policies)
def test_looking_again_at_the_due_moment_ends_the_wait(
    progress: StudyProgress, now: float, policy: CompletenessSettings
) -> None:
    decision = decide(progress, now, policy)
    if decision.due_at is not None:
        assert decide(progress, decision.due_at, policy).verdict is not Verdict.WAIT


@given(studies, st.floats(0, 300), st.floats(0, 300), policies)
def test_a_complete_study_stays_complete_as_time_passes(
    progress: StudyProgress, after_s: float, more_s: float, policy: CompletenessSettings
) -> None:
    first = decide(progress, T0 + after_s, policy)
    later = decide(progress, T0 + after_s + more_s, policy)
    if first.verdict is not Verdict.WAIT:
        assert later.verdict is first.verdict


@given(studies, moments, policies)
def test_counts_that_are_not_named_by_the_policy_change_nothing(
    progress: StudyProgress, now: float, policy: CompletenessSettings
) -> None:
    distrustful = policy.model_copy(update={"expect": ()})
    bare = replace(
        progress,
        expected={},
        announced=replace(progress.announced, instances={}, open_steps=0),
        series=tuple(replace(s, expected={}) for s in progress.series),
    )
    assert decide(progress, now, distrustful) == decide(bare, now, policy)


@given(studies, moments, policies, uids)
def test_looking_which_objects_are_here_makes_no_study_complete_that_was_not(
    progress: StudyProgress, now: float, policy: CompletenessSettings, present: frozenset[str]
) -> None:
    """So the archive is asked for them only where their number would do."""
    counted = replace(progress, present=None, instances=max(progress.instances, len(present)))
    if decide(counted, now, policy).verdict is Verdict.WAIT:
        assert decide(replace(counted, present=present), now, policy).verdict is Verdict.WAIT
