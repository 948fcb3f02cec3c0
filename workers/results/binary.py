"""The frames of a binary segmentation, written at the speed of memory (PS3.3 C.7.6.16 and C.8.20).

highdicom builds what an object says once: patient, segments, shared groups. What it says of each frame is the same but
for a place, a source image and two numbers, and as thousands of Python objects it would cost seconds to make and to
write. Here the parts that stay are encoded once by pydicom and the others put between them; the pixels are packed eight
frames at a time. tests/unit/workers/results/test_binary.py holds it to highdicom's bytes. Next: segments.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_normal_vector, get_volume_positions
from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.valuerep import DS

from medai.models.volume import Labels
from medai.workers.results.frames import FrameName

AT_ONCE = 8
"""Frames are packed together: of eight, the bits fill whole bytes whatever a frame's size."""
FEW = 8
PER_FRAME, PIXELS = Tag("PerFrameFunctionalGroupsSequence"), Tag("PixelData")


@dataclass(frozen=True, slots=True)
class Frame:
    """A segment in a slice; ``slice`` counts from 0 along the labels, ``place`` from 1 among slices that show any."""

    segment: int
    slice: int
    place: int


def frames_of(labels: Labels, images: Sequence[Dataset], segments: int) -> list[Frame]:
    """Every segment's frames that show something, segment by segment, along the slices' normal.

    ``labels``: [slice, row, column], 0 for nothing; ``images[i]`` is slice i.
    """
    shown = np.zeros((len(labels), segments + 1), dtype=bool)
    for index, plane in enumerate(labels):
        if segments <= FEW:  # a comparison runs at the speed of memory, a count does not
            shown[index, 1:] = [(plane == number).any() for number in range(1, segments + 1)]
        else:
            shown[index] = np.bincount(plane[plane != 0], minlength=segments + 1) > 0
    order = [index for index in _along_normal(images) if shown[index, 1:].any()]
    return [
        Frame(segment, index, place)
        for segment in range(1, segments + 1)
        for place, index in enumerate(order, start=1)
        if shown[index, segment]
    ]


def put_frames(
    shell: Dataset,
    frames: Sequence[Frame],
    labels: Labels,
    images: Sequence[Dataset],
    names: Mapping[str, FrameName],
) -> None:
    """Give an object that was built with one frame these instead; ``names`` explains the UIDs of enhanced images."""
    (pattern,) = shell.PerFrameFunctionalGroupsSequence
    one_segment = "SegmentIdentificationSequence" not in pattern
    groups = b"".join(_item(each) for each in _Groups(pattern, images, names).of(frames))
    shell[PER_FRAME] = RawDataElement(PER_FRAME, "SQ", len(groups), groups, 0, False, True)
    shell.NumberOfFrames = len(frames)
    shell[PIXELS] = DataElement(PIXELS, "OB", _packed(labels, frames))
    if one_segment and _regular(frames, images):
        shell.DimensionOrganizationType = "3D"


def _along_normal(images: Sequence[Dataset]) -> list[int]:
    normal = get_normal_vector(images[0].ImageOrientationPatient, index_convention="DR")
    positions = np.array([image.ImagePositionPatient for image in images], dtype=float)
    return [int(index) for index in np.argsort(positions @ normal, kind="stable")]


def _regular(frames: Sequence[Frame], images: Sequence[Dataset]) -> bool:
    """Whether frames that only their place tells apart lie at one spacing: the 3D organisation of PS3.3 C.7.6.17."""
    if len(frames) < 2:
        return False
    positions = [[float(value) for value in images[frame.slice].ImagePositionPatient] for frame in frames]
    spacing, _ = get_volume_positions(positions, images[0].ImageOrientationPatient, sort=False)
    return spacing is not None and spacing > 0.0


def _packed(labels: Labels, frames: Sequence[Frame]) -> bytes:
    packed = b"".join(
        np.packbits(
            np.stack([labels[frame.slice] == frame.segment for frame in frames[start : start + AT_ONCE]]).ravel(),
            bitorder="little",
        ).tobytes()
        for start in range(0, len(frames), AT_ONCE)
    )
    return packed + b"\0" * (len(packed) % 2)


class _Groups:
    """What is said of each frame, in explicit VR little endian, as the pattern's one frame says it."""

    def __init__(self, pattern: Dataset, images: Sequence[Dataset], names: Mapping[str, FrameName]) -> None:
        self._images, self._names = images, names
        derivation = pattern.DerivationImageSequence[0]
        source = derivation.SourceImageSequence[0]
        self._how = _written(derivation, "DerivationCodeSequence")
        self._purpose = _written(source, "SpatialLocationsPreserved", "PurposeOfReferenceCodeSequence")
        self._each_names_its_segment = "SegmentIdentificationSequence" in pattern
        self._indices = len(pattern.FrameContentSequence[0].DimensionIndexValues or ())
        self._of_slice: dict[int, tuple[bytes, bytes]] = {}

    def of(self, frames: Sequence[Frame]) -> Iterator[bytes]:
        for frame in frames:
            if frame.slice not in self._of_slice:
                self._of_slice[frame.slice] = self._derivation(frame.slice), self._position(frame.slice)
            derivation, position = self._of_slice[frame.slice]
            yield derivation + self._content(frame) + position + self._segment(frame)

    def _derivation(self, index: int) -> bytes:
        image = self._images[index]
        uid = str(image.SOPInstanceUID)
        name = self._names.get(uid)
        if name is None:
            which = _uid(0x1150, str(image.SOPClassUID)) + _uid(0x1155, uid)
        else:
            which = _uid(0x1150, name.sop_class_uid) + _uid(0x1155, name.sop_instance_uid)
            which += _short(0x0008, 0x1160, b"IS", _even(str(name.number).encode()))
        return _sequence(0x0008, 0x9124, _sequence(0x0008, 0x2112, which + self._purpose) + self._how)

    def _position(self, index: int) -> bytes:
        values = "\\".join(str(DS(value, auto_format=True)) for value in self._images[index].ImagePositionPatient)
        return _sequence(0x0020, 0x9113, _short(0x0020, 0x0032, b"DS", _even(values.encode())))

    def _content(self, frame: Frame) -> bytes:
        values = (frame.segment, frame.place)[-self._indices :]
        packed = struct.pack(f"<{len(values)}L", *values)
        return _sequence(0x0020, 0x9111, _short(0x0020, 0x9157, b"UL", packed))

    def _segment(self, frame: Frame) -> bytes:
        if not self._each_names_its_segment:
            return b""
        return _sequence(0x0062, 0x000A, _short(0x0062, 0x000B, b"US", struct.pack("<H", frame.segment)))


def _written(dataset: Dataset, *keywords: str) -> bytes:
    """Some of a dataset's elements as pydicom writes them."""
    some = Dataset()
    for keyword in keywords:
        if keyword in dataset:
            some.add(dataset[keyword])
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, some)
    return bytes(buffer.getvalue())


def _uid(element: int, value: str) -> bytes:
    return _short(0x0008, element, b"UI", value.encode() + b"\0" * (len(value) % 2))


def _even(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def _short(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


def _sequence(group: int, element: int, item: bytes) -> bytes:
    """A sequence of one item."""
    inside = _item(item)
    return struct.pack("<HH2sHL", group, element, b"SQ", 0, len(inside)) + inside


def _item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
