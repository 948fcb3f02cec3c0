"""What is sealed opens with its passphrase alone, and not at all once a byte, a chunk or the end is another."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from medai.router.errors import SettingsError
from medai.router.keeping import sealed
from medai.router.keeping.sealed import CHUNK, MAGIC, BackupDamaged, Sealing, Unsealing, passphrase_of

PASSPHRASE = b"correct horse battery"
HEADER = len(MAGIC) + 1 + 16 + 7


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 10)


def seal(data: bytes) -> bytes:
    to = io.BytesIO()
    sealing = Sealing(to, PASSPHRASE)
    for at in range(0, len(data), 300_001):
        sealing.write(data[at : at + 300_001])
    sealing.close()
    return to.getvalue()


def unseal(data: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    opened = Unsealing(io.BytesIO(data), passphrase)
    return b"".join(iter(lambda: opened.read(70_000), b""))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_it_comes_back_as_it_was(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert unseal(seal(data[:size])) == data[:size]


def test_it_says_nothing_of_itself_and_never_looks_the_same_twice() -> None:
    one, two = seal(b"Doe^Jane" * 10), seal(b"Doe^Jane" * 10)
    assert b"Doe" not in one
    assert one[HEADER:] != two[HEADER:]


CUT = CHUNK + sealed.TAG


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: data[: HEADER + CUT],
        lambda data: data[: HEADER + 2 * CUT],
        lambda data: data + b"x",
        lambda data: data[:HEADER] + data[HEADER + CUT :],
        lambda data: data[:HEADER] + data[HEADER + CUT : HEADER + 2 * CUT] + data[HEADER : HEADER + CUT],
        lambda data: data[:HEADER] + bytes([data[HEADER] ^ 1]) + data[HEADER + 1 :],
        lambda data: data[: len(MAGIC) + 2] + bytes([data[len(MAGIC) + 2] ^ 1]) + data[len(MAGIC) + 3 :],
        lambda data: data[: len(MAGIC)] + bytes([60]) + data[len(MAGIC) + 1 :],
        lambda data: data[:20],
    ],
    ids=["shorter", "one chunk left", "two chunks left", "longer", "first gone", "swapped", "a bit", "salt", "cost", "head"],
)  # fmt: skip
def test_what_was_changed_does_not_open(harm: object) -> None:
    data = seal(b"x" * (2 * CHUNK + 5))
    with pytest.raises(BackupDamaged):
        unseal(harm(data))  # type: ignore[operator]  # one of the functions above


def test_another_passphrase_is_told_as_such() -> None:
    with pytest.raises(BackupDamaged, match="the passphrase is another"):
        unseal(seal(b"x"), b"correct horse battering")


def test_a_guess_costs_128_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 2**sealed.COST * 8 * 128 == 128 * 1024**2


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [("short\n", 0o600, "shorter than 12"), ("long enough it is\n", 0o644, "everybody may read"), (None, 0, "can't be read")],
)  # fmt: skip
def test_a_passphrase_that_is_none_is_refused(content: str | None, mode: int, words: str, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(SettingsError, match=words):
        passphrase_of(file)


def test_the_first_line_is_the_passphrase(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("correct horse battery  \nand more\n")
    (tmp_path / "p").chmod(0o600)
    assert passphrase_of(tmp_path / "p") == PASSPHRASE
