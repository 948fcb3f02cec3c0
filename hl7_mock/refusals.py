"""The messages that were not taken, kept with the reasons so that a person can see why.

Nice to have, so a disk that cannot take them is logged and not an error; the newest 200 are kept.
Next: inbox.py (what was taken).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from medai.hl7_mock.acks import Objection
from medai.hl7_mock.storage import clear_parts, make_private, write_atomic

KEPT = 200
KEPT_CHARACTERS = 65536

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One message that was answered AE or AR."""

    message_id: str
    received_at: float
    control_id: str
    ack: str
    objections: tuple[Objection, ...]
    text: str


_ADAPTER = TypeAdapter(Refusal)


class Refusals:
    """The last refused messages, on disk as one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "refused"
        make_private(self._folder)
        clear_parts(self._folder)
        self._kept: deque[Refusal] = deque(maxlen=KEPT)
        self._next = 1
        self._load()

    @property
    def total(self) -> int:
        """How many there were since the folder was made, those that are forgotten included."""
        return self._next - 1

    @property
    def newest_first(self) -> tuple[Refusal, ...]:
        """All that are kept."""
        return tuple(reversed(self._kept))

    def find(self, message_id: str) -> Refusal | None:
        """The refused message with this number (``r12``)."""
        return next((each for each in self._kept if each.message_id == message_id), None)

    async def add(
        self, raw: bytes, *, received_at: float, control_id: str, ack: str, objections: Iterable[Objection]
    ) -> Refusal:
        """Remember one more, and forget the oldest."""
        number, self._next = self._next, self._next + 1
        refusal = Refusal(
            message_id=f"r{number}",
            received_at=received_at,
            control_id=control_id[:40],
            ack=ack,
            objections=tuple(objections),
            text=raw.decode("utf-8", "replace")[:KEPT_CHARACTERS],
        )
        self._kept.append(refusal)
        try:
            await asyncio.to_thread(write_atomic, self._path(number), _ADAPTER.dump_json(refusal))
            self._path(number - KEPT).unlink(missing_ok=True)
        except OSError as error:
            log.warning("refusal_not_written", error=error.strerror)
        return refusal

    def _path(self, number: int) -> Path:
        return self._folder / f"r{number:08d}.json"

    def _load(self) -> None:
        for path in sorted(self._folder.glob("r*.json")):
            self._next = int(path.stem[1:]) + 1
            try:
                self._kept.append(_ADAPTER.validate_json(path.read_bytes()))
            except (ValidationError, OSError):
                log.warning("refusal_file_unreadable", file=path.name)
