"""The page that every reading goes through: its stages in order, and errors that say whether to try again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from ball_model import BallModel
from dicom_cases import PLANTED, slice_of
from pydicom.dataset import Dataset

from medai.models.errors import (
    GeometryMismatch,
    ModelFailed,
    ModelRefused,
    ModelsError,
    ModelSlow,
    ModelUnavailable,
    NotAVolume,
    UnreadableImage,
)
from medai.models.volume import Check, Segmentation, Stack, Volume
from medai.router.contract import Job, JobId, Order, OrthancId, StampName, StudyUID, make_job_id
from medai.router.errors import LeaseLost, PermanentError, ReadingBroke, TemporaryError
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.patients import Aliases, Patient
from medai.router.settings.tables import Settings, WorkerSettings
from medai.workers import pipeline
from medai.workers.pipeline import join_order, understandable
from medai.workers.results.encode import Results

CREATED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
STAGES = ["fetched", "prepared", "look", "inferred", "encoded", "store"]


def job(order: Order | None = None) -> Job:
    job_id = make_job_id(study_uid="1.2", sources="s", route="r", model="mr_brain", version="1")
    return Job(
        job_id=JobId(job_id), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"), series_orthanc_ids=(),
        sources_hash="s", sources_count=16, route="r", model="mr_brain", model_version="1", order=order,
    )  # fmt: skip


@dataclass
class MemoryPorts:
    """The world in memory: what was done is in ``done``; ``lost_at`` is where the lease is found lost."""

    images: list[Dataset] = field(default_factory=lambda: [slice_of(n, study="a") for n in range(16)])
    segmenter: Any = field(default_factory=BallModel)
    settings: Settings = field(default_factory=Settings)
    looked: Check | None = None
    lost_at: str = ""
    done: list[str] = field(default_factory=list)
    stored: list[Results] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)

    def fetch(self, job: Job) -> Sequence[Dataset]:
        images, self.images = self.images, []
        return images

    def look(self, job: Job, stack: Stack) -> Check | None:
        self.done.append("look")
        return self.looked

    def model(self, name: str) -> Any:
        assert name == "mr_brain"
        return self.segmenter

    def aliases(self) -> Aliases:
        return Aliases()

    def released(self, job: Job, doubt: Doubt) -> bool:
        self.doubts.append(doubt)
        return False

    def stamp(self, job: Job, name: StampName) -> None:
        if name.value == self.lost_at:
            raise LeaseLost("lost")
        self.done.append(name.value)

    def store(self, job: Job, results: Results) -> None:
        self.done.append("store")
        self.stored.append(results)


def oru(ports: MemoryPorts) -> str:
    return ports.stored[0].oru.decode()


def test_a_reading_goes_through_its_stages_in_order_and_is_stored_once() -> None:
    ports = MemoryPorts()
    results = pipeline.run(job(), ports, created_at=CREATED)
    assert ports.done == STAGES
    assert ports.stored == [results]
    assert list(results.objects) == ["seg", "sr", "sc"]
    assert results.measurements[0].value > 0


def test_a_retry_makes_the_same_objects_and_the_same_message() -> None:
    first, second = MemoryPorts(), MemoryPorts()
    for ports in (first, second):
        pipeline.run(job(), ports, created_at=CREATED)
    assert oru(first) == oru(second)
    uids = [{k: str(d.SOPInstanceUID) for k, d in ports.stored[0].objects.items()} for ports in (first, second)]
    assert uids[0] == uids[1]


@pytest.mark.parametrize("stage", ["fetched", "prepared", "inferred", "encoded"])
def test_a_job_that_is_no_longer_ours_stores_nothing_wherever_that_is_found_out(stage: str) -> None:
    ports = MemoryPorts(lost_at=stage)
    with pytest.raises(LeaseLost):
        pipeline.run(job(), ports, created_at=CREATED)
    assert ports.done == STAGES[: STAGES.index(stage)]


def test_what_the_guard_saw_is_among_the_checks_of_the_result() -> None:
    good = Check(name="series kind", passed=True, text="the pixels look like head (0.99), which the model reads")
    results = pipeline.run(job(), MemoryPorts(looked=good), created_at=CREATED)
    assert results.checks == (good,)
    assert results.plausibility.verdict == "plausible"
    bad = replace(good, passed=False, text="the pixels look like abdomen (0.97)")
    noted = pipeline.run(job(), MemoryPorts(looked=bad), created_at=CREATED)
    assert noted.warnings == (bad.text,)
    assert noted.plausibility.verdict == "check"


def test_images_that_make_no_volume_end_the_job_with_the_reason() -> None:
    images = [slice_of(n, study="a") for n in (*range(8), *range(11, 16))]
    with pytest.raises(PermanentError, match="mm apart") as caught:
        pipeline.run(job(), MemoryPorts(images=images), created_at=CREATED)
    assert isinstance(caught.value.__cause__, NotAVolume)


def test_no_images_at_all_end_the_job_with_a_reason() -> None:
    with pytest.raises(PermanentError):
        pipeline.run(job(), MemoryPorts(images=[]), created_at=CREATED)


def test_a_model_that_finds_nothing_ends_the_job_with_its_words() -> None:
    dark = [slice_of(n, study="a", PixelData=bytes(2 * 16 * 16)) for n in range(16)]
    with pytest.raises(PermanentError, match="nothing is bright in this series"):
        pipeline.run(job(), MemoryPorts(images=dark), created_at=CREATED)


class Shifted(BallModel):
    """Answers on another grid than it was asked on."""

    def segment(self, volume: Volume) -> Segmentation:
        good = super().segment(volume)
        x, y, z = good.geometry.origin_mm
        return replace(good, geometry=replace(good.geometry, origin_mm=(x, y, z + 3.0)))


def test_a_mask_on_another_grid_than_the_images_is_never_stored() -> None:
    ports = MemoryPorts(segmenter=Shifted())
    with pytest.raises(PermanentError, match="mask and image: the grids lie 3.000 mm apart"):
        pipeline.run(job(), ports, created_at=CREATED)
    assert ports.stored == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotAVolume("a"), PermanentError), (UnreadableImage("a"), PermanentError), (ModelRefused("a"), PermanentError),
        (GeometryMismatch("a"), PermanentError), (ModelsError("a"), PermanentError), (ModelUnavailable("a"), TemporaryError),
        (ModelFailed("a"), ReadingBroke), (ModelSlow("a"), ReadingBroke),
    ],
)  # fmt: skip
def test_only_a_model_that_is_not_there_may_come_back_and_one_that_broke_has_crashed(
    error: ModelsError, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="^a$") as caught, understandable():
        raise error
    assert caught.value.__cause__ is error
    if isinstance(caught.value, TemporaryError):
        assert caught.value.retry_after_s == 30.0


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), understandable():
        raise ZeroDivisionError


# -- the order


@pytest.fixture(scope="module")
def found() -> Segmentation:
    return BallModel().segment(pipeline.prepare([slice_of(n, study="a") for n in range(16)], WorkerSettings()).volume)


def image(patient: str | None) -> Dataset:
    header = Dataset()
    if patient is not None:
        header.PatientID = patient
    return header


@pytest.mark.parametrize("order", [None, Order(placer="P1"), Order(placer="P1", patient_id=" MRN7 ")])
def test_an_order_for_the_same_patient_or_for_nobody_stays(order: Order | None, found: Segmentation) -> None:
    joined, kept = join_order(job(order), image("MRN7 "), found, Aliases)
    assert joined.order == order
    assert kept.warnings == ()


@pytest.mark.parametrize("patient", ["MRN8", "MRN77", "mrn7"])
def test_an_order_for_another_patient_is_left_out_and_that_is_said(patient: str, found: Segmentation) -> None:
    given = job(Order(placer="P1", patient_id="MRN7"))
    joined, kept = join_order(given, image(patient), found, Aliases)
    assert joined.order is None
    assert joined.job_id == given.job_id
    assert len(kept.warnings) == 1
    assert "another patient" in kept.warnings[0]
    assert "MRN" not in kept.warnings[0]
    assert np.array_equal(kept.labels, found.labels)


def person_image(**more: str) -> Dataset:
    header = Dataset()
    header.update({"PatientID": "MRN7", "PatientName": "REAL^PATIENT", "PatientBirthDate": "19700101", **more})
    return header


MALLORY = Order(placer="EVIL-PL", patient_id="MRN7", patient_name="MALLORY^EVE", birth_date="19991231")
REAL = Order(placer="REAL-PL", patient_id="MRN7", patient_name="Real^Patient^B", birth_date="19700101")


def test_an_order_with_the_right_number_and_another_name_is_held_and_not_joined(found: Segmentation) -> None:
    asked: list[Doubt] = []
    joined, kept = join_order(
        job(MALLORY), person_image(), found, Aliases, lambda doubt: asked.append(doubt) or False
    )  # fmt: skip
    assert joined.order is None
    assert [(doubt.placer, doubt.differs) for doubt in asked] == [("EVIL-PL", ("name", "birth date"))]
    assert "another name and birth date" in kept.warnings[0]
    assert "MALLORY" not in kept.warnings[0]


def test_a_later_order_of_another_person_does_not_take_the_real_ones_place(found: Segmentation) -> None:
    asked: list[Doubt] = []
    given = replace(job(MALLORY), other_orders=(REAL,))
    joined, kept = join_order(given, person_image(), found, Aliases, lambda doubt: asked.append(doubt) or False)
    assert joined.order == REAL
    assert kept.warnings == ()
    assert [doubt.placer for doubt in asked] == ["EVIL-PL"], "it is held, and seen by a person"


def test_an_order_that_a_person_released_is_joined(found: Segmentation) -> None:
    joined, kept = join_order(job(MALLORY), person_image(), found, Aliases, lambda _doubt: True)
    assert (joined.order, kept.warnings) == (Order(placer="EVIL-PL"), ())


def test_the_results_patient_is_the_images_whatever_a_released_order_says() -> None:
    class Released(MemoryPorts):
        def released(self, job: Job, doubt: Doubt) -> bool:
            return True

    ports = Released()
    names = (f"{PLANTED['mrn']}^^^HOSP^MR", "VICTIM^^^HOSP^MR")
    evil = replace(MALLORY, patient_id="VICTIM", patient_identifiers=names, sex="F")
    pipeline.run(job(evil), ports, created_at=CREATED)
    pid = next(line for line in oru(ports).split("\r") if line.startswith("PID"))
    assert not any(word in pid for word in ("MALLORY", "VICTIM", "19991231"))
    assert PLANTED["mrn"] in pid
    assert "EVIL-PL" in oru(ports)


@pytest.mark.parametrize("patient", ["", None, "  "])
def test_images_that_name_nobody_take_the_order_that_their_accession_number_names(
    patient: str | None, found: Segmentation
) -> None:
    """An emergency, imaged before anybody knew who it was."""
    joined, kept = join_order(job(Order(placer="P1", patient_id="MRN7")), image(patient), found, Aliases)
    assert joined.order is not None
    assert "name no patient" in kept.warnings[0]
    assert "MRN" not in kept.warnings[0]


def test_of_two_hospitals_that_count_alike_the_order_of_the_images_patient_is_taken(found: Segmentation) -> None:
    north, south = Order(placer="1^N", patient_id="MRN7"), Order(placer="1^S", patient_id="MRN8")
    given = replace(job(north), other_orders=(south,))
    joined, kept = join_order(given, image("MRN8"), found, Aliases)
    assert (joined.order, joined.other_orders, kept.warnings) == (south, (), ())


def test_any_identifier_of_the_order_may_be_the_images(found: Segmentation) -> None:
    named = ("592^^^MPI^PI", "105^^^HELIOS^ANT", "WLM^^^NNITA^NNITA")
    order = Order(placer="P1", patient_id="592", patient_id_authority="MPI", patient_identifiers=named)
    for number in ("592", "105", "WLM"):
        assert join_order(job(order), image(number), found, Aliases)[0].order == order
    assert join_order(job(order), image("10"), found, Aliases)[0].order is None


def test_the_message_carries_the_orders_number_only_for_its_own_patient() -> None:
    right, wrong = MemoryPorts(), MemoryPorts()
    pipeline.run(job(Order(placer="PLACER77", patient_id=PLANTED["mrn"])), right, created_at=CREATED)
    pipeline.run(job(Order(placer="PLACER77", patient_id="ANOTHER")), wrong, created_at=CREATED)
    assert "PLACER77" in oru(right)
    assert "PLACER77" not in oru(wrong)
    assert "ANOTHER" not in oru(wrong)
    assert "another patient" in oru(wrong)


def test_an_order_under_the_surviving_identifier_stays_with_images_under_the_prior_one(found: Segmentation) -> None:
    merged = Aliases.of([(Patient("MRN7"), Patient("MRN9"))])
    given = job(Order(placer="P", patient_id="MRN9"))
    joined, _ = join_order(given, image("MRN7"), found, lambda: merged)
    assert joined.order == given.order
