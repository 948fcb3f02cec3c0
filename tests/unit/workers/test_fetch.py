"""Fetching: exactly the images that the router decided on, or a reason that says whether to wait."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from dicom_cases import PLANTED, slice_of, to_bytes
from pydicom.dataset import Dataset

from medai.router.contract import Job, JobId, OrthancId, StudyUID, sources_hash
from medai.router.errors import OrthancRefused, OrthancUnreachable, PermanentError, TemporaryError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import WorkerSettings
from medai.workers.fetch import fetch


class FakeOrthanc:
    """Series -> Orthanc id of an instance -> file."""

    def __init__(self, **series: dict[str, Dataset]) -> None:
        self.series = series
        self.files = {name: to_bytes(image) for items in series.values() for name, image in items.items()}
        self.error: Exception | None = None
        self.there = True

    def exists(self, level: str, name: str) -> bool:
        return self.there

    def instances(self, series: str) -> list[dict[str, Any]]:
        if self.error:
            raise self.error
        return [
            {"ID": name, "MainDicomTags": {"SOPInstanceUID": str(image.SOPInstanceUID)}}
            for name, image in self.series[series].items()
        ]

    def file(self, name: str) -> bytes:
        return self.files[name]

    def job(self) -> Job:
        """As the router makes it for what is there now."""
        sops = [str(image.SOPInstanceUID) for items in self.series.values() for image in items.values()]
        return Job(
            job_id=JobId("j"), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"),
            series_orthanc_ids=tuple(OrthancId(name) for name in self.series), sources_hash=sources_hash(sops),
            sources_count=len(sops), route="r", model="m", model_version="1",
        )  # fmt: skip


def get(job: Job, orthanc: FakeOrthanc) -> list[Dataset]:
    return fetch(job, cast(Orthanc, orthanc), WorkerSettings(fetch_threads=3))


def images(count: int, *, series: int = 1) -> dict[str, Dataset]:
    return {f"{series}-{n}": slice_of(n, study="a", series=series) for n in range(count)}


def test_every_image_comes_with_its_pixels_in_orthancs_order() -> None:
    orthanc = FakeOrthanc(a=images(5), b=images(2, series=2))
    got = get(orthanc.job(), orthanc)
    assert [int(image.InstanceNumber) for image in got] == [1, 2, 3, 4, 5, 1, 2]
    assert all(len(image.PixelData) == 2 * 16 * 16 for image in got)


@pytest.mark.parametrize("now", [4, 6])
def test_a_series_that_changed_since_the_decision_is_waited_for(now: int) -> None:
    job = FakeOrthanc(a=images(5)).job()
    with pytest.raises(TemporaryError, match=f"holds {now} images now, 5 when it was chosen") as caught:
        get(job, FakeOrthanc(a=images(now)))
    assert not isinstance(caught.value, OrthancUnreachable)


def test_as_many_images_but_others_are_not_taken_for_the_same() -> None:
    job = FakeOrthanc(a=images(5)).job()
    with pytest.raises(TemporaryError, match="waiting for the router to decide again"):
        get(job, FakeOrthanc(a=images(5, series=2)))


def test_a_series_that_was_deleted_ends_the_job_and_other_answers_keep_their_disposition() -> None:
    orthanc = FakeOrthanc(a=images(1))
    job = orthanc.job()
    orthanc.error = OrthancRefused("gone", status=404)
    with pytest.raises(PermanentError, match="deleted from the archive before it could be read"):
        get(job, orthanc)
    orthanc.there = False
    with pytest.raises(TemporaryError, match="no longer where it was"):
        get(job, orthanc)
    for error in (OrthancRefused("login", status=401), OrthancUnreachable("away")):
        orthanc.error = error
        with pytest.raises(type(error), match=str(error)):
            get(job, orthanc)


def broken_length() -> bytes:
    """A file whose group length has another size than its type allows."""
    data = bytearray(to_bytes(slice_of(0, study="a")))
    data[132 + 6 : 132 + 8] = struct.pack("<H", 3)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"<html>not found</html>", to_bytes(slice_of(0, study="a"))[:100],
        to_bytes(slice_of(0, study="a"))[:140], to_bytes(slice_of(0, study="a"))[:139], broken_length(),
    ],
)  # fmt: skip
def test_a_file_that_is_no_dicom_ends_the_job_without_quoting_it(data: bytes) -> None:
    orthanc = FakeOrthanc(a=images(3))
    orthanc.files["1-1"] = data
    with pytest.raises(PermanentError, match="not readable DICOM: it is damaged or cut short") as caught:
        get(orthanc.job(), orthanc)
    assert not any(value in str(caught.value) for value in PLANTED.values())


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom tells of what is odd in these files
def test_a_file_that_is_cut_anywhere_is_read_or_refused_but_never_a_crash() -> None:
    orthanc = FakeOrthanc(a=images(1))
    job, whole = orthanc.job(), orthanc.files["1-0"]
    for size in range(0, len(whole), 7):
        orthanc.files["1-0"] = whole[:size]
        try:
            get(job, orthanc)
        except PermanentError as error:
            assert "damaged or cut short" in str(error)
