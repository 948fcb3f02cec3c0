"""What the bits of a decoded image mean: which are used, with which sign, which are padding, and which end is white.

A decoder returns what it found. Headers of the field say things about it that decoders ignore: fewer bits than are
stored (the rest may hold an overlay, or a sign that was not extended), a value that marks what was never scanned, or
an inverted grey scale. They are applied here, once, after every decoder. Sources: PS3.5 8.1.1 (bits), PS3.3 C.7.6.3.1.2
(photometric interpretation), C.7.5.1.1.2 (pixel padding). Next: decode.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from medai.models.errors import NotAVolume, UnreadableImage
from medai.models.images.header import text, value, whole
from medai.models.volume import Voxels

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one image's values are stored. ``padding`` is the range (lowest, highest) of stored values that mark
    pixels without content, ``inverted`` says that the least stored value is white and the values measure nothing.
    """

    allocated: int
    used: int
    high: int
    signed: bool
    padding: tuple[int, int] | None
    inverted: bool

    @property
    def low_aligned(self) -> bool:
        """Whether the used bits are the lowest ones, as the standard asks for today."""
        return self.high == self.used - 1

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value that the used bits can hold."""
        return (-(1 << (self.used - 1)), (1 << (self.used - 1)) - 1) if self.signed else (0, (1 << self.used) - 1)

    def values(self, decoded: Voxels) -> Voxels:
        """Stored values of what a decoder returned: unused bits dropped, the sign taken from the highest used bit."""
        if self.allocated == self.used:
            return decoded
        native = decoded if decoded.dtype.isnative else decoded.astype(decoded.dtype.newbyteorder("="))
        unsigned = native.view(f"u{native.dtype.itemsize}")
        lifted = np.left_shift(unsigned, native.dtype.itemsize * 8 - 1 - self.high)
        kind = "i" if self.signed else "u"
        shifted: Voxels = np.right_shift(
            lifted.view(f"{kind}{native.dtype.itemsize}"), native.dtype.itemsize * 8 - self.used
        )
        return shifted

    def padded(self, stored: Voxels) -> Mask | None:
        """Where there is nothing but padding; None where there is none."""
        if self.padding is None:
            return None
        low, high = self.padding
        found: Mask = stored == low if low == high else (stored >= low) & (stored <= high)
        return found if found.any() else None

    def upright(self, stored: Voxels) -> Voxels:
        """Values that grow with brightness."""
        if not self.inverted:
            return stored
        low, high = self.limits
        turned: Voxels = (np.int64(low + high) - stored).astype(stored.dtype)
        return turned


def layout_of(dataset: Dataset, name: str, *, measured: bool) -> Layout:
    """How this image's values are stored; raises UnreadableImage where its header contradicts itself.

    ``measured``: rescaled values are a quantity (Hounsfield units, activity), which an inverted grey scale leaves as
    they are.
    """
    allocated, used = _whole(dataset, "BitsAllocated", name), _whole(dataset, "BitsStored", name)
    high = _whole(dataset, "HighBit", name)
    if allocated is None or allocated not in (8, 16, 32):
        raise UnreadableImage(f"{name} does not say how its pixels are stored (Bits Allocated, Pixel Representation)")
    used = allocated if used is None else used
    high = used - 1 if high is None else high
    if not 0 < used <= allocated or not used - 1 <= high < allocated:
        raise UnreadableImage(
            f"{name} contradicts itself about how its pixels are stored "
            f"(Bits Allocated {allocated}, Bits Stored {used}, High Bit {high})"
        )
    signed = value(dataset, "PixelRepresentation") == 1
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    return Layout(
        allocated=allocated,
        used=used,
        high=high,
        signed=signed,
        padding=_padding(dataset, allocated, signed=signed),
        inverted=inverted and not measured,
    )


def _whole(dataset: Dataset, keyword: str, name: str) -> int | None:
    try:
        return whole(dataset, keyword)
    except NotAVolume as error:
        raise UnreadableImage(f"{name} does not say how its pixels are stored") from error


def _padding(dataset: Dataset, allocated: int, *, signed: bool) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit as the pixels' own type, whichever VR they were written with."""
    found = [_number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    first, limit = (None if number is None else _as_stored(number, allocated, signed=signed) for number in found)
    if first is None:
        return None
    other = first if limit is None else limit
    return min(first, other), max(first, other)


def _number(dataset: Dataset, keyword: str) -> int | None:
    try:
        return whole(dataset, keyword)
    except NotAVolume:
        return None  # padding that can't be read marks nothing


def _as_stored(number: int, bits: int, *, signed: bool) -> int:
    """63536 is -2000 where pixels are signed (the element's VR may be US all the same), and the other way round."""
    wrapped = number & ((1 << bits) - 1)
    return wrapped - (1 << bits) if signed and wrapped >> (bits - 1) else wrapped
