"""A model that has broken out of its network: what the volume's modality names, it does. Stands in for models/confined/reader.py.

It is confined as the real one is, and answers through the same socket. Next: unit/models/confined/test_segmenter.py.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medai.models.child import Body
from medai.models.confined import reader
from medai.models.volume import Volume

Answer = tuple[dict[str, Any], Body]


def labels(volume: Volume, value: int = 1, **changes: Any) -> Answer:
    """An honest answer, but for the changes."""
    shape = volume.geometry.shape
    return {"answer": "labels", "shape": shape, "dtype": "uint8", **changes}, bytes([value]) * volume.voxels.size


def calls_home(volume: Volume) -> Answer:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    return labels(volume)


def reads_accounts(volume: Volume) -> Answer:
    Path("/etc/passwd").read_text()
    return labels(volume)


def writes(volume: Volume) -> Answer:
    Path(f"/tmp/medai-hostile-{os.getpid()}").write_text("was here")  # noqa: S108 - it may not
    return labels(volume)


def says(text: bytes) -> Callable[[Volume], Answer]:
    """Bytes on the socket, whatever they mean; then it waits to be ended."""

    def answer(volume: Volume) -> Answer:
        for descriptor in range(3, 64):
            try:
                if socket.socket(fileno=os.dup(descriptor)).family == socket.AF_UNIX:
                    os.write(descriptor, text)
            except OSError:
                continue
        time.sleep(600)
        return labels(volume)

    return answer


def dies(volume: Volume) -> Answer:
    print("its last words\x1b[31m", file=sys.stderr, flush=True)
    signal.raise_signal(signal.SIGSEGV)
    return labels(volume)


def hangs(volume: Volume) -> Answer:
    time.sleep(600)
    return labels(volume)


def ends(volume: Volume) -> Answer:
    os._exit(7)


def fills_memory(volume: Volume) -> Answer:
    return labels(volume, reason=str(len(bytearray(1 << 40))))


def with_tail(volume: Volume) -> Answer:
    header, body = labels(volume)
    return header, bytes(body) + b"x"


DOES: Mapping[str, Callable[[Volume], Answer]] = {
    "CT": labels,
    "calls home": calls_home,
    "reads the accounts": reads_accounts,
    "writes a file": writes,
    "dies": dies,
    "hangs": hangs,
    "ends": ends,
    "fills memory": fills_memory,
    "another shape": lambda volume: labels(volume, shape=volume.geometry.shape[::-1]),
    "another kind of number": lambda volume: labels(volume, dtype="int16"),
    "too few voxels": lambda volume: (labels(volume)[0], b"\1\1"),
    "too many voxels": with_tail,
    "an undeclared label": lambda volume: labels(volume, value=9),
    "an answer of another question": lambda volume: ({"answer": "ready"}, b""),
    "a long reason": lambda volume: ({"answer": "refused", "reason": "x" * 9999}, b""),
    "a reason": lambda volume: ({"answer": "refused", "reason": "not\x1b[31m a\nchest"}, b""),
    "a kind": lambda volume: ({"answer": "kind", "probabilities": [0.25, 0.75], "upright": 1.0}, b""),
    "a kind of too many parts": lambda volume: ({"answer": "kind", "probabilities": [0.5] * 3, "upright": 1.0}, b""),
    "a kind beyond measure": lambda volume: ({"answer": "kind", "probabilities": [math.nan, 2.0], "upright": 1.0}, b""),
    "a huge answer": says(struct.pack(">IQ", 2, 1 << 60)),
}


def _model(_asked: dict[str, Any]) -> Callable[[Volume], Answer]:
    return lambda volume: DOES[volume.modality](volume)


if __name__ == "__main__":
    reader._model = _model
    raise SystemExit(reader.main(sys.argv[1]))
