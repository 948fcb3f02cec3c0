"""What others may read is closed to them, links are left alone, and what another user owns is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from medai.router import private
from medai.router.errors import SettingsError
from medai.router.ledger import Ledger
from medai.router.onebox.site import Site

NOBODY = 65_534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def left_open(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "orthanc-db" / "ab").mkdir(parents=True)
    (folder / "orthanc-db" / "ab" / "image").write_text("a patient")
    (folder / "site.json").write_text("{}")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def test_all_that_was_left_open_is_closed_once(left_open: Path) -> None:
    assert private.mend(left_open) == 5
    assert {mode(path) for path in (left_open, *left_open.rglob("*")) if path.is_dir()} == {0o700}
    assert {mode(path) for path in left_open.rglob("*") if path.is_file()} == {0o600}
    assert private.mend(left_open) == 0


def test_a_link_is_not_followed(left_open: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("somebody's")
    outside.chmod(0o644)
    (left_open / "link").symlink_to(outside)
    (left_open / "dangling").symlink_to(tmp_path / "nowhere")
    private.mend(left_open)
    assert mode(outside) == 0o644


def test_what_another_user_owns_is_refused_with_the_reason(left_open: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    with pytest.raises(SettingsError, match=rf"belongs to another user \(uid {owner}\).*chown -R {NOBODY}"):
        private.mend(left_open)
    assert mode(left_open) == 0o755


def test_a_site_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0)
    site = Site.create(tmp_path / "site", free_ports=True)
    assert {mode(path) & 0o077 for path in (site.folder, *site.folder.rglob("*"))} == {0}


def test_a_ledger_that_others_could_read_is_closed_when_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    first = Ledger(f"sqlite:///{file}")
    first.migrate()
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    second = Ledger(f"sqlite:///{file}")
    second.migrate()
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    second.close()
    first.close()
