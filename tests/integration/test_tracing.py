"""One trace for a study, across router, worker and courier, with real Orthanc, Redis, RIS and a FHIR server."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

from ball_model import BallModels
from dicom_cases import PLANTED, study_files, study_uid
from fhir_server import fhir_server
from otlp_collector import Seen, collector
from servers import free_port, make_orthanc, make_redis, make_ris, running, wait_for

from medai.router.daemon.service import build
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced
from medai.router.orthanc.client import Orthanc
from medai.router.reports import readings
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import open_tracer
from medai.workers.tasks import JobRunner

ROUTE = {"name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "completeness": {"quiet_s": 0.5},
         "destinations": ["archive", "ehr", "ris"]}  # fmt: skip


def test_a_study_is_one_trace_with_the_spans_of_router_and_worker_and_no_identifier(tmp_path: Path) -> None:
    orthanc, redis = make_orthanc(tmp_path / "orthanc"), make_redis(tmp_path / "redis")
    ris = make_ris(tmp_path / "ris", router_port=free_port())
    with ExitStack() as stack:
        for server in (orthanc, redis, ris):
            stack.enter_context(running(server))
        at, ehr = stack.enter_context(collector()), stack.enter_context(fhir_server())
        settings = Settings(
            orthanc={"url": orthanc.url},
            ledger={"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
            broker={"url": f"redis://127.0.0.1:{redis.port}/0"},
            ris={"host": "127.0.0.1", "port": ris.port, "processing_id": "T"},
            hl7_in={"enabled": False},
            metrics={"port": 0},
            tracing={"enabled": True, "endpoint": at.url},
            routes=[ROUTE],
            destinations={"ehr": {"fhir_url": ehr.url}},
        )
        ledger = Ledger(settings.ledger.url)
        stack.callback(ledger.close)
        ledger.migrate()
        ledger.fleet.announce([Announced(name="mr_brain", version="1", available=True, reason="")], time.time())
        tracers = {
            name: open_tracer(settings.tracing, ledger.database, process=name, instance="h")
            for name in ("router", "worker")
        }
        client, stop = Orthanc(settings.orthanc), threading.Event()
        stack.callback(client.close)
        runner = JobRunner(
            settings, orthanc=client, ledger=ledger, models=BallModels(), worker="w", tracer=tracers["worker"]
        )

        def work() -> None:
            while not stop.wait(0.05):
                for job in readings.jobs(ledger, state="pending"):
                    if "enqueued" in job.stamps:
                        runner.read(job.job_id)

        with ExitStack() as leading:
            router = build(settings, ledger, leading, tracer=tracers["router"])
            threads = [threading.Thread(target=router.run, args=(stop,)), threading.Thread(target=work)]
            for thread in threads:
                thread.start()
            try:
                for data in study_files("a"):
                    orthanc.post(data)
                (job,) = wait_for(lambda: readings.jobs(ledger, state="done"), within_s=60, what="a reading")
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        for tracer in tracers.values():
            tracer.close()
            assert tracer.counts()["lost"] == 0
        spans = at.spans()
        told = b"".join(at.bodies)

    _judge(spans, job.stamps)
    series = [uid for item in job.results.values() for uid in (item.series_uid, item.sop_uid)]
    secrets = [*PLANTED.values(), PLANTED["name"].split("^")[0], study_uid("a"), job.study_orthanc_id, *series]
    assert [text for text in secrets if text.encode() in told] == []


def _judge(spans: list[Seen], stamps: dict[str, float]) -> None:
    assert len({span.trace for span in spans}) == 1
    assert len({span.id for span in spans}) == len(spans)
    (root,) = [span for span in spans if not span.parent]
    assert (root.name, root.service) == ("study", "medai-router")
    by_name = {span.name: span for span in spans}
    stages = {"fetch", "prepare", "infer", "encode", "store"}
    mine = {name: {span.name for span in spans if span.service == f"medai-{name}"} for name in ("router", "worker")}
    assert mine["worker"] == {"queue", "read", *stages}
    assert mine["router"] == {"study", "decide", "deliver ehr", "deliver ris"}
    for span in spans:
        assert span.start_ns <= span.end_ns
        if span is not root:
            assert span.parent == (by_name["read"].id if span.name in stages else root.id), span.name
    assert {span.attributes["medai.verdict"] for span in spans if span.name == "decide"} == {"complete", "route"}
    moments = {"study": ("first_instance", "study_complete"), "queue": ("enqueued", "started"), "fetch": ("started", "fetched"),
               "infer": ("prepared", "inferred"), "store": ("encoded", "stored")}  # fmt: skip
    for name, (start, end) in moments.items():
        got = (by_name[name].start_ns / 1e9, by_name[name].end_ns / 1e9)
        assert [abs(a - b) < 1e-5 for a, b in zip(got, (stamps[start], stamps[end]), strict=True)] == [True, True], name
    sent = [by_name[name].attributes for name in ("deliver ehr", "deliver ris")]
    assert [(item["medai.protocol"], item["medai.outcome"], item["medai.attempt"]) for item in sent] == [
        ("fhir", "done", 1),
        ("hl7", "done", 1),
    ]
