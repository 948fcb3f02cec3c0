"""Traces: which spans the ledger's stamps make, that ids agree everywhere, and that a collector can do no harm."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, seen
from otlp_collector import Collector, Seen, collector
from servers import free_port
from structlog.testing import capture_logs

from medai.router.contract import Decision, Failure, StampName, Verdict
from medai.router.delivery.courier import Desk, protocol_of
from medai.router.errors import LedgerUnreachable, RisUnreachable, SettingsError
from medai.router.ledger import Ledger
from medai.router.ledger.claims import Claim
from medai.router.settings.tables import Settings
from medai.router.settings.tracing import TracingSettings
from medai.router.tracing import tracer as tracing
from medai.router.tracing.spans import Span, Trace, stages_within
from medai.router.tracing.tracer import LedgerTracer, NoTracer, open_tracer


class Kept:
    """A sink that keeps them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def send(self, spans: Any) -> None:
        self.spans += spans

    def counts(self) -> dict[str, int]:
        return {"sent": len(self.spans), "lost": 0}

    def close(self) -> None:
        """Nothing."""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def claimed(ledger: Ledger, job_id: str, at: float) -> Claim:
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20.0, now=at)
    assert claim is not None
    return claim


def stamped(ledger: Ledger, job_id: str, at: float, names: str = "fetched prepared inferred encoded") -> None:
    for i, name in enumerate(names.split(), start=1):
        ledger.claims.stamp(job_id, StampName(name), at + i)


# -- what is told


def test_an_attempt_is_told_with_the_wait_before_it_and_its_stages_to_the_moment(ledger: Ledger) -> None:
    kept = Kept()
    job_id, _ = make(ledger, arrive(ledger, seen()), T0 + 3)
    ledger.jobs.mark_sent({job_id: T0 + 4})
    claim = claimed(ledger, job_id, T0 + 10)
    stamped(ledger, job_id, T0 + 10)
    cases.store(ledger, claim, T0 + 15)
    LedgerTracer(ledger.database, kept).attempted(job_id, worker="w1")
    got = {span.name: (span.start - T0, span.end - T0) for span in kept.spans}
    assert got == {"queue": (4, 10), "read": (10, 15), "fetch": (10, 11), "prepare": (11, 12), "infer": (12, 13),
                   "encode": (13, 14), "store": (14, 15)}  # fmt: skip
    (read,) = kept.named("read")
    assert {span.parent_id for span in kept.spans if span.name in ("fetch", "store")} == {read.span_id}
    assert kept.named("queue")[0].parent_id == read.parent_id != read.span_id
    assert dict(read.attributes) == {
        "medai.job": job_id, "medai.route": "brain", "medai.model": "mr_brain", "medai.model_version": "1",
        "medai.modality": "MR", "medai.priority": "routine", "medai.attempt": 1, "medai.outcome": "read",
        "medai.worker": "w1",
    }  # fmt: skip


def test_a_retry_joins_the_same_trace_with_spans_of_its_own_and_a_failure_is_marked(ledger: Ledger) -> None:
    kept = Kept()
    tracer = LedgerTracer(ledger.database, kept)
    job_id, _ = make(ledger, arrive(ledger, seen()), T0)
    first = claimed(ledger, job_id, T0 + 1)
    stamped(ledger, job_id, T0 + 1, "fetched")
    ledger.claims.release(job_id, first.token, reason="away", not_before=T0 + 8, crashed=False, now=T0 + 3)
    tracer.attempted(job_id, worker="w1")
    second = claimed(ledger, job_id, T0 + 10)
    ledger.claims.fail(job_id, second.token, Failure.IMAGES, "no volume", T0 + 12)
    tracer.attempted(job_id, worker="w1")
    reads = kept.named("read")
    assert [(span.failed, span.attributes["medai.outcome"], span.attributes["medai.attempt"]) for span in reads] == [
        (True, "retry", 1),
        (True, "failed", 2),
    ]
    assert len({span.span_id for span in kept.spans}) == len(kept.spans)
    assert len({span.trace_id for span in kept.spans}) == 1
    assert [(span.start, span.end) for span in kept.named("fetch")] == [(T0 + 1, T0 + 2)]  # not again for the second
    assert [(span.start, span.end) for span in kept.named("queue")] == [(T0 + 3, T0 + 10)]  # since the first ended


def test_a_lost_attempt_is_told_by_the_router_alone(ledger: Ledger) -> None:
    router, worker = Kept(), Kept()
    job_id, _ = make(ledger, arrive(ledger, seen()), T0)
    claimed(ledger, job_id, T0 + 1)
    (held,) = ledger.jobs.held()
    ledger.jobs.reclaim(held, "the worker died", max_crashes=5, now=T0 + 30)
    LedgerTracer(ledger.database, worker).attempted(job_id, worker="w1")
    LedgerTracer(ledger.database, router).attempted(job_id)
    assert not worker.spans
    assert [(s.name, s.attributes["medai.outcome"], s.failed) for s in router.spans] == [("read", "lost", True)]


