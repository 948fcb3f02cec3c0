"""Every series of the corpus ends with its reason, in little memory; nothing foreign comes out."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import broken_cases
import pytest
from ball_model import BallModel
from broken_cases import SERIES, Broken, peak_of
from dicom_cases import slice_of, study_files, to_bytes

from medai.models.errors import ModelsError
from medai.models.volume import Stack
from medai.router.contract import Job, JobId, OrthancId, StudyUID, sources_hash
from medai.router.errors import PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings, WorkerSettings
from medai.workers import fetch, pipeline
from medai.workers.results.encode import encode_all
from medai.workers.source_files import read_series

WORKER = WorkerSettings(**broken_cases.LIMITS)
MEMORY_LIMIT = 250 * 1024**2
JOB = Job(
    job_id=JobId("0b0c0d0e-0000-5000-8000-000000000001"), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"),
    series_orthanc_ids=(OrthancId("s"),), sources_hash="", sources_count=5, route="r", model="m", model_version="1",
)  # fmt: skip


class Files:
    """Orthanc's files."""

    def __init__(self, *files: bytes) -> None:
        self.files = files

    def file(self, name: str) -> bytes:
        return self.files[int(name)]


def read(files: list[bytes], worker: WorkerSettings = WORKER) -> Stack:
    """As a worker reads them: parse, then make a volume."""
    orthanc = cast(Orthanc, Files(*files))
    images = [fetch._read(orthanc, str(n), worker.max_image_bytes)[0] for n in range(len(files))]
    return pipeline.prepare(images, worker)


@pytest.mark.filterwarnings("ignore")  # pydicom tells of what is odd in these files
@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", SERIES, ids=str)
def test_a_broken_series_gives_its_reason_in_little_memory(case: Broken) -> None:
    files = list(case.make(case.name))
    with peak_of() as peak, pytest.raises((ModelsError, PermanentError)) as caught:
        read(files)
    assert case.words in str(caught.value)
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", str(caught.value))  # no UID
    assert peak() < MEMORY_LIMIT


@pytest.mark.filterwarnings("ignore")
def test_what_no_pixel_depends_on_may_be_garbage(tmp_path: Path) -> None:
    garbage = {
        "InstanceNumber": b"one", "PatientWeight": b"heavy", "EchoTime": b"\xff\xff", "StudyDate": b"yesterday",
        "PatientName": b"\xff\xfe\xfd", "SeriesNumber": b"1e9999", "SliceThickness": b"thin",
    }  # fmt: skip
    files = []
    for data in study_files("garbage", PatientWeight=70, slices=5):
        for keyword, raw in garbage.items():
            data = broken_cases.with_raw(data, keyword, raw)
        files.append(
            broken_cases.before_pixels(data, b"\x43\x00\x10\x10FD\x04\0abc\0" + b"\x43\x00\x11\x10SQ\0\0\x04\0\0\0abcd")
        )
    stack = read(files)
    results = encode_all(
        stack, BallModel().segment(stack.volume), JOB, Settings(), created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert {made.PatientID for made in results.objects.values()} == {"MRN-PLANTED-77"}
    assert set(results.objects) == {"seg", "sr", "sc"}


class Sized:
    """Orthanc with images of any size, which nobody may fetch."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def instances(self, series: str) -> list[dict[str, Any]]:
        return [
            {"ID": str(n), "FileSize": size, "MainDicomTags": {"SOPInstanceUID": f"1.2.{n}"}}
            for n, size in enumerate(self.sizes)
        ]

    def file(self, name: str) -> bytes:
        raise AssertionError("it was fetched")


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([4 * 2**30], "an image of the series has 4.00 GiB: the limit is 2 GiB (worker.max_image_gb)"),
        ([2**30] * 5, "the series has 5.00 GiB in 5 images: the limit is 4 GiB (worker.max_series_gb)"),
    ],
)
def test_four_gigabytes_are_refused_by_their_size_and_never_fetched(sizes: list[int], words: str) -> None:
    job = replace(JOB, sources_hash=sources_hash(f"1.2.{n}" for n in range(len(sizes))), sources_count=len(sizes))
    with pytest.raises(PermanentError, match=re.escape(words)):
        fetch.fetch(job, cast(Orthanc, Sized(*sizes)))


@pytest.mark.timeout(60)
def test_a_sparse_file_of_four_gigabytes_is_passed_over_unread_and_named_in_the_reason(tmp_path: Path) -> None:
    broken_cases.sparse(tmp_path / "huge.dcm", 4 * 2**30 + 100, broken_cases.huge_image("huge"))
    with peak_of() as peak, pytest.raises(PermanentError, match=r"1 file of more than 2 GiB \(worker.max_image_gb\)"):
        read_series(tmp_path)
    assert peak() < 20 * 1024**2
    for number, data in enumerate(study_files("good", slices=4)):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    assert len(read_series(tmp_path).images) == 4


def test_a_series_of_files_beyond_the_limit_is_refused_before_its_pixels_are_read(tmp_path: Path) -> None:
    for number, data in enumerate(study_files("good", slices=4)):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    with pytest.raises(PermanentError, match="worker.max_series_gb"):
        read_series(tmp_path, worker=WorkerSettings(max_series_gb=5e-6))


def test_an_image_without_a_name_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(broken_cases.with_raw(to_bytes(slice_of(0, study="a")), "SOPInstanceUID", b""))
    with pytest.raises(PermanentError, match="holds no image series"):
        read_series(tmp_path)
