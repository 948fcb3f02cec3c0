"""A site is backed up while it is written to, and comes back elsewhere as it was; nothing is ever restored over it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keeping_cases as cases
import pytest
from ledger_cases import T0, arrive, seen

from medai.router.cli import main as cli
from medai.router.keeping import backup, sealed
from medai.router.ledger import Ledger
from medai.router.ledger.removals import RESTORED
from medai.router.onebox.site import Site
from medai.router.reports import readings
from medai.router.settings import load as configuration

BUT = ("audit", "meta")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sealed, "COST", 10)
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site.create(tmp_path / "site", free_ports=True)
    for name, content in {"tls/ca.key": "key", "medai-models/m/model.ts": "weights", "orthanc-db/a/f": "image"}.items():
        path = made.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.migrate()
    ledger.log_key()
    cases.patient(ledger)
    ledger.close()
    return folder


@pytest.fixture
def ledger(site: Site, filled: Path) -> Iterator[Ledger]:
    """A copy of it for each test."""
    shutil.copytree(filled, site.folder, dirs_exist_ok=True)
    ledger = Ledger(f"sqlite:///{site.folder / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "--json"]) == code
    answer = capsys.readouterr()
    found: dict[str, Any] = json.loads(answer.err if code else answer.out)
    return found


def passphrase(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery\n")
    file.chmod(0o600)
    return file


def test_a_site_comes_back_elsewhere_as_it_was(
    site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = ("--passphrase-file", passphrase(tmp_path))
    made = run(capsys, "backup", tmp_path, "--dir", site.folder, "--models", "--images", *secret)
    file = Path(made["file"])
    assert (file.parent, file.stat().st_mode & 0o777, made["encrypted"]) == (tmp_path, 0o600, True)
    assert b"Quiller" not in file.read_bytes()
    checked = run(capsys, "backup", "--check", file, *secret)
    assert checked["parts"] == ["ledger", "settings", "keys", "models", "images"]
    other = tmp_path / "elsewhere" / "site"
    run(capsys, "restore", file, "--dir", other, *secret)
    settings = configuration.load(str(other / "medai.toml"))
    assert settings.ledger.url == f"sqlite:///{other / 'ledger.sqlite'}"
    assert settings.watch_folder.path == str(other / "inbox")
    assert (Site.load(other).password, Site.load(other).ports) == (site.password, site.ports)
    assert (other / "tls/ca.key").read_text() + (other / "orthanc-db/a/f").read_text() == "keyimage"
    assert (settings.models.adds_to / "m/model.ts").read_text() == "weights"
    restored = Ledger(settings.ledger.url)
    assert cases.tables(restored, but=BUT) == cases.tables(ledger, but=BUT)
    assert readings.jobs(restored) == readings.jobs(ledger)
    assert restored.log_key() == ledger.log_key()
    restored.close()
    verified = run(capsys, "audit", "verify", "--dir", other)
    assert verified["faults"] == []
    assert verified["lines"] == run(capsys, "audit", "verify", "--dir", site.folder)["lines"] + 1
    assert run(capsys, "status", "--dir", other)["jobs"] == run(capsys, "status", "--dir", site.folder)["jobs"]
    left = [path for path in other.rglob("*") if path.stat().st_mode & 0o077 and path.is_file()]
    assert left == []
    assert not (other / ".restoring").exists()
    assert [path.name for path in site.folder.iterdir() if "backup" in path.name] == []


def test_what_is_written_meanwhile_is_in_it_or_not_and_the_trail_is_whole(
    site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def writes() -> None:
        number = 0
        while not over.is_set():
            number += 1
            ledger.accounts.note_action("ana", "study", T0, study_id=number)
            arrive(ledger, seen(uid=f"1.3.{number}"))

    thread = threading.Thread(target=writes)
    copy = backup.copy_sqlite

    def slowly(source: Path, target: Path) -> None:
        thread.start()
        over.wait(0.3)
        copy(source, target)

    monkeypatch.setattr(backup, "copy_sqlite", slowly)
    try:
        run(capsys, "backup", tmp_path / "a.backup", "--dir", site.folder)
    finally:
        over.set()
        thread.join()
    run(capsys, "restore", tmp_path / "a.backup", "--dir", tmp_path / "other")
    assert run(capsys, "audit", "verify", "--dir", tmp_path / "other")["faults"] == []


@pytest.mark.parametrize("way", ["inside", "by its configuration", "by the environment"])
def test_a_site_is_known_as_one_however_it_is_named(
    way: str, site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if way == "inside":
        monkeypatch.chdir(site.folder)
    elif way == "by the environment":
        monkeypatch.setenv("MEDAI_CONFIG", str(site.config))
    named = ["--config", site.config] if way == "by its configuration" else []
    assert run(capsys, "backup", tmp_path / "a.backup", *named)["folder"] == str(site.folder)
    monkeypatch.delenv("MEDAI_CONFIG", raising=False)
    other = tmp_path / "other"
    run(capsys, "restore", tmp_path / "a.backup", "--dir", other)
    assert str(site.folder) not in (other / "medai.toml").read_text()


def test_a_configuration_without_a_site_of_ours_comes_back_where_it_says(
    site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "backup", tmp_path / "a.backup", "--config", site.config)
    there = tmp_path / "there"
    there.mkdir()
    config = there / "medai.toml"
    config.write_text(f'[ledger]\nurl = "sqlite:///{there}/l.sqlite"\naudit_folder = "{there}/audit"\n')
    error = run(capsys, "restore", tmp_path / "a.backup", "--config", config, code=1)["error"]
    assert "No such file" in error
    assert sorted(path.name for path in there.iterdir()) == ["medai.toml"]
    (there / "audit").mkdir()
    run(capsys, "restore", tmp_path / "a.backup", "--config", config)
    assert run(capsys, "audit", "verify", "--config", config)["faults"] == []
    assert sorted(path.name for path in there.rglob("*audit-*")) == ["l.sqlite.audit-head", "l.sqlite.audit-key"]
    assert "already" in run(capsys, "restore", tmp_path / "a.backup", "--config", config, code=2)["error"]


@pytest.fixture
def made(site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    run(capsys, "backup", tmp_path / "a.backup", "--dir", site.folder)
    return tmp_path / "a.backup"


def test_nothing_is_restored_over_a_site(made: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(site.folder.rglob("*"))
    assert "is not empty" in run(capsys, "restore", made, "--dir", site.folder, code=2)["error"]
    assert sorted(site.folder.rglob("*")) == before
    assert "say where to" in run(capsys, "restore", made, code=2)["error"]


def test_a_changed_backup_leaves_nothing_behind(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_bytes(made.read_bytes().replace(b"Quiller", b"Quaffer"))
    assert "was changed" in run(capsys, "backup", "--check", made, code=1)["error"]
    assert "was changed" in run(capsys, "restore", made, "--dir", tmp_path / "other", code=1)["error"]
    assert not (tmp_path / "other").exists()


def test_a_newer_schema_is_refused(
    site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(site.folder / "ledger.sqlite") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    settings = configuration.load(str(site.config))
    source = backup.Source(config=site.config, settings=settings, site=site)
    file = tmp_path / "newer.backup"
    backup.backup(source, ledger, file, T0, by="ana", models=False, images=False, passphrase=None)
    for command in (("backup", "--check", file), ("restore", file, "--dir", tmp_path / "other")):
        assert "made by a newer Med-AI" in run(capsys, *command, code=1)["error"]
    assert not (tmp_path / "other").exists()


def test_a_restore_that_fails_half_way_leaves_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "mounted"
    empty.mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "verify_audit", full)
        assert "is full: nothing was left there" in run(capsys, "restore", made, "--dir", empty, code=1)["error"]
    assert list(empty.iterdir()) == []
    (empty / ".restoring").mkdir()  # of one that was killed
    run(capsys, "restore", made, "--dir", empty)


def test_images_are_copied_with_orthanc_stopped_alone(
    site: Site, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", site.archive_dicom_port)):
        error = run(capsys, "backup", tmp_path / "b", "--dir", site.folder, "--images", code=2)["error"]
    assert "medai down --part orthanc" in error
    alone = tmp_path / "alone.toml"
    alone.write_text(site.config.read_text())
    assert "of your own" in run(capsys, "backup", tmp_path / "b", "--config", alone, "--images", code=2)["error"]
    assert not (tmp_path / "b").exists()


def test_a_backup_that_is_told_to_end_leaves_nothing(
    site: Site, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1.0)

    monkeypatch.setattr(backup, "copy_sqlite", ended)
    run(capsys, "backup", tmp_path / "b.backup", "--dir", site.folder, code=130)
    assert not [path for path in tmp_path.iterdir() if "b.backup" in path.name]
    assert not [path for path in site.folder.iterdir() if "backup" in path.name]


def test_a_ledger_whose_file_is_damaged_is_not_taken_for_a_backup(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(Exception, match="can't be copied|damaged"):
        backup.copy_sqlite(tmp_path / "l", tmp_path / "copy")


def test_what_the_archive_lacks_after_a_restore_is_set_aside_and_nobody_is_told(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "restore", made, "--dir", tmp_path / "other")
    restored = Ledger(f"sqlite:///{tmp_path}/other/ledger.sqlite")
    restored.setting(RESTORED, "")
    lacking = list(restored.removals.living_studies())[:2]
    assert restored.removals.after_restore(lacking, T0 + 100) == 2
    assert restored.removals.after_restore(lacking, T0 + 100) is None, "once"
    assert len(restored.removals.living_studies()) == 1
    assert {job.state for job in readings.jobs(restored)} == {"done"}
    assert restored.deliveries.due("ris", T0 + 200, longest_s=30.0) == []
    restored.close()


def test_the_programs_of_postgresql_get_no_password_on_their_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    options, environment = backup.reached(backup.make_url("postgresql+psycopg://u:s3cret@h:5433/d?sslmode=verify-full"))
    assert options == ["--dbname=postgresql://u@h:5433/d?sslmode=verify-full", "--no-password"]
    assert environment["PGPASSWORD"] == "s3cret"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Exception, match="install PostgreSQL's client programs"):
        backup.postgresql_program("pg_dump")
