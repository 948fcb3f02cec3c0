"""Every line reaches every receiver at least once and in order, whatever is away, and holds up nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from audit_cases import T0
from ledger_cases import arrive, seen
from servers import wait_for
from structlog.testing import capture_logs

from medai.router.audit.events import AuditedEvent
from medai.router.audit.exporter import AT_ONCE, AuditExporter, Figures, Line, receivers_of
from medai.router.audit.whose import Whose
from medai.router.errors import AuditReceiverAway, OrthancRefused, OrthancUnreachable
from medai.router.ledger import Ledger
from medai.router.settings.audit import AuditSettings


class Archive:
    """An archive that knows one patient, or is away."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None

    def study(self, orthanc_study: str) -> dict[str, Any]:
        self.asked += 1
        if self.fault:
            raise self.fault
        return {"PatientMainDicomTags": {"PatientID": "4711", "PatientName": "Doe^Jane"}}


class Memory:
    """A receiver that keeps what it gets, and fails as it is told: before it took anything, or after."""

    def __init__(self, name: str = "audit-memory") -> None:
        self.name = name
        self.got: list[AuditedEvent] = []
        self.faults: list[str] = []

    def send(self, audited: Sequence[AuditedEvent]) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "away":
            self.got += audited
        if fault:
            raise AuditReceiverAway("the receiver does not answer")

    @property
    def numbers(self) -> list[int]:
        return [each.line.id for each in self.got]


class World:
    """One way to a receiver."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.archive, self.receiver, self.figures = ledger, Archive(), Memory(), Figures()
        self.now = T0
        self.way = self.new_way()

    def new_way(self) -> Line:
        """As a router that has just started has it."""
        whose = Whose(self.ledger.audit, self.archive)
        return Line(
            self.receiver, self.ledger.audit, self.ledger.deliveries, whose, self.figures, clock=lambda: self.now
        )

    def write(self, count: int, **own: Any) -> None:
        for number in range(count):
            self.ledger.accounts.note_action("ana", "study", T0 + number, **own)


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger)


def test_each_line_goes_once_in_order_and_a_new_router_goes_on_where_the_last_one_stopped(world: World) -> None:
    world.write(3)
    assert world.way.work() == 0.0
    world.write(2)
    world.way = world.new_way()
    world.way.work()
    world.way.work()
    assert world.receiver.numbers == [1, 2, 3, 4, 5]


def test_more_than_a_page_goes_page_by_page_without_a_pause(world: World) -> None:
    world.write(230)
    assert [world.way.work() for _ in range(3)] == [AT_ONCE, AT_ONCE, 0.0]
    assert world.receiver.numbers == list(range(1, 231))


def test_what_a_receiver_did_not_take_for_sure_goes_again(world: World) -> None:
    world.write(2)
    world.receiver.faults = ["away", "took it, and died before it said so"]
    waits = [world.way.work() for _ in range(3)]
    assert waits == [2.0, 4.0, 0.0]
    assert world.receiver.numbers == [1, 2, 1, 2], "twice rather than never"
    assert world.figures.told()["audit-memory"].failures == 2


def test_a_receiver_that_is_away_is_said_once_shown_and_measured_until_it_is_back(world: World) -> None:
    world.write(2)
    world.receiver.faults = ["away"] * 8
    with capture_logs() as logs:
        waits = [world.way.work() for _ in range(8)]
        gate = world.ledger.deliveries.gate("audit-memory")
        assert gate is not None
        assert gate.open
        assert "does not answer" in gate.reason
        figure = world.figures.told()["audit-memory"]
        assert (figure.waiting, figure.oldest_at) == (2, T0)
        world.way.work()
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert [each["event"] for each in logs if "receiver" in each["event"]] == [
        "audit_receiver_away",
        "audit_receiver_is_back",
    ]
    after = world.ledger.deliveries.gate("audit-memory")
    assert after is not None
    assert not after.open
    assert world.figures.told()["audit-memory"].waiting == 0


def test_a_router_that_takes_over_from_one_that_saw_trouble_says_when_it_is_over(world: World) -> None:
    world.write(1)
    world.receiver.faults = ["away"]
    world.way.work()
    world.way = world.new_way()
    world.way.forget_trouble()
    world.way.work()
    gate = world.ledger.deliveries.gate("audit-memory")
    assert gate is not None
    assert not gate.open


def test_whose_study_it_is_is_asked_of_the_archive_once_and_told(world: World) -> None:
    study = arrive(world.ledger, seen())
    world.write(5, study_id=study.id)
    world.way.work()
    assert [each.subject.identifier for each in world.receiver.got] == ["4711"] * 5
    assert {each.line.study_uid for each in world.receiver.got} == {"1.2.3"}
    assert world.archive.asked == 1


@pytest.mark.parametrize("fault", [OrthancUnreachable("away"), OrthancRefused("gone", status=404)])
def test_an_archive_that_cannot_say_holds_no_line_back(world: World, fault: Exception) -> None:
    study, other = arrive(world.ledger, seen()), arrive(world.ledger, seen(uid="1.2.4"))
    world.archive.fault = fault
    world.write(3, study_id=study.id)
    world.write(3, study_id=other.id)
    world.way.work()
    assert [each.subject.identifier for each in world.receiver.got] == [""] * 6
    assert {each.line.study_uid for each in world.receiver.got} == {"1.2.3", "1.2.4"}
    assert world.archive.asked == (1 if isinstance(fault, OrthancUnreachable) else 6)


def test_no_log_line_names_a_patient(world: World) -> None:
    study = arrive(world.ledger, seen(uid="1.2.840.99.1"))
    world.write(1, study_id=study.id, detail="Doe^Jane 4711")
    world.receiver.faults = ["away"]
    with capture_logs() as logs:
        world.way.work()
        world.way.work()
    assert not any(word in repr(logs) for word in ("4711", "Doe", "1.2.840.99.1", "A1.2.840"))


def test_one_receiver_that_hangs_holds_up_neither_the_other_nor_the_end(ledger: Ledger) -> None:
    settings = AuditSettings(poll_s=0.01)
    exporter = AuditExporter(settings, ledger.audit, ledger.deliveries, Archive())
    good, stuck = Memory("audit-good"), Memory("audit-stuck")
    stuck.faults = ["away"] * 1000
    shared = Figures()
    exporter.ways[:] = [
        Line(each, ledger.audit, ledger.deliveries, Whose(ledger.audit, Archive()), shared) for each in (good, stuck)
    ]
    for number in range(5):
        ledger.accounts.note_action("ana", "study", T0 + number)
    exporter.start()
    wait_for(lambda: len(good.got) == 5, what="the lines")
    began = time.monotonic()
    exporter.stop()
    assert time.monotonic() - began < 1.0
    assert stuck.got == []


def test_nothing_is_sent_where_nobody_is_named() -> None:
    assert receivers_of(AuditSettings()) == ()
    both = AuditSettings.model_validate({"syslog": {"host": "a"}, "fhir": {"fhir_url": "https://b/fhir"}})
    assert [each.name for each in receivers_of(both)] == ["audit-syslog", "audit-fhir"]
