"""Studies that vanished from the archive: deletions are believed, a lost archive is not, and neither costs a flood."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from ledger_cases import T0, arrive, make, seen
from structlog.testing import capture_logs

from medai.router.contract import StudyFacts, orthanc_id
from medai.router.intake.changes import Subscription, settled
from medai.router.intake.facts import FactsReader, StudyView
from medai.router.ledger import Ledger
from medai.router.ledger.removals import RESTORED
from medai.router.ledger.workitems import Seen
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import ChangesPage, Orthanc
from medai.router.reports import readings

MANY = 4


class Archive:
    """Lists the studies that it has, and counts what it is asked beside that."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.unlisted: set[str] = set()
        self.asked = 0

    def studies(self, *, since: int, limit: int) -> list[dict[str, Any]]:
        return [{"ID": name, "LastUpdate": "u1"} for name in self.names[since : since + limit]]

    def studies_with_uid(self, study_uid: str) -> list[str]:
        return [name for name in (*self.names, *self.unlisted) if name == f"o-{study_uid}"]

    def exists(self, _level: str, name: str) -> bool:
        self.asked += 1
        return name in self.names or name in self.unlisted


class Site:
    def __init__(self, url: str) -> None:
        self.ledger = Ledger(url)
        self.ledger.migrate()
        self.archive = Archive()
        orthanc = cast(Orthanc, self.archive)
        self.subscription = Subscription(
            orthanc, self.ledger, FactsReader(orthanc, self.ledger.orders, self.ledger.identities, self.ledger.deliveries), backlog_h=1.0, names=Pseudonyms("k"),
            clock=lambda: T0 + 100,
        )  # fmt: skip

    def send(self, count: int) -> None:
        for n in range(count):
            make(self.ledger, arrive(self.ledger, seen(uid=f"1.2.{n}")))
            self.archive.names.append(f"o-1.2.{n}")

    def cancelled(self) -> int:
        return len(readings.jobs(self.ledger, state="cancelled", limit=1000))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("medai.router.intake.changes.MANY", MANY)
    site = Site(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield site
    site.ledger.close()


def test_a_study_that_is_gone_is_taken_for_deleted_once(site: Site) -> None:
    site.send(3)
    site.archive.names.remove("o-1.2.1")
    with capture_logs() as logs:
        site.subscription.sweep()
        site.subscription.sweep()
    assert [line["event"] for line in logs] == ["study_deleted"]
    assert "1.2.1" not in str(logs), "a study's name in the logs is a pseudonym"
    assert (site.cancelled(), len(site.ledger.removals.living_studies())) == (1, 2)


def test_all_of_a_few_studies_may_be_deleted(site: Site) -> None:
    site.send(MANY)
    site.archive.names.clear()
    site.subscription.sweep()
    assert site.cancelled() == MANY


def test_a_study_that_the_list_only_missed_is_not_taken_for_deleted(site: Site) -> None:
    site.send(3)
    site.archive.unlisted.add(site.archive.names.pop())
    site.subscription.sweep()
    assert site.cancelled() == 0


def test_an_archive_that_lost_most_of_its_studies_is_told_once_and_nothing_is_taken_back(site: Site) -> None:
    site.send(MANY + 10)
    del site.archive.names[5:]
    with capture_logs() as logs:
        for _ in range(3):
            site.subscription.sweep()
    assert [line["event"] for line in logs] == ["archive_lost_studies"]
    assert (site.cancelled(), site.archive.asked) == (0, 0), "and it is not asked for each, at every sweep"


def test_what_a_restored_ledger_misses_in_the_archive_is_set_aside_once_and_later_deletions_are_believed(
    site: Site,
) -> None:
    site.send(3)
    site.ledger.setting(RESTORED, "1.0")
    gone, later, _ = site.archive.names
    site.archive.names.remove(gone)
    with capture_logs() as logs:
        site.subscription.sweep()
    assert [line["event"] for line in logs] == ["archive_lacks_studies"]
    assert (len(site.ledger.removals.living_studies()), site.cancelled()) == (2, 1)
    assert site.ledger.studies.archive_updates([gone]) == {gone: ""}, "when it is back it is looked at again"
    site.archive.names.remove(later)
    with capture_logs() as logs:
        site.subscription.sweep()
    assert [line["event"] for line in logs] == ["study_deleted"]


def test_many_deletions_out_of_many_more_studies_are_believed(site: Site) -> None:
    site.send(2 * MANY + 10)
    del site.archive.names[: MANY + 1]
    site.subscription.sweep()
    assert site.cancelled() == MANY + 1


class Moved(Archive):
    """An archive that has just given the study ``o-1.2.0`` another patient, and tells of its images as of new ones."""

    def __init__(self, view: StudyView) -> None:
        super().__init__()
        self.view = view
        self.asked_for: list[int] = []

    def changes(self, cursor: int) -> ChangesPage:
        told = {"ChangeType": "NewInstance", "ID": "i1", "Date": "20270115T080000"}
        return ChangesPage(changes=(told,) if cursor == 0 else (), last=1, done=True)

    def series_of(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"ID": "s-new", "ParentStudy": "o-new", "Instances": names, "MainDicomTags": {"Modality": "MR"}}]

    def study(self, _name: str) -> dict[str, Any]:
        return {"MainDicomTags": {"StudyInstanceUID": "1.2.0"}, "PatientMainDicomTags": {"PatientID": "P2"}}

    def exists(self, _level: str, name: str) -> bool:
        return name == "o-new"

    def read(self, _study: str, _series: object) -> StudyView:
        return self.view


