"""What must hold of the whole system, on real studies, seen from outside: archive, RIS, command line, logs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import urllib3
from dicom_cases import PLANTED, renamed, slice_of, study_files, study_uid, to_bytes
from servers import wait_for

BIN = Path(sys.executable).parent
HEAD = "mr_brain_T1_studyforrest"
CHEST = "ct_chest_LIDC-IDRI-0314"


def errors_of(dataset: pydicom.Dataset, folder: Path) -> str:
    """What dciodvfy finds wrong with an object."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path)
    done = subprocess.run([BIN / "dciodvfy", path], capture_output=True, text=True, check=False)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))


def dcmqi_voxels(seg: pydicom.Dataset, folder: Path) -> dict[int, int]:
    """Voxels of each segment, as dcmqi reads the object."""
    path, out = folder / "seg.dcm", folder / "nifti"
    seg.save_as(path)
    out.mkdir()
    subprocess.run(
        [BIN / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nifti"],
        check=True, capture_output=True,
    )  # fmt: skip
    counts: dict[int, int] = {}
    for file in sorted(out.glob("*.nii.gz")):
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        for value in np.unique(labels[labels > 0]):
            counts[int(value)] = counts.get(int(value), 0) + int((labels == value).sum())
    return counts


def check_results(running: Any, uid: str, job: dict[str, Any], folder: Path) -> None:
    """SEG, SR and key image stored once and valid; the ORU acknowledged; the mask's voxels as measured."""
    assert job["state"] == "done", job["reason"]
    found = {kind: running.objects(uid, modality) for kind, modality in (("seg", "SEG"), ("sr", "SR"), ("sc", "OT"))}
    assert {kind: [str(item.SOPInstanceUID) for item in items] for kind, items in found.items()} == {
        kind: [job["results"][kind]["sop_uid"]] for kind in found
    }
    for items in found.values():
        assert errors_of(items[0], folder) == ""
    assert job["oru"]["ack"] == "AA"
    assert running.result(uid)["control_id"] == job["oru"]["control_id"]
    seg = found["seg"][0]
    shared = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    step_mm = float(shared.get("SpacingBetweenSlices") or shared.SliceThickness)
    voxel_ml = step_mm * float(np.prod([float(v) for v in shared.PixelSpacing])) / 1000
    drawn = [m for m in job["measurements"] if m["segment_number"]]  # a total has the number 0
    volumes = {m["segment_number"]: m["value"] for m in drawn if m["quantity"] == "volume"}
    counted = {number: count * voxel_ml for number, count in dcmqi_voxels(seg, folder).items()}
    assert counted == pytest.approx(volumes, rel=1e-4, abs=5.1e-4)  # measurements have three decimals


@pytest.mark.slow
def test_a_t1_head_of_384_slices_comes_back_with_every_result(running: Any, shared_data: Any, tmp_path: Path) -> None:
    uid = running.send_folder(shared_data(HEAD) / "dicom_jpegls")
    job = running.finished(uid)
    check_results(running, uid, job, tmp_path)
    assert job["model"] == "mr_hippocampus"
    totals = [m["value"] for m in job["measurements"] if m["segment_number"] == 0]
    assert len(totals) == 2
    assert all(2.0 < value < 5.0 for value in totals), "a hippocampus's volume in millilitres"


@pytest.mark.slow
def test_a_chest_ct_of_275_slices_comes_back_with_every_result(running: Any, shared_data: Any, tmp_path: Path) -> None:
    uid = running.send_folder(shared_data(CHEST) / "dicom_jpegls")
    job = running.finished(uid)
    check_results(running, uid, job, tmp_path)
    assert job["model"] == "ct_lungs"
    drawn = [m for m in job["measurements"] if m["segment_number"]]
    volumes = [m["value"] for m in drawn if m["quantity"] == "volume"]
    assert len(volumes) == 2, "a right and a left lung"
    assert 1500 < sum(volumes) < 9000
    assert all(-950 < m["value"] < -600 for m in drawn if m["quantity"] == "mean_attenuation")
    high = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{running.child('worker')}/status").read_text())[0])
    assert high < 3 * 1024 * 1024, f"the worker's peak was {high // 1024} MB"


@pytest.mark.slow
def test_the_same_study_sent_again_makes_no_second_job(running: Any, shared_data: Any) -> None:
    folder = shared_data(HEAD) / "dicom_jpegls"
    uid = running.send_folder(folder)
    running.finished(uid)
    running.send_folder(folder)
    time.sleep(5)
    assert len(running.jobs(uid)["jobs"]) == 1
    assert len(running.objects(uid, "SEG")) == 1


def small_head(shared_data: Any, name: str) -> tuple[str, list[bytes]]:
    """A head of 128 slices that the tests' own route gives to a quicker model: what is killed matters here, not what is read."""
    other = {"SeriesDescription": "small head", "SliceThickness": "2", "SpacingBetweenSlices": "2"}
    return renamed(shared_data(HEAD) / "dicom_jpegls", name, step=3, **other)


def await_state(running: Any, uid: str, state: str, stamp: str | None = None) -> None:
    """Until the study's reading is in a state (and has a stamp)."""

    def there() -> bool:
        # Where sending pauses for longer than the quiet period, a reading of the first images was replaced.
        open_ = [each for each in running.states(uid) if each != "superseded"]
        return open_ == [state] and (stamp is None or stamp in running.stamps(uid))

    wait_for(there, within_s=240, what=f"state {state}")


def once(running: Any, uid: str) -> None:
    """Each result exactly once, in the archive and at the RIS."""
    assert [len(running.objects(uid, modality)) for modality in ("SEG", "SR", "OT")] == [1, 1, 1]
    assert running.result(uid)["status"] == "P"


@pytest.mark.slow
def test_a_worker_killed_while_it_infers_costs_time_and_nothing_else(running: Any, shared_data: Any) -> None:
    uid, files = small_head(shared_data, "killed worker")
    running.send(files)
    await_state(running, uid, "running", "prepared")
    running.kill(running.child("worker"))
    assert running.finished(uid)["state"] == "done"
    once(running, uid)


@pytest.mark.slow
def test_router_killed_and_redis_emptied_at_work_lose_nothing(running: Any, shared_data: Any) -> None:
    uid, files = small_head(shared_data, "killed router")
    running.send(files[:64])
    running.kill(running.pid("router"))
    running.send(files[64:])
    await_state(running, uid, "running")
    subprocess.run(["redis-cli", "-u", running.site.redis_url, "FLUSHALL"], check=True, capture_output=True)
    running.kill(running.pid("router"))
    assert running.finished(uid)["state"] == "done"
    once(running, uid)


@pytest.mark.slow
def test_orthanc_killed_while_a_study_is_young_loses_nothing(running: Any, shared_data: Any) -> None:
    uid, files = small_head(shared_data, "killed archive")
    running.send(files)
    running.kill(running.pid("orthanc"))
    assert running.finished(uid)["state"] == "done"
    once(running, uid)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("gantrytilting/001", "tilt"),
        ("notavolume/001", ""),
        ("slicecount/001", "slice"),
        ("sliceincrement/001", "mm apart"),
        ("sliceincrement/002", "tilt"),
        ("sliceorientation/001", "orientation"),
    ],
)
def test_images_that_make_no_volume_get_a_reason(running: Any, shared_data: Any, folder: str, words: str) -> None:
    uid = running.send_folder(shared_data(f"robust_dicom2nifti/failing/{folder}"))
    job = running.finished(uid)
    assert job["state"] == "failed"
    assert words in job["reason"]
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", job["reason"]), "a reason holds no UID"