def test_the_first_arrival_is_the_root_and_later_images_hang_from_it(ledger: Ledger) -> None:
    kept = Kept()
    tracer = LedgerTracer(ledger.database, kept)
    row = arrive(ledger, seen())
    tracer.arrived(row, T0 + 3)
    tracer.decided(row.id, Decision(verdict=Verdict.SKIP, route="brain", reason="x"), began=T0 + 3, ended=T0 + 3.5)
    make(ledger, row)
    more = arrive(ledger, seen(images=60), T0 + 100)
    tracer.arrived(more, T0 + 103)
    root, decision, later = kept.spans
    assert (root.name, root.parent_id, root.start, root.end) == ("study", None, T0, T0 + 3)
    assert (later.name, later.parent_id, later.start, later.end) == ("later images", root.span_id, T0 + 100, T0 + 103)
    assert (decision.name, decision.parent_id) == ("decide", root.span_id)
    assert dict(decision.attributes) == {"medai.verdict": "skip", "medai.route": "brain"}


def test_every_try_to_deliver_is_told_with_its_outcome(ledger: Ledger) -> None:
    kept, now = Kept(), [T0 + 10]
    answers: list[Exception | None] = [RisUnreachable("away"), None]

    def carry(_delivery: Any) -> str:
        now[0] += 2.0
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return "AA"

    desk = Desk("ris", carry, ledger.deliveries, give_up_s=3600.0, protocol="hl7", tracer=LedgerTracer(ledger.database, kept),
                clock=lambda: now[0])  # fmt: skip
    job_id, _ = make(ledger, arrive(ledger, seen()), T0)
    cases.store(ledger, claimed(ledger, job_id, T0))
    desk.work()
    now[0] += 60.0
    desk.work()
    told = [(s.name, s.attributes["medai.attempt"], s.attributes["medai.outcome"], s.failed) for s in kept.spans]
    assert told == [("deliver ris", 1, "retry", True), ("deliver ris", 2, "done", False)]
    assert [span.end - span.start for span in kept.spans] == [2.0, 2.0]
    assert {(s.attributes["medai.protocol"], s.attributes["medai.kind"]) for s in kept.spans} == {("hl7", "result")}


def test_each_destination_says_how_results_go_there() -> None:
    destinations = {"pacs2": {"modality": "PACS2"}, "ehr": {"fhir_url": "http://ehr.example/fhir"}}
    settings = Settings(destinations=destinations)
    got = {name: protocol_of(settings, name) for name in ("archive", "ris", "pacs2", "ehr")}
    assert got == {"archive": "rest", "ris": "hl7", "pacs2": "dicom", "ehr": "fhir"}


def test_ids_are_the_same_in_every_process_and_other_in_every_ledger() -> None:
    a, again, other, elsewhere = (Trace(key=k, study_id=n) for k, n in (("k", 1), ("k", 1), ("k", 2), ("l", 1)))
    assert (a.id, a.root, a.span_id("attempt", 7)) == (again.id, again.root, again.span_id("attempt", 7))
    assert len({a.id, other.id, elsewhere.id}) == 3
    assert 0 < a.id < 2**128
    assert 0 < a.root < 2**64
    code = "from medai.router.tracing.spans import Trace; t = Trace(key='k', study_id=1); print(t.id, t.root)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(a.id), str(a.root)]


def test_stages_of_an_attempt_that_came_later_are_left_to_it() -> None:
    stamps = {"fetched": 5.0, "prepared": 6.0, "inferred": 3.0}
    assert list(stages_within(stamps, 4.0, 9.0)) == [("fetch", 4.0, 5.0), ("prepare", 5.0, 6.0)]
    assert list(stages_within(stamps, 0.0, 4.0)) == []


def test_a_header_in_place_of_a_modality_is_not_told(ledger: Ledger) -> None:
    kept = Kept()
    row = replace(arrive(ledger, seen()), modality="DOE^JANE")
    LedgerTracer(ledger.database, kept).arrived(row, T0)
    assert kept.spans[0].attributes["medai.modality"] == "other"


# -- harmlessness


