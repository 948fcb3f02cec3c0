"""The watch folder over real files: what is sent, what is left alone, what is rejected and why."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from medai.router.errors import OrthancRefused, OrthancUnreachable
from medai.router.files import zips
from medai.router.intake import watch_folder
from medai.router.intake.watch_folder import WatchFolder
from medai.router.settings.tables import WatchFolderSettings


class Archive:
    """Orthanc in memory: reads what begins with ``good``; ``away`` makes it unreachable after so many more files."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.asked = 0
        self.away_after: int | None = None
        self.status = 400
        self.came = threading.Event()

    def upload(self, data: bytes) -> None:
        self.asked += 1
        if self.away_after is not None and len(self.stored) >= self.away_after:
            raise OrthancUnreachable("Orthanc is away")
        if not data.startswith(b"good"):
            raise OrthancRefused("Bad file format", status=self.status)
        self.stored.append(data)
        self.came.set()


class Folder:
    """A watch folder on a clock of its own."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path / "in"
        self.path.mkdir()
        self.now = 1000.0
        self.archive = Archive()
        options = {"path": str(self.path), "settle_s": 2.0, **settings}
        self.watch = WatchFolder(WatchFolderSettings(**options), self.archive.upload, lambda: self.now)

    def put(self, name: str, data: bytes = b"good") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def zip(self, name: str, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
        path = self.path / name
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return path

    def settle(self) -> None:
        self.watch.scan()
        self.now += 2.0
        self.watch.scan()

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if not p.is_dir())

    def reason(self, name: str) -> str:
        return (self.path / "rejected" / f"{name}.reason.txt").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_settled_file_is_sent_and_removed(folder: Folder) -> None:
    folder.put("a.dcm", b"good 1")
    folder.put("deep/er/b", b"good 2")
    folder.settle()
    assert folder.archive.stored == [b"good 1", b"good 2"]
    assert folder.left() == []


def test_a_file_that_is_still_written_is_left_alone(folder: Folder) -> None:
    path = folder.put("a.dcm", b"good")
    for _ in range(5):
        folder.watch.scan()
        folder.now += 1.5
        with path.open("ab") as file:
            file.write(b"more")
    assert folder.archive.asked == 0
    folder.settle()
    assert folder.archive.stored == [b"good" + b"more" * 5]


def test_a_file_whose_time_alone_changes_is_left_alone(folder: Folder) -> None:
    path = folder.put("a.dcm")
    folder.watch.scan()
    folder.now += 2.0
    os.utime(path, (1, 1))
    folder.watch.scan()
    assert folder.archive.asked == 0


@pytest.mark.parametrize(
    "name", [".hidden", "a.part", "a.TMP", "a.dcm.crdownload", "a~", ".sub/a.dcm", "rejected/a.dcm"]
)
def test_unfinished_hidden_and_rejected_names_are_left_alone(folder: Folder, name: str) -> None:
    folder.put(name)
    folder.settle()
    assert folder.archive.asked == 0
    assert folder.left() == [name]


def test_the_pause_until_the_next_look_ends_when_the_first_file_settles(folder: Folder) -> None:
    assert folder.watch.scan() == watch_folder.RESCAN_S
    folder.put("a.dcm")
    assert folder.watch.scan() == pytest.approx(2.0)
    folder.now += 0.5
    folder.put("b.dcm")
    assert folder.watch.scan() == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"text", "Orthanc cannot read it as DICOM (400)"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 cut", "zip is damaged"),
    ],
)
def test_an_unreadable_file_is_moved_to_rejected_with_the_reason_beside_it(
    folder: Folder, data: bytes, words: str
) -> None:
    folder.put("sub/a.dcm", data)
    folder.settle()
    assert folder.left() == ["rejected/sub/a.dcm", "rejected/sub/a.dcm.reason.txt"]
    assert (folder.path / "rejected/sub/a.dcm").read_bytes() == data
    assert words in folder.reason("sub/a.dcm")


def test_rejected_files_of_the_same_name_do_not_replace_each_other(folder: Folder) -> None:
    for number in range(3):
        folder.put("a.dcm", b"bad %d" % number)
        folder.settle()
    names = ["rejected/a (2).dcm", "rejected/a (3).dcm", "rejected/a.dcm"]
    assert [(folder.path / name).read_bytes() for name in names] == [b"bad 1", b"bad 2", b"bad 0"]
    assert len(folder.left()) == 6


def test_an_index_of_a_medium_is_rejected_as_such(folder: Folder) -> None:
    folder.put("DICOMDIR")
    folder.settle()
    assert folder.archive.asked == 0
    assert "not an image" in folder.reason("DICOMDIR")


def test_files_wait_while_orthanc_is_away_and_go_when_it_is_back(folder: Folder) -> None:
    folder.put("a.dcm", b"good a")
    folder.put("b.dcm", b"good b")
    folder.archive.away_after = 0
    folder.settle()
    assert folder.archive.asked == 1  # the second file was not tried in vain
    assert folder.watch.scan() == pytest.approx(watch_folder.RETRY_S)
    assert folder.archive.asked == 1
    folder.archive.away_after = None
    folder.now += watch_folder.RETRY_S
    folder.watch.scan()
    assert folder.archive.stored == [b"good a", b"good b"]
    assert folder.left() == []


def test_a_refusal_of_one_file_that_may_be_ours_does_not_keep_the_others_waiting(folder: Folder) -> None:
    folder.put("a.dcm", b"refused")
    folder.put("b.dcm")
    folder.archive.status = 404
    folder.settle()
    folder.now += watch_folder.RETRY_S
    folder.watch.scan()
    assert folder.archive.stored == [b"good"]
    assert folder.left() == ["a.dcm"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_our_credentials_rejects_no_file(folder: Folder, status: int) -> None:
    folder.put("a.dcm", b"refused")
    folder.archive.status = status
    folder.settle()
    assert folder.left() == ["a.dcm"]


def test_a_file_written_again_while_it_is_sent_is_kept_and_sent_again(folder: Folder) -> None:
    path = folder.put("a.dcm", b"good 1")
    send = folder.archive.upload

    def meanwhile(data: bytes) -> None:
        send(data)
        if len(folder.archive.stored) == 1:
            path.write_bytes(b"good, newer")

    folder.watch._upload = meanwhile
    folder.settle()
    assert folder.left() == ["a.dcm"]
    folder.settle()
    assert folder.archive.stored == [b"good 1", b"good, newer"]
    assert folder.left() == []


def test_links_are_not_followed(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.dcm").write_bytes(b"good")
    (folder.path / "file").symlink_to(outside / "a.dcm")
    (folder.path / "dir").symlink_to(outside)
    os.mkfifo(folder.path / "pipe")
    folder.settle()
    assert folder.archive.asked == 0
    assert (outside / "a.dcm").exists()


def test_a_file_that_vanishes_is_no_error(folder: Folder) -> None:
    folder.put("a.dcm").unlink()
    path = folder.put("b.dcm")
    folder.watch._upload = lambda _data: path.unlink()
    folder.settle()
    assert folder.left() == []


def test_a_strange_failure_leaves_the_file_and_goes_on_with_the_others(folder: Folder) -> None:
    send = folder.archive.upload

    def fails(data: bytes) -> None:
        if data == b"strange":
            raise RuntimeError("boom")
        send(data)

    folder.watch._upload = fails
    folder.put("a.dcm", b"strange")
    folder.put("b.dcm")
    folder.settle()
    folder.settle()
    assert folder.left() == ["a.dcm"]
    assert folder.archive.stored == [b"good"]


def test_an_emptied_subfolder_is_removed_later_and_one_in_use_is_not(folder: Folder) -> None:
    folder.put("one/two/a.dcm")
    folder.put("three/b.dcm")
    folder.settle()
    assert (folder.path / "one/two").is_dir()  # a copy into it may still be under way
    folder.now += watch_folder.EMPTY_AFTER_S
    folder.put("three/c.dcm")
    folder.watch.scan()
    assert not (folder.path / "one").exists()
    assert (folder.path / "three/c.dcm").exists()


# -- zips


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_files_of_a_zip_are_sent_and_the_zip_removed(folder: Folder, compression: int) -> None:
    members = {"s/1": b"good 1", "s/2": b"good 2", "DICOMDIR": b"index", "__MACOSX/._1": b"x", ".DS_Store": b"x"}
    folder.zip("study.zip", members, compression)
    folder.settle()
    assert folder.archive.stored == [b"good 1", b"good 2"]
    assert folder.left() == []


def test_a_zip_is_known_by_its_content_not_its_name(folder: Folder) -> None:
    folder.zip("export.dat", {"1": b"good"})
    folder.settle()
    assert folder.archive.stored == [b"good"]


def test_the_good_files_of_a_bad_zip_are_sent_and_the_bad_ones_listed(folder: Folder) -> None:
    folder.zip("s.zip", {"1": b"good 1", "x/readme.txt": b"hello", "2": b"good 2", "in.zip": b"PK\x03\x04", "e": b""})
    folder.settle()
    assert folder.archive.stored == [b"good 1", b"good 2"]
    assert folder.left() == ["rejected/s.zip", "rejected/s.zip.reason.txt"]
    assert folder.reason("s.zip").splitlines() == [
        "refused 3 of the 5 files in the zip, sent 2:",
        "x/readme.txt: Orthanc cannot read it as DICOM (400)",
        "in.zip: a zip within a zip is not opened",
        "e: it is empty",
    ]


def test_a_damaged_member_is_listed(folder: Folder) -> None:
    path = folder.zip("s.zip", {"1": b"good 1 " * 100, "2": b"good 2"})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    folder.settle()
    assert folder.archive.stored == [b"good 2"]
    assert "1: it is damaged in the zip" in folder.reason("s.zip")


def test_an_encrypted_member_is_listed(folder: Folder) -> None:
    path = folder.zip("s.zip", {"1": b"good"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    folder.settle()
    assert "it is encrypted" in folder.reason("s.zip")


def test_a_path_in_a_zip_leads_nowhere(folder: Folder, tmp_path: Path) -> None:
    folder.zip("s.zip", {"../../escaped.dcm": b"good 1", "/etc/escaped": b"good 2", "C:\\x": b"good 3"})
    folder.settle()
    assert len(folder.archive.stored) == 3
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("settings", "members", "words"),
    [
        ({"max_zip_gb": 1e-6}, {"1": b"good" * 1000}, "watch_folder.max_zip_gb"),
        ({}, {}, "holds no file"),
        ({}, {"DICOMDIR": b"x"}, "holds no file"),
    ],
)
def test_a_zip_beyond_the_limits_is_rejected_before_anything_is_sent(
    tmp_path: Path, settings: dict[str, Any], members: dict[str, bytes], words: str
) -> None:
    folder = Folder(tmp_path, **settings)
    folder.zip("s.zip", members)
    folder.settle()
    assert folder.archive.asked == 0
    assert words in folder.reason("s.zip")


def test_a_bomb_is_known_by_how_tightly_it_is_packed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "RATIO_FROM", 1024**2)
    folder.zip("s.zip", {"1": bytes(4 * 1024**2)}, zipfile.ZIP_DEFLATED)
    folder.settle()
    assert folder.archive.asked == 0
    assert "more than 500 times its size" in folder.reason("s.zip")


def test_a_member_that_lies_about_its_size_is_damaged_not_unpacked(folder: Folder) -> None:
    path = folder.zip("s.zip", {"1": b"good" + bytes(5 * 1024**2)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    folder.settle()
    assert folder.archive.asked == 0
    assert "1: it is damaged in the zip" in folder.reason("s.zip")


def test_a_zip_goes_on_where_it_stopped_when_orthanc_went_away(folder: Folder) -> None:
    folder.zip("s.zip", {"1": b"good 1", "2": b"bad", "3": b"good 3"})
    folder.archive.away_after = 1
    folder.settle()
    assert folder.left() == ["s.zip"]
    folder.archive.away_after = None
    folder.now += watch_folder.RETRY_S
    folder.watch.scan()
    assert folder.archive.stored == [b"good 1", b"good 3"]
    assert "refused 1 of the 3 files in the zip, sent 2" in folder.reason("s.zip")


def test_names_of_files_do_not_reach_the_log(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.put("DOE_JANE.dcm")
    folder.put("DOE_BAD.dcm", b"bad")
    folder.zip("DOE.zip", {"DOE_1.dcm": b"bad"})
    folder.settle()
    output = capsys.readouterr()
    assert "watch_folder_sent" in output.out + output.err
    assert "DOE" not in output.out + output.err


def test_the_thread_sends_a_file_that_is_dropped_while_it_watches(tmp_path: Path) -> None:
    archive = Archive()
    settings = WatchFolderSettings(path=str(tmp_path / "made" / "in"), settle_s=0.05)
    watch = WatchFolder(settings, archive.upload)
    watch.start()
    try:
        (tmp_path / "made/in/sub").mkdir()
        (tmp_path / "made/in/sub/a.dcm").write_bytes(b"good")
        assert archive.came.wait(20)
    finally:
        watch.stop()
    assert not (tmp_path / "made/in/sub/a.dcm").exists()


@pytest.mark.parametrize("kind", ["pipe", "second name", "link"])
def test_what_only_looks_like_a_file_when_it_is_opened_is_not_read(tmp_path: Path, kind: str) -> None:
    """It may have been a file when the folder was listed, and be something else by then."""
    secret = tmp_path / "secret"
    secret.write_text("what the router may read, and who drops files may not")
    dropped = tmp_path / "dropped"
    {"pipe": lambda: os.mkfifo(dropped), "second name": lambda: dropped.hardlink_to(secret),
     "link": lambda: dropped.symlink_to(secret)}[kind]()  # fmt: skip
    sent: list[bytes] = []
    watch = WatchFolder(WatchFolderSettings(path=str(tmp_path)), sent.append)
    with pytest.raises((OSError, watch_folder._Unreadable)):
        watch._send(dropped, watch_folder._Seen(signature=(1, 1), since=0.0))
    assert sent == []
