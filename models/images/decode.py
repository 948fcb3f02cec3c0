"""Pixels of a series, decoded and rescaled into one array, one image at a time.

An image's PixelData is dropped as soon as it is decoded, so a series needs little more than its voxels. What a
codestream says of itself is checked first (codestream.py). One decoder serves each encoding, the first of DECODERS
that is installed; GDCM is the last, in a process of its own (isolated.py). Measured per image of 512 x 512: JPEG-LS
6 ms (pyjpegls; gdcm 11), JPEG 2000 26 ms (pylibjpeg, pillow; gdcm 18). None of them releases Python's lock: threads
help uncompressed images alone.
Next: preprocess.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medai.models.errors import NotAVolume, UnreadableImage
from medai.models.images.codestream import is_whole, read_header, rle_size
from medai.models.images.header import text, value, whole
from medai.models.images.isolated import GdcmProcess
from medai.models.images.slices import frame_count, functional_group, image_name
from medai.models.images.stored import Layout, Mask, layout_of
from medai.models.volume import Voxels

NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
)
DECODERS = ("pyjpegls", "pylibjpeg", "pillow", "pydicom", "gdcm")
"""Which decoder is preferred: those that raise an error for damaged pixels before the one that may abort."""
INT16 = np.iinfo(np.int16)
MAX_BYTES = 4 * 1024**3
"""Stored pixels of a series, unpacked, where the caller sets no other limit."""
RLE_RATIO = 64
"""Two bytes of RLE unpack to 128 at most (PS3.5 annex G)."""
RLE_BOMB_FROM = 256 * 1024**2
"""What can't unpack to so many bytes is not measured first."""
MEASURED = frozenset({"PT", "NM"})
"""Modalities whose values are an activity, whichever end of the grey scale is white."""
EXCESS_LIMIT = 4096
"""Bytes behind the pixels that may fill a block of a disk."""
AIR_HU = -1024
NEVER_HU = -1500
"""No tissue, and no noise in air, is less dense: a scanner's mark for what it did not scan."""
PADDING_HU = (-900, 3071)
"""A value between these may be tissue: it marks padding only where it frames the image."""
SCALE_LIMIT = 1e12
"""Largest Rescale Slope and Intercept: beyond it a rescaled value may be no number."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image to decode: a frame (from 0) of a dataset, its Rescale Slope and Intercept, and how it is stored.

    ``scaled``: the header gives slope or intercept; ``hounsfield``: rescaled values are Hounsfield units.
    """

    dataset: Dataset
    index: int
    name: str
    slope: float
    intercept: float
    layout: Layout
    scaled: bool = False
    hounsfield: bool = False


def decode(frames: Sequence[Frame], *, threads: int = 2, max_bytes: int = MAX_BYTES) -> Voxels:
    """All frames as one array [slice, row, column], rescaled.

    What the headers mark as padding is air in a CT, and the least value that is no padding elsewhere.

    int16 where every value is a whole number in its range (all usual CT in HU), else the stored type where
    nothing is rescaled, else float32. Removes each dataset's PixelData. Raises UnreadableImage, also when the headers
    announce more than ``max_bytes`` of stored pixels: nothing is unpacked then.
    """
    _require_scaled_alike(frames)
    each = {id(frame.dataset): frame for frame in frames}.values()
    for frame in each:
        _require_pixels(frame)
    _require_small(frames, max_bytes)
    for frame in each:
        if _syntax(frame) == RLELossless:
            _require_honest_rle(frame)
    with GdcmProcess() as gdcm, ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        first = _decode_one(frames[0], gdcm)
        voxels = np.empty((len(frames), *first.shape), dtype=first.dtype)
        voxels[0] = first
        for number, values in enumerate(_in_turn(pool, frames[1:], gdcm), start=1):
            if values.shape != first.shape:
                raise UnreadableImage(f"{frames[number].name}: its size differs from that of the first image")
            if not np.can_cast(values.dtype, voxels.dtype):
                voxels = voxels.astype(np.float32)
            voxels[number] = values
    for frame in frames:
        _drop_pixels(frame.dataset)
    return voxels


def _in_turn(pool: Executor, frames: Sequence[Frame], gdcm: GdcmProcess, batch: int = 32) -> Iterator[Voxels]:
    """Decode a batch at a time: results that nobody has taken yet stay few."""
    for start in range(0, len(frames), batch):
        yield from pool.map(lambda frame: _decode_one(frame, gdcm), frames[start : start + batch])


def frames_of(datasets: Sequence[Dataset]) -> list[Frame]:
    """One frame for each single-frame dataset, in the given order."""
    return [_frame(dataset, dataset, 0, image_name(dataset)) for dataset in datasets]


