"""A performed procedure step goes from IN PROGRESS to its end, once (PS3.4 F.7), and is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from medai.hl7_mock import mpps
from medai.hl7_mock.mpps import RefusedError, StepBook


def created(**changes: str) -> Dataset:
    scheduled, said = Dataset(), Dataset()
    scheduled.AccessionNumber, scheduled.StudyInstanceUID, scheduled.ScheduledProcedureStepID = "A1", "1.2.3", "SPS1"
    said.ScheduledStepAttributesSequence = [scheduled]
    said.PerformedProcedureStepID, said.PerformedStationAETitle, said.Modality = "1", "CT1", "CT"
    said.PerformedProcedureStepStartDate, said.PerformedProcedureStepStartTime = "20251126", "100000"
    said.PerformedProcedureStepStatus = "IN PROGRESS"
    for name, value in changes.items():
        setattr(said, name, value)
    return said


def ended(status: str = "COMPLETED", images: int = 3) -> Dataset:
    said, series = Dataset(), Dataset()
    series.ReferencedImageSequence = [Dataset() for _ in range(images)]
    said.PerformedProcedureStepStatus, said.PerformedSeriesSequence = status, [series]
    return said


@pytest.fixture
def book(tmp_path: Path) -> StepBook:
    return StepBook(tmp_path, lambda: 100.0)


def refused(act: object) -> int:
    with pytest.raises(RefusedError) as caught:
        act()  # type: ignore[operator] # a lambda of each test
    return caught.value.status


def test_a_step_begins_and_ends_and_is_read_back_after_a_restart(book: StepBook, tmp_path: Path) -> None:
    book.begin("1.9", created())
    assert book.steps[0].status == "IN PROGRESS"
    book.change("1.9", ended())
    again = StepBook(tmp_path, lambda: 200.0)
    (step,) = again.steps
    assert (step.status, step.accession, step.station, step.series, step.images) == ("COMPLETED", "A1", "CT1", 1, 3)
    assert (step.began_at, step.ended_at) == (100.0, 100.0)


def test_what_has_ended_is_not_changed(book: StepBook) -> None:
    book.begin("1.9", created())
    book.change("1.9", ended("DISCONTINUED"))
    assert refused(lambda: book.change("1.9", ended())) == mpps.PROCESSING_FAILURE
    assert book.steps[0].status == "DISCONTINUED"


def test_a_step_begins_once_and_only_a_known_one_changes(book: StepBook) -> None:
    book.begin("1.9", created())
    assert refused(lambda: book.begin("1.9", created())) == mpps.DUPLICATE
    assert refused(lambda: book.change("1.8", ended())) == mpps.NO_SUCH


@pytest.mark.parametrize("name", mpps.NEEDED)
def test_what_must_be_said_must_be_said(book: StepBook, name: str) -> None:
    said = created()
    delattr(said, name)
    assert refused(lambda: book.begin("1.9", said)) == mpps.MISSING_ATTRIBUTE
    assert book.steps == ()


def test_a_step_begins_in_progress_and_ends_in_a_state_that_there_is(book: StepBook) -> None:
    assert refused(lambda: book.begin("1.9", created(PerformedProcedureStepStatus="COMPLETED"))) == mpps.INVALID_VALUE
    book.begin("1.9", created())
    assert refused(lambda: book.change("1.9", ended("FINISHED"))) == mpps.INVALID_VALUE
    bare = Dataset()
    bare.PerformedProcedureStepStatus = "COMPLETED"
    assert refused(lambda: book.change("1.9", bare)) == mpps.MISSING_ATTRIBUTE


def test_a_step_may_be_changed_while_it_goes_on(book: StepBook) -> None:
    book.begin("1.9", created())
    book.change("1.9", ended("IN PROGRESS", images=1))
    assert (book.steps[0].status, book.steps[0].images, book.steps[0].ended_at) == ("IN PROGRESS", 1, None)


def test_a_damaged_file_does_not_stop_the_others(book: StepBook, tmp_path: Path) -> None:
    book.begin("1.9", created())
    (tmp_path / "mpps" / "x.json").write_text("{")
    assert len(StepBook(tmp_path, lambda: 1.0).steps) == 1


def test_the_newest_step_of_an_order_is_found(book: StepBook) -> None:
    assert book.of(accession="A1", study_uid="1.2.3") is None
    book.begin("1.9", created())
    for accession, uid in (("A1", "x"), ("", "1.2.3")):
        step = book.of(accession=accession, study_uid=uid)
        assert step is not None
        assert step.uid == "1.9"
