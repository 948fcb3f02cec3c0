"""The audit trail, attacked: a line that was changed, put in or taken away is found, at the end, too."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, make, seen
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from medai.router.errors import TemporaryError
from medai.router.ledger import Ledger, trail
from medai.router.ledger.history import acting_from
from medai.router.ledger.trail import AuditFilesFault


def written(ledger: Ledger, count: int = 6) -> None:
    for number in range(count):
        with acting_from("10.1.2.3" if number == 1 else ""):
            ledger.accounts.note_action(f"ana{number}", "study", T0 + number, study_id=number, detail='é\u2028 "x"')


def tamper(ledger: Ledger, how: Callable[[Connection], object] | str) -> None:
    with ledger.database.engine.begin() as db:
        db.execute(text(how)) if isinstance(how, str) else how(db)


def test_a_trail_that_nobody_touched_is_whole(ledger: Ledger) -> None:
    assert ledger.verify_audit().faults == ()
    written(ledger)
    found = ledger.verify_audit()
    assert (found.lines, found.faults, found.notes) == (6, (), ())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("UPDATE audit SET account = 'bob' WHERE id = 3", "line 3 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", "line 1 was changed"),
        ("UPDATE audit SET study_id = NULL WHERE id = 6", "line 6 was changed"),
        ("UPDATE audit SET seal = NULL WHERE id = 4", "line 4 was changed"),
        ("UPDATE audit SET seal = NULL", "was changed|is gone or another"),
        ("DELETE FROM audit WHERE id = 3", "line 4 was changed or written by somebody else, or a line before it"),
        ("DELETE FROM audit WHERE id = 1", "line 2 was changed"),
        ("DELETE FROM audit WHERE id = 6", "lines at the end were taken away"),
        ("DELETE FROM audit WHERE id > 2", "lines at the end were taken away"),
        ("DELETE FROM audit", "lines at the end were taken away"),
        ("INSERT INTO audit SELECT 7, at, account, action, study_id, job_id, detail, seal, address FROM audit WHERE id = 6", "line 7"),
        ("INSERT INTO audit SELECT 7, at, account, action, study_id, job_id, detail, NULL, address FROM audit WHERE id = 6", "line 7"),
        ("INSERT INTO audit SELECT 0, at, account, action, study_id, job_id, detail, seal, address FROM audit WHERE id = 6", "line 0"),
        ("INSERT INTO audit SELECT 0, at, account, action, study_id, job_id, detail, NULL, address FROM audit WHERE id = 6", "line 1"),
        ("UPDATE audit SET id = 9 WHERE id = 6", "line 9 was changed"),
        ("UPDATE audit SET address = '10.9.9.9' WHERE id = 3", "line 3 was changed"),
        ("UPDATE audit SET address = '' WHERE id = 5", "line 5 was changed"),
        ("UPDATE audit SET address = NULL WHERE id = 2", "line 2 was changed"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_line_is_found(ledger: Ledger, how: str, words: str) -> None:
    written(ledger)
    tamper(ledger, how)
    faults = " | ".join(ledger.verify_audit().faults)
    assert any(word in faults for word in words.split("|")), faults


def test_lines_written_after_the_end_was_taken_away_do_not_cover_it(ledger: Ledger) -> None:
    written(ledger)
    tamper(ledger, "DELETE FROM audit WHERE id > 4")
    with capture_logs() as logged:
        written(ledger, 3)
    assert "audit_trail_broken" in {line["event"] for line in logged}
    assert "lines at the end were taken away" in " ".join(ledger.verify_audit().faults)


def test_without_the_key_no_line_can_be_forged(ledger: Ledger, tmp_path: Path) -> None:
    written(ledger)
    (tmp_path / "theirs").mkdir()
    other = Ledger(ledger.database.url, audit_folder=str(tmp_path / "theirs"))
    other.accounts.note_action("mallory", "login", T0 + 9)
    other.close()
    assert any("line 7" in fault for fault in ledger.verify_audit().faults)


def test_the_newest_seal_is_in_a_second_place_and_in_the_log(ledger: Ledger) -> None:
    ledger.database.trail.in_log = True
    with capture_logs() as logged:
        written(ledger, 2)
    place = Path(ledger.database.engine.url.database or "")
    head, key = place.with_name(f"{place.name}.audit-head"), place.with_name(f"{place.name}.audit-key")
    kept = json.loads(head.read_text())
    (_, last) = [line for line in logged if line["event"] == "audit_head"]
    assert (kept["id"], kept["count"], kept["seal"]) == (2, 2, last["seal"])
    assert [stat.S_IMODE(file.stat().st_mode) for file in (head, key)] == [0o600, 0o600]
    assert "ana" not in f"{logged}", "who did what is not in the log"
    head.unlink()
    assert ledger.verify_audit().faults == ("the file with the newest seal is missing",)
    head.write_text("[")
    with pytest.raises(AuditFilesFault):
        ledger.verify_audit()


def test_a_transaction_that_failed_leaves_neither_line_nor_seal(ledger: Ledger) -> None:
    written(ledger, 2)

    def fails() -> None:
        from medai.router.ledger.history import noted

        with ledger.begin() as db:
            noted(db, "ana", "study", T0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    written(ledger, 1)
    found = ledger.verify_audit()
    assert (found.lines, found.faults, found.notes) == (3, (), ())


def test_lines_of_before_there_were_seals_are_sealed_by_the_first_one(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        tamper(ledger, f"INSERT INTO audit VALUES ({number}, 1.5, 'old', 'login', NULL, NULL, '', NULL, NULL)")  # noqa: S608
    assert ledger.verify_audit().faults == ()
    written(ledger, 2)
    assert ledger.verify_audit().faults == ()
    tamper(ledger, "UPDATE audit SET account = 'new' WHERE id = 2")
    assert any("line 4" in fault for fault in ledger.verify_audit().faults)


def test_lines_of_many_at_once_follow_each_other(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ledger.accounts.note_action(f"ana{n}", "study", T0), range(40)))
    found = ledger.verify_audit()
    assert (found.lines, found.faults, found.notes) == (40, (), ())


# -- the folder of the key and the newest seal is full, or away


@dataclass
class Disk:
    """The disk with the newest seal."""

    full: bool = True


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that takes nothing while it is full."""
    found, real = Disk(), os.pwrite

    def pwrite(number: int, data: bytes, at: int) -> int:
        if found.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(number, data, at)

    monkeypatch.setattr(trail.os, "pwrite", pwrite)
    return found


