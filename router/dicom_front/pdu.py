"""The first PDU of an association, read before the archive reads it, and those that refuse and end one (PS3.8, 9.3).

Whatever lengths it claims, no more is kept than it may have, and its items must fill it exactly: what comes through
here a parser of DCMTK can take. Pure. Next: senders.py (who may), relay.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

HEADER_BYTES = 6
REQUEST_LIMIT = 256 * 1024
"""Of an A-ASSOCIATE-RQ: 128 presentation contexts with every transfer syntax there is are half of it."""
CONTEXTS_LIMIT = 128
"""PS3.8, 9.3.2.2: their IDs are the odd numbers of a byte."""
_FIXED_BYTES = 68
_ASSOCIATE_RQ, _KNOWN = 0x01, range(0x01, 0x08)
_CONTEXT, _USER = 0x20, 0x50
_ITEM = struct.Struct(">BxH")


class Why(Enum):
    """Reason of an A-ABORT by the service provider (PS3.8, table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8, table 9-21)."""

    CALLING_AE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_NOT_RECOGNIZED = (1, 1, 7)
    TEMPORARY_CONGESTION = (2, 3, 1)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


class BadPdu(Exception):
    """What came is no A-ASSOCIATE-RQ; ``why`` is what the A-ABORT says."""

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True, kw_only=True)
class Request:
    """An A-ASSOCIATE-RQ: who calls whom, and all of its bytes as they came."""

    called: str
    calling: str
    data: bytes


class Opening:
    """The first PDU of a connection while it comes."""

    def __init__(self, limit: int = REQUEST_LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()
        self._size = HEADER_BYTES

    @property
    def missing(self) -> int:
        """Bytes that may come next: of its header, then of the rest. Nobody may send more before there is an answer."""
        return self._size - len(self._data)

    @property
    def held_bytes(self) -> int:
        """What is kept of it."""
        return len(self._data)

    def feed(self, data: bytes | memoryview) -> Request | None:
        """What came, at most ``missing`` of it; the request when it is whole. Raises BadPdu."""
        self._data += data
        if self.missing:
            return None
        if self._size == HEADER_BYTES:
            self._size += self._length()
            return None
        return parse(bytes(self._data))

    def _length(self) -> int:
        kind, length = struct.unpack(">BxI", self._data)
        if kind != _ASSOCIATE_RQ:
            raise BadPdu(Why.UNEXPECTED_PDU if kind in _KNOWN else Why.UNRECOGNIZED_PDU, "no A-ASSOCIATE-RQ")
        if not _FIXED_BYTES <= length <= self._limit - HEADER_BYTES:
            raise BadPdu(Why.INVALID_PARAMETER, "an A-ASSOCIATE-RQ of that length is not taken")
        return int(length)


def parse(data: bytes) -> Request:
    """A whole A-ASSOCIATE-RQ; raises BadPdu where its items do not fill it."""
    body = memoryview(data)[HEADER_BYTES:]
    contexts = 0
    for kind, value in _items(body[_FIXED_BYTES:]):
        contexts += kind == _CONTEXT
        if kind == _CONTEXT and len(value) < 4:
            raise BadPdu(Why.INVALID_PARAMETER, "a presentation context is cut off")
        if kind in (_CONTEXT, _USER):
            for _ in _items(value[4:] if kind == _CONTEXT else value):
                pass
    if contexts > CONTEXTS_LIMIT:
        raise BadPdu(Why.INVALID_PARAMETER, "too many presentation contexts")
    return Request(called=_title(body[4:20]), calling=_title(body[20:36]), data=data)


def reject(rejection: Rejection) -> bytes:
    """An A-ASSOCIATE-RJ."""
    return struct.pack(">BxIxBBB", 0x03, 4, *rejection.value)


def abort(why: Why = Why.NOT_SPECIFIED) -> bytes:
    """An A-ABORT by the service provider."""
    return struct.pack(">BxIxxBB", 0x07, 4, 2, why.value)


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Items and sub-items have the same form: a type and a length of 16 bits."""
    while data:
        if len(data) < _ITEM.size:
            raise BadPdu(Why.INVALID_PARAMETER, "an item is cut off")
        kind, length = _ITEM.unpack_from(data)
        if length > len(data) - _ITEM.size:
            raise BadPdu(Why.INVALID_PARAMETER, "an item is longer than what holds it")
        yield kind, data[_ITEM.size : _ITEM.size + length]
        data = data[_ITEM.size + length :]


def _title(field: memoryview) -> str:
    """An AE title without the spaces around it; what is no printable ASCII becomes a question mark."""
    text = bytes(field).rstrip(b"\0").decode("ascii", "replace").strip(" ")
    return "".join(c if " " <= c <= "~" else "?" for c in text)
