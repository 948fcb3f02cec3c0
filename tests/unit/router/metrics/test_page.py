"""The page for Prometheus: true after a restart, counted once, and without a word about a patient."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3
from edit_rows import brain, compared, read
from ledger_cases import T0, acknowledge, arrive, make, seen, store
from prometheus_client.parser import text_string_to_metric_families

from medai.router.contract import Failure, JobState
from medai.router.errors import TemporaryError
from medai.router.ledger import Ledger
from medai.router.ledger.audit_lines import AuditFigure
from medai.router.metrics.collector import OUTCOMES, Parts
from medai.router.metrics.page import MetricsServer
from medai.router.settings.tables import MetricsSettings, ObjectivesSettings


@dataclass
class World:
    """A ledger, a metrics server on it and what the router's loop says."""

    ledger: Ledger
    now: float = T0
    orthanc_up: bool = True
    leads: bool = True
    heartbeat: float = T0
    server: MetricsServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = MetricsServer(
            MetricsSettings(port=0), self.ledger, heartbeat=lambda: self.heartbeat, version="1.2.3",
            parts=Parts(
                orthanc_up=lambda: self.orthanc_up, broker_up=lambda: True, leads=lambda: self.leads,
                hl7=lambda: {"taken": 7, "ignored": 2}, turned_away=lambda: {("orders", "peer"): 4},
                pruned=lambda: {"orders": 5},
                audit=lambda: {"audit-syslog": AuditFigure(waiting=3, oldest_at=self.now - 60, failures=2)},
            ),
            routes=["brain"], objectives=ObjectivesSettings(routine_s=10.0), clock=lambda: self.now,
        )  # fmt: skip

    def get(self, path: str) -> tuple[int, str]:
        answer = urllib3.request("GET", f"http://127.0.0.1:{self.server.port}{path}", timeout=5.0)
        return answer.status, answer.data.decode()

    def values(self) -> dict[tuple[str, ...], float]:
        """(name, label values in the order of their names …) -> value, of one scrape."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def slow(self, uid: str, at: float) -> None:
        """A reading that the RIS acknowledges after twelve seconds."""
        job_id, _ = make(self.ledger, arrive(self.ledger, seen(uid=uid), at=at), at=at)
        claim = self.ledger.claims.take(job_id, worker="w1", lease_s=20, now=at + 1)
        assert claim is not None
        store(self.ledger, claim, at=at + 2)
        acknowledge(self.ledger, claim, at + 12)

    def reading(self, uid: str, at: float, state: JobState = JobState.DONE, *, modality: str = "MR") -> None:
        job_id, _ = make(self.ledger, arrive(self.ledger, seen(uid=uid), at=at), at=at, modality=modality)
        claim = self.ledger.claims.take(job_id, worker="w1", lease_s=20, now=at + 1)
        assert claim is not None
        if state is JobState.DONE:
            store(self.ledger, claim, at=at + 2)
            acknowledge(self.ledger, claim, at + 3)
        else:
            self.ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "", at + 3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    world = World(ledger)
    world.server.start()
    yield world
    world.server.stop()
    ledger.close()


def test_readings_are_counted_by_model_and_verdict(world: World) -> None:
    world.reading("1.1", T0)
    world.reading("1.2", T0)
    world.reading("1.3", T0, state=JobState.FAILED)
    values = world.values()
    assert values["medai_verdicts_total", "mr_brain", "plausible"] == 2
    assert ("medai_verdicts_total", "mr_brain", "refused") not in values


def test_gauges_say_what_the_ledger_holds_now(world: World) -> None:
    make(world.ledger, arrive(world.ledger, seen(uid="1.1")), at=T0 - 30)
    world.ledger.fleet.worker_seen("w1", queues=["cpu"], device="cpu", started_at=T0, job_id=None, now=T0)
    values = world.values()
    assert values["medai_build_info", "1.2.3"] == 1
    assert values["medai_orthanc_up",] == values["medai_ledger_up",] == values["medai_workers_alive",] == 1
    assert values["medai_queue_depth", "routine", "cpu"] == 1
    assert values["medai_queue_oldest_seconds", "routine", "cpu"] == 30
    assert (values["medai_jobs", "pending"], values["medai_jobs", "done"]) == (1, 0)
    assert values["medai_studies",] == values["medai_studies_arriving",] == 1


def test_a_reading_is_observed_once_however_often_the_page_is_read(world: World) -> None:
    world.reading("1.1", T0)
    world.reading("1.2", T0)
    for _ in range(2):
        values = world.values()
    assert values["medai_turnaround_seconds_count", "MR", "routine", "brain"] == 2
    assert values["medai_turnaround_seconds_sum", "MR", "routine", "brain"] == 6.0
    assert values["medai_stage_seconds_count", "MR", "routine", "brain", "deliver"] == 2
    world.reading("1.3", T0)
    world.reading("1.4", T0 + 50)
    assert world.values()["medai_turnaround_seconds_count", "MR", "routine", "brain"] == 4


def test_what_failed_or_ended_before_the_router_started_is_not_observed(world: World) -> None:
    world.reading("1.1", T0, JobState.FAILED)
    world.reading("1.2", T0 - 600)
    assert not [key for key in world.values() if key[0] == "medai_turnaround_seconds_count"]


def test_readings_are_counted_against_the_objective_of_their_priority(world: World) -> None:
    world.reading("1.1", T0)
    assert world.values()["medai_readings_total", "late", "stat", "brain"] == 0, "before there is any"
    world.slow("1.2", T0)
    world.reading("1.3", T0, JobState.FAILED)
    values = world.values()
    counted = {outcome: values["medai_readings_total", outcome, "routine", "brain"] for outcome in OUTCOMES}
    assert counted == {"in_time": 1, "late": 1, "failed": 0, "images": 1}
    assert values["medai_objective_seconds", "routine"] == 10.0
    assert values["medai_objective_ratio",] == 0.95


def test_readings_that_are_not_over_count_as_overdue_once_their_objective_has_passed(world: World) -> None:
    make(world.ledger, arrive(world.ledger, seen(uid="1.1"), at=T0), at=T0)
    make(world.ledger, arrive(world.ledger, seen(uid="1.2"), at=T0 + 8), at=T0 + 8)
    assert world.values()["medai_overdue", "routine"] == 0
    world.now = T0 + 11
    values = world.values()
    assert (values["medai_overdue", "routine"], values["medai_overdue", "stat"]) == (1, 0)


def test_a_router_that_stands_by_counts_nothing_that_the_leader_counts(world: World) -> None:
    world.leads = False
    world.reading("1.1", T0)
    standing_by = world.values()
    assert (standing_by["medai_leads",], standing_by["medai_ledger_up",]) == (0, 1)
    assert not {"medai_jobs", "medai_queue_depth", "medai_orthanc_up"} & {key[0] for key in standing_by}
    assert not any(value for key, value in standing_by.items() if key[0] == "medai_readings_total")
    world.leads = True
    world.reading("1.2", T0 + 1)
    assert world.values()["medai_turnaround_seconds_count", "MR", "routine", "brain"] == 1


def test_a_modality_that_no_scanner_sends_is_no_label(world: World) -> None:
    world.reading("1.1", T0, modality="X' OR 1")
    assert world.values()["medai_turnaround_seconds_count", "other", "routine", "brain"] == 1


def test_workers_say_what_they_use_and_dead_ones_are_not_shown(world: World) -> None:
    load = {"memory_bytes": 5e8, "cores_used": 1.5, "gpu_memory_used_bytes": 2e9, "unknown": 1.0}
    for name, at in (("w1", T0), ("w2", T0 - 60)):
        world.ledger.fleet.worker_seen(
            name, queues=["gpu", "cpu"], device="GPU", started_at=T0, job_id="j", now=at, load=load
        )
    values = world.values()
    assert values["medai_worker_memory_bytes", "w1"] == 5e8
    assert values["medai_worker_gpu_memory_used_bytes", "w1"] == 2e9
    assert ("medai_worker_memory_bytes", "w2") not in values
    assert values["medai_workers_busy",] == 1
    assert values["medai_queue_depth", "stat", "gpu"] == 0, "an empty queue says so"


def test_attempts_and_deliveries_are_counted_by_their_ends(world: World) -> None:
    world.reading("1.1", T0)
    values = world.values()
    assert (values["medai_attempts_total", "read"], values["medai_attempts_total", "lost"]) == (1, 0)
    assert values["medai_deliveries", "ris", "done"] == 1
    assert values["medai_ledger_disk_free_bytes",] > 0


def test_no_metric_names_a_study_or_a_job(world: World) -> None:
    world.reading("1.2.840.99999", T0)
    _, text = world.get("/metrics")
    assert "99999" not in text
    assert "job_id" not in text


def test_a_ledger_that_is_away_shows_and_the_page_still_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise TemporaryError("the ledger does not answer")

    monkeypatch.setattr("medai.router.metrics.collector.status", away)
    monkeypatch.setattr("medai.router.metrics.collector.finished_stamps", away)
    values = world.values()
    assert values["medai_ledger_up",] == 0
    assert ("medai_studies",) not in values


Change = Callable[[World], None]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda w: None, 200),
        (lambda w: setattr(w, "orthanc_up", False), 503),
        (lambda w: setattr(w, "now", T0 + 31), 503),
    ],
)
def test_ready_means_that_the_loop_turns_and_orthanc_answers(world: World, change: Change, status: int) -> None:
    change(world)
    assert world.get("/ready")[0] == status
    assert world.get("/health") == (200, "ok\n"), "the process lives all the same"


def test_another_path_says_where_to_look(world: World) -> None:
    status, text = world.get("/")
    assert status == 404
    assert "/metrics" in text


def test_what_readers_made_of_our_results_is_counted(world: World) -> None:
    compared(world.ledger, read(world.ledger), [brain(0.93)])
    values = world.values()
    assert values["medai_edits", "seg", "mr_brain", "compared"] == 1
    assert values["medai_readings_edited", "mr_brain"] == 1
    assert values["medai_edit_dice_bucket", "0.9", "mr_brain", "Brain"] == 0
    assert values["medai_edit_dice_bucket", "0.95", "mr_brain", "Brain"] == 1
    assert values["medai_edit_dice_count", "mr_brain", "Brain"] == 1
    assert values["medai_edit_dice_sum", "mr_brain", "Brain"] == pytest.approx(0.93)


def test_messages_of_the_listener_are_counted_by_what_became_of_them(world: World) -> None:
    values = world.values()
    assert [values["medai_hl7_messages_total", each] for each in ("taken", "ignored", "refused")] == [7, 2, 0]
    assert values["medai_turned_away_total", "orders", "peer"] == 4
    assert values["medai_turned_away_total", "announcements", "limit"] == 0


def test_what_went_because_it_was_old_is_counted(world: World) -> None:
    values = world.values()
    assert [values["medai_pruned_total", each] for each in ("orders", "audit")] == [5, 0]


def test_how_far_behind_a_receiver_of_the_audit_trail_is_is_told(world: World) -> None:
    values = world.values()
    names = ("medai_audit_waiting", "medai_audit_oldest_seconds", "medai_audit_send_failures_total")
    assert [values[name, "audit-syslog"] for name in names] == [3, 60, 2]


def test_connections_that_say_nothing_hold_up_no_scrape_and_no_health(world: World) -> None:
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", world.server.port)))
        for path in ("/health", "/ready", "/metrics"):
            began = time.monotonic()
            assert world.get(path)[0] in (200, 503)
            assert time.monotonic() - began < 1.0, path