def test_a_full_disk_undoes_no_work_and_is_said_counted_and_healed(ledger: Ledger, disk: Disk) -> None:
    study = arrive(ledger, seen())
    disk.full = False
    written(ledger, 3)
    disk.full = True
    with capture_logs() as logged:
        job_id, _ = make(ledger, study)
        ledger.actions.hurry(job_id, T0, by="ana")
        assert ledger.unkept_audit() == 2
        found = ledger.verify_audit()
        assert (found.lines, found.faults) == (5, ()), "what was kept before is still kept"
        assert "newer than the line that was kept" in found.notes[0]
        disk.full = False
        written(ledger, 1)
    assert [line["event"] for line in logged if "head" in line["event"]] == [
        "audit_head_not_kept",
        "audit_head_kept_again",
    ]
    found = ledger.verify_audit()
    assert (found.lines, found.faults, found.notes, ledger.unkept_audit()) == (6, (), (), 0)


def test_a_head_that_is_late_is_kept_by_whatever_is_written_next(
    ledger: Ledger, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(ledger, 2)
    assert ledger.unkept_audit() == 2
    disk.full = False
    ledger.setting("anything", "x")  # no line, and too soon
    assert ledger.unkept_audit() == 2
    monkeypatch.setattr(trail, "AGAIN_S", -1.0)
    ledger.database.trail._again_at = 0.0
    ledger.setting("anything", "x")
    assert ledger.unkept_audit() == 0


def test_lines_taken_away_while_the_disk_was_full_are_missed_when_it_is_not(ledger: Ledger, disk: Disk) -> None:
    disk.full = False
    written(ledger, 2)
    disk.full = True
    written(ledger, 2)
    tamper(ledger, "DELETE FROM audit WHERE id > 2")
    disk.full = False
    ledger.database.trail._again_at = 0.0
    ledger.setting("anything", "x")
    assert "lines at the end were taken away" in " ".join(ledger.verify_audit().faults)


def test_a_folder_that_is_away_for_a_while_holds_nothing_up_and_is_caught_up_with(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}", audit_folder=str(folder))
    ledger.migrate()
    written(ledger, 2)
    folder.rename(tmp_path / "unmounted")
    with capture_logs() as logged:
        written(ledger, 2)
        assert ledger.unkept_audit() == 4
    assert "audit_head_not_read" in {line["event"] for line in logged}
    (tmp_path / "unmounted").rename(folder)
    written(ledger, 1)
    found = ledger.verify_audit()
    assert (found.lines, found.faults, found.notes, ledger.unkept_audit()) == (5, (), (), 0)
    ledger.close()


def test_without_the_key_nothing_is_half_done(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}", audit_folder=str(tmp_path / "nowhere"))
    ledger.migrate()
    study = arrive(ledger, seen())
    with pytest.raises(TemporaryError, match="key can't be read"):
        make(ledger, study)
    with ledger.begin(reads_only=True) as db:
        assert db.execute(text("SELECT count(*) FROM job")).scalar_one() == 0
    (tmp_path / "nowhere").mkdir()
    make(ledger, study)
    assert ledger.verify_audit().faults == ()
    ledger.close()


def test_a_key_that_could_not_be_written_whole_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}")
    ledger.migrate()
    with monkeypatch.context() as patched:
        patched.setattr(trail.os, "fsync", no_space)
        with pytest.raises(TemporaryError, match="key can't be read"):
            written(ledger, 1)
    assert [file.name for file in tmp_path.iterdir() if "audit" in file.name] == []
    written(ledger, 2)
    assert ledger.verify_audit().faults == ()
    ledger.close()
