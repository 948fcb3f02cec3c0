"""The comparison's way to its end, where the archive is a dictionary: which reading it is put to, and what can go wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from dicom_cases import slice_of, to_bytes
from edit_cases import BRAIN, HIPPOCAMPUS, Drawn, human_seg
from edit_rows import edit_of, read
from ledger_cases import T0
from pydicom import Dataset
from structlog.testing import capture_logs

from medai.router.errors import OrthancRefused
from medai.router.ledger import Ledger
from medai.router.ledger.edits import EditState
from medai.router.orthanc.client import Orthanc
from medai.router.reports.agreement import edits
from medai.router.settings.tables import Settings
from medai.workers.feedback import runner as feedback
from medai.workers.feedback.runner import EditRunner

IMAGES = [slice_of(index, study="runner") for index in range(16)]
MASK = np.zeros((16, 16, 16), dtype=bool)
MASK[4:8, 4:8, 4:8] = True


def seg(label: str, code: object, seed: str) -> Dataset:
    return human_seg(IMAGES, [Drawn(MASK, label, code)], seed=seed)  # type: ignore[arg-type]


class Archive:
    """Orthanc's part."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def size(self, name: str) -> int:
        if name not in self.files:
            raise OrthancRefused("gone", status=404)
        return len(self.files[name])

    def file(self, name: str) -> bytes:
        return self.files[name]


class Site:
    """A reading by two models of one series, and a reader's SEG on it."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger = Ledger(url)
        self.ledger.migrate()
        self.archive, self.stopping = Archive(), threading.Event()
        self.brain, self.hippocampus = read(self.ledger), read(self.ledger, model="mr_hippocampus", at=T0 + 5)
        ours = {self.brain: seg("Brain", BRAIN, "a"), self.hippocampus: seg("Hippocampus", HIPPOCAMPUS, "b")}
        monkeypatch.setattr(EditRunner, "_ours", lambda _self, reading, _kind: ours[reading.job_id])
        self.runner = EditRunner(
            Settings(), orthanc=cast(Orthanc, self.archive), ledger=self.ledger, stopping=self.stopping,
            clock=lambda: T0 + 100,
        )  # fmt: skip

    def see(self, dataset: Dataset | bytes, *, job_id: str, named: bool = False) -> None:
        edit = replace(edit_of(job_id), named=named)
        self.archive.files[edit.orthanc_id] = dataset if isinstance(dataset, bytes) else to_bytes(dataset)
        with self.ledger.begin() as db:
            self.ledger.edits.see(edit, T0 + 50, db)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(f"sqlite:///{tmp_path / 'ledger.sqlite'}", monkeypatch)
    yield site
    site.ledger.close()


def test_a_drawing_belongs_to_the_model_whose_structures_it_holds(site: Site) -> None:
    site.see(seg("Brain, mine", BRAIN, "c"), job_id=site.hippocampus)
    assert site.runner.compare(1) is EditState.COMPARED
    (edit,) = edits(site.ledger)
    assert edit.job_id == site.brain
    assert [row.dice for row in edit.comparisons] == [1.0]


def test_one_that_names_a_result_stays_with_it_whatever_it_holds(site: Site) -> None:
    site.see(seg("Brain, mine", BRAIN, "c"), job_id=site.hippocampus, named=True)
    assert site.runner.compare(1) is EditState.COMPARED
    (edit,) = edits(site.ledger)
    assert edit.job_id == site.hippocampus
    assert [row.outcome for row in edit.comparisons] == ["removed", "added"]


def test_what_is_no_dicom_ends_with_the_reason(site: Site) -> None:
    site.see(b"not DICOM at all", job_id=site.brain)
    assert site.runner.compare(1) is EditState.FAILED
    assert "can't be read" in edits(site.ledger)[0].reason


def test_what_is_too_large_is_not_fetched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.see(seg("Brain", BRAIN, "c"), job_id=site.brain)
    monkeypatch.setattr(site.archive, "size", lambda _name: 2**40)
    monkeypatch.setattr(site.archive, "file", lambda _name: pytest.fail("it was fetched"))
    assert site.runner.compare(1) is EditState.FAILED
    assert "1024.00 GiB" in edits(site.ledger)[0].reason


def test_an_unexpected_error_ends_the_edit_and_not_the_worker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_args: object) -> None:
        raise ZeroDivisionError("a patient's name")

    monkeypatch.setattr(feedback, "compare_segs", break_down)
    site.see(seg("Brain", BRAIN, "c"), job_id=site.brain)
    with capture_logs() as logs:
        assert site.runner.compare(1) is EditState.FAILED
    reason = edits(site.ledger)[0].reason
    assert "ZeroDivisionError" in reason
    assert "patient's name" not in reason + str([line.get("reason") for line in logs])


def test_a_withdrawn_result_is_compared_with_nothing(site: Site) -> None:
    site.see(seg("Brain", BRAIN, "c"), job_id=site.brain)
    site.ledger.actions.withdraw(site.brain, "wrong side", T0 + 60, withdrawn={}, by="ana")
    assert site.runner.compare(1) is EditState.UNRELATED
    assert "withdrawn" in edits(site.ledger)[0].reason


def test_a_worker_that_stops_begins_nothing(site: Site) -> None:
    site.see(seg("Brain", BRAIN, "c"), job_id=site.brain)
    site.stopping.set()
    assert site.runner.compare(1) is None
    assert edits(site.ledger)[0].state == "pending"
