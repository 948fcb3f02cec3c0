"""What is read of MPPS and IAN: what they name, what is left out, and what is refused with which status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from medai.router.announcements import read
from medai.router.announcements.read import Refused, Series, StepState, notice, step_begun, step_change


def data(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def reference(uid: str, **more: Any) -> Dataset:
    return data(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4", ReferencedSOPInstanceUID=uid, **more)


def performed(series: str, *images: str, others: tuple[str, ...] = ()) -> Dataset:
    return data(
        SeriesInstanceUID=series, ReferencedImageSequence=[reference(uid) for uid in images],
        ReferencedNonImageCompositeSOPInstanceSequence=[reference(uid) for uid in others],
    )  # fmt: skip


def begun(*studies: str, **more: Any) -> Dataset:
    scheduled = [data(StudyInstanceUID=uid) for uid in studies]
    return data(**{"PerformedProcedureStepStatus": "IN PROGRESS", "ScheduledStepAttributesSequence": scheduled, **more})


def available(*series: Dataset, study: str = "1.2.3") -> Dataset:
    return data(StudyInstanceUID=study, ReferencedSeriesSequence=list(series))


def there(series: str, **availability: str) -> Dataset:
    """``u1="ONLINE"``: what is said of 1.9.1."""
    items = [reference(f"1.9.{name[1:]}", InstanceAvailability=word) for name, word in availability.items()]
    return data(SeriesInstanceUID=series, ReferencedSOPSequence=items)


def status_of(act: Callable[[], object]) -> int:
    with pytest.raises(Refused) as caught:
        act()
    assert "1.2" not in str(caught.value)
    return caught.value.status


def test_a_step_that_begins_names_its_studies_each_once() -> None:
    step = step_begun("1.5", begun("1.2.3", "1.2.4", "1.2.3"))
    assert (step.uid, step.studies, step.series) == ("1.5", ("1.2.3", "1.2.4"), ())


def test_a_step_that_ends_names_its_images_and_other_objects_each_once() -> None:
    said = data(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedSeriesSequence=[performed("1.8.1", "1.9.1", "1.9.2", "1.9.1", others=("1.9.3",)), performed("1.8.2")],
    )
    change = step_change("1.5", said)
    assert change.state is StepState.COMPLETED
    assert change.series == (Series(uid="1.8.1", instances=("1.9.1", "1.9.2", "1.9.3")),)


def test_a_change_that_says_nothing_of_series_or_state_leaves_them() -> None:
    change = step_change("1.5", data(ProtocolName="x"))
    assert (change.state, change.series) == (None, None)
    assert step_change("1.5", data(PerformedSeriesSequence=[])).series == ()


def test_a_notice_tells_what_is_on_line_from_what_is_not() -> None:
    told = notice("1.6", available(there("1.8.1", u1="ONLINE", u2="NEARLINE"), there("1.8.2", u3="UNAVAILABLE")))
    assert told.online == (Series(uid="1.8.1", instances=("1.9.1",)),)
    assert told.away == (Series(uid="1.8.1", instances=("1.9.2",)), Series(uid="1.8.2", instances=("1.9.3",)))


def test_a_notice_without_a_uid_gets_one_by_what_it_says() -> None:
    one, same, other = (notice("", available(there("1.8.1", **{name: "ONLINE"}))) for name in ("u1", "u1", "u2"))
    assert one.uid == same.uid != other.uid
    assert one.uid.startswith("2.25.")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (begun("1.2.3", PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        (begun("1.2.3", PerformedProcedureStepStatus=""), 0x0120),
        (data(PerformedProcedureStepStatus="IN PROGRESS"), 0x0120),
        (begun(), 0x0120),
        (begun(""), 0x0121),
        (begun(*(f"1.2.{n}" for n in range(101))), 0x0213),
        (data(), 0x0120),
    ],
)
def test_a_step_that_cannot_begin_is_refused(said: Dataset, status: int) -> None:
    assert status_of(lambda: step_begun("1.5", said)) == status


@pytest.mark.parametrize("uid", ["", "x", "1.2.a", "1..2", "01.2", "1." + "2" * 63, "1.2\\1.3", "1.2/", "１.2"])
def test_a_uid_that_is_none_names_nothing(uid: str) -> None:
    assert status_of(lambda: step_change(uid, data())) == 0x0117
    assert status_of(lambda: step_begun("1.5", Plain(ScheduledStepAttributesSequence=[Plain(StudyInstanceUID=uid)], PerformedProcedureStepStatus="IN PROGRESS"))) == 0x0121  # fmt: skip
    named = Plain(SeriesInstanceUID=uid, ReferencedImageSequence=[Plain(ReferencedSOPInstanceUID=uid), Plain(ReferencedSOPInstanceUID="1.9")])  # fmt: skip
    assert step_change("1.5", Plain(PerformedSeriesSequence=[named])).series == (Series(uid="", instances=("1.9",)),)


def test_more_objects_than_any_study_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "INSTANCES_LIMIT", 3)
    series = [performed(f"1.8.{n}", f"1.9.{n}.1", f"1.9.{n}.2") for n in range(2)]
    assert status_of(lambda: step_change("1.5", data(PerformedSeriesSequence=series))) == 0x0213


@pytest.mark.parametrize("value", ["text", b"bytes", 5, [1, 2], ["1.2"]])
def test_a_sequence_that_is_none_is_refused(value: Any) -> None:
    assert status_of(lambda: step_change("1.5", Plain(PerformedSeriesSequence=value))) == 0x0106


@pytest.mark.parametrize("said", [data(), available(), available(there("1.8.1"), study="")])
def test_a_notice_with_nothing_to_go_by_is_refused(said: Dataset) -> None:
    assert status_of(lambda: notice("1.6", said)) in (0x0120, 0x0121)


# -- whatever comes


class Plain:
    """A data set without pydicom's checks: what a peer's bytes may become."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)


