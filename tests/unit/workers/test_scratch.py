"""The scratch directory: what the dead left is cleared, what is anybody else's is not, and nothing here ends a worker."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medai.router import processes
from medai.router.errors import DiskFull, PermanentError
from medai.workers.scratch import OWNER, Scratch, is_full


@pytest.fixture(autouse=True)
def _own_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    scratch = Scratch(tmp_path / "scratch", limit_gb=1e-6)
    scratch.open()
    yield scratch
    scratch.close()


def left_by(root: Path, process: str, name: str = "medai-4711") -> Path:
    folder = root / name
    folder.mkdir(parents=True, mode=0o700)
    (folder / OWNER).write_text(process)
    (folder / "volume.nii").write_bytes(b"x" * 100)
    return folder


def dead() -> str:
    child = subprocess.Popen(["sleep", "60"])
    process = processes.identity(child.pid)
    child.kill()
    child.wait()
    return process


def test_every_temporary_file_goes_into_the_folder_of_this_process_which_others_can_not_read(scratch: Scratch) -> None:
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == scratch.folder
    assert os.environ["TMPDIR"] == str(scratch.folder)
    assert scratch.folder.stat().st_mode & 0o777 == 0o700


def test_what_a_dead_process_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    folder = left_by(tmp_path, dead())
    scratch = Scratch(tmp_path, limit_gb=1)
    scratch.open()
    assert not folder.exists()
    assert scratch.folder.is_dir()


def test_the_folder_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    folder = left_by(tmp_path, processes.identity(child.pid))
    assert Scratch(tmp_path, limit_gb=1).clear_dead() == 0
    assert (folder / "volume.nii").exists()
    child.kill()
    child.wait()
    assert Scratch(tmp_path, limit_gb=1).clear_dead() == 1


@pytest.mark.parametrize("owner", ["elsewhere|pid:[1]|12|99", "", "nonsense"])
def test_a_folder_of_which_nobody_can_tell_is_left_alone(tmp_path: Path, owner: str) -> None:
    folder = left_by(tmp_path, owner)
    assert Scratch(tmp_path, limit_gb=1).clear_dead() == 0
    assert (folder / "volume.nii").exists()


def test_a_folder_of_another_program_is_never_removed_whatever_it_is_called(tmp_path: Path) -> None:
    other = tmp_path / "medai-backup"
    other.mkdir()
    (other / "precious").write_text("x")
    binary = tmp_path / "medai-binary"
    binary.mkdir()
    (binary / OWNER).write_bytes(b"\xff\xfe")
    (tmp_path / "medai-link").symlink_to(left_by(tmp_path / "elsewhere", dead()))
    assert Scratch(tmp_path, limit_gb=1).clear_dead() == 0
    assert (other / "precious").exists()
    assert binary.exists()
    assert (tmp_path / "medai-link" / "volume.nii").exists()


def test_between_jobs_everything_but_the_owners_name_is_removed(scratch: Scratch, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (scratch.folder / "sub").mkdir()
    (scratch.folder / "sub" / "file").write_text("x")
    (scratch.folder / "file").write_text("x")
    (scratch.folder / "link").symlink_to(outside)
    scratch.tidy()
    assert [path.name for path in scratch.folder.iterdir()] == [OWNER]
    assert (outside / "precious").exists()


def test_a_folder_that_something_else_cleared_away_is_there_for_the_next_job(scratch: Scratch) -> None:
    (scratch.folder / OWNER).unlink()
    scratch.folder.rmdir()
    scratch.tidy()
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == scratch.folder
    assert (scratch.folder / OWNER).read_text() == processes.identity()


def test_a_folder_that_can_not_be_tidied_keeps_no_job_from_being_read(scratch: Scratch) -> None:
    (scratch.folder / OWNER).unlink()
    scratch.folder.rmdir()
    before = scratch.folder
    before.write_text("a file in its place")
    scratch.tidy()
    assert before.read_text() == "a file in its place"
    assert scratch.folder != before
    assert scratch.folder.is_dir()


def test_a_folder_that_somebody_made_ahead_is_neither_used_nor_emptied(tmp_path: Path) -> None:
    """Its name was medai-PID once, which anybody can make for every PID there may be."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "important.db").write_text("x")
    root = tmp_path / "tmp"
    root.mkdir(mode=0o1777)
    (root / f"medai-{os.getpid()}").symlink_to(victim)
    scratch = Scratch(root, limit_gb=1)
    scratch.open()
    assert scratch.folder != root / f"medai-{os.getpid()}"
    assert scratch.folder.stat().st_mode & 0o777 == 0o700
    before = scratch.folder
    shutil.rmtree(before)
    before.symlink_to(victim)
    scratch.tidy()
    assert not scratch.folder.is_symlink()
    assert (victim / "important.db").exists()
    scratch.close()
    assert (victim / "important.db").exists()


def test_a_folder_that_others_may_enter_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    folder = left_by(tmp_path, dead())
    folder.chmod(0o777)
    assert Scratch(tmp_path, limit_gb=1).clear_dead() == 0


def test_a_folder_that_outgrows_its_bound_is_told_in_words(scratch: Scratch) -> None:
    scratch.check()
    (scratch.folder / "big").write_bytes(b"x" * 2000)
    assert scratch.used_bytes() > 2000
    with pytest.raises(DiskFull, match="scratch_max_gb"):
        scratch.check()
    scratch.tidy()
    scratch.check()


def test_the_folder_goes_with_the_process(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit_gb=1)
    scratch.open()
    scratch.close()
    assert not scratch.folder.exists()


# -- a full disk, however it is told


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_spent_quota_are_known(number: int) -> None:
    assert is_full(OSError(number, os.strerror(number)))


def test_a_full_disk_is_known_behind_other_errors() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert is_full(chained(PermanentError("not a volume"), chained(ValueError("x"), full)))
    assert is_full(RuntimeError("itk::ERROR: could not write: No space left on device"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "no"), RuntimeError("out of memory"), ValueError("No space left on device")]
)
def test_other_errors_are_not_a_full_disk(error: Exception) -> None:
    assert not is_full(error)
