"""Bad input on its real ways in: an archive with a worker behind it, the watch folder, ``medai process``, the router.

Each broken series, file and zip of the corpus ends with a recorded reason, the next good study is read, and neither
memory nor time follow what a file claims. Memory is measured in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import broken_cases
import pytest
import urllib3
from broken_cases import FILES, ORTHANC_DIES_OF, SERIES, ZIPS, before_pixels, nested, peak_of, sparse
from dicom_cases import slice_of, study_files, study_uid, to_bytes
from servers import OrthancServer, binary, make_orthanc, make_redis, running, wait_for

from medai.router.contract import Priority, sources_hash
from medai.router.daemon.loop import Router
from medai.router.intake.facts import FactsReader
from medai.router.intake.watch_folder import WatchFolder
from medai.router.ledger import Ledger, NewJob
from medai.router.ledger.fleet import Announced
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.queue.sweeper import LeaseWatch, Sweeper
from medai.router.reports import readings
from medai.router.settings.tables import Settings, WatchFolderSettings

pytestmark = pytest.mark.slow
TESTS = Path(__file__).resolve().parents[1]
GROWTH_LIMIT_MIB = 700
"""What the worst case may cost: three fetched images of 100 MB at once, and their copies."""
SECONDS_LIMIT = 60.0


@dataclass
class Site:
    """An archive and a ledger."""

    orthanc: OrthancServer
    client: Orthanc
    ledger: Ledger
    values: dict[str, Any]

    def send(self, files: Sequence[bytes]) -> int:
        """How many of the files Orthanc took; the others it answered with an error of its own."""
        taken = 0
        for data in files:
            answer = urllib3.request("POST", f"{self.orthanc.url}/instances", body=data, timeout=60.0, retries=False)
            assert answer.status in (200, 400, 415), answer.data[:300]
            taken += answer.status == 200
        return taken

    def job(self, study: str) -> str:
        """A job for the only series of a study, as the router makes it."""
        (item,) = [
            s
            for s in self.client.studies(since=0, limit=200)
            if s["MainDicomTags"]["StudyInstanceUID"] == study_uid(study)
        ]
        view = FactsReader(self.client, self.ledger.orders, self.ledger.identities, self.ledger.deliveries).read(
            item["ID"]
        )
        assert view is not None
        with self.ledger.begin() as db:
            self.ledger.studies.see(view.seen, at=time.time(), due_at=None, db=db)
        row = self.ledger.studies.find(item["ID"])
        assert row is not None
        series = view.facts.series[0].orthanc_id
        sops = [instance["MainDicomTags"]["SOPInstanceUID"] for instance in self.client.instances(series)]
        new = NewJob(
            study_id=row.id, study_uid=study_uid(study), route="brain", slot="", model="mr_brain", model_version="1",
            modality="MR", series=(series,), sources_hash=sources_hash(sops), sources_count=len(sops), queue="cpu",
            priority=Priority.ROUTINE, destinations=("archive",), quiet_s=3.0,
        )  # fmt: skip
        return self.ledger.jobs.create(new, study=row, reason="test", now=time.time())[0]

    def reason(self, job_id: str) -> str:
        return str(readings.jobs(self.ledger, job_id=job_id)[0].reason)

    def read(self, jobs: dict[str, str], **worker: Any) -> dict[str, Any]:
        values = {**self.values, "worker": {**self.values["worker"], **worker}}
        return child({"settings": values, "jobs": jobs})


def child(asked: dict[str, Any]) -> dict[str, Any]:
    """What tests/bad_input_child.py tells, run on the code of this checkout."""
    places = {**os.environ, "PYTHONPATH": f"{TESTS.parent / '.lint'}{os.pathsep}{TESTS}"}
    done = subprocess.run(
        [sys.executable, str(TESTS / "bad_input_child.py")],
        input=json.dumps(asked), capture_output=True, text=True, timeout=500, env=places,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    orthanc = make_orthanc(tmp_path / "orthanc")
    with running(orthanc):
        values = {
            "orthanc": {"url": orthanc.url},
            "ledger": {"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
            "worker": {"max_attempts": 1, **broken_cases.LIMITS},
        }
        settings = Settings(**values)
        ledger, client = Ledger(settings.ledger.url), Orthanc(settings.orthanc)
        ledger.migrate()
        yield Site(orthanc, client, ledger, values)
        client.close()
        ledger.close()


def test_every_broken_series_in_the_archive_ends_with_its_reason_and_the_next_study_is_read(site: Site) -> None:
    site.send(study_files("first"))
    jobs, words = {"first": site.job("first")}, {}
    for case in SERIES:
        if case.name in ORTHANC_DIES_OF:
            continue
        files = list(case.make(case.name))
        taken = site.send(files)
        if taken:
            jobs[case.name] = site.job(case.name)
            words[case.name] = case.words if taken == len(files) else "an image may be missing"
    site.send(study_files("last"))
    jobs["last"] = site.job("last")
    assert len(words) > 0.8 * len(SERIES)
    told = site.read(jobs)
    assert (told["outcomes"]["first"], told["outcomes"]["last"]) == ("done", "done")
    reasons = {name: site.reason(jobs[name]) for name in words}
    assert {name: told["outcomes"][name] for name in words} == dict.fromkeys(words, "failed"), reasons
    assert {name: reason for name, reason in reasons.items() if words[name] not in reason} == {}
    assert not any("unexpected error" in reason for reason in reasons.values())
    assert told["grown_mib"] < GROWTH_LIMIT_MIB
    assert max(told["seconds"].values()) < SECONDS_LIMIT, told["seconds"]


def test_an_instance_beyond_the_limit_is_refused_by_the_size_that_orthanc_tells(site: Site) -> None:
    big = [to_bytes(slice_of(n, study="big", size=4000)) for n in range(3)]  # 32 MB each
    assert site.send(big) == 3
    site.send(study_files("good"))
    jobs = {"good": site.job("good"), "image": site.job("big")}
    told = site.read(jobs, max_image_gb=0.02)
    assert told["outcomes"] == {"good": "done", "image": "failed"}
    assert "an image of the series has 0.03 GiB: the limit is 0.02 GiB (worker.max_image_gb)" in site.reason(
        jobs["image"]
    )
    assert told["grown_mib"] < 20  # nothing was fetched


def test_a_series_beyond_the_limit_is_refused_by_the_sizes_that_orthanc_tells(site: Site) -> None:
    site.send([to_bytes(slice_of(n, study="big", size=4000)) for n in range(3)])
    site.send(study_files("good"))
    jobs = {"good": site.job("good"), "series": site.job("big")}
    told = site.read(jobs, max_series_gb=0.05)
    assert told["outcomes"] == {"good": "done", "series": "failed"}
    assert "the series has 0.09 GiB in 3 images: the limit is 0.05 GiB (worker.max_series_gb)" in site.reason(
        jobs["series"]
    )
    assert told["grown_mib"] < 20


def test_the_watch_folder_rejects_the_whole_corpus_with_reasons_and_sends_the_good_study(
    site: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    words = {}
    for name, make, expected in (*FILES, *ZIPS):
        (folder / f"bad_{name}").write_bytes(make())
        words[f"bad_{name}"] = expected
    sparse(folder / "bad_sparse", 4 * 2**30 + 2, broken_cases.huge_image("sparse"))
    words["bad_sparse"] = "the DICOM file has 4.0 GiB, more than 0.1 GiB (watch_folder.max_file_gb)"
    (folder / "good.zip").write_bytes(broken_cases.packed({f"{n}": d for n, d in enumerate(study_files("good"))}))
    settings = WatchFolderSettings(path=str(folder), settle_s=0.0, max_file_gb=0.1)
    watch = WatchFolder(settings, lambda data: site.client.store(data))
    began = time.monotonic()
    with peak_of() as peak:
        watch.scan()
        watch.scan()
    reasons = {
        path.name.removesuffix(".reason.txt"): path.read_text() for path in (folder / "rejected").glob("*.reason.txt")
    }
    assert set(reasons) == set(words)
    assert {name: reason for name, reason in reasons.items() if words[name] not in reason} == {}
    assert [path.name for path in folder.iterdir()] == ["rejected"]
    assert len(site.orthanc.get("/instances")) == 16
    assert peak() < GROWTH_LIMIT_MIB * 2**20
    assert time.monotonic() - began < SECONDS_LIMIT


def test_medai_process_tells_a_reason_for_every_broken_series_and_zip_and_reads_the_next(tmp_path: Path) -> None:
    paths, words = {"first": str(folder_of(tmp_path / "first", study_files("first")))}, {}
    for case in SERIES:
        paths[case.name] = str(folder_of(tmp_path / case.name, case.make(case.name)))
        words[case.name] = case.words
    for name, make, _ in ZIPS:
        (tmp_path / f"{name}.zip").write_bytes(make())
        paths[f"zip {name}"] = str(tmp_path / f"{name}.zip")
        words[f"zip {name}"] = ""
    sparse(tmp_path / "huge.dcm", 4 * 2**30 + 2, broken_cases.huge_image("huge"))
    paths["huge"], words["huge"] = str(tmp_path / "huge.dcm"), "worker.max_image_gb"
    paths["last"] = str(folder_of(tmp_path / "last", study_files("last")))
    told = child({"settings": {"worker": broken_cases.LIMITS}, "paths": paths, "out": str(tmp_path / "out")})
    outcomes = told["outcomes"]
    assert (outcomes.pop("first"), outcomes.pop("last")) == ("done", "done")
    passed_over = {"nested", "many_attributes", "cut_short", "deflate_bomb"}  # an image that is left out leaves a gap
    wrong = {n: o for n, o in outcomes.items() if o == "done" or (words[n] not in o and n not in passed_over)}
    assert wrong == {}
    assert told["grown_mib"] < GROWTH_LIMIT_MIB
    assert max(told["seconds"].values()) < SECONDS_LIMIT, told["seconds"]


def folder_of(path: Path, files: Sequence[bytes]) -> Path:
    path.mkdir()
    for number, data in enumerate(files):
        (path / f"{number}.dcm").write_bytes(data)
    return path


def test_a_study_on_whose_header_orthanc_would_die_is_decided_and_orthanc_lives(site: Site, tmp_path: Path) -> None:
    redis = make_redis(tmp_path / "redis")
    route = {"name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "destinations": ["archive"],
             "completeness": {"quiet_s": 0.5}}  # fmt: skip
    with running(redis):
        broker = {"url": f"redis://127.0.0.1:{redis.port}/0"}
        settings = Settings(**site.values, broker=broker, routes=[route])
        site.ledger.fleet.announce([Announced(name="mr_brain", version="1", available=True, reason="")], time.time())
        dispatcher = Dispatcher(settings.broker)
        watch = LeaseWatch(20.0)
        sweeper = Sweeper(site.ledger, dispatcher, clock=time.time, max_crashes=3, watch=watch)
        router = Router(settings, orthanc=site.client, ledger=site.ledger, sweeper=sweeper, names=Pseudonyms("k"))
        router.tick()
        c_store(site.orthanc, [before_pixels(data, nested(2000)) for data in study_files("poison", slices=5)], tmp_path)
        site.send(study_files("good"))
        deaths = 0

        def decided() -> bool:
            nonlocal deaths
            router.tick()
            if site.orthanc.process is not None and site.orthanc.process.poll() is not None:
                deaths += 1
                site.orthanc.start()  # as its supervisor does
            return len(readings.jobs(site.ledger)) == 2

        wait_for(decided, within_s=60, what="a job for each study")
        dispatcher.close()
    jobs = {name: readings.jobs(site.ledger, study_uid=study_uid(name))[0].job_id for name in ("good", "poison")}
    assert site.read(jobs)["outcomes"] == {"good": "done", "poison": "failed"}
    assert "nested more than 32 deep" in site.reason(jobs["poison"])
    assert deaths == 0, "the router looks into the file before it has Orthanc parse it"


def c_store(orthanc: OrthancServer, files: Sequence[bytes], folder: Path) -> None:
    """By DICOM, whose threads have room for what kills Orthanc's HTTP threads."""
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / f"send{number}.dcm")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [binary("storescu"), "-R", "127.0.0.1", str(orthanc.dicom_port), *map(str, paths)],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
