"""A workitem is claimed once, read by its route, and reported on, wherever the router or the worklist stops between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ledger_cases import T0, arrive, keep, make, seen, store
from pydicom import Dataset
from sqlalchemy import select
from structlog.testing import capture_logs
from ups_server import Fault, Item, UpsServer, ups_server

from medai.router.contract import Decision, Failure, Verdict
from medai.router.errors import MedaiError, WorklistUnreachable
from medai.router.ledger import Claim, Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.workitems import State
from medai.router.log import Pseudonyms
from medai.router.routing.rules import ASKED_FOR
from medai.router.settings.tables import Settings
from medai.router.workitems import performer as under_test
from medai.router.workitems.performer import WorkitemPerformer

STUDY, UID = "1.2.3", "1.5.1"
ROUTES = [{"name": "brain", "model": "mr_brain"}, {"name": "lungs", "model": "ct_lung"}]


class World:
    """A router's workitems between a ledger and a worklist, with a clock that stands still."""

    def __init__(self, ledger: Ledger, there: UpsServer) -> None:
        self.ledger, self.there, self.now = ledger, there, T0 + 10

    def round(self, **own: Any) -> WorkitemPerformer:
        """One round of a router that has just started."""
        table = {"url": self.there.url, "routes": {"LUNGS^99HOSPITAL": "brain"}, **own}
        settings = Settings(routes=ROUTES, workitems=table)
        made = WorkitemPerformer(settings, self.ledger.workitems, self, Pseudonyms("key"), clock=lambda: self.now)
        made.round()
        return made

    def system(self) -> dict[str, Any]:
        return {"DicomAet": "ARCHIVE"}

    def here(self, **study: Any) -> None:
        """The study is in the archive, and was decided on: no rule chose it."""
        row = arrive(self.ledger, seen(uid=STUDY, **study))
        self.ledger.studies.set_complete(row.id, T0 + 1)
        self.ledger.studies.set_due(row.id, None)

    def due(self) -> float | None:
        row = self.ledger.studies.find(f"o-{STUDY}")
        assert row is not None
        return row.due_at

    def decided(self, *, reason: str = "", **job: Any) -> str:
        """What the decider does when the study is due: a job, or the reason why there is none."""
        row = self.ledger.studies.find(f"o-{STUDY}")
        assert row is not None
        made = ""
        if reason:
            skip = Decision(verdict=Verdict.SKIP, route="brain", reason=reason)
            self.ledger.studies.record(row.id, [skip], self.now, outcome=reason)
        else:
            made = make(self.ledger, row, self.now, **job)[0]
        self.ledger.studies.set_due(row.id, None)
        return made

    def taken(self) -> Claim:
        """A worker takes the job."""
        (job,) = self.ledger.jobs.unsent(self.now, resend_before=self.now)
        claim = self.ledger.claims.take(job.id, worker="w", lease_s=60.0, now=self.now)
        assert claim is not None
        return claim

    def state(self, uid: str = UID) -> str:
        with self.ledger.begin(reads_only=True) as db:
            return str(db.execute(select(t.workitems.c.state).where(t.workitems.c.uid == uid)).scalar())


@pytest.fixture
def there() -> Iterator[UpsServer]:
    with ups_server() as server:
        yield server
    assert server.malformed == []


@pytest.fixture
def world(ledger: Ledger, there: UpsServer) -> World:
    return World(ledger, there)


def changes(there: UpsServer) -> list[str]:
    """The states that were asked for, accepted or not."""
    return [Dataset.from_json(_one(body)).ProcedureStepState for method, _, body in there.seen if method == "PUT"]


def _one(body: bytes) -> dict[str, Any]:
    (told,) = json.loads(body)
    return dict(told)


def performed(item: Item) -> Dataset:
    (done,) = item.said.UnifiedProcedureStepPerformedProcedureSequence
    return done


def canceled(item: Item) -> str:
    (step,) = item.said.ProcedureStepProgressInformationSequence
    return str(step.ReasonForCancellation)


# -- from scheduled to completed


def test_a_workitem_whose_study_is_here_is_claimed_read_and_completed_with_its_objects(
    world: World, there: UpsServer
) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    assert (item.state, item.progress, world.state()) == ("IN PROGRESS", [0.0], "claimed")
    assert world.due() == world.now  # the decider looks at it
    assert world.ledger.workitems.routes_asked(1) == {"brain"}
    world.decided()
    world.round()
    assert item.state == "IN PROGRESS"
    store(world.ledger, world.taken(), world.now + 5)
    world.now += 60
    world.round()
    assert (item.states, world.state()) == (["SCHEDULED", "IN PROGRESS", "COMPLETED"], "completed")
    (output,) = performed(item).OutputInformationSequence
    assert (output.StudyInstanceUID, output.SeriesInstanceUID) == (STUDY, "9")
    assert output.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "9.1"
    assert output.ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert output.DICOMRetrievalSequence[0].RetrieveAETitle == "ARCHIVE"
    assert performed(item).PerformedWorkitemCodeSequence[0].CodeValue == "LUNGS"
    assert performed(item).PerformedStationNameCodeSequence[0].CodeValue == "MEDAI"
    begin, end = performed(item).PerformedProcedureStepStartDateTime, performed(item).PerformedProcedureStepEndDateTime
    assert (begin, end) == ("20270115080010.000000+0000", "20270115080015.000000+0000")