def test_a_ledger_that_is_away_costs_a_span_and_one_warning(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, study = Kept(), arrive(ledger, seen())
    tracer = LedgerTracer(ledger.database, kept)

    def away(**_kwargs: Any) -> Any:
        raise LedgerUnreachable("away")

    monkeypatch.setattr(ledger.database, "begin", away)
    with capture_logs() as logs:
        tracer.attempted("x", worker="w")
        tracer.arrived(study, T0)
    assert [entry["event"] for entry in logs] == ["span_not_made"]
    assert not kept.spans


def test_off_means_that_nothing_is_imported_and_nothing_is_read(ledger: Ledger) -> None:
    assert isinstance(open_tracer(TracingSettings(), ledger.database, process="router", instance="h"), NoTracer)
    code = "import sys, medai.router.daemon.service, medai.router.cli; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_missing_extra_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(tracing, "find_spec", lambda name: None if name.startswith("opentelemetry") else real(name))
    with pytest.raises(SettingsError, match=r"med-ai\[tracing\]"):
        open_tracer(TracingSettings(enabled=True), ledger.database, process="router", instance="h")


def test_a_base_address_is_completed() -> None:
    assert TracingSettings(endpoint="http://c:4318").url == "http://c:4318/v1/traces"
    assert TracingSettings(endpoint="http://c:4318/").url == "http://c:4318/v1/traces"
    assert TracingSettings(endpoint="http://c/otlp/v1/traces").url == "http://c/otlp/v1/traces"


# -- on the wire


def told(at: Collector, count: int) -> list[Seen]:
    until = time.monotonic() + 10.0
    while len(at.spans()) < count and time.monotonic() < until:
        time.sleep(0.02)
    return at.spans()


def test_the_collector_gets_exactly_these_spans(ledger: Ledger) -> None:
    with collector() as at:
        tracer = open_tracer(
            TracingSettings(enabled=True, endpoint=at.url), ledger.database, process="router", instance="host"
        )
        row = arrive(ledger, seen())
        tracer.arrived(row, T0 + 3)
        tracer.decided(row.id, Decision(verdict=Verdict.ROUTE, route="b", reason="x"), began=T0 + 3, ended=T0 + 3.25)
        tracer.close()
        assert tracer.counts() == {"sent": 2, "lost": 0}
    root, decision = at.spans()
    trace = Trace(key=ledger.log_key(), study_id=row.id)
    assert at.paths == ["/v1/traces"]
    assert root.trace == decision.trace == trace.id.to_bytes(16, "big")
    assert (root.id, root.parent) == (trace.root.to_bytes(8, "big"), b"")
    assert decision.parent == root.id
    assert (root.start_ns, root.end_ns) == (int(T0) * 10**9, int(T0 + 3) * 10**9)
    assert (decision.service, decision.attributes["medai.route"]) == ("medai-router", "b")


def test_router_and_worker_choose_the_same_studies(ledger: Ledger) -> None:
    rows = [arrive(ledger, seen(uid=f"1.2.{i}")) for i in range(40)]
    found = []
    for process in ("router", "worker"):
        with collector() as at:
            settings = TracingSettings(enabled=True, endpoint=at.url, ratio=0.5)
            tracer = open_tracer(settings, ledger.database, process=process, instance="h")
            for row in rows:
                tracer.decided(row.id, Decision(verdict=Verdict.ROUTE, reason=""), began=T0, ended=T0)
            tracer.close()
        found.append({span.trace for span in at.spans()})
    assert found[0] == found[1]
    assert 5 < len(found[0]) < 35


def test_a_collector_that_is_away_is_told_once_counted_and_holds_nothing_up(ledger: Ledger) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    row = arrive(ledger, seen())
    with capture_logs() as logs:
        settings = TracingSettings(enabled=True, endpoint=endpoint, timeout_s=0.2)
        tracer = open_tracer(settings, ledger.database, process="router", instance="h")
        began = time.monotonic()
        for _ in range(50):
            tracer.arrived(row, T0 + 1)
        took_s = time.monotonic() - began
        until = time.monotonic() + 8.0
        while not tracer.counts()["lost"] and time.monotonic() < until:
            time.sleep(0.05)
        tracer.arrived(row, T0 + 1)
        began = time.monotonic()
        tracer.close()
        closing_s = time.monotonic() - began
    assert took_s < 2.0
    assert closing_s < 5.0
    assert tracer.counts() == {"sent": 0, "lost": 51}
    assert [entry["event"] for entry in logs].count("collector_away") == 1


def test_a_collector_that_comes_back_gets_what_follows(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    with collector() as at, capture_logs() as logs:
        at.status = 400  # a refusal is not tried again
        tracer = open_tracer(
            TracingSettings(enabled=True, endpoint=at.url), ledger.database, process="router", instance="h"
        )
        tracer.arrived(row, T0 + 1)
        until = time.monotonic() + 8.0
        while not tracer.counts()["lost"] and time.monotonic() < until:
            time.sleep(0.05)
        at.status = 200
        tracer.arrived(row, T0 + 2)
        assert [span.name for span in told(at, 1)] == ["study"]
        tracer.close()
    assert tracer.counts() == {"sent": 1, "lost": 1}
    assert [e["event"] for e in logs if e["event"].startswith("collector")] == ["collector_away", "collector_is_back"]


def test_an_attempt_whose_clock_runs_behind_the_routers_has_no_wait_below_zero(ledger: Ledger) -> None:
    kept = Kept()
    job_id, _ = make(ledger, arrive(ledger, seen()), T0)
    ledger.jobs.mark_sent({job_id: T0 + 5})
    claim = claimed(ledger, job_id, T0 + 4)
    cases.store(ledger, claim, T0 + 6)
    LedgerTracer(ledger.database, kept).attempted(job_id, worker="w1")
    assert all(span.end >= span.start for span in kept.spans)
