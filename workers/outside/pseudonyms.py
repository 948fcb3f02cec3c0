"""UIDs and a patient's number that say nothing to who lacks the key, and are the same at each try.

Each is an HMAC of what it stands for and of its purpose (one reading, one research project), so that what was sent for
one purpose can't be joined to what was sent for another. Next: deidentify.py.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping
from types import MappingProxyType

from pydicom._uid_dict import UID_dictionary

LEAST_KEY_BYTES = 16


class Pseudonyms:
    """The pseudonyms of one purpose, and what they stand for."""

    def __init__(self, key: bytes, purpose: str) -> None:
        if len(key) < LEAST_KEY_BYTES:
            raise ValueError(f"a key of pseudonyms has at least {LEAST_KEY_BYTES} bytes")
        self._key = key
        self._purpose = purpose
        self._originals: dict[str, str] = {}
        self._given: dict[str, str] = {}

    def uid(self, original: str) -> str:
        """The pseudonym of a UID; one that the standard itself gives out (a class, a syntax) stays as it is."""
        if not original or original in UID_dictionary:
            return original
        if original not in self._given:
            made = f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=5).int}"
            self._given[original], self._originals[made] = made, original
        return self._given[original]

    def patient(self, *names: str) -> str:
        """What stands for Patient ID and name."""
        return f"ANON-{self._digest('patient', *names).hex()[:16].upper()}"

    @property
    def originals(self) -> Mapping[str, str]:
        """Pseudonym of each UID that was asked for -> what it stands for: the way back."""
        return MappingProxyType(self._originals)

    def _digest(self, *parts: str) -> bytes:
        message = b"".join(len(each).to_bytes(4, "big") + each for each in map(_bytes, (self._purpose, *parts)))
        return hmac.digest(self._key, message, "sha256")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