def frames_of_enhanced(ordered: Sequence[tuple[Dataset, int]]) -> list[Frame]:
    """Frames of enhanced objects, in the given order: each its object and its number there, from 0."""
    frames = []
    for dataset, index in ordered:
        scaling = functional_group(dataset, index, "PixelValueTransformationSequence")
        frames.append(_frame(dataset, scaling or dataset, index, f"frame {index + 1}"))
    return frames


def _frame(dataset: Dataset, scaling: Dataset, index: int, name: str) -> Frame:
    slope, intercept = _given(scaling, "RescaleSlope"), _given(scaling, "RescaleIntercept")
    if "ModalityLUTSequence" in dataset:
        raise UnreadableImage(f"{name} has a modality lookup table in place of a Rescale Slope; that is not supported")
    if text(dataset, "Modality") == "CT" and (slope is None or intercept is None):
        raise UnreadableImage(f"{name} has no Rescale Slope and Intercept: its Hounsfield units are unknown")
    scaled = slope is not None or intercept is not None
    try:
        slope = 1.0 if slope is None else float(slope)
        intercept = 0.0 if intercept is None else float(intercept)
    except (TypeError, ValueError, OverflowError):
        raise UnreadableImage(f"{name} has an unreadable Rescale Slope or Intercept") from None
    # NaN compares with nothing: it is refused too.
    if not (0 < abs(slope) <= SCALE_LIMIT and abs(intercept) <= SCALE_LIMIT):
        raise UnreadableImage(f"{name} has a Rescale Slope of {slope:g} and Intercept of {intercept:g}")
    hounsfield = is_hounsfield(dataset, scaling)
    return Frame(
        dataset=dataset,
        index=index,
        name=name,
        slope=slope,
        intercept=intercept,
        layout=layout_of(dataset, name, measured=hounsfield or text(dataset, "Modality") in MEASURED),
        scaled=scaled,
        hounsfield=hounsfield,
    )


def is_hounsfield(dataset: Dataset, scaling: Dataset) -> bool:
    """Whether rescaled values are Hounsfield units: a CT whose Rescale Type is HU or is not said."""
    return text(dataset, "Modality") == "CT" and (text(scaling, "RescaleType") or "HU") == "HU"


def _given(scaling: Dataset, keyword: str) -> Any:
    """A value that is there and not empty."""
    found = value(scaling, keyword)
    return None if found is None or found == "" else found


def _require_scaled_alike(frames: Sequence[Frame]) -> None:
    """An attribute that gives the values their meaning is in all images or in none: else some would be off by it."""
    without = [frame.name for frame in frames if not frame.scaled]
    if without and len(without) < len(frames):
        raise UnreadableImage(
            f"{len(without)} of {len(frames)} images have no Rescale Slope and Intercept, the others have "
            f"(first: {without[0]}): their values do not compare"
        )
    kinds = {text(frame.dataset, "PhotometricInterpretation") for frame in frames if frame.layout.inverted}
    if kinds and not all(frame.layout.inverted for frame in frames):
        raise UnreadableImage("some images of the series are stored inverted (MONOCHROME1) and some are not")


