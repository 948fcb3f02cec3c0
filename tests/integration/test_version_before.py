"""What the version before left behind is taken over: its ledger with all that is in it, and its site's files."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import version_before
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_cases import T0

from medai.router.contract import JobState
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.schema import metadata
from medai.router.onebox import supervisor
from medai.router.onebox.site import DEFAULT_PORTS, Site
from medai.router.reports import readings
from medai.router.reports.readings import delivery_tries
from medai.router.reports.status import status
from medai.router.reports.story import actions
from medai.router.settings.load import load


def counts(path: Path) -> dict[str, int]:
    """How many rows each table has, asked without any code of ours."""
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
    connection.close()
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    version_before.ledger(tmp_path / "ledger.sqlite")
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    yield ledger
    ledger.close()


def job_of(ledger: Ledger, state: JobState) -> str:
    return str(readings.jobs(ledger, state=state.value)[0].job_id)


def test_every_table_of_the_version_before_has_something_in_it(file: Path) -> None:
    found = counts(file)
    assert len(found) > 25
    assert [name for name, number in found.items() if not number] == []


def test_the_ledger_is_brought_up_to_date_and_loses_nothing(file: Path) -> None:
    before = counts(file)
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    with ledger.begin() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []
    assert ledger.fleet.fits()
    ledger.close()
    after = counts(file)
    assert {name: after[name] for name in before} == before


def test_what_was_seen_ordered_and_read_is_read_as_it_was(ledger: Ledger) -> None:
    assert ledger.studies.read_cursor("orthanc") == 77
    study = ledger.studies.find("o-1.2.3")
    assert study is not None
    assert (study.study_uid, study.instances, [item.instances for item in study.series]) == ("1.2.3", 50, [50])
    (order,) = ledger.orders.of_study(study_uid="1.2.3", accession="A1.2.3")
    assert (order.placer, order.patient_id) == ("P1", "MRN-2"), "under the identifier that it was merged into"
    done = job_of(ledger, JobState.DONE)
    assert [tried.outcome for tried in delivery_tries(ledger, done)] == ["retry", "done", "retry", "done"]
    assert {state: number for state, number in status(ledger, T0 + 100).jobs.items() if number} == {
        "done": 1, "pending": 1, "running": 1, "failed": 2, "delivering": 1, "cancelled": 1,
    }  # fmt: skip


def test_people_come_in_with_the_passwords_that_they_have(ledger: Ledger) -> None:
    ana = ledger.accounts.by_password("ana", version_before.PASSWORD)
    assert ana is not None
    assert ana.role is Role.ADMINISTRATOR
    assert [token.label for token in ledger.accounts.tokens(T0)] == ["script"]
    assert [action.action for action in actions(ledger)] == ["survey usability", "survey usefulness", "login"]
    (answer,) = ledger.surveys.usefulness_answers()
    assert (answer.account, answer.correct, answer.comment) == ("ana", 5, "fine")
    assert [answer.score for answer in ledger.surveys.sus_answers()] == [50.0]


def test_what_waited_goes_on_where_it_stood(ledger: Ledger) -> None:
    waits = job_of(ledger, JobState.PENDING)
    claim = ledger.claims.take(waits, worker="w2", lease_s=20, now=T0 + 200, versions={"mr_brain": "1"})
    assert claim is not None
    ledger.claims.release(waits, claim.token, reason="put off", not_before=0.0, crashed=False, now=T0 + 201)
    (held,) = ledger.jobs.held()
    assert ledger.jobs.reclaim(held, "its worker was stopped", max_crashes=3, now=T0 + 202) is JobState.PENDING
    (archive,) = ledger.deliveries.due("archive", T0 + 203, longest_s=30.0)
    assert ledger.deliveries.begin_try(archive, T0 + 203)
    ledger.deliveries.delivered(archive, "stored", T0 + 204)
    (message,) = ledger.deliveries.due("ris", T0 + 205, longest_s=30.0)
    assert message.payload is not None
    assert b"MRN-2" in message.payload
    letters = ledger.dead.letters()
    assert sorted(letter.kind for letter in letters) == ["reading", "result"]
    assert all(ledger.dead.retry(letter, T0 + 206) for letter in letters)
    (edit,) = ledger.edits.unsent(T0 + 300, resend_before=0.0)
    claimed = ledger.edits.claim(edit.id, T0 + 301)
    assert claimed is not None
    assert [reading.stored for reading in claimed.readings] == [True]


def test_a_site_keeps_its_ports_its_password_and_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    version_before.site(folder, DEFAULT_PORTS, python=sys.executable)
    configuration = (folder / "medai.toml").read_text()
    site = Site.create(folder, free_ports=True)
    assert (dict(site.ports), site.password) == (dict(DEFAULT_PORTS), "made-by-the-version-before")
    bare = f"redis://127.0.0.1:{DEFAULT_PORTS['redis']}/0"
    assert bare in configuration
    now = (folder / "medai.toml").read_text()
    assert now == configuration.replace(bare, site.redis_url), "it is the user's: Redis's new password alone is ours"
    assert bare not in now
    settings = load(str(site.config))
    assert settings.orthanc.url == "http://127.0.0.1:8042"
    assert settings.ledger.url == f"sqlite:///{folder}/ledger.sqlite"
    assert [route.model for route in settings.routes] == ["mr_hippocampus", "ct_lungs"]


def test_a_start_names_the_parts_by_their_new_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "find_binary", lambda *names: f"/usr/bin/{names[0]}")
    folder = tmp_path / "site"
    version_before.site(folder, DEFAULT_PORTS, python=sys.executable)
    named = re.compile(r"-m ([\w.]+)")
    assert set(named.findall((folder / "supervisord.conf").read_text())) == {
        "hl7_mock.cli", "router.cli", "workers.cli",
    }  # fmt: skip
    supervisor.write_supervisord(Site.create(folder, free_ports=True))
    assert set(named.findall((folder / "supervisord.conf").read_text())) == {
        "medai.hl7_mock.cli", "medai.router.cli", "medai.router.onebox.closed", "medai.workers.cli",
    }  # fmt: skip