def test_what_was_read_before_the_workitem_came_is_reported_at_once(world: World, there: UpsServer) -> None:
    world.here()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    item = there.schedule(UID, STUDY)
    for _ in range(2):
        world.round()
    assert item.state == "COMPLETED"
    assert len(performed(item).OutputInformationSequence) == 1


def test_a_result_counts_from_when_the_archive_has_it(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.decided()
    claim = world.taken()
    keep(world.ledger, claim, world.now)
    world.round()
    assert item.state == "IN PROGRESS"
    world.ledger.claims.hand_over(claim.job.job_id, claim.token, world.now, archived=True)
    world.round()  # the RIS has not acknowledged
    assert item.state == "COMPLETED"


def test_images_that_came_since_are_read_before_anything_is_reported(world: World, there: UpsServer) -> None:
    world.here()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    item = there.schedule(UID, STUDY)
    arrive(world.ledger, seen(uid=STUDY, images=60), world.now)
    for _ in range(3):
        world.round()
    assert item.state == "IN PROGRESS"


# -- which are ours


@pytest.mark.parametrize(
    ("own", "ours"),
    [
        ({}, True),
        ({"performer": "MEDAI"}, True),
        ({"performer": "OTHER"}, False),
        ({"routes": {"LUNGS^99OTHER": "brain"}}, False),
        ({"routes": {"MEDAI^99HOSPITAL": "brain"}}, True),
        ({"routes": {}}, False),
    ],
)
def test_a_workitem_is_ours_by_its_station_and_by_a_code_that_names_a_route(
    world: World, there: UpsServer, own: dict[str, Any], ours: bool
) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round(**own)
    assert (item.state == "IN PROGRESS") is ours
    assert (world.ledger.workitems.routes_asked(1) == {"brain"}) is ours


@pytest.mark.parametrize("readiness", ["UNREADY", "INCOMPLETE"])
def test_a_workitem_that_is_not_ready_is_left(world: World, there: UpsServer, readiness: str) -> None:
    item = there.schedule(UID, STUDY, readiness=readiness)
    world.here()
    world.round()
    assert (item.state, world.state()) == ("SCHEDULED", "None")


def test_a_search_that_leaves_the_study_out_is_made_good_by_the_workitem_itself(world: World, there: UpsServer) -> None:
    there.short_search = True
    item = there.schedule(UID, STUDY)
    nothing = there.schedule("1.5.2", "")
    world.here()
    world.round()
    assert (item.state, nothing.state) == ("IN PROGRESS", "SCHEDULED")


def test_a_workitem_without_a_station_is_reported_on_under_our_name(world: World, there: UpsServer) -> None:
    world.here()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    item = there.schedule(UID, STUDY, station=None)
    for _ in range(2):
        world.round()
    assert item.state == "COMPLETED"
    (station,) = performed(item).PerformedStationNameCodeSequence
    assert (station.CodeValue, station.CodingSchemeDesignator) == ("MEDAI", "99MEDAI")


# -- what others claim


def test_what_somebody_else_claims_first_is_left_and_not_read(world: World, there: UpsServer) -> None:
    there.schedule(UID, STUDY)
    world.here()
    there.fault(409, method="PUT")
    world.round()
    assert (world.state(), world.due(), changes(there)) == ("waiting", None, ["IN PROGRESS"])
    assert world.ledger.workitems.routes_asked(1) == frozenset()
    world.round()
    assert changes(there) == ["IN PROGRESS"]  # not at once again
    world.now += under_test.LEFT_ALONE_S + 1
    world.round()
    assert world.state() == "claimed"


def test_a_lock_that_is_not_ours_is_no_claim_even_after_a_claim_whose_answer_was_lost(
    world: World, there: UpsServer
) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    there.fault(503, method="PUT")
    with pytest.raises(WorklistUnreachable):
        world.round()
    item.said.ProcedureStepState, item.lock = "IN PROGRESS", "2.25.99"
    world.now += 60
    world.round()
    assert (world.state(), item.lock, item.progress) == ("waiting", "2.25.99", [])


# -- a router, or a worklist, that stops


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_claim_whose_answer_is_lost_is_taken_up_and_made_once(world: World, there: UpsServer, method: str) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    there.fault(0, method=method, after=True)
    with pytest.raises(WorklistUnreachable):
        world.round()
    assert (item.state, world.state()) == ("IN PROGRESS", "claiming")
    lock = item.lock
    world.now += 60
    world.round()
    assert (item.lock, world.state(), item.states) == (lock, "claimed", ["SCHEDULED", "IN PROGRESS"])


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("after", [True, False])
def test_an_end_whose_answer_is_lost_is_told_again_and_counts_once(
    world: World, there: UpsServer, method: str, after: bool
) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    there.fault(0 if after else 500, method=method, after=after)
    with pytest.raises(WorklistUnreachable):
        world.round()
    assert world.state() == "ending"
    world.now += 60
    world.round()
    assert (world.state(), item.states) == ("completed", ["SCHEDULED", "IN PROGRESS", "COMPLETED"])
    told = len(there.seen)
    world.now += 60
    world.round()
    assert [method for method, _, _ in there.seen[told:]] == ["GET"]  # the search alone


def test_every_place_to_stop_at_ends_in_one_claim_and_one_end(world: World, there: UpsServer) -> None:
    """Each request in turn fails before or after it is done; the rounds that follow make it good."""
    ends = []
    for after in (False, True):
        for stop_at in range(8):
            uid, study = f"1.5.{int(after)}.{stop_at}", f"1.7.{int(after)}.{stop_at}"
            item = there.schedule(uid, study)
            row = arrive(world.ledger, seen(uid=study))
            world.ledger.studies.set_complete(row.id, T0)
            make(world.ledger, row, world.now)
            world.ledger.studies.set_due(row.id, None)
            store(world.ledger, world.taken(), world.now)
            asked = {"n": 0}
            there.fault_for = _failing(asked, stop_at, after=after)
            for _ in range(6):
                world.now += 700
                try:
                    world.round()
                except MedaiError:
                    continue
            ends.append((item.states, world.state(uid)))
    assert ends == [(["SCHEDULED", "IN PROGRESS", "COMPLETED"], "completed")] * 16


def _failing(asked: dict[str, int], stop_at: int, *, after: bool) -> Any:
    def fault_for(_method: str, *, after: bool, _when: bool = after) -> Fault | None:
        if after is not _when:
            return None
        asked["n"] += 1
        return Fault(0 if after else 503) if asked["n"] - 1 == stop_at else None

    return fault_for


def test_one_workitem_that_the_worklist_breaks_on_holds_up_no_other(world: World, there: UpsServer) -> None:
    there.schedule(UID, STUDY)
    world.here()
    there.fault(500, method="PUT", times=1)
    with pytest.raises(WorklistUnreachable):
        world.round()
    other = there.schedule("1.5.2", STUDY)
    world.round()
    assert (other.state, world.state()) == ("IN PROGRESS", "claiming")


def test_a_workitem_that_is_not_ours_any_more_is_given_up(world: World, there: UpsServer) -> None:
    items = {"1.5.1": "CANCELED", "1.5.2": ""}
    made = {uid: there.schedule(uid, STUDY) for uid in items}
    world.here()
    world.round()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    made["1.5.1"].said.ProcedureStepState = "CANCELED"
    del there.items["1.5.2"]
    world.round()
    assert {world.state(uid) for uid in items} == {"lost"}


def test_an_end_that_the_worklist_will_not_have_is_tried_ever_more_seldom_and_then_given_up(
    world: World, there: UpsServer
) -> None:
    there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.decided()
    store(world.ledger, world.taken(), world.now)
    there.fault(409, method="POST", times=1000)
    asked = []
    for _ in range(200):
        world.now += 600
        before = len(there.seen)
        world.round(give_up_h=12.0)
        asked.append(any(method == "POST" for method, _, _ in there.seen[before:]))
    assert world.state() == "lost"
    assert 10 < sum(asked) < 100


# -- no result


def test_a_study_that_does_not_come_is_waited_for_and_then_canceled_with_the_reason(
    world: World, there: UpsServer
) -> None:
    item = there.schedule(UID, STUDY)
    world.round(give_up_h=1.0)
    world.now += 3599
    world.round(give_up_h=1.0)
    assert (item.state, world.state()) == ("SCHEDULED", "waiting")
    world.now += 2
    for _ in range(2):
        world.round(give_up_h=1.0)
    assert (item.states, world.state()) == (["SCHEDULED", "IN PROGRESS", "CANCELED"], "canceled")
    assert canceled(item) == "the study did not come within 1 h"
    assert world.ledger.workitems.routes_asked(1) == frozenset()


def test_a_reading_that_fails_cancels_with_its_reason(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.decided()
    claim = world.taken()
    world.ledger.claims.fail(claim.job.job_id, claim.token, Failure.IMAGES, "the series has a gap", world.now)
    world.round()
    assert (item.state, canceled(item)) == ("CANCELED", "the series has a gap")
    assert len(performed(item).OutputInformationSequence) == 0


def test_a_reading_that_a_person_cancels_cancels_the_workitem(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    job = world.decided()
    world.ledger.actions.cancel(job, "not wanted", world.now, by="root")
    world.round()
    assert (item.state, canceled(item)) == ("CANCELED", "cancelled by a person: not wanted")


def test_a_route_that_finds_nothing_to_read_says_so(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.now += 5
    world.decided(reason=f"{ASKED_FOR}; no series qualifies: series 1: modality MR, CT wanted")
    world.round()
    assert canceled(item) == "nothing to read: no series qualifies: series 1: modality MR, CT wanted"


def test_what_was_decided_before_the_workitem_asked_does_not_end_it(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.now += 5
    world.decided(reason='study.Modality == "CT" is false')  # begun before the claim, ended after it
    world.ledger.studies.set_due(1, world.now)
    world.round()
    assert item.state == "IN PROGRESS"
    world.decided()
    store(world.ledger, world.taken(), world.now)
    world.round()
    assert item.state == "COMPLETED"


def test_another_patients_study_that_comes_under_the_same_uid_is_not_the_workitems(
    world: World, there: UpsServer
) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    other = arrive(world.ledger, replace(seen(uid=STUDY), orthanc_id="o-other", series=()))
    assert world.ledger.workitems.routes_asked(other.id) == frozenset()
    make(world.ledger, other, world.now, sources="others")
    store(world.ledger, world.taken(), world.now)
    world.round()
    assert item.state == "IN PROGRESS"


def test_a_reading_that_never_begins_is_given_up(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.now += 3601
    world.round(give_up_h=1.0)  # the study is still due: its model is not there
    assert (item.state, canceled(item)) == ("CANCELED", "no reading began within 1 h")


def test_a_study_that_is_deleted_under_way_cancels(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    world.round()
    world.ledger.removals.study_removed(f"o-{STUDY}", world.now, within_s=0.0, withdrawn={})
    world.round()
    assert (item.state, canceled(item)) == ("CANCELED", "the study was deleted from the archive")


def test_a_uid_that_two_patients_share_is_not_read_for_either(world: World, there: UpsServer) -> None:
    item = there.schedule(UID, STUDY)
    world.here()
    arrive(world.ledger, replace(seen(uid=STUDY), orthanc_id="o-other", series=()))
    world.round(give_up_h=1.0)
    assert item.state == "SCHEDULED"
    world.now += 3601
    for _ in range(2):
        world.round(give_up_h=1.0)
    assert canceled(item) == "several patients' studies in the archive have its UID"


# -- beside


def test_no_identifier_is_logged(world: World, there: UpsServer) -> None:
    there.schedule(UID, STUDY)
    world.here()
    with capture_logs() as logs:
        world.round()
        world.decided()
        store(world.ledger, world.taken(), world.now)
        world.round()
    assert [entry["event"] for entry in logs if entry["event"].startswith("workitem")] == [
        "workitem_claimed", "workitem_ended",
    ]  # fmt: skip
    text = repr(logs)
    assert not any(secret in text for secret in (UID, STUDY, "Planted", "PLANTED"))


def test_what_ended_long_ago_is_forgotten(world: World, there: UpsServer) -> None:
    there.schedule(UID, STUDY)
    world.round(give_up_h=1.0)
    world.now += 3601
    for _ in range(2):
        world.round(give_up_h=1.0)
    assert world.state() == State.CANCELED
    world.now += under_test.KEEP_S + 7200
    world.round(give_up_h=1.0)
    assert world.state() == "None"


def test_the_thread_goes_on_when_a_worklist_is_away_and_tells_it_once(
    ledger: Ledger, there: UpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "back_off_s", lambda tries: 0.01)
    world = World(ledger, there)
    world.here()
    there.fault(503, times=3)
    item = there.schedule(UID, STUDY)
    table = {"url": there.url, "routes": {"LUNGS^99HOSPITAL": "brain"}, "poll_s": 0.01}
    settings = Settings(routes=ROUTES, workitems=table)
    with capture_logs() as logs:
        performer = WorkitemPerformer(settings, ledger.workitems, world, Pseudonyms("key"))
        performer.start()
        for _ in range(1000):
            if item.state == "IN PROGRESS":
                break
            performer._stop.wait(0.01)
        performer.stop()
    assert item.state == "IN PROGRESS"
    assert sum(entry["event"] == "worklist_away" for entry in logs) == 1