def test_secondary_captures_and_localizers_are_left_alone_with_a_reason(running: Any, shared_data: Any) -> None:
    root = shared_data("ct_phantom_philips_localizer_SC")
    files = [path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()]
    answers = [running.archive("POST", "/instances", data) for data in files]
    studies = {answer.json()["ParentStudy"] for answer in answers if answer.status == 200}
    assert studies
    for study in studies:
        uid = running.archive("GET", f"/studies/{study}").json()["MainDicomTags"]["StudyInstanceUID"]
        # The reading that the tests' own lenient route makes is recorded first.
        shipped = wait_for(
            lambda uid=uid: [
                row for row in running.jobs(uid)["decisions"] if row["route"] in ("mr-hippocampus", "ct-lungs")
            ],
            what="a decision of the shipped routes",
        )
        assert all(row["verdict"] == "skip" and row["reason"] for row in shipped)
        for job in running.jobs(uid)["jobs"]:  # the tests' own lenient route reads anything
            assert running.finished(uid)["state"] == "failed", job


def test_an_image_whose_pixels_are_cut_short_ends_with_a_reason(running: Any) -> None:
    files = study_files("truncated", slices=12, SeriesDescription="other")
    short = slice_of(5, study="truncated", SeriesDescription="other")
    short.PixelData = short.PixelData[:-100]
    running.send([*files[:5], to_bytes(short), *files[6:]])
    job = running.finished(study_uid("truncated"))
    assert job["state"] == "failed"
    assert "image" in job["reason"] or "slice" in job["reason"], job["reason"]