def test_images_of_a_study_that_has_just_moved_were_not_sent_again(site: Site) -> None:
    """Whether the router hears of them before or after the old study has gone is a matter of milliseconds."""
    row = arrive(site.ledger, seen(uid="1.2.0"))
    name = orthanc_id("P2", "1.2.0", "1.2.0.1")
    (series,) = seen(uid="1.2.0").series
    moved = replace(seen(uid="1.2.0"), orthanc_id="o-new", series=(replace(series, orthanc_id=name),))
    archive = Moved(StudyView(seen=moved, facts=cast(StudyFacts, None)))
    subscription = Subscription(
        cast(Orthanc, archive), site.ledger, cast(FactsReader, archive), backlog_h=1.0, names=Pseudonyms("k"),
        clock=lambda: T0 + 100,
    )  # fmt: skip
    site.ledger.studies.write_cursor("orthanc", 0, T0)
    subscription._heard_at = T0 + 99  # it has listened all the time
    subscription.poll()
    after = site.ledger.studies.find("o-new")
    assert after is not None
    assert (after.id, after.resent_at, after.last_instance_at) == (row.id, None, T0)


@pytest.mark.parametrize(("age_s", "kept"), [(0, False), (1, False), (-30, False), (3, True), (3600, True)])
def test_an_update_of_this_very_second_is_looked_at_again(age_s: int, kept: bool) -> None:
    """More may come in the same second, and Orthanc's clock would not show it."""
    told = time.strftime("%Y%m%dT%H%M%S", time.gmtime(T0 - age_s))
    found = settled(seen(update=told), T0)
    assert found.archive_update == (told if kept else "")
    assert replace(found, archive_update=told) == seen(update=told)


class Old(Moved):
    """An archive with two studies that are older than this installation."""

    def studies(self, *, since: int, limit: int) -> list[dict[str, Any]]:
        listed = (
            {"ID": f"o-1.2.{n}", "LastUpdate": "20200101T000000", "MainDicomTags": {"StudyInstanceUID": f"1.2.{n}"}}
            for n in range(2)
        )
        return list(listed)[since : since + limit]

    def study(self, name: str) -> dict[str, Any]:
        return {"MainDicomTags": {"StudyInstanceUID": name.removeprefix("o-")}}

    def read(self, study: str, _series: object) -> StudyView:
        return StudyView(seen=seen(uid=study.removeprefix("o-")), facts=cast(StudyFacts, None))


def test_a_study_that_is_older_than_this_installation_is_taken_in_where_a_workitem_waits_for_it(site: Site) -> None:
    archive = Old(StudyView(seen=seen(), facts=cast(StudyFacts, None)))
    subscription = Subscription(
        cast(Orthanc, archive), site.ledger, cast(FactsReader, archive), backlog_h=1.0, names=Pseudonyms("k"),
        clock=lambda: T0 + 100,
    )  # fmt: skip
    site.ledger.studies.write_cursor("orthanc", 0, T0)
    subscription.sweep()
    assert site.ledger.workitems.studies_here("1.2.1") == []
    new = Seen(uid="1.5.1", lock_uid="2.25.1", study_uid="1.2.1", route="brain", codes={})
    site.ledger.workitems.see(new, T0)
    assert subscription.sweep() == ("o-1.2.1",)
    assert [len(site.ledger.workitems.studies_here(uid)) for uid in ("1.2.0", "1.2.1")] == [0, 1]
