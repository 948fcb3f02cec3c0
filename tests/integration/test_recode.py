"""Other patient data for a study in a real Orthanc: nothing else changes, and a kill at any moment loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from servers import OrthancServer, make_orthanc, running, wait_for

from medai.router.contract import orthanc_id
from medai.router.errors import OrthancRefused, OrthancUnreachable, PermanentError
from medai.router.orthanc.client import Orthanc
from medai.router.orthanc.recode import HALFWAY, recode
from medai.router.settings.tables import OrthancSettings

pytestmark = pytest.mark.slow

STUDY = "1.2.826.0.1.3680043.8.498.1"
MERGED = {"PatientID": "P2", "PatientName": "Müller^Joan", "PatientBirthDate": "19710202", "PatientSex": "O"}
RENAMED = {**MERGED, "PatientID": "P1"}
TIMEOUT_S = 60.0
FILES = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "JPEG2000.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "liver_1frame.dcm",  # a segmentation
    "test-SR.dcm",
)


def made(name: str, series: int, number: int = 1) -> Dataset:
    """One of pydicom's own files as a part of our study, with private attributes."""
    image = dcmread(str(get_testdata_file(name)))
    image.PatientID, image.PatientName = "P1", "Doe^Jane"
    image.PatientBirthDate, image.PatientSex = "19700101", "F"
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, f"{STUDY}.{series}"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.{series}.{number}"
    image.private_block(0x0009, "MEDAI TEST", create=True).add_new(0x77, "OB", b"\x01\x02\x00\xff")
    return image