def test_a_file_that_is_cut_off_is_refused_at_the_door(running: Any) -> None:
    (data,) = study_files("cut", slices=1)
    assert running.archive("POST", "/instances", data[:200]).status in (400, 404, 415)


@pytest.mark.slow
def test_the_next_study_is_read_after_all_that(running: Any, shared_data: Any) -> None:
    uid, files = small_head(shared_data, "next")
    running.send(files)
    assert running.finished(uid)["state"] == "done"


def test_a_zip_in_the_watch_folder_is_read(running: Any, tmp_path: Path) -> None:
    folder = tmp_path / "zipped"
    folder.mkdir()
    for number, data in enumerate(study_files("zipped", slices=6)):
        (folder / f"{number}.dcm").write_bytes(data)
    shutil.make_archive(str(tmp_path / "drop"), "zip", folder)
    inbox = running.site.folder / "inbox"
    shutil.move(tmp_path / "drop.zip", inbox / "drop.zip")
    (inbox / "note.txt").write_text("not DICOM")
    assert running.finished(study_uid("zipped"))["images"] == 6
    wait_for(lambda: (inbox / "rejected" / "note.txt.reason.txt").exists(), what="the reason")
    assert not (inbox / "drop.zip").exists()


@pytest.mark.slow
def test_an_order_from_the_ris_joins_its_study(running: Any, shared_data: Any) -> None:
    uid, files = small_head(shared_data, "ordered")
    order = {
        "patient_id": "02", "patient_name": "Jane^Doe", "birth_date": "19660101", "sex": "F", "accession": "ACC4711", "study_uid": uid, "priority": "STAT",
        "modality": "MR",
    }  # fmt: skip
    placed = urllib3.request("POST", f"{running.site.ris_url}/orders", json=order).json()
    running.send(files)
    job = running.finished(uid)
    assert job["priority"] == "stat"
    assert "ordered" in job["stamps"]
    result = running.result(uid)
    assert result["placer"] == placed["placer"]
    assert result["filler"]


def test_the_command_line_tells_the_story(running: Any, command: Callable[..., Any]) -> None:
    where = ("--dir", running.folder)
    assert "done" in command("jobs", *where).stdout
    job = json.loads(command("jobs", *where, "--state", "done", "--limit", "1", "--json").stdout)["jobs"][0]
    story = command("job", job["job_id"][:13], *where).stdout
    assert all(word in story for word in ("decisions", "measurements", "attempts", "infer"))
    status = json.loads(command("status", *where, "--json").stdout)
    assert any(worker["alive"] for worker in status["workers"])
    groups = json.loads(command("turnaround", *where, "--by", "route", "--json").stdout)["groups"]
    assert {group["group"] for group in groups} >= {"mr-hippocampus", "whatever"}
    assert all(group["turnaround"]["n"] == group["done"] for group in groups)
    assert command("job", "ffffffff", *where, check=False).returncode == 1
    assert "ERROR" not in command("check", *where).stdout


def test_metrics_please_promtool(running: Any) -> None:
    page = urllib3.request("GET", f"http://127.0.0.1:{running.site.ports['metrics']}/metrics").data
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"medai_turnaround_seconds_bucket" in page
    assert b'medai_jobs{state="done"}' in page


def test_the_router_is_small_and_knows_no_torch(running: Any) -> None:
    pid = running.pid("router")
    status = Path(f"/proc/{pid}/status").read_text()
    high_mb = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024
    assert high_mb < 150, f"the router's peak was {high_mb} MB"
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "torch" not in maps
    assert "SimpleITK" not in maps


def test_no_patient_is_named_in_logs_metrics_or_messages(running: Any) -> None:
    running.send(study_files("planted", slices=8))
    running.finished(study_uid("planted"))
    metrics = urllib3.request("GET", f"http://127.0.0.1:{running.site.ports['metrics']}/metrics").data.decode()
    keep = running.site.folder / "redis" / "appendonlydir"
    broker = b"".join(path.read_bytes() for path in sorted(keep.glob("*")) if path.is_file()).decode("latin-1")
    written = {"logs": running.logs(), "metrics": metrics, "broker": broker}
    uids = {running.archive("GET", f"/studies/{name}").json()["MainDicomTags"]["StudyInstanceUID"]
            for name in running.archive("GET", "/studies").json()}  # fmt: skip
    secrets = {PLANTED["mrn"], PLANTED["accession"], PLANTED["birth"], "Plantedname", "LIDC-IDRI-0314", *uids}
    leaks = [(place, secret) for place, text in written.items() for secret in secrets if secret in text]
    assert leaks == []
    assert len(written["logs"]) > 1000
