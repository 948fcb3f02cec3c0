"""A stream encrypted under a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM seals one chunk after the other.

Each chunk's nonce holds its number and whether it is the last (the STREAM construction), so chunks can't be changed,
left out, put in another order or cut off at the end unnoticed. Next: tape.py (what is written through it).
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from medai.router import private
from medai.router.errors import MedaiError, SettingsError

MAGIC = b"MEDAI SEALED 1\n"
CHUNK = 1024**2
TAG = 16
COST = 17
"""Of scrypt, as a power of two: 128 MiB and about half a second a guess."""
MOST_COST = 20
SHORTEST = 12
"""Characters of a passphrase."""
_SALT, _PREFIX = 16, 7


class BackupDamaged(MedaiError):
    """A backup is not as it was written; the text says what is wrong."""


def passphrase_of(file: Path) -> bytes:
    """The first line of a file that nobody else may read."""
    try:
        if private.is_open(file):
            raise SettingsError(f"everybody may read {file}: close it (chmod 600)")
        text = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the passphrase can't be read from {file}") from error
    if len(text) < SHORTEST:
        raise SettingsError(f"the passphrase in {file} is shorter than {SHORTEST} characters")
    return text.encode()


class Sealing:
    """Takes bytes, and writes them encrypted; ``close`` writes the last chunk."""

    def __init__(self, to: BinaryIO, passphrase: bytes) -> None:
        salt, self._prefix = secrets.token_bytes(_SALT), secrets.token_bytes(_PREFIX)
        self._header = MAGIC + bytes([COST]) + salt + self._prefix
        self._cipher = AESGCM(_key(passphrase, salt, COST))
        self._to = to
        self._held = bytearray()
        self._number = 0
        to.write(self._header)

    def write(self, data: bytes) -> int:
        """A last chunk must be known as such, so one is held back."""
        self._held += data
        while len(self._held) > CHUNK:
            self._seal(bytes(self._held[:CHUNK]), last=False)
            del self._held[:CHUNK]
        return len(data)

    def close(self) -> None:
        """No more comes."""
        self._seal(bytes(self._held), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._to.write(self._cipher.encrypt(_nonce(self._prefix, self._number, last=last), chunk, self._header))
        self._number += 1


class Unsealing:
    """Reads what ``Sealing`` wrote; raises BackupDamaged where it is another."""

    def __init__(self, source: BinaryIO, passphrase: bytes) -> None:
        header = source.read(len(MAGIC) + 1 + _SALT + _PREFIX)
        at = len(MAGIC)
        if len(header) < at + 1 + _SALT + _PREFIX or not 10 <= header[at] <= MOST_COST:
            raise BackupDamaged("the backup is damaged: its beginning can't be read")
        self._header, self._prefix = header, header[-_PREFIX:]
        self._cipher = AESGCM(_key(passphrase, header[at + 1 : at + 1 + _SALT], header[at]))
        self._source = source
        self._next = source.read(CHUNK + TAG)
        self._open = b""
        self._number = 0

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end."""
        while len(self._open) < size and self._next:
            chunk, self._next = self._next, self._source.read(CHUNK + TAG)
            nonce = _nonce(self._prefix, self._number, last=not self._next)
            try:
                self._open += self._cipher.decrypt(nonce, chunk, self._header)
            except InvalidTag as error:
                first = "the passphrase is another, or the backup was changed" if self._number == 0 else ""
                raise BackupDamaged(first or "the backup was changed, or is not whole") from error
            self._number += 1
        found, self._open = self._open[:size], self._open[size:]
        return found


def _key(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=2**cost, r=8, p=1).derive(passphrase)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
