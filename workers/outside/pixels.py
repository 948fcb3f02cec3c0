"""An image's pixels without anything around them: no comments of a codestream, no padding, no unused bits.

Next: deidentify.py.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medai.models.images.decode import DECODERS, NATIVE
from medai.models.images.header import text, whole
from medai.models.images.isolated import GdcmProcess
from medai.models.volume import Voxels
from medai.workers.outside.refusals import NotSent

UNREADABLE = "an image can't be sent de-identified: its pixels can't be read, so nobody knows what is in them"


def bare_pixels(image: Dataset, gdcm: GdcmProcess, *, max_bytes: int) -> bytes:
    """Stored values, little endian, of exactly the length that the header says; raises NotSent."""
    frames = whole(image, "NumberOfFrames") or 1
    rows, columns, bits = (whole(image, name) or 0 for name in ("Rows", "Columns", "BitsAllocated"))
    expected = rows * columns * frames * bits // 8
    if bits not in (8, 16) or not 0 < expected <= max_bytes:
        raise NotSent("an image can't be sent de-identified: its pixels are of an unusual size")
    try:
        parts = [_frame(image, index, frames, gdcm) for index in range(frames)]
    except Exception as error:  # each decoder has errors of its own for damaged pixels
        raise NotSent(UNREADABLE) from error
    kind = np.dtype(f"<{'u' if not whole(image, 'PixelRepresentation') else 'i'}{bits // 8}")
    packed = b"".join(_used(part, image).astype(kind).tobytes() for part in parts)
    if len(packed) != expected:
        raise NotSent(UNREADABLE)
    return packed + bytes(len(packed) % 2)


def _frame(image: Dataset, index: int, frames: int, gdcm: GdcmProcess) -> Voxels:
    syntax = UID(text(image.file_meta, "TransferSyntaxUID"))
    decoder = get_decoder(syntax)
    plugin = "" if syntax in NATIVE else next(name for name in DECODERS if name in decoder.available_plugins)
    if plugin == "gdcm":
        return gdcm.decode(image, get_frame(image.PixelData, index, number_of_frames=frames), syntax)
    stored, _ = decoder.as_array(image, index=index, raw=True, decoding_plugin=plugin)
    values: Voxels = stored
    return values


def _used(values: Voxels, image: Dataset) -> Voxels:
    """Without what lies above Bits Stored: overlays were hidden there once."""
    stored = whole(image, "BitsStored") or 0
    if (whole(image, "HighBit") or 0) != stored - 1:
        raise NotSent(UNREADABLE)
    unused = values.dtype.itemsize * 8 - stored
    return (values << unused) >> unused if 0 < unused < values.dtype.itemsize * 8 else values