def _require_pixels(frame: Frame) -> None:
    dataset, name = frame.dataset, frame.name
    if "PixelData" not in dataset:
        raise UnreadableImage(f"{name} has no pixel data")
    grey = text(dataset, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if not grey or value(dataset, "SamplesPerPixel", 1) != 1:
        raise UnreadableImage(f"{name} is a colour image; slices of a volume are grey")
    if value(dataset, "BitsAllocated") not in (8, 16, 32) or value(dataset, "PixelRepresentation") not in (0, 1):
        raise UnreadableImage(f"{name} does not say how its pixels are stored (Bits Allocated, Pixel Representation)")
    syntax = _syntax(frame)
    _plugin(frame, syntax)
    if syntax not in NATIVE and not frame.layout.low_aligned:
        raise UnreadableImage(f"{name} is compressed, and its High Bit is not the highest of its Bits Stored")
    if syntax in NATIVE:
        _require_length(frame)
    elif syntax != RLELossless:
        _require_whole_codestreams(frame)


def _require_small(frames: Sequence[Frame], max_bytes: int) -> None:
    size = sum(_frame_bytes(frame) for frame in frames)
    if size > max_bytes:
        raise UnreadableImage(
            f"the series would unpack to {size / 2**30:.1f} GiB of pixels; the limit is {max_bytes / 2**30:g} GiB"
        )


def _frame_bytes(frame: Frame) -> int:
    """Of one frame's stored pixels, by its header."""
    try:
        rows, columns, bits = (whole(frame.dataset, keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    except NotAVolume as error:
        raise UnreadableImage(f"{frame.name} does not say how its pixels are stored") from error
    return (rows or 0) * (columns or 0) * ((bits or 0) // 8)


def _require_length(frame: Frame) -> None:
    dataset = frame.dataset
    expected = frame_count(dataset) * _frame_bytes(frame)
    length = len(_pixels(frame))
    if length < expected:
        raise UnreadableImage(f"{frame.name} was cut short: it has {length} of {expected} bytes of pixels")
    if length <= expected + expected % 2:
        return
    if not _is_padded(frame, expected):
        raise UnreadableImage(
            f"{frame.name} says that it has {dataset.Rows} x {dataset.Columns} pixels ({expected} bytes), "
            f"but it has {length} bytes"
        )
    dataset.PixelData = _pixels(frame)[:expected]  # a decoder would take the rest for another frame


def _is_padded(frame: Frame, expected: int) -> bool:
    """Whether what follows the pixels is nothing: one byte over and over, as some devices fill a block (PS3.5 8.1.1).

    Columns that a header forgets end in such bytes, too, where the image's rim is black. Then each row would be
    shifted against the last: rows that resemble their neighbours better in a wider image tell.
    """
    pixels, dataset = _pixels(frame), frame.dataset
    excess = pixels[expected:]
    if len(excess) >= EXCESS_LIMIT or excess.count(excess[:1]) != len(excess):
        return False
    column = dataset.Rows * _frame_bytes(frame) // (dataset.Rows * dataset.Columns)
    more, rest = divmod(len(excess), column)
    if rest or frame_count(dataset) > 1:
        return frame_count(dataset) == 1
    kind = np.dtype(f"u{column // dataset.Rows}")
    return _roughness(pixels, kind, dataset.Rows, dataset.Columns) <= _roughness(
        pixels, kind, dataset.Rows, dataset.Columns + more
    )


def _roughness(pixels: bytes, kind: np.dtype[Any], rows: int, columns: int) -> float:
    """How much each row differs from the next one, on average."""
    image = np.frombuffer(pixels, dtype=kind, count=rows * columns).reshape(rows, columns).astype(np.float32)
    return float(np.abs(np.diff(image, axis=0)).mean())


def _syntax(frame: Frame) -> UID:
    meta = getattr(frame.dataset, "file_meta", None)
    syntax = "" if meta is None else text(meta, "TransferSyntaxUID")
    if not syntax:
        raise UnreadableImage(f"{frame.name} does not say how its pixels are encoded (no Transfer Syntax)")
    return UID(syntax)


def _plugin(frame: Frame, syntax: UID) -> str:
    """The decoder for an encoding; empty for uncompressed pixels, which need none."""
    try:
        installed = get_decoder(syntax).available_plugins
    except (NotImplementedError, ValueError) as error:
        raise UnreadableImage(
            f"{frame.name} is encoded as {_encoding(syntax)}, which cannot be decoded here"
        ) from error
    plugin = "" if syntax in NATIVE else next((name for name in DECODERS if name in installed), None)
    if plugin is None:
        raise UnreadableImage(f"{frame.name} is encoded as {_encoding(syntax)}; no decoder for it is installed")
    return plugin


def _encoding(syntax: UID) -> str:
    """The encoding's name; an unknown one stays unsaid, since its UID may be anything."""
    return syntax.name if syntax.is_transfer_syntax else "something unknown"


def _pixels(frame: Frame) -> bytes:
    """The bytes of PixelData, whatever it says that it is."""
    pixels = value(frame.dataset, "PixelData")
    if not isinstance(pixels, bytes):
        raise UnreadableImage(f"{frame.name} has no readable pixel data")
    return pixels


def _decode_one(frame: Frame, gdcm: GdcmProcess) -> Voxels:
    syntax = _syntax(frame)
    plugin = _plugin(frame, syntax)
    try:
        if plugin == "gdcm":
            encoded = get_frame(
                _pixels(frame),
                frame.index,
                number_of_frames=frame_count(frame.dataset),
                extended_offsets=_offsets(frame.dataset),
            )
            stored = gdcm.decode(frame.dataset, encoded, syntax)
        else:
            stored, _ = get_decoder(syntax).as_array(
                frame.dataset,
                index=frame.index,
                raw=True,
                decoding_plugin=plugin,
                correct_unused_bits=False,  # type: ignore[arg-type] # pydicom types each option as all of them
            )
    except Exception as error:
        # Each decoder has errors of its own for damaged pixels.
        raise UnreadableImage(f"{frame.name}: its pixels are damaged ({syntax.name})") from error
    values = frame.layout.values(_release(frame, stored))
    padded = frame.layout.padded(values)
    rescaled = _rescaled(frame.layout.upright(values), frame)
    return _without_padding(rescaled, padded, hounsfield=frame.hounsfield)


def _without_padding(values: Voxels, padded: Mask | None, *, hounsfield: bool) -> Voxels:
    """Air, or in other units the least real value, where a scanner stored nothing."""
    if padded is not None and _is_nothing(values, padded, hounsfield=hounsfield):
        real = values[~padded]
        filler = AIR_HU if hounsfield else (real.min() if real.size else 0)
        values = values.copy() if not values.flags.writeable else values
        values[padded] = filler
    if hounsfield and values.min() < NEVER_HU:
        values = np.where(values < NEVER_HU, values.dtype.type(AIR_HU), values)
    return values


def _is_nothing(values: Voxels, padded: Mask, *, hounsfield: bool) -> bool:
    """Whether marked pixels are padding: a header may name a value that tissue has, too; padding lies around it."""
    low, high = PADDING_HU
    value = float(values[padded].flat[0])
    if not hounsfield or not low < value < high:
        return True
    return bool(padded[0, 0] and padded[0, -1] and padded[-1, 0] and padded[-1, -1])


def _offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    offsets, lengths = value(dataset, "ExtendedOffsetTable"), value(dataset, "ExtendedOffsetTableLengths")
    return (offsets, lengths) if offsets and lengths else None


def _release(frame: Frame, stored: Voxels) -> Voxels:
    if stored.shape != (frame.dataset.Rows, frame.dataset.Columns):
        raise UnreadableImage(f"{frame.name}: its pixels do not have the size that its header says")
    if frame_count(frame.dataset) == 1:
        _drop_pixels(frame.dataset)
    return stored


def _drop_pixels(dataset: Dataset) -> None:
    if "PixelData" in dataset:
        del dataset.PixelData


def _encoded(frame: Frame) -> list[bytes]:
    """Each frame of the dataset as it is compressed."""
    pixels, count = _pixels(frame), frame_count(frame.dataset)
    try:
        return list(generate_frames(pixels, number_of_frames=count, extended_offsets=_offsets(frame.dataset)))
    except Exception as error:
        # pydicom raises errors of many kinds for a broken encapsulation.
        raise UnreadableImage(f"{frame.name}: its compressed pixels are damaged") from error


def _require_honest_rle(frame: Frame) -> None:
    """Refuse RLE that unpacks to more than the image has. What can't be much is left to the decoder to judge."""
    expected = _frame_bytes(frame)
    for data in _encoded(frame):
        suspect = len(data) * RLE_RATIO > max(RLE_BOMB_FROM, 2 * expected)
        if suspect and (len(data) > 2 * expected + 1024 or rle_size(data, most=expected) > expected + 1024):
            raise UnreadableImage(f"{frame.name}: its compressed pixels unpack to more than the size that it says")


def _require_whole_codestreams(frame: Frame) -> None:
    count, encoded = frame_count(frame.dataset), _encoded(frame)
    if len(encoded) < count or not all(is_whole(data) for data in encoded):
        raise UnreadableImage(f"{frame.name} was cut short: its compressed pixels have no end")
    for data in encoded:
        _require_header(frame, data)


def _require_header(frame: Frame, data: bytes) -> None:
    header, dataset = read_header(data), frame.dataset
    if header is None:
        raise UnreadableImage(f"{frame.name}: its compressed pixels are damaged")
    if (header.rows, header.columns) != (dataset.Rows, dataset.Columns):
        raise UnreadableImage(
            f"{frame.name} says that it has {dataset.Rows} x {dataset.Columns} pixels, "
            f"but {header.rows} x {header.columns} are compressed in it"
        )
    if header.components != 1 or header.bits > dataset.BitsAllocated:
        raise UnreadableImage(f"{frame.name}: its compressed pixels are not grey values of the size that it says")


def _rescaled(stored: Voxels, frame: Frame) -> Voxels:
    """``stored * slope + intercept``, as int16 when that is exact (PS3.3 C.11.1.1.2)."""
    if frame.slope.is_integer() and frame.intercept.is_integer():
        low, high = (int(value) * int(frame.slope) + int(frame.intercept) for value in (stored.min(), stored.max()))
        if INT16.min <= min(low, high) and max(low, high) <= INT16.max:
            whole = stored.astype(np.int32) * int(frame.slope) + int(frame.intercept)
            return whole.astype(np.int16)
        if frame.slope == 1 and frame.intercept == 0 and stored.dtype.itemsize <= 2:
            return stored
    return stored.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)
