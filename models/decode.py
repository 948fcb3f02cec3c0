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

from models.codestream import is_whole, read_header
from models.errors import UnreadableImage
from models.isolated import GdcmProcess
from models.slices import frame_count, functional_group, image_name
from models.volume import Voxels

NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
)
DECODERS = ("pyjpegls", "pylibjpeg", "pillow", "pydicom", "gdcm")
"""Which decoder is preferred: those that raise an error for damaged pixels before the one that may abort."""
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image to decode: a frame (from 0) of a dataset, and its Rescale Slope and Intercept."""

    dataset: Dataset
    index: int
    name: str
    slope: float
    intercept: float


def decode(frames: Sequence[Frame], *, threads: int = 2) -> Voxels:
    """All frames as one array [slice, row, column], rescaled.

    int16 where every value is a whole number in its range (all usual CT in HU), else the stored type where
    nothing is rescaled, else float32. Removes each dataset's PixelData. Raises UnreadableImage.
    """
    for frame in {id(frame.dataset): frame for frame in frames}.values():
        _require_pixels(frame)
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


def frames_of_enhanced(dataset: Dataset, order: Sequence[int]) -> list[Frame]:
    """Frames (from 0) of one enhanced dataset, in the given order."""
    frames = []
    for index in order:
        scaling = functional_group(dataset, index, "PixelValueTransformationSequence")
        frames.append(_frame(dataset, scaling or dataset, index, f"frame {index + 1}"))
    return frames


def _frame(dataset: Dataset, scaling: Dataset, index: int, name: str) -> Frame:
    slope, intercept = scaling.get("RescaleSlope"), scaling.get("RescaleIntercept")
    if "ModalityLUTSequence" in dataset:
        raise UnreadableImage(f"{name} has a modality lookup table in place of a Rescale Slope; that is not supported")
    if dataset.get("Modality") == "CT" and (slope is None or intercept is None):
        raise UnreadableImage(f"{name} has no Rescale Slope and Intercept: its Hounsfield units are unknown")
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise UnreadableImage(f"{name} has a Rescale Slope of {slope:g} and Intercept of {intercept:g}")
    return Frame(dataset=dataset, index=index, name=name, slope=slope, intercept=intercept)


def _require_pixels(frame: Frame) -> None:
    dataset, name = frame.dataset, frame.name
    if "PixelData" not in dataset:
        raise UnreadableImage(f"{name} has no pixel data")
    if dataset.get("SamplesPerPixel", 1) != 1 or dataset.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise UnreadableImage(f"{name} is a colour image; slices of a volume are grey")
    if dataset.get("BitsAllocated") not in (8, 16, 32) or dataset.get("PixelRepresentation") not in (0, 1):
        raise UnreadableImage(f"{name} does not say how its pixels are stored (Bits Allocated, Pixel Representation)")
    syntax = _syntax(frame)
    _plugin(frame, syntax)
    if syntax in NATIVE:
        _require_length(frame)
    elif syntax != RLELossless:
        _require_whole_codestreams(frame)


def _require_length(frame: Frame) -> None:
    dataset = frame.dataset
    expected = frame_count(dataset) * dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
    length = len(dataset.PixelData)
    if length < expected:
        raise UnreadableImage(f"{frame.name} was cut short: it has {length} of {expected} bytes of pixels")
    if length > expected + expected % 2:
        raise UnreadableImage(
            f"{frame.name} says that it has {dataset.Rows} x {dataset.Columns} pixels ({expected} bytes), "
            f"but it has {length} bytes"
        )


def _syntax(frame: Frame) -> UID:
    meta = getattr(frame.dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    if syntax is None:
        raise UnreadableImage(f"{frame.name} does not say how its pixels are encoded (no Transfer Syntax)")
    return UID(syntax)


def _plugin(frame: Frame, syntax: UID) -> str:
    """The decoder for an encoding; empty for uncompressed pixels, which need none."""
    try:
        installed = get_decoder(syntax).available_plugins
    except NotImplementedError as error:
        raise UnreadableImage(f"{frame.name} is encoded as {syntax.name}, which cannot be decoded here") from error
    plugin = "" if syntax in NATIVE else next((name for name in DECODERS if name in installed), None)
    if plugin is None:
        raise UnreadableImage(f"{frame.name} is encoded as {syntax.name}; no decoder for it is installed")
    return plugin


def _decode_one(frame: Frame, gdcm: GdcmProcess) -> Voxels:
    syntax = _syntax(frame)
    plugin = _plugin(frame, syntax)
    try:
        if plugin == "gdcm":
            encoded = get_frame(
                frame.dataset.PixelData,
                frame.index,
                number_of_frames=frame_count(frame.dataset),
                extended_offsets=_offsets(frame.dataset),
            )
            stored = gdcm.decode(frame.dataset, encoded, syntax)
        else:
            stored, _ = get_decoder(syntax).as_array(frame.dataset, index=frame.index, raw=True, decoding_plugin=plugin)
    except Exception as error:
        # Each decoder has errors of its own for damaged pixels.
        raise UnreadableImage(f"{frame.name}: its pixels are damaged ({syntax.name})") from error
    return _rescaled(_release(frame, stored), frame)


def _offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
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


def _require_whole_codestreams(frame: Frame) -> None:
    count = frame_count(frame.dataset)
    try:
        encoded = list(
            generate_frames(frame.dataset.PixelData, number_of_frames=count, extended_offsets=_offsets(frame.dataset))
        )
    except Exception as error:
        # pydicom raises errors of many kinds for a broken encapsulation.
        raise UnreadableImage(f"{frame.name}: its compressed pixels are damaged") from error
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
