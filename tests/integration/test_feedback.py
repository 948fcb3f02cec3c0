"""What readers make of our results: heard, linked, compared. A real Orthanc, a real Redis; only the model is a threshold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import urllib3
from ball_model import BallModels
from dicom_cases import PLANTED, slice_of, study_files, to_bytes
from edit_cases import HIPPOCAMPUS, Drawn, dice, human_seg, human_sr, shifted
from pydicom import Dataset
from servers import OrthancServer, make_orthanc, make_redis, running
from sqlalchemy import select

from medai.router.contract import JobState
from medai.router.daemon.loop import Router
from medai.router.errors import PermanentError
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.edits import EditState
from medai.router.ledger.fleet import Announced
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.queue.broker import make_celery
from medai.router.queue.dispatch import Dispatcher
from medai.router.queue.sweeper import LeaseWatch, Sweeper
from medai.router.reports import edit_export
from medai.router.settings.tables import Settings
from medai.training import cli as training_cli
from medai.training.data.datasets import open_dataset
from medai.workers.feedback.runner import EditRunner
from medai.workers.tasks import JobRunner

ROUTE = {
    "name": "brain",
    "when": 'study.Modality == "MR"',
    "model": "mr_brain",
    "series": {"slices_min": 4},
    "destinations": ["archive"],
    "completeness": {"quiet_s": 1.0, "max_wait_s": 60.0},
}
STUDY = "feedback"


class Clock:
    """Real time plus what the test adds."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Site:
    """A router and a worker in this process, with their servers beside them."""

    def __init__(self, folder: Path, orthanc: OrthancServer, redis_port: int) -> None:
        self.orthanc, self.clock = orthanc, Clock()
        self.settings = Settings(
            orthanc={"url": orthanc.url, "sweep_s": 1e6},
            ledger={"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            broker={"url": f"redis://127.0.0.1:{redis_port}/0"},
            routes=[ROUTE],
        )
        self.ledger = Ledger(self.settings.ledger.url)
        self.ledger.migrate()
        model = Announced(name="mr_brain", version="1", available=True, reason="")
        self.ledger.fleet.announce([model], self.clock())
        self.client, self.dispatcher = Orthanc(self.settings.orthanc), Dispatcher(self.settings.broker)
        self.runner = JobRunner(
            self.settings, orthanc=self.client, ledger=self.ledger, models=BallModels(), worker="test", clock=self.clock
        )
        self.edits = EditRunner(
            self.settings, orthanc=self.client, ledger=self.ledger, stopping=self.runner.stopping, clock=self.clock
        )
        watch = LeaseWatch(20.0, monotonic=self.clock)
        sweeper = Sweeper(self.ledger, self.dispatcher, clock=self.clock, max_crashes=3, watch=watch)
        self.router = Router(
            self.settings, orthanc=self.client, ledger=self.ledger, sweeper=sweeper, names=Pseudonyms("k"),
            clock=self.clock, monotonic=self.clock,
        )  # fmt: skip
        self.images = [slice_of(index, study=STUDY) for index in range(16)]
        self.truth = np.stack([image.pixel_array > 400 for image in self.images])

    def close(self) -> None:
        self.dispatcher.close()
        self.client.close()
        self.ledger.close()

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.router.tick()
            self.clock.ahead_s += 1.0

    def read(self) -> str:
        """A study comes, is read and is delivered; returns its job."""
        self.turn(1)
        for data in study_files(STUDY):
            self.orthanc.post(data)
        self.turn()
        (job,) = self.jobs()
        assert self.runner.read(job["id"]) is JobState.DONE
        self.dispatcher._redis.flushall()  # the reading's message, which no Celery took
        self.turn()
        return str(job["id"])

    def jobs(self) -> list[dict[str, Any]]:
        with self.ledger.begin(reads_only=True) as db:
            return [dict(row) for row in db.execute(select(t.jobs)).mappings()]

    def rows(self) -> list[dict[str, Any]]:
        with self.ledger.begin(reads_only=True) as db:
            return [dict(row) for row in db.execute(select(t.edits).order_by(t.edits.c.id)).mappings()]

    def compared(self, edit_id: int) -> list[dict[str, Any]]:
        c = t.edit_comparisons
        with self.ledger.begin(reads_only=True) as db:
            return [
                dict(row) for row in db.execute(select(c).where(c.c.edit_id == edit_id).order_by(c.c.id)).mappings()
            ]

    def ours(self, modality: str) -> Dataset:
        (job,) = self.jobs()
        name = job["results"][modality.lower()]["orthanc_id"]
        return pydicom.dcmread(BytesIO(urllib3.request("GET", f"{self.orthanc.url}/instances/{name}/file").data))

    def brain(self, mask: np.ndarray, **more: Any) -> Dataset:
        return human_seg(self.images, [Drawn(mask, "Brain, corrected")], **more)

    def store(self, dataset: Dataset) -> None:
        assert self.orthanc.post(to_bytes(dataset))["Status"] == "Success"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    orthanc, redis = make_orthanc(tmp_path / "orthanc", OverwriteInstances=True), make_redis(tmp_path / "redis")
    with running(orthanc), running(redis):
        site = Site(tmp_path, orthanc, redis.port)
        yield site
        site.close()


def test_a_readers_seg_is_heard_linked_to_our_reading_and_compared(site: Site) -> None:
    job_id = site.read()
    edited = shifted(site.truth)
    site.store(site.brain(edited))
    site.turn()
    (edit,) = site.rows()
    assert (edit["job_id"], edit["kind"], edit["named"], edit["state"]) == (job_id, "seg", False, "pending")
    assert edit["tool"] == "Reading Room Tools Contour Desk"
    assert site.dispatcher.queued("cpu") == {f"edit-{edit['id']}"}
    assert site.edits.compare(edit["id"]) is EditState.COMPARED
    (row,) = site.compared(edit["id"])
    assert row["dice"] == pytest.approx(dice(site.truth, edited))
    assert row["ours"] == pytest.approx(np.count_nonzero(site.truth) * 0.027, abs=1e-3)
    assert row["theirs"] == pytest.approx(np.count_nonzero(edited) * 0.027, abs=1e-3)
    assert (row["structure"], row["outcome"], row["hd95_mm"]) == ("Brain", "matched", pytest.approx(3.0))
    assert len(site.jobs()) == 1, "an edit starts no reading"
    assert site.edits.compare(edit["id"]) is None, "a second message finds nothing to do"


def test_the_message_about_an_edit_holds_its_number_and_nothing_of_the_patient(site: Site) -> None:
    site.read()
    site.store(site.brain(site.truth))
    site.turn()
    app = make_celery(site.settings.broker)
    with app.connection_for_read() as connection, connection.channel() as channel:
        message = channel.basic_get("cpu", no_ack=True)
    app.close()
    assert message is not None
    assert json.loads(message.body)[0] == [site.rows()[0]["id"]]
    sent = message.body.decode() + json.dumps(message.headers)
    assert not [value for value in (*PLANTED.values(), site.images[0].StudyInstanceUID) if value in sent]


def test_stored_again_it_is_one_row_and_with_other_content_it_is_compared_anew(site: Site) -> None:
    site.read()
    first = site.brain(shifted(site.truth))
    site.store(first)
    site.turn()
    (edit,) = site.rows()
    site.edits.compare(edit["id"])
    site.store(first)
    site.turn()
    assert [row["state"] for row in site.rows()] == ["compared"]
    site.store(site.brain(site.truth))
    site.turn()
    (again,) = site.rows()
    assert (again["id"], again["state"]) == (edit["id"], "pending")
    assert site.compared(edit["id"]) == []
    site.edits.compare(edit["id"])
    assert [row["dice"] for row in site.compared(edit["id"])] == [1.0]


def test_what_the_change_log_never_told_is_found_by_the_sweep(site: Site) -> None:
    site.read()
    time.sleep(1.1)  # Orthanc tells whole seconds, and this clock runs ahead of its own
    site.store(site.brain(site.truth))
    subscription = site.router._subscription
    skipped = site.client.last_change()
    site.ledger.studies.write_cursor("orthanc", skipped, site.clock())
    subscription.start()
    site.turn(1)
    assert site.rows() == []
    subscription.sweep()
    subscription.sweep()
    assert [row["state"] for row in site.rows()] == ["pending"]
    assert len(site.jobs()) == 1


def test_a_lost_message_is_sent_again(site: Site) -> None:
    site.read()
    site.store(site.brain(site.truth))
    site.turn()
    site.dispatcher._redis.flushall()
    site.turn(8)
    assert site.dispatcher.queued("cpu") == {f"edit-{site.rows()[0]['id']}"}


def test_a_signed_report_is_linked_to_the_one_it_was_made_of(site: Site) -> None:
    job_id = site.read()
    site.store(human_sr(site.ours("SR"), scale=1.1))
    site.turn()
    (edit,) = site.rows()
    assert (edit["job_id"], edit["kind"], edit["named"]) == (job_id, "sr", True)
    assert site.edits.compare(edit["id"]) is EditState.COMPARED
    assert site.rows()[0]["verdict"] == "verified"
    (row,) = site.compared(edit["id"])
    assert (row["structure"], row["quantity"], row["unit"], row["outcome"]) == ("Brain", "volume", "ml", "matched")
    assert row["theirs"] == pytest.approx(row["ours"] * 1.1, rel=1e-3)


def test_what_holds_nothing_of_ours_or_was_drawn_by_an_algorithm_alone_counts_for_nothing(site: Site) -> None:
    site.read()
    lesion = human_seg(site.images, [Drawn(site.truth, "Lesion", HIPPOCAMPUS)], seed="lesion")
    site.store(lesion)
    site.store(site.brain(site.truth, algorithm="AUTOMATIC", seed="machine"))
    site.turn()
    states = {site.edits.compare(row["id"]) for row in site.rows()}
    assert states == {EditState.UNRELATED}
    assert {row["reason"].partition(",")[0] for row in site.rows()} == {
        "it holds none of the structures that were read", "an algorithm drew all of it",
    }  # fmt: skip


def test_another_grid_is_recorded_as_the_reason_and_not_resampled(site: Site) -> None:
    site.read()
    other = [slice_of(i, study=STUDY, ImagePositionPatient=[-24, -24, i * 3 + 1.0]) for i in range(16)]
    site.store(human_seg(other, [Drawn(site.truth, "Brain")]))
    site.turn()
    (edit,) = site.rows()
    assert site.edits.compare(edit["id"]) is EditState.FAILED
    assert "another grid" in site.rows()[0]["reason"]
    assert site.compared(edit["id"]) == []


def test_a_seg_of_another_study_or_series_is_no_edit(site: Site) -> None:
    site.read()
    elsewhere = [slice_of(index, study=STUDY, series=2) for index in range(16)]
    site.store(human_seg(elsewhere, [Drawn(site.truth, "Brain")]))
    site.turn()
    assert site.rows() == []


def test_our_own_results_are_no_edits_even_where_the_ledger_forgot_them(site: Site) -> None:
    site.read()
    copy = site.ours("SEG")
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    site.store(copy)
    site.turn()
    assert site.rows() == []


def test_a_drawing_that_is_gone_again_ends_with_the_reason(site: Site) -> None:
    site.read()
    site.store(site.brain(site.truth))
    site.turn()
    (edit,) = site.rows()
    site.client.delete("instances", edit["orthanc_id"])
    assert site.edits.compare(edit["id"]) is EditState.FAILED
    assert "no longer in the archive" in site.rows()[0]["reason"]


def test_an_archive_that_is_away_puts_the_comparison_off(site: Site) -> None:
    site.read()
    site.store(site.brain(site.truth))
    site.turn()
    (edit,) = site.rows()
    site.orthanc.kill()
    assert site.edits.compare(edit["id"]) is None
    (waits,) = site.rows()
    assert (waits["state"], waits["token"], waits["tries"]) == ("pending", None, 0)
    assert waits["not_before"] > site.clock()
    site.orthanc.start()
    assert site.edits.compare(edit["id"]) is EditState.COMPARED


def test_what_a_reader_corrected_becomes_a_data_set_for_training(site: Site, tmp_path: Path) -> None:
    site.read()
    edited = shifted(site.truth)
    site.store(site.brain(edited))
    site.turn()
    site.edits.compare(site.rows()[0]["id"])
    made = edit_export.export(site.ledger, site.client, tmp_path / "edits")
    assert (made.cases, made.left_out) == (1, ())
    manifest = (tmp_path / "edits" / "manifest.json").read_text()
    assert not [value for value in (*PLANTED.values(), str(site.images[0].StudyInstanceUID)) if value in manifest]
    assert training_cli.main(["edits", str(tmp_path / "edits"), "--out", str(tmp_path / "data")]) == 0
    dataset = open_dataset(str(tmp_path / "data"))
    assert dataset.label_names == {1: "Brain"}
    (case,) = dataset.cases
    example = case.load()
    assert np.array_equal(example.labels == 1, edited)
    assert np.array_equal(example.volume.voxels, np.stack([image.pixel_array for image in site.images]))
    written = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    names = " ".join(str(path) for path in (tmp_path / "data").rglob("*"))
    hidden = (*PLANTED.values(), str(site.images[0].StudyInstanceUID), str(site.images[0].SeriesInstanceUID))
    assert not [value for value in hidden if value in names or any(value.encode() in data for data in written)]


def test_an_export_leaves_out_what_the_archive_no_longer_has(site: Site, tmp_path: Path) -> None:
    site.read()
    site.store(site.brain(site.truth))
    site.turn()
    (edit,) = site.rows()
    site.edits.compare(edit["id"])
    site.client.delete("instances", edit["orthanc_id"])
    made = edit_export.export(site.ledger, site.client, tmp_path / "edits")
    assert made.cases == 0
    assert "no longer in the archive" in made.left_out[0]
    assert [path.name for path in (tmp_path / "edits").iterdir()] == ["manifest.json"]
    with pytest.raises(PermanentError, match="not empty"):
        edit_export.export(site.ledger, site.client, tmp_path / "edits")
