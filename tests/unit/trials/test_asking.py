"""What a trial says to the RIS, and what it takes from the archive, the RIS, the ledger and the router."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3
from trial_cases import scenario

from medai.trials.box import Box, BoxError
from medai.trials.clock import Clock
from medai.trials.hospital import collect, faults, reception
from medai.trials.hospital.arm import Hospital
from medai.trials.hospital.scans import Imaging
from medai.trials.hospital.timeline import PlannedStudy, plan
from medai.trials.hospital.watch import Watcher
from medai.trials.scanner.sources import Sources
from medai.trials.scenario import Fault


class Ris:
    """Keeps what it is asked and answers what it was given."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[str, str, dict[str, Any] | None]] = []
        self.answer = answer

    def ask_ris(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self.asked.append((method, path, body))
        return self.answer

    @property
    def box(self) -> Box:
        return cast(Box, self)


def planned(*habits: str) -> PlannedStudy:
    return replace(plan(scenario())[0], case="chest-ct", priority="urgent", habits=habits)


def test_an_order_says_who_what_and_how_soon() -> None:
    ris, who = Ris({"placer": "PL1"}), reception.identity(planned())
    assert reception.place(ris.box, scenario(), planned()) == "PL1"
    ((method, path, body),) = ris.asked
    assert (method, path) == ("POST", "/orders")
    assert body == {
        "patient_id": who.patient.patient_id, "patient_name": who.patient.name, "birth_date": who.patient.birth_date,
        "sex": who.patient.sex, "accession": who.accession, "study_uid": who.study_uid, "modality": "CT",
        "procedure_code": "CTSTUDY", "procedure_text": "CT of the chest", "priority": "A",
    }  # fmt: skip


def test_who_comes_unknown_is_ordered_unknown_and_merged_into_who_it_is() -> None:
    ris, study = Ris({"placer": "PL1"}), planned("patient_merged")
    reception.register(ris.box, study)
    reception.place(ris.box, scenario(), study)
    reception.merge(ris.box, study)
    registered, ordered, merged = (body or {} for _, _, body in ris.asked)
    assert "birth_date" not in registered, "nobody knows it yet"
    assert registered["patient_id"] == ordered["patient_id"] == merged["prior_id"] != merged["patient_id"]
    assert merged["patient_id"] == reception.identity(study).patient.patient_id


def test_a_correction_changes_the_name_alone() -> None:
    ris, study = Ris(), planned("patient_updated")
    reception.register(ris.box, study)
    reception.update(ris.box, study)
    before, after = (body or {} for _, _, body in ris.asked)
    assert after["patient_name"] == f"{before['patient_name']}-Corrected"
    assert {**after, "patient_name": before["patient_name"]} == before


def test_an_order_is_cancelled_raised_and_reported_by_its_number() -> None:
    ris = Ris()
    reception.cancel(ris.box, "PL1")
    reception.raise_to_stat(ris.box, "PL1")
    reception.report(ris.box, "PL1", 2, used_ai=True)
    assert [(path, body) for _, path, body in ris.asked[:2]] == [
        ("/orders/PL1/cancel", None), ("/orders/PL1/change", {"priority": "S"})
    ]  # fmt: skip
    assert ris.asked[2][2] is not None
    assert {"placer": "PL1", "radiologist": "R03", "used_ai": True}.items() <= ris.asked[2][2].items()


def test_results_are_asked_for_since_the_newest_that_is_known() -> None:
    ris = Ris([{"received_at": 5.25}, {"received_at": 7.125}])
    assert reception.results_since(ris.box, 3.5)[1] == 7.125
    assert ris.asked[0][1] == "/results?since=3.5&brief=1"
    ris.answer = []
    assert reception.results_since(ris.box, 7.125) == ([], 7.125)


def test_three_parts_are_asked_and_what_is_ours_is_told_from_what_was_sent() -> None:
    studies = [{"ID": "a", "MainDicomTags": {"StudyInstanceUID": "1.1"}}]
    series = [
        {"ParentStudy": "a", "MainDicomTags": {"Modality": modality}, "Instances": ["x"] * count}
        for modality, count in (("CT", 3), ("CT", 30), ("SEG", 1), ("SR", 1), ("OT", 1))
    ]
    jobs = [{"study_uid": "1.1", "id": "newer"}, {"study_uid": "1.1", "id": "older"}]
    asked = SimpleNamespace(
        every_job=lambda: jobs,
        ask_ris=lambda _method, _path: [{"study_uid": "1.1", "filler": "F"}],
        ask_archive=lambda _method, _path, body: studies if body["Level"] == "Study" else series,
    )
    found = collect.ask(cast(Box, asked))
    assert [job["id"] for job in found.jobs["1.1"]] == ["older", "newer"], "newest last"
    assert (found.images["1.1"], found.objects["1.1"], len(found.results["1.1"])) == (33, 3, 1)


@pytest.fixture
def metrics() -> Iterator[tuple[str, dict[str, Any]]]:
    """A /metrics page and what it answers."""
    says: dict[str, Any] = {"status": 200, "text": 'medai_ledger_up 1.0\nmedai_jobs{state="running"} 1.0\n'}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(says["status"])
            self.end_headers()
            self.wfile.write(str(says["text"]).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics", says
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_router_that_is_away_or_in_trouble_is_a_gap_and_no_error(metrics: tuple[str, dict[str, Any]]) -> None:
    url, says = metrics
    http = urllib3.PoolManager()
    box = SimpleNamespace(http=http, facts={"router": {"metrics": url}})
    watcher = Watcher(box=cast(Box, box))
    look = watcher.look()
    assert look is not None
    assert look.running == 1
    says["status"] = 503
    assert watcher.look() is None
    box.facts = {"router": {"metrics": "http://127.0.0.1:1/metrics"}}
    assert watcher.look() is None
    http.clear()


@pytest.mark.parametrize(("name", "kind"), sorted(faults.RIS_ANSWERS.items()))
def test_a_ris_is_asked_to_misbehave_and_to_stop(name: str, kind: str) -> None:
    ris, fault = Ris(), faults.playable()[name]
    fault.begin(ris.box)
    assert fault.end is not None
    fault.end(ris.box)
    assert ris.asked == [("POST", "/faults", {"kind": kind}), ("DELETE", "/faults", None)]


def test_what_is_away_is_switched_off_and_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[tuple[str, bool]] = []
    monkeypatch.setattr(faults, "switch", lambda _folder, part, *, on: done.append((part, on)))
    box = cast(Box, SimpleNamespace(folder=tmp_path))
    for part in ("ris", "orthanc", "workers"):
        fault = faults.playable()[f"{part}-away"]
        fault.begin(box)
        assert fault.end is not None
        fault.end(box)
    assert done == [(part, on) for part in ("ris", "orthanc", "worker") for on in (False, True)]


def hospital(tmp_path: Path) -> Hospital:
    """One that nothing is played in."""
    facts = {"orthanc": {"dicom_port": 1, "aet": "ORTHANC"}, "ris": {"dicom_port": 1}}
    box = cast(Box, SimpleNamespace(folder=tmp_path, facts=facts))
    imaging = Imaging(scenario=scenario(), sources=Sources(data=None))
    return Hospital(scenario(), (), "with-ai", box, imaging, Clock(accelerate=600.0), lambda _: None)


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Hospital]:
    made = hospital(tmp_path)
    yield made
    made.clock.stopped.set()
    made.scanners.close()
    made.agenda.close()
    made.desk.shutdown()


def test_a_fault_is_tried_until_its_part_is_back_and_is_kept_with_its_times(
    quiet: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def begin(_: Box) -> None:
        tries.append("begin")
        if len(tries) < 3:
            raise BoxError("still mending")

    fault = faults.Playable(name="ris-away", about="", begin=begin, end=lambda _: tries.append("end"))
    monkeypatch.setattr(faults, "playable", lambda: {"ris-away": fault})
    quiet._break(Fault(name="ris-away", at_s=0, for_s=60))
    assert tries == ["begin", "begin", "begin", "end"]
    (kept,) = quiet.broken
    assert (kept.name, kept.detail) == ("ris-away", "")
    assert kept.ended_s - kept.began_s >= 60 / 600
    assert [event.name for event in quiet.events] == ["fault-begins", "fault-ends"]


def test_a_fault_that_failed_half_way_is_mended_all_the_same(quiet: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    mended: list[Box] = []

    def half(_: Box) -> None:
        raise BoxError("flushed, and did not stop")

    monkeypatch.setattr("medai.trials.hospital.arm.STRIKE_S", 0.0)
    fault = faults.Playable(name="redis-emptied", about="", begin=half, end=mended.append)
    monkeypatch.setattr(faults, "playable", lambda: {"redis-emptied": fault})
    quiet._break(Fault(name="redis-emptied", at_s=0, for_s=1))
    assert len(mended) == 1
    assert [kept.detail for kept in quiet.broken] == ["flushed, and did not stop"]


def test_a_fault_that_cannot_be_played_is_part_of_the_record(quiet: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Box) -> None:
        raise BoxError("redis is not running")

    monkeypatch.setattr("medai.trials.hospital.arm.STRIKE_S", 0.0)
    fault = faults.Playable(name="redis-killed", about="", begin=fails)
    monkeypatch.setattr(faults, "playable", lambda: {"redis-killed": fault})
    quiet._break(Fault(name="redis-killed", at_s=0))
    assert [kept.detail for kept in quiet.broken] == ["redis is not running"]
