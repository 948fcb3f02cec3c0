"""The watch folder and the corpus of broken files and zips: rejected with a reason, in little memory, nothing outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import broken_cases
import pytest
from broken_cases import FILES, ZIPS, before_pixels, nested, packed, peak_of, sparse
from dicom_cases import slice_of, to_bytes

from medai.router.errors import OrthancBroke, OrthancRefused
from medai.router.files import dicom_scan, zips
from medai.router.intake import watch_folder
from medai.router.intake.watch_folder import WatchFolder
from medai.router.settings.tables import WatchFolderSettings

GOOD = to_bytes(slice_of(0, study="good"))
MEMORY_LIMIT = 300 * 1024**2


class Folder:
    """A watch folder whose Orthanc reads what is DICOM and ends on what ``kills`` it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "in"
        self.path.mkdir()
        self.now = 1000.0
        self.stored: list[bytes] = []
        self.kills: bytes | None = None
        self.deaths = 0
        settings = WatchFolderSettings(path=str(self.path), settle_s=2.0, max_file_gb=0.1)
        self.watch = WatchFolder(settings, self.upload, lambda: self.now)

    def upload(self, data: bytes) -> None:
        if data == self.kills:
            self.deaths += 1
            raise OrthancBroke("Orthanc does not answer")
        if data[128:132] != b"DICM" or len(data) < 1000:
            raise OrthancRefused("Bad file format", status=400)
        self.stored.append(data)

    def settle(self, times: int = 2) -> None:
        for _ in range(times):
            self.watch.scan()
            self.now += 10.0

    def reason(self, name: str) -> str:
        return (self.path / "rejected" / f"{name}.reason.txt").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "make", "words"), [*FILES, *ZIPS], ids=[case[0] for case in (*FILES, *ZIPS)])
def test_a_broken_file_is_rejected_with_its_reason_and_the_next_one_is_sent(
    folder: Folder, name: str, make: Callable[[], bytes], words: str
) -> None:
    (folder.path / name).write_bytes(make())
    (folder.path / "z").write_bytes(GOOD)
    with peak_of() as peak:
        folder.settle()
    assert words in folder.reason(name)
    assert folder.stored == [GOOD]
    assert peak() < MEMORY_LIMIT


@pytest.mark.timeout(30)
@pytest.mark.parametrize("start", [broken_cases.huge_image("huge"), b"", b"PK\x03\x04"], ids=["dicom", "zeros", "zip"])
def test_a_sparse_file_of_four_gigabytes_is_rejected_and_not_read(folder: Folder, start: bytes) -> None:
    sparse(folder.path / "huge.dcm", 4 * 2**30 + 100, start)
    with peak_of() as peak:
        folder.settle()
    assert "watch_folder.max_file_gb" in folder.reason("huge.dcm") or "zip is damaged" in folder.reason("huge.dcm")
    assert peak() < 20 * 1024**2


def test_names_in_a_zip_lead_nowhere_and_are_shown_without_control_characters(folder: Folder, tmp_path: Path) -> None:
    names = ["../../../up.dcm", "/etc/cron.d/job", "..\\..\\w.dcm", "\x1b[31mred\nline\u202eevil", "n" * 60_000]
    (folder.path / "s.zip").write_bytes(packed(dict.fromkeys(names, b"x") | {"../good.dcm": GOOD}))
    folder.settle()
    assert folder.stored == [GOOD]
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"s.zip", "s.zip.reason.txt"}
    lines = folder.reason("s.zip").splitlines()
    assert len(lines) == 1 + len(names)
    assert all(line.isprintable() and len(line) < 250 for line in lines)


def test_a_zip_of_many_bad_files_names_the_first_of_them(folder: Folder) -> None:
    (folder.path / "s.zip").write_bytes(packed({f"{n}.txt": b"x" for n in range(watch_folder.LISTED + 7)}))
    folder.settle()
    lines = folder.reason("s.zip").splitlines()
    assert (len(lines), lines[-1]) == (watch_folder.LISTED + 2, "and 7 more")


def test_a_file_on_which_orthanc_dies_is_rejected_once_it_took_another(folder: Folder) -> None:
    folder.kills = b"a" * 2000
    (folder.path / "a.dcm").write_bytes(folder.kills)
    (folder.path / "b.dcm").write_bytes(GOOD)
    folder.settle(3)
    assert folder.stored == [GOOD]  # it did not wait for the other
    folder.settle(10)
    assert folder.deaths == watch_folder.BREAKS_LIMIT
    assert "Orthanc failed 3 times on this file and accepted others meanwhile" in folder.reason("a.dcm")


def test_an_orthanc_that_fails_on_every_file_costs_none_of_them(folder: Folder) -> None:
    folder.kills = GOOD
    (folder.path / "a.dcm").write_bytes(GOOD)
    folder.settle(100)
    assert (folder.path / "a.dcm").exists()
    assert folder.deaths < 12  # it is asked less and less often
    folder.kills = None
    folder.settle(40)
    assert folder.stored == [GOOD]


def test_a_name_that_leaves_no_room_for_the_reason_is_shortened(folder: Folder) -> None:
    for name in ("x" * 251 + ".dcm", "\u00e4" * 127, os.fsdecode(b"\xff" * 250)):
        (folder.path / name).write_bytes(b"bad")
    folder.settle()
    rejected = list((folder.path / "rejected").iterdir())
    assert len(rejected) == 6
    assert sum(path.name.endswith(".reason.txt") for path in rejected) == 3


@pytest.mark.parametrize("explicit_length", [False, True])
def test_nesting_is_counted_exactly(explicit_length: bool) -> None:
    def told(depth: int) -> str:
        data = before_pixels(to_bytes(slice_of(0, study="n")), nested(depth, explicit_length=explicit_length))
        return dicom_scan.refusal(data, unpacked_limit=2**30)

    assert told(dicom_scan.DEPTH_LIMIT) == ""
    assert "nested more than 32 deep" in told(dicom_scan.DEPTH_LIMIT + 1)


def test_a_member_of_lzma_is_read_whole(tmp_path: Path) -> None:
    import io
    import zipfile

    content = os.urandom(100_000) + bytes(3_000_000)
    packed_ = packed({"a": content}, zipfile.ZIP_LZMA)
    archive, (member,) = zips.open_zip(io.BytesIO(packed_), max_bytes=2**30, limit_name="x")
    assert zips.read_member(archive, member, max_bytes=2**30) == content
    with pytest.raises(zips.BadZip, match="larger than"):
        zips.read_member(archive, member, max_bytes=3_000_000)
