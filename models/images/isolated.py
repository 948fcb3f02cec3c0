"""GDCM in a process of its own, because it ends its process on some damaged JPEG images.

It is the only decoder here for JPEG Lossless, which many archives use. One child serves one series: it starts
with the first image (about half a second) and gets nothing but pixels and their description, on a pipe.
``python -m medai.models.images.isolated`` is the child. Next: decode.py.
"""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, Self

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, SecondaryCaptureImageStorage

from medai.models.volume import Voxels

PIXEL_KEYWORDS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


class DamagedImageError(Exception):
    """The child could not decode an image, or did not survive it."""


class GdcmProcess:
    """Starts at the first image, ends with the ``with`` block; images one after another."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    def decode(self, dataset: Dataset, encoded: bytes, syntax: UID) -> Voxels:
        """Stored values [row, column] of one encoded frame. Raises DamagedImageError."""
        request = _request(dataset, encoded, syntax)
        with self._lock:
            if self._child is None:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "medai.models.images.isolated"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            try:
                _send(self._child.stdin, request)
                answer = _receive(self._child.stdout)
            except OSError as error:
                raise DamagedImageError from error
        if not answer:
            raise DamagedImageError
        values: Voxels = np.load(io.BytesIO(answer), allow_pickle=False)
        return values


def _request(dataset: Dataset, encoded: bytes, syntax: UID) -> bytes:
    pixels = Dataset()
    pixels.file_meta = FileMetaDataset()
    pixels.file_meta.TransferSyntaxUID = syntax
    pixels.SOPClassUID, pixels.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
    for keyword in PIXEL_KEYWORDS:
        if keyword in dataset:
            setattr(pixels, keyword, dataset[keyword].value)
    pixels.PixelData = encapsulate([encoded])
    pixels["PixelData"].VR = "OB"
    stream = io.BytesIO()
    pixels.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _send(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8, "big") + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The next message; empty when the other side has ended."""
    return stream.read(int.from_bytes(stream.read(8), "big"))


def main() -> None:
    """The child: encoded images in, arrays out, an empty message for an image that cannot be decoded."""
    while request := _receive(sys.stdin.buffer):
        dataset = dcmread(io.BytesIO(request))
        answer = io.BytesIO()
        try:
            decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
            values, _ = decoder.as_array(dataset, raw=True, decoding_plugin="gdcm")
            np.save(answer, values, allow_pickle=False)
        except Exception:  # noqa: BLE001 - whatever is wrong with this image, the parent says so
            answer = io.BytesIO()
        _send(sys.stdout.buffer, answer.getvalue())


if __name__ == "__main__":
    main()
