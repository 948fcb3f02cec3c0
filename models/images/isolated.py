"""GDCM in a process of its own, because it ends its process on some damaged JPEG images.

It is the only decoder here for JPEG Lossless, which many archives use. One child serves one series: it starts
with the first image (about half a second) and gets nothing but pixels and their description.
``python -m medai.models.images.isolated`` is the child. Next: decode.py.
"""

from __future__ import annotations

import io
import math
import threading
from types import TracebackType
from typing import Self

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, SecondaryCaptureImageStorage

from medai.models.child import Child, ChildFailed, Questions
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
SECONDS = 60.0
"""Longest time for one frame."""
VALUE_BYTES = 8
"""At most, of one decoded value."""
NPY_HEADER_BYTES = 1024


class DamagedImageError(Exception):
    """The child could not decode an image, or did not survive it."""


class GdcmProcess:
    """Starts at the first image, ends with the ``with`` block; images one after another."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.end()

    def decode(self, dataset: Dataset, encoded: bytes, syntax: UID) -> Voxels:
        """Stored values [row, column] of one encoded frame. Raises DamagedImageError."""
        request = _request(dataset, encoded, syntax)
        sides = (dataset.get("Rows") or 0, dataset.get("Columns") or 0, dataset.get("SamplesPerPixel") or 1)
        most_bytes = math.prod(map(int, sides)) * VALUE_BYTES + NPY_HEADER_BYTES
        with self._lock:
            if self._child is None:
                self._child = Child("medai.models.images.isolated")
            try:
                _, answer = self._child.ask({}, request, most_bytes=most_bytes, seconds=SECONDS)
            except ChildFailed as error:
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


def main() -> None:
    """The child: encoded images in, arrays out, nothing for an image that cannot be decoded."""
    questions = Questions()
    while (question := questions.next()) is not None:
        dataset = dcmread(io.BytesIO(question[1]))
        answer = io.BytesIO()
        try:
            decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
            values, _ = decoder.as_array(dataset, raw=True, decoding_plugin="gdcm")
            np.save(answer, values, allow_pickle=False)
        except Exception:  # noqa: BLE001 - whatever is wrong with this image, the parent says so
            answer = io.BytesIO()
        questions.answer({}, answer.getvalue())


if __name__ == "__main__":
    main()