WORDS = (
    "PerformedProcedureStepStatus ScheduledStepAttributesSequence StudyInstanceUID PerformedSeriesSequence "
    "SeriesInstanceUID ReferencedImageSequence ReferencedNonImageCompositeSOPInstanceSequence ReferencedSOPInstanceUID "
    "ReferencedSeriesSequence ReferencedSOPSequence InstanceAvailability"
)
KEYWORDS = tuple(WORDS.split())
leaves = st.one_of(
    st.none(), st.text(max_size=8), st.binary(max_size=4), st.integers(), st.sampled_from(["1.2.3", "1.9.1", "ONLINE"]),
    st.sampled_from([*StepState]),
)  # fmt: skip


def sets_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    return st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=6).map(lambda chosen: Plain(**chosen))


references = sets_of(leaves)
series = sets_of(st.one_of(leaves, st.lists(references, max_size=3)))
sets = sets_of(st.one_of(leaves, st.lists(series, max_size=3)))


@given(sets, st.sampled_from(["", "1.5", "x"]))
def test_whatever_comes_is_read_or_refused_and_only_uids_are_kept(said: Plain, uid: str) -> None:
    for reader in (step_begun, step_change, notice):
        try:
            found = reader(uid, said)
        except Refused as error:
            assert error.status in (0x0106, 0x0117, 0x0120, 0x0121, 0x0213)
            continue
        kept = [found.uid]
        for each in (getattr(found, name, None) or () for name in ("series", "online", "away")):
            kept += [uid for series in each for uid in series.instances]
            assert all(len(set(series.instances)) == len(series.instances) > 0 for series in each)
        assert all(read.needed_uid(each) for each in kept)


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=4))
def test_a_step_names_exactly_what_it_holds(numbers: list[list[int]]) -> None:
    series = [performed(f"1.8.{n}", *(f"1.9.{each}" for each in images)) for n, images in enumerate(numbers)]
    change = step_change("1.5", data(PerformedProcedureStepStatus="COMPLETED", PerformedSeriesSequence=series))
    assert change.series is not None
    wanted = {f"1.8.{n}": {f"1.9.{each}" for each in images} for n, images in enumerate(numbers) if images}
    assert {each.uid: set(each.instances) for each in change.series} == wanted
