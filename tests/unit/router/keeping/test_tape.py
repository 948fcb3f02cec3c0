"""A backup is whole or is not there, and one that was changed is told from one that was not."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medai.router.errors import DiskFull, MedaiError, SettingsError
from medai.router.keeping import sealed, tape
from medai.router.keeping.sealed import BackupDamaged
from medai.router.keeping.tape import ABOUT, LIST, About, described, play, recording

PASSPHRASE = b"correct horse battery"
TOLD = About(
    format=1, program="1", made_at="2026", schema_revision="0001", database="sqlite", folder="", parts=("ledger",)
)
FILES = {"medai.toml": b"[ledger]\n", "tls/ca key.pem": b"key" * 1000, "empty": b""}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 10)


def write(path: Path, passphrase: bytes | None = None) -> Path:
    with recording(path, passphrase) as recorder:
        recorder.text(ABOUT, described(TOLD))
        for name, content in FILES.items():
            recorder.text(name, content)
    return path


def read(path: Path, passphrase: bytes | None = None) -> dict[str, bytes]:
    taken: dict[str, io.BytesIO] = {}
    checked = play(path, passphrase, lambda name: taken.setdefault(name, io.BytesIO()))
    assert (checked.about, checked.encrypted) == (TOLD, passphrase is not None)
    return {name: sink.getvalue() for name, sink in taken.items() if name != ABOUT}


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_it_comes_back_for_its_owner_alone(passphrase: bytes | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.backup", passphrase)
    assert read(path, passphrase) == FILES
    assert (path.stat().st_mode & 0o777, [each.name for each in tmp_path.iterdir()]) == (0o600, ["a.backup"])
    assert (b"key" in path.read_bytes()) is (passphrase is None)


def rewritten(change: Callable[[dict[str, bytes]], object]) -> Callable[[bytes], bytes]:
    """The same tar with other members."""

    def harm(data: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
        change(members)
        to = io.BytesIO()
        with tarfile.open(fileobj=to, mode="w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return to.getvalue()

    return harm


def _linked(data: bytes) -> bytes:
    to = io.BytesIO(data)
    with tarfile.open(fileobj=to, mode="a") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    return to.getvalue()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: data.replace(b"[ledger]", b"[Ledger]"), "was changed"),
        (lambda data: data[: len(data) // 2], "not whole"),
        (lambda data: data[:100], "no backup"),
        (lambda _: b"something else", "no backup"),
        (lambda _: b"", "no backup|not whole"),
        (rewritten(lambda members: members.pop(LIST)), "its end is missing"),
        (rewritten(lambda members: members.pop(ABOUT)), "its end is missing"),
        (rewritten(lambda members: members.pop("empty")), "was changed"),
        (rewritten(lambda members: members.update({LIST: b"{}"})), "no backup"),
        (rewritten(lambda members: members.update({"behind": b""})), "holds what no backup"),
        (rewritten(lambda members: members.update({ABOUT: b"[" * 9_000_000})), "too long"),
        (_linked, "holds what no backup"),
    ],
)
def test_one_that_was_changed_or_cut_off_is_refused(harm: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.backup")
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BackupDamaged, match=words):
        read(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//evil", ".", "a/."])
def test_a_name_that_leads_elsewhere_is_never_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.backup"
    path.write_bytes(rewritten(lambda members: members.update({name: b""}))(write(tmp_path / "b").read_bytes()))
    taken: list[str] = []
    with pytest.raises(BackupDamaged):
        play(path, None, lambda each: taken.append(each))  # type: ignore[func-returns-value]
    assert name not in taken


def test_an_encrypted_one_asks_for_its_passphrase(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--passphrase-file"):
        play(write(tmp_path / "a.backup", PASSPHRASE), None, lambda _name: None)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write(tmp_path / "a.backup")
    with pytest.raises(SettingsError, match="is there already"):
        write(tmp_path / "a.backup")
    with pytest.raises(MedaiError, match="No such file"):
        write(tmp_path / "nowhere" / "a.backup")


@pytest.mark.parametrize("fault", [RuntimeError("stop"), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_nothing_is_left_of_one_that_was_broken_off(fault: BaseException, tmp_path: Path) -> None:
    def broken() -> None:
        with recording(tmp_path / "a.backup", PASSPHRASE) as recorder:
            recorder.text(ABOUT, described(TOLD))
            raise fault

    with pytest.raises((type(fault), MedaiError)):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        return opened("/dev/full" if str(path).endswith(".part") else path, flags & ~(os.O_EXCL | os.O_CREAT), mode)

    monkeypatch.setattr(tape.os, "open", full)
    with pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full: nothing was left there"):
        write(tmp_path / "a.backup")
    assert list(tmp_path.iterdir()) == []


def test_what_it_says_of_itself_is_json() -> None:
    assert json.loads(described(TOLD))["parts"] == ["ledger"]