def dumped(image: Dataset) -> bytes:
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(params=[False, True], ids=["keeps", "overwrites"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OrthancServer]:
    with running(make_orthanc(tmp_path / "orthanc", OverwriteInstances=request.param)) as started:
        yield started


@pytest.fixture
def orthanc(server: OrthancServer) -> Iterator[Orthanc]:
    client = Orthanc(OrthancSettings(url=server.url))
    yield client
    client.close()


def store(server: OrthancServer, *images: Dataset) -> str:
    return [str(server.post(dumped(image))["ParentStudy"]) for image in images][-1]


def many(server: OrthancServer, count: int) -> str:
    return store(server, *(made("CT_small.dcm", 1, number) for number in range(1, count + 1)))


def whole(server: OrthancServer) -> dict[str, Dataset]:
    """Everything in the archive by SOP Instance UID, none twice."""
    paths = [f"{server.url}/instances/{each}/file" for each in server.get("/instances")]
    images = [dcmread(BytesIO(urllib3.request("GET", path, timeout=10.0).data)) for path in paths]
    found = {str(image.SOPInstanceUID): image for image in images}
    assert len(found) == len(images)
    return found


def people(images: dict[str, Dataset]) -> set[tuple[str, ...]]:
    return {tuple(str(image.get(key)) for key in MERGED) for image in images.values()}


def copy(server: OrthancServer, instances: list[str], replace: dict[str, str]) -> None:
    """What Orthanc does of a re-coding that is interrupted."""
    body = {
        "Resources": instances, "Level": "Patient", "Replace": replace, "Force": True, "KeepSource": True,
        "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], "Synchronous": True,
    }  # fmt: skip
    answer = urllib3.request("POST", server.url + "/tools/bulk-modify", json=body, timeout=30.0)
    assert answer.status == 200, answer.data


def delete(server: OrthancServer, instance: str) -> None:
    assert urllib3.request("DELETE", f"{server.url}/instances/{instance}", timeout=10.0).status == 200


@pytest.mark.parametrize("replace", [MERGED, RENAMED], ids=["merge", "update"])
def test_only_the_patient_changes(server: OrthancServer, orthanc: Orthanc, replace: dict[str, str]) -> None:
    originals = [made(name, series) for series, name in enumerate(FILES, start=1)]
    study = store(server, *originals)
    new = recode(orthanc, study, replace, TIMEOUT_S)
    assert new == orthanc_id(replace["PatientID"], STUDY)
    found = whole(server)
    assert people(found) == {tuple(replace.values())}
    assert server.get("/studies") == [new]
    for image in originals:
        again = found[str(image.SOPInstanceUID)]
        assert again.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        expected = dcmread(BytesIO(dumped(image)))
        for key, value in replace.items():
            setattr(expected, key, value)
        assert again.to_json_dict() == expected.to_json_dict(), image.SOPClassUID.name


@pytest.mark.parametrize("replace", [MERGED, RENAMED], ids=["merge", "update"])
def test_doing_it_again_changes_nothing(server: OrthancServer, orthanc: Orthanc, replace: dict[str, str]) -> None:
    study = many(server, 3)
    new = recode(orthanc, study, replace, TIMEOUT_S)
    last = orthanc.last_change()
    assert recode(orthanc, study, replace, TIMEOUT_S) == new
    assert recode(orthanc, new, replace, TIMEOUT_S) == new
    kinds = {change["ChangeType"] for change in orthanc.changes(last).changes}
    assert kinds <= {"StableSeries", "StableStudy", "StablePatient"}
    assert len(whole(server)) == 3


@pytest.mark.parametrize("replace", [MERGED, RENAMED], ids=["merge", "update"])
@pytest.mark.parametrize("stage", ["half copied", "all copied", "half deleted", "all deleted"])
def test_what_was_interrupted_is_finished(
    server: OrthancServer, orthanc: Orthanc, replace: dict[str, str], stage: str
) -> None:
    study = many(server, 4)
    instances = list(server.get("/instances"))
    first_leg = MERGED if replace is MERGED else {**RENAMED, "PatientID": "P1" + HALFWAY}
    copy(server, instances[:2] if stage == "half copied" else instances, first_leg)
    for instance in {"half deleted": instances[:2], "all deleted": instances}.get(stage, []):
        delete(server, instance)
    new = recode(orthanc, study, replace, TIMEOUT_S)
    found = whole(server)
    assert len(found) == 4
    assert people(found) == {tuple(replace.values())}
    assert server.get("/studies") == [new]


def test_the_way_back_is_finished_too(server: OrthancServer, orthanc: Orthanc) -> None:
    """An update, killed between the last copy under its own Patient ID and the last deletion under the other."""
    study = many(server, 4)
    originals = list(server.get("/instances"))
    copy(server, originals, {**RENAMED, "PatientID": "P1" + HALFWAY})
    for instance in originals:
        delete(server, instance)
    halfway = list(server.get("/instances"))
    copy(server, halfway, RENAMED)
    delete(server, halfway[0])
    assert recode(orthanc, study, RENAMED, TIMEOUT_S) == study
    found = whole(server)
    assert len(found) == 4
    assert people(found) == {tuple(RENAMED.values())}
    assert server.get("/studies") == [study]


@pytest.mark.parametrize("replace", [MERGED, RENAMED], ids=["merge", "update"])
def test_an_orthanc_killed_in_the_middle_loses_nothing(tmp_path: Path, replace: dict[str, str]) -> None:
    with running(make_orthanc(tmp_path / "orthanc")) as server:
        orthanc = Orthanc(OrthancSettings(url=server.url))
        study = many(server, 150)
        before = set(server.get("/instances"))
        failed: list[Exception] = []
        thread = threading.Thread(target=lambda: attempt(orthanc, study, replace, failed))
        thread.start()
        wait_for(lambda: set(server.get("/instances")) - before, what="the first copy")
        server.kill()
        thread.join()
        assert [isinstance(error, OrthancUnreachable) for error in failed] == [True]
        server.start()
        assert len({dcm.SOPInstanceUID for dcm in raw(server)}) == 150
        new = recode(orthanc, study, replace, TIMEOUT_S)
        found = whole(server)
        assert len(found) == 150
        assert people(found) == {tuple(replace.values())}
        assert server.get("/studies") == [new]
        orthanc.close()


def attempt(orthanc: Orthanc, study: str, replace: dict[str, str], failed: list[Exception]) -> None:
    try:
        recode(orthanc, study, replace, TIMEOUT_S)
    except OrthancUnreachable as error:
        failed.append(error)


def raw(server: OrthancServer) -> list[Dataset]:
    paths = [f"{server.url}/instances/{each}/file" for each in server.get("/instances")]
    return [dcmread(BytesIO(urllib3.request("GET", path, timeout=10.0).data)) for path in paths]


def test_an_image_that_comes_late_is_not_deleted(server: OrthancServer, orthanc: Orthanc) -> None:
    study = many(server, 2)
    recode(orthanc, study, MERGED, TIMEOUT_S)
    assert store(server, made("CT_small.dcm", 1, 3)) == study
    assert len(whole(server)) == 3
    recode(orthanc, study, MERGED, TIMEOUT_S)
    found = whole(server)
    assert len(found) == 3
    assert people(found) == {tuple(MERGED.values())}


def test_a_name_that_the_images_cannot_hold_changes_nothing(server: OrthancServer, orthanc: Orthanc) -> None:
    study = many(server, 2)
    before = whole(server)
    for replace in ({**MERGED, "PatientName": "山田^太郎"}, {**RENAMED, "PatientName": "山田^太郎"}):
        with pytest.raises(PermanentError, match="character set"):
            recode(orthanc, study, replace, TIMEOUT_S)
        assert whole(server) == before
        assert server.get("/studies") == [study]


def test_a_study_that_was_never_there_is_told(orthanc: Orthanc) -> None:
    with pytest.raises(OrthancRefused) as caught:
        recode(orthanc, orthanc_id("P1", "1.2.3"), MERGED, TIMEOUT_S)
    assert caught.value.status == 404


def test_the_other_studies_of_the_patient_stay(server: OrthancServer, orthanc: Orthanc) -> None:
    other: Any = made("CT_small.dcm", 1)
    other.StudyInstanceUID, other.SeriesInstanceUID = "1.2.9", "1.2.9.1"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.9.1.1"
    stays, study = store(server, other), many(server, 1)
    new = recode(orthanc, study, MERGED, TIMEOUT_S)
    assert set(server.get("/studies")) == {stays, new}
    assert whole(server)["1.2.9.1.1"] == other
