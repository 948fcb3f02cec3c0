"""The relay before a DICOM port, in a thread of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import answers, free_port, wait_for

from medai.router.dicom_front.relay import Relay
from medai.router.settings.dicom_in import DicomInSettings


@contextmanager
def fronted(
    archive_port: int, *, request_s: float = 30.0, dicom_in: Any = None, **front: Any
) -> Iterator[tuple[int, Counter[str]]]:
    """Its port, and whom it turned away."""
    turned_away: Counter[str] = Counter()
    own = {"host": "127.0.0.1", "port": free_port(), "archive_port": archive_port, **front}
    settings = DicomInSettings(**{"open": True, **(dicom_in or {})}, front=own)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(Relay(settings, request_s=request_s, turned_away=turned_away).serve())

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: answers(settings.front.port), what="the relay")
        yield settings.front.port, turned_away
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(10)
        loop.close()
