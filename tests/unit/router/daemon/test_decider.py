"""Deciding about one study: when to look again, which jobs follow, and what is told of a study that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import T0, arrive, seen
from structlog.testing import capture_logs

from medai.router.announcements.read import Series, StepBegun, StepChange, StepState
from medai.router.contract import Failure, Order, OrthancId, Priority, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.daemon.decider import LOOK_AGAIN_S, Decider, fingerprint, progress_of
from medai.router.errors import OrthancUnreachable
from medai.router.hl7.order_patient import Doubt
from medai.router.intake.facts import StudyView
from medai.router.ledger import Ledger
from medai.router.ledger.fleet import Announced
from medai.router.ledger.held_orders import HoldState
from medai.router.ledger.studies import DueStudy, KnownStudy
from medai.router.ledger.workitems import Seen
from medai.router.log import Pseudonyms
from medai.router.reports import readings
from medai.router.reports.story import actions
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import NoTracer

ROUTE = {
    "name": "brain", "when": 'study.Modality == "MR"', "model": "mr_brain", "series": {"slices_min": 1},
    "completeness": {"quiet_s": 3.0},
}  # fmt: skip
FACTS = StudyFacts(
    study_uid=StudyUID("1.2.3"), orthanc_id=OrthancId("o-1.2.3"), attributes={"Modality": "MR"},
    series=(
        SeriesFacts(
            series_uid=SeriesUID("1.2.3.1"), orthanc_id=OrthancId("s-1.2.3"), instances=50,
            attributes={"Modality": "MR", "NumberOfInstances": 50, "Orientation": "axial", "SliceThickness": 1.0},
        ),
    ),
)  # fmt: skip


@dataclass
class World:
    """The archive, its reader and what becomes of studies that are gone."""

    facts: StudyFacts | None = FACTS
    there: bool = True
    error: Exception | None = None
    images: int = 50
    present: frozenset[str] = frozenset()
    looked: int = 0
    asked: list[str] = field(default_factory=list)
    gone: list[tuple[str, str]] = field(default_factory=list)

    def exists(self, level: str, resource: str) -> bool:
        return self.there

    def instances(self, orthanc_series: str) -> list[dict[str, Any]]:
        return [{"ID": f"i{n}", "MainDicomTags": {"SOPInstanceUID": f"1.9.{n}"}} for n in range(self.images)]

    def sop_uids(self, orthanc_study: str) -> frozenset[str]:
        self.looked += 1
        return self.present

    def md5(self, orthanc_instance: str) -> str:
        self.asked.append(orthanc_instance)
        return f"md5 of {orthanc_instance}"

    def read(self, orthanc_study: str) -> StudyView | None:
        if self.error:
            raise self.error
        return None if self.facts is None else StudyView(seen=seen(), facts=self.facts)

    def study_gone(self, orthanc_study: str, study_uid: str) -> None:
        self.gone.append(("study", orthanc_study))

    def images_gone(self, orthanc_study: str, study_uid: str) -> None:
        self.gone.append(("images", orthanc_study))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    ledger.fleet.announce([Announced(name="mr_brain", version="1", available=True, reason="")], T0)
    yield ledger
    ledger.close()


def consider(
    ledger: Ledger,
    world: World,
    at: float,
    routes: tuple[dict[str, Any], ...] = (ROUTE,),
    *,
    listens: bool = True,
    worklist: str = "",
) -> KnownStudy:
    """Decide about the study at a moment; returns it as it is afterwards."""
    decider = Decider(
        Settings(
            routes=list(routes), announcements={"port": 11112 if listens else 0}, workitems={"url": worklist}
        ), archive=world, ledger=ledger, reader=world, farewell=world,
        names=Pseudonyms("key"), tracer=NoTracer(), clock=lambda: at,
    )  # fmt: skip
    decider.consider(DueStudy(id=1, orthanc_id="o-1.2.3", study_uid="1.2.3"))
    after = ledger.studies.find("o-1.2.3")
    assert after is not None
    return after


def reasons(ledger: Ledger) -> list[tuple[str, str]]:
    return [(row.verdict, row.reason) for row in readings.decisions(ledger, study_id=1)]


def jobs(ledger: Ledger) -> list[readings.Reading]:
    return readings.jobs(ledger)


def test_a_study_that_still_grows_is_looked_at_when_its_quiet_time_is_over(ledger: Ledger) -> None:
    arrive(ledger, seen())
    assert consider(ledger, World(), T0 + 1).due_at == T0 + 3
    assert jobs(ledger) == []


def test_a_complete_study_makes_its_job_and_is_not_looked_at_again(ledger: Ledger) -> None:
    arrive(ledger, seen())
    after = consider(ledger, World(), T0 + 4)
    (job,) = jobs(ledger)
    assert (job.route, job.model, job.model_version, job.state) == ("brain", "mr_brain", "1", "pending")
    assert (after.due_at, after.complete_at) == (None, T0 + 4)


def test_deciding_again_makes_no_second_job_and_says_why_once(ledger: Ledger) -> None:
    arrive(ledger, seen())
    for at in (T0 + 4, T0 + 5, T0 + 6):
        consider(ledger, World(), at)
    assert len(jobs(ledger)) == 1
    assert sum("read before" in reason for _, reason in reasons(ledger)) == 1


@pytest.mark.parametrize(
    ("announced", "words"),
    [(None, "no worker has announced the model"), ("its weights are missing", "its weights are missing")],
)
def test_without_its_model_a_study_waits_and_says_for_what(
    ledger: Ledger, announced: str | None, words: str
) -> None:  # fmt: skip
    route = {**ROUTE, "model": "mr_other"}
    if announced:
        ledger.fleet.announce([Announced(name="mr_other", version="1", available=False, reason=announced)], T0)
    arrive(ledger, seen())
    assert consider(ledger, World(), T0 + 4, (route,)).due_at == T0 + 4 + LOOK_AGAIN_S
    assert jobs(ledger) == []
    assert any(verdict == "wait" and words in reason for verdict, reason in reasons(ledger))


def test_an_order_hurries_what_waits_where_the_images_are_of_its_patient_and_the_route_asks_for_it(
    ledger: Ledger,
) -> None:
    arrive(ledger, seen())
    stat = replace(FACTS, order=Order(placer="P", accession="A1.2.3", priority=Priority.STAT))
    for facts, wanted in ((FACTS, "routine"), (FACTS, "routine"), (stat, "stat"), (FACTS, "stat")):
        consider(ledger, World(facts=facts), T0 + 4)
        assert [job.priority for job in jobs(ledger)] == [wanted], (
            "an order that contradicts the images is no order here"
        )


def test_a_route_with_a_priority_of_its_own_is_hurried_by_no_order(ledger: Ledger) -> None:
    arrive(ledger, seen())
    stat = replace(FACTS, order=Order(placer="P", accession="A1.2.3", priority=Priority.STAT))
    for facts in (FACTS, stat):
        consider(ledger, World(facts=facts), T0 + 4, ({**ROUTE, "priority": "background"},))
    assert [job.priority for job in jobs(ledger)] == ["background"]


def test_an_order_that_was_released_is_told_with_what_was_read_before(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    consider(ledger, World(), T0 + 4)
    doubt = Doubt(key="k", placer="P", accession="A1.2.3", differs=("name",))
    ledger.held.released("1.2.3", doubt, T0 + 5)
    (held,) = ledger.held.waiting()
    ledger.held.decide(held.id, HoldState.RELEASED, "married", T0 + 6, by="ana")
    ordered = replace(FACTS, order=Order(placer="P", accession="A1.2.3"))
    claim = ledger.claims.take(jobs(ledger)[0].job_id, worker="w", lease_s=20, now=T0 + 7)
    assert claim is not None
    assert consider(ledger, World(facts=ordered), T0 + 8).due_at == T0 + 8 + LOOK_AGAIN_S, "a reading is under way"
    ledger.claims.fail(claim.job.job_id, claim.token, Failure.IMAGES, "cut short", T0 + 9)
    assert consider(ledger, World(facts=ordered), T0 + 20).due_at is None
    assert "order_joined" in [each.action for each in actions(ledger, study_id=study.id)]


def test_a_study_that_no_route_reads_says_so_once(ledger: Ledger) -> None:
    arrive(ledger, seen())
    route = {**ROUTE, "when": 'study.Modality == "CT"'}
    for at in (T0 + 4, T0 + 5):
        assert consider(ledger, World(), at, (route,)).due_at is None
    assert [reason for _, reason in reasons(ledger)].count("no route reads this study") == 1


def test_without_routes_every_study_is_left_alone_and_says_so(ledger: Ledger) -> None:
    arrive(ledger, seen())
    consider(ledger, World(), T0 + 4, ())
    assert reasons(ledger) == [("skip", "no route is configured")]


def test_a_study_that_can_not_be_looked_at_is_put_off_and_told_without_its_uid(ledger: Ledger) -> None:
    arrive(ledger, seen())
    with capture_logs() as logs:
        after = consider(ledger, World(error=OrthancUnreachable("away")), T0 + 4)
    assert after.due_at == T0 + 4 + LOOK_AGAIN_S
    assert [entry["event"] for entry in logs] == ["study_put_off"]
    assert "1.2.3" not in str(logs)
    assert reasons(ledger)[0][0] == "wait"


def test_a_study_without_images_is_gone_from_the_archive_or_holds_results_alone(ledger: Ledger) -> None:
    arrive(ledger, seen())
    world = World(facts=None)
    assert consider(ledger, world, T0 + 4).due_at is None
    world.there = False
    assert consider(ledger, world, T0 + 4).due_at == T0 + 4 + LOOK_AGAIN_S, "it may only have moved"
    assert world.gone == [("images", "o-1.2.3"), ("study", "o-1.2.3")]


def test_the_files_are_compared_only_where_images_were_sent_again(ledger: Ledger) -> None:
    arrive(ledger, seen())
    world = World()
    consider(ledger, world, T0 + 4)
    assert world.asked == []
    with ledger.begin() as db:
        ledger.studies.see(seen(), at=T0 + 10, due_at=T0 + 10, db=db, heard=True)
    after = consider(ledger, world, T0 + 20)
    assert len(world.asked) == 50
    assert after.resent_at is None, "judged"


def test_a_series_without_images_makes_no_job(ledger: Ledger) -> None:
    arrive(ledger, seen())
    consider(ledger, World(images=0), T0 + 4)
    assert jobs(ledger) == []


def test_a_study_that_the_ledger_does_not_know_is_passed_over(ledger: Ledger) -> None:
    world = World(error=OrthancUnreachable("nobody may ask"))
    decider = Decider(
        Settings(routes=[ROUTE]), archive=world, ledger=ledger, reader=world, farewell=world,
        names=Pseudonyms("key"), tracer=NoTracer(), clock=lambda: T0,
    )  # fmt: skip
    with capture_logs() as logs:
        decider.consider(DueStudy(id=7, orthanc_id="o-9", study_uid="9"))
    assert logs == []


def test_the_progress_of_a_study_is_what_the_ledger_holds(ledger: Ledger) -> None:
    study = arrive(ledger, seen(expected={"ImagesInAcquisition": 60}))
    progress = progress_of(study)
    assert (progress.instances, progress.first_instance_at, progress.last_instance_at) == (50, T0, T0)
    assert [(item.series_uid, item.instances, item.expected) for item in progress.series] == [
        ("1.2.3.1", 50, {"ImagesInAcquisition": 60}),
    ]  # fmt: skip


def test_a_fingerprint_tells_where_one_text_ends_and_the_next_begins() -> None:
    assert fingerprint([("a", "b")]) == fingerprint([("a", "b")])
    assert len({fingerprint([("ab",)]), fingerprint([("a", "b")]), fingerprint([("a",), ("b",)])}) == 3


# -- what is announced by name

STEP = "1.5"


def begin(ledger: Ledger, at: float = T0, uid: str = STEP) -> None:
    ledger.announcements.step_begun(StepBegun(uid=uid, studies=("1.2.3",), series=()), at, keep_s=1e6)


def end(ledger: Ledger, *uids: str, at: float = T0, state: StepState = StepState.COMPLETED) -> None:
    series = (Series(uid="1.2.3.1", instances=uids),) if uids else ()
    ledger.announcements.step_changed(StepChange(uid=STEP, state=state, series=series), at)


def test_a_study_with_all_that_its_step_made_is_complete_at_once(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    end(ledger, "1.9.1", "1.9.2", at=T0 - 1)
    arrive(ledger, seen(images=2))
    consider(ledger, World(present=frozenset({"1.9.1", "1.9.2"})), T0)
    assert [job.state for job in jobs(ledger)] == ["pending"]
    assert ("complete", "all 2 announced objects are here") in reasons(ledger)


def test_a_study_that_has_as_many_other_objects_waits_and_says_how_many_came(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    end(ledger, "1.9.1", "1.9.2", at=T0 - 1)
    arrive(ledger, seen(images=2))
    world = World(present=frozenset({"1.9.1", "1.9.7"}))
    assert consider(ledger, world, T0 + 4).due_at == T0 + 60
    assert (jobs(ledger), world.looked) == ([], 1)
    consider(ledger, world, T0 + 60)
    assert len(jobs(ledger)) == 1
    assert any(reason.startswith("only 1 of 2 announced objects came") for _, reason in reasons(ledger))


def test_the_archive_is_not_asked_while_too_few_images_are_here(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    end(ledger, *(f"1.9.{n}" for n in range(60)), at=T0 - 1)
    arrive(ledger, seen(images=50))
    world = World()
    consider(ledger, world, T0 + 4)
    assert (jobs(ledger), world.looked) == ([], 0)


def test_a_step_in_progress_holds_its_study_for_a_while(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    arrive(ledger, seen())
    assert consider(ledger, World(), T0 + 100).due_at == T0 + 600
    consider(ledger, World(), T0 + 600)
    assert len(jobs(ledger)) == 1


def test_the_end_of_a_step_calls_for_another_look(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    arrive(ledger, seen(images=1))
    assert consider(ledger, World(), T0 + 10).due_at == T0 + 600
    end(ledger, at=T0 + 20, state=StepState.DISCONTINUED)
    assert [study.id for study in ledger.studies.due(T0 + 20)] == [1]
    consider(ledger, World(), T0 + 20)
    assert len(jobs(ledger)) == 1


def test_an_announcement_that_comes_while_the_study_is_decided_on_is_not_overlooked(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    arrive(ledger, seen(images=1))
    study = ledger.studies.find("o-1.2.3")
    assert study is not None
    end(ledger, "1.9.1", at=T0 + 1)
    ledger.studies.set_due_as_seen(study, T0 + 600)
    assert [due.id for due in ledger.studies.due(T0 + 1)] == [1]


def test_nothing_is_asked_where_the_router_does_not_listen(ledger: Ledger) -> None:
    begin(ledger, T0 - 5)
    arrive(ledger, seen())
    assert consider(ledger, World(), T0 + 1, listens=False).due_at == T0 + 3
    consider(ledger, World(), T0 + 3, listens=False)
    assert len(jobs(ledger)) == 1


def test_a_workitem_has_its_study_read_by_a_route_whose_condition_leaves_it(ledger: Ledger) -> None:
    route = {**ROUTE, "when": "false"}
    arrive(ledger, seen())
    assert consider(ledger, World(), T0 + 4, (route,)).due_at is None
    assert jobs(ledger) == []
    asked = Seen(uid="1.5.1", lock_uid="2.25.1", study_uid="1.2.3", route="brain", codes={})
    claiming = ledger.workitems.begin_claim(ledger.workitems.see(asked, T0 + 5), study_id=1)
    assert claiming is not None
    ledger.workitems.claimed(claiming, T0 + 5)
    consider(ledger, World(), T0 + 6, (route,))
    assert jobs(ledger) == []  # where no worklist is configured, nobody asks
    consider(ledger, World(), T0 + 6, (route,), worklist="http://127.0.0.1:1")
    (job,) = jobs(ledger)
    assert job.route == "brain"
    assert (
        "route",
        "a workitem asks for it; a series without a number is the only one that qualifies (50 slices)",
    ) in (reasons(ledger))
